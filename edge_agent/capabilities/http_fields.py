"""Header fields of requests and responses, as a guest may have them.

Owns: `Fields` and its rules. What a guest sets is checked here once, so that nothing which reaches a connection can
end a header early (response splitting) or frame a message differently from how it is sent (request smuggling).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge_agent.capabilities.http_body import Entries

MAX_ENTRIES = 256
"""Fields of one message."""

MAX_BYTES = 64 * 1024
"""Bytes of all names and values of one message."""

FORBIDDEN = frozenset(
    {
        "connection",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that belong to the connection (RFC 9110, section 7.6.1), which is the node's, or that say who is meant."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")


class FieldsError(Exception):
    """A change was refused; the text is the case of `header-error`."""


class Fields:
    """Named values in order.

    Args:
        entries: what is in it, already checked.
        mutable: whether a guest may change it.
    """

    def __init__(self, entries: Iterable[tuple[str, bytes]] = (), *, mutable: bool = True) -> None:
        self.entries: Entries = list(entries)
        self._mutable = mutable

    @classmethod
    def of(cls, entries: Sequence[tuple[str, bytes]]) -> Fields:
        """Fields of a guest's entries.

        Raises:
            FieldsError: as for `append`.
        """
        fields = cls()
        for name, value in entries:
            fields.append(name, value)
        return fields

    def get(self, name: str) -> list[bytes]:
        """All values of a name."""
        return [value for known, value in self.entries if known.lower() == name.lower()]

    def append(self, name: str, value: bytes) -> None:
        """Add a value.

        Raises:
            FieldsError: invalid-syntax; forbidden, also for more than a message may have; immutable.
        """
        self._replace([*self.entries, _checked(name, value)])

    def set(self, name: str, values: Sequence[bytes]) -> None:
        """Replace all values of a name. Raises what `append` raises."""
        added = [_checked(name, value) for value in values]
        self._replace([*self._without(name), *added])

    def delete(self, name: str) -> None:
        """Take all values of a name away. Raises what `append` raises."""
        self._replace(self._without(name))

    def frozen(self) -> Fields:
        """The same entries, not to be changed."""
        return Fields(self.entries, mutable=False)

    def length(self) -> int | None:
        """The length that the message declares, None without one; several that differ are no length.

        Raises:
            FieldsError: invalid-syntax.
        """
        values = set(self.get("content-length"))
        if not values:
            return None
        text = values.pop()
        if values or re.fullmatch(rb"[0-9]{1,18}", text) is None:
            raise FieldsError("invalid-syntax")
        return int(text)

    def _without(self, name: str) -> Entries:
        _check_name(name)
        return [(known, value) for known, value in self.entries if known.lower() != name.lower()]

    def _replace(self, entries: Entries) -> None:
        if not self._mutable:
            raise FieldsError("immutable")
        if len(entries) > MAX_ENTRIES or sum(len(name) + len(value) + 4 for name, value in entries) > MAX_BYTES:
            raise FieldsError("forbidden")
        self.entries = entries


def _checked(name: str, value: bytes) -> tuple[str, bytes]:
    _check_name(name)
    if _VALUE.fullmatch(value) is None:
        raise FieldsError("invalid-syntax")
    return name, value


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise FieldsError("invalid-syntax")
    if name.lower() in FORBIDDEN:
        raise FieldsError("forbidden")
