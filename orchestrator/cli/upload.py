"""One blob to a registry, in pieces (OCI distribution-spec 1.1, "Pushing a blob in chunks").

Owns: the conversation of an upload. A blob that fits into one request goes in one; a larger one, or one for which the
registry or what stands before it takes no request of that size, goes in pieces. Where a connection breaks, or the
registry says that the pieces do not fit together (416), it is asked what it has, and the upload goes on from there.
One piece is in memory at a time. Who is asked, and how, is the business of `orchestrator.cli.registry`.

oras-py has an upload in chunks too. It neither resumes nor asks what arrived, and reads a file by its path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode, urlsplit

from fleet.errors import Code, FleetError
from fleet.oci import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHUNK = 16 * 1024 * 1024
"""Bytes of one request, as long as nobody asks for another size."""

LEAST_CHUNK = 64 * 1024
"""Smaller requests than this are not tried."""

GREATEST_CHUNK = 64 * 1024 * 1024
"""Largest piece that a registry may ask for (`OCI-Chunk-Min-Length`)."""

MAX_FRUITLESS = 10
"""Attempts in a row after which the registry has no more than before."""

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,15})", re.ASCII)
_AGAIN = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""After these the registry is asked what it has: it may have lost the upload, or its place in it, or a server."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is uploaded: its digest, its size in bytes, and any part of it by offset and length."""

    digest: str
    size: int
    read: Callable[[int, int], bytes]

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Return content that is in memory."""
        return cls(digest_of(data), len(data), lambda offset, length: data[offset : offset + length])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a registry said.

    Attributes:
        place: where the next request goes, checked to be the registry's own.
        headers: all of them.
    """

    status: int
    place: str
    headers: Mapping[str, str]


class Door(Protocol):
    """How the registry is asked."""

    def step(self, method: str, url: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        """Ask once. Raises FleetError UNAVAILABLE where the connection breaks."""
        ...

    def has(self, digest: str) -> bool:
        """Whether the registry has a blob."""
        ...

    def refuse(self, status: int) -> FleetError:
        """Make the error of an answer that nobody expected."""
        ...


class Upload:
    """One upload; call `run` once.

    Args:
        door: asks the registry.
        url: where uploads begin (`/v2/REPOSITORY/blobs/uploads/`).
        content: what goes there.
        chunk: bytes of one request at first.
    """

    def __init__(self, door: Door, url: str, content: Content, chunk: int = CHUNK) -> None:
        self._door = door
        self._url = url
        self._content = content
        self._chunk = chunk
        self._least = LEAST_CHUNK
        self._place = ""
        self._arrived = self._farthest = 0
        self._sure = False
        self._fruitless = 0

    def run(self) -> None:
        """Upload everything.

        Raises:
            FleetError: what the registry refuses it with; the fault of the last attempt after `MAX_FRUITLESS` that
                brought nothing.
        """
        self._begin()
        while True:
            try:
                if self._goes_on():
                    return
            except _RefusedError as refused:
                raise refused.error from None
            except FleetError as error:
                tried = min(self._chunk, self._content.size)
                smaller = max(tried // 2, self._least)
                too_large = error.code is Code.LIMIT_EXCEEDED and smaller < tried
                if error.code is not Code.UNAVAILABLE and not too_large:
                    raise
                self._fruitless += 1
                if self._fruitless >= MAX_FRUITLESS:
                    raise
                self._sure, self._chunk = False, smaller

    def _goes_on(self) -> bool:
        """Take one step; True at the end."""
        if not self._sure and self._finds_itself():
            return True
        rest = self._content.size - self._arrived
        if rest <= self._chunk and not self._arrived:
            self._close(self._content.read(0, rest))
        elif rest:
            self._send(min(rest, self._chunk))
            return False
        else:
            self._close(b"")
        return True

    def _begin(self) -> None:
        answer = self._door.step("POST", self._url, b"", {})
        if answer.status != HTTPStatus.ACCEPTED:
            raise self._door.refuse(answer.status)
        wanted = answer.headers.get("OCI-Chunk-Min-Length", "0")
        if not wanted.isdecimal() or len(wanted) > len(str(GREATEST_CHUNK)) or int(wanted) > GREATEST_CHUNK:
            raise FleetError(Code.PERMISSION_DENIED, f"the registry asks for pieces of {wanted[:30]!r} bytes")
        self._least = max(self._least, int(wanted))
        self._chunk = max(self._chunk, self._least)
        self._place, self._arrived, self._sure = answer.place, 0, True

    def _send(self, length: int) -> None:
        end = self._arrived + length
        headers = {"Content-Range": f"{self._arrived}-{end - 1}", "Content-Type": "application/octet-stream"}
        answer = self._door.step("PATCH", self._place, self._content.read(self._arrived, length), headers)
        if answer.status != HTTPStatus.ACCEPTED:
            raise self._refused(answer)
        self._place = answer.place
        if self._position(answer, end, f"0-{end - 1}") != end:
            raise FleetError(Code.UNAVAILABLE, "the registry took a part of what it was sent")
        self._arrive(end)

    def _close(self, last: bytes) -> None:
        place = urlsplit(self._place)
        query = f"{place.query}&" if place.query else ""
        url = place._replace(query=query + urlencode({"digest": self._content.digest})).geturl()
        answer = self._door.step("PUT", url, last, {"Content-Type": "application/octet-stream"})
        if answer.status != HTTPStatus.CREATED:
            raise self._refused(answer)

    def _finds_itself(self) -> bool:
        """Ask what has arrived; True when everything did, and the answer to that got lost."""
        answer = self._door.step("GET", self._place, b"", {})
        if answer.status == HTTPStatus.NO_CONTENT:
            self._place, self._sure = answer.place, True
            self._arrive(self._position(answer, self._content.size, "0-0"))
            return False
        if self._door.has(self._content.digest):
            return True
        self._begin()  # it knows nothing of this upload any more
        return False

    def _arrive(self, position: int) -> None:
        """Note where the upload is. What was reached before is no progress: a registry may forget again and again."""
        self._arrived = position
        if self._farthest < position >= min(self._farthest + LEAST_CHUNK, self._content.size):
            self._farthest, self._fruitless = position, 0

    @staticmethod
    def _position(answer: Answer, most: int, default: str) -> int:
        """Return how many bytes the registry has.

        Of none some say `0-0`, like of one; no piece is that small.
        """
        found = _RANGE.fullmatch(answer.headers.get("Range", default))
        last = int(found[1]) if found else most
        if last >= most:
            raise FleetError(Code.PERMISSION_DENIED, "the registry says that it has what was never sent")
        return last + 1 if last else 0

    def _refused(self, answer: Answer) -> Exception:
        error = self._door.refuse(answer.status)
        if answer.status in _AGAIN:
            return FleetError(Code.UNAVAILABLE, f"the registry answered {answer.status}")
        return error if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else _RefusedError(error)


class _RefusedError(Exception):
    """An answer after which the same again would be of no use."""

    def __init__(self, error: FleetError) -> None:
        super().__init__()
        self.error = error
