"""Streams that a capability hands to its guest through `wasi:io`.

Owns: what a stream has to do (`InputStream`, `OutputStream`), how it ends, and the two simplest ones. Waiting for
them is the business of `wasi_io`: no stream ever blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WRITE = 4096
"""Bytes of one blocking write, as the interface says; streams whose bytes go straight on take no more at any time."""


class StreamClosedError(Exception):
    """Raised by a stream that is at its end, or takes nothing any more."""


class StreamFailedError(Exception):
    """Raised by a stream whose last operation failed.

    Args:
        text: for the people who look for the fault.
        kind: what the module that handed the stream out knows of it, for its own functions that take an error.
    """

    def __init__(self, text: str, kind: object = None) -> None:
        super().__init__(text)
        self.kind = kind


class InputStream(Protocol):
    """Bytes that a guest can read."""

    def read(self, length: int) -> bytes:
        """Take up to `length` bytes of those that are there; none are there yet: `b""`.

        Raises:
            StreamClosedError: at the end.
            StreamFailedError: the rest will not come.
        """
        ...

    def ready(self) -> bool:
        """Whether `read` has anything to say: bytes, the end, or a failure."""
        ...


class OutputStream(Protocol):
    """Bytes that a guest can write."""

    def room(self) -> int:
        """How many bytes may be written at once; 0 when the guest has to wait.

        Raises:
            StreamClosedError: it takes nothing any more.
            StreamFailedError: what was written before is lost.
        """
        ...

    def write(self, contents: bytes) -> None:
        """Take bytes, no more than `room` has just permitted. Raises what `room` raises."""
        ...


class EmptyInput:
    """An input that is at its end from the start."""

    def read(self, _length: int) -> bytes:
        """As `InputStream` says."""
        raise StreamClosedError

    def ready(self) -> bool:
        """As `InputStream` says."""
        return True


class Sink:
    """An output whose bytes go straight on to a function."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def room(self) -> int:
        """As `OutputStream` says."""
        return MAX_WRITE

    def write(self, contents: bytes) -> None:
        """As `OutputStream` says."""
        self._take(contents)
