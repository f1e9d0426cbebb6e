"""Bodies on their way between an agent and a connection.

Owns: `Inflow`, which a connection's thread fills and the agent reads, and `Outflow`, which the agent fills and a
connection's thread sends. Both are bounded: whoever is faster waits, the agent by its pollables, a thread until a
moment that it names. A body that is not whole is never taken for one that is: its end is said, or its failure.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from edge_agent.capabilities.http_policy import HttpError
from edge_agent.capabilities.io_streams import StreamClosedError, StreamFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

Entries = list[tuple[str, bytes]]

MAX_WAITING = 256 * 1024
"""Bytes of one body that wait for the other side."""


class _Flow:
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._changed = threading.Condition()
        self._waiting = bytearray()
        self._ended = False
        self._failure: HttpError | None = None
        self._trailers: Entries = []

    def _notify(self) -> None:
        self._changed.notify_all()
        self._wake()


class Inflow(_Flow):
    """A body that comes in: an `InputStream` for the agent."""

    def __init__(self, wake: Callable[[], None], cancel: Callable[[], None] = lambda: None) -> None:
        super().__init__(wake)
        self._cancel = cancel
        self._discarding = False

    # --- the connection's side ---

    def put(self, contents: bytes, until: float) -> None:
        """Hand bytes over, after waiting for room.

        Raises:
            HttpError: connection-read-timeout when there is none at the monotonic second `until`.
        """
        with self._changed:
            while len(self._waiting) >= MAX_WAITING and not self._discarding:
                left = until - time.monotonic()
                if left <= 0:
                    raise HttpError("connection-read-timeout")
                self._changed.wait(left)
            if not self._discarding:
                self._waiting += contents
                self._notify()

    def end(self, trailers: Entries) -> None:
        """Say that the body is whole."""
        with self._changed:
            self._ended, self._trailers = True, trailers
            self._notify()

    def fail(self, error: HttpError) -> None:
        """Say that the rest will not come."""
        with self._changed:
            if not self._ended and self._failure is None:
                self._failure = error
                self._notify()

    # --- the agent's side ---

    def read(self, length: int) -> bytes:
        """As `InputStream` says."""
        with self._changed:
            if self._waiting:
                taken = bytes(self._waiting[:length])
                del self._waiting[:length]
                self._changed.notify_all()
                return taken
            if self._failure is not None:
                raise StreamFailedError(str(self._failure), self._failure.code)
            if self._ended:
                raise StreamClosedError
            return b""

    def ready(self) -> bool:
        """As `InputStream` says."""
        return bool(self._waiting) or self.over()

    def discard(self) -> None:
        """Let the rest go by unread."""
        with self._changed:
            self._discarding = True
            self._waiting.clear()
            self._changed.notify_all()

    def over(self) -> bool:
        """Whether the whole body has come, or failed."""
        return self._ended or self._failure is not None

    def trailers(self) -> Entries:
        """Return the trailers of a body that is over.

        Raises:
            HttpError: the body failed.
        """
        if self._failure is not None:
            raise self._failure
        return self._trailers

    def cancel(self) -> None:
        """Stop the connection that the body comes from."""
        self.discard()
        self._cancel()


class Outflow(_Flow):
    """A body that goes out: an `OutputStream` for the agent.

    Args:
        wake: as `AgentContext.wake`.
        declared: its length by the message's own header, if it has one.
        too_large: case of the error for a body that is larger or smaller than it may be.
    """

    def __init__(self, wake: Callable[[], None], declared: int | None, too_large: str) -> None:
        super().__init__(wake)
        self._declared = declared
        self._too_large = too_large
        self._most: int | None = None
        self._written = 0
        self._shut = False

    @property
    def declared(self) -> int | None:
        """Length that the message's header promises."""
        return self._declared

    # --- the agent's side ---

    def bound(self, most: int | None) -> None:
        """Set the most bytes that it may have; what was written before counts.

        Raises:
            HttpError: there are more already, or more are declared.
        """
        if most is not None and max(self._written, self._declared or 0) > most:
            raise HttpError(self._too_large, most)
        self._most = most

    def room(self) -> int:
        """As `OutputStream` says."""
        with self._changed:
            if self._failure is not None:
                raise StreamFailedError(str(self._failure), self._failure.code)
            if self._shut or self._ended:
                raise StreamClosedError
            return MAX_WAITING - len(self._waiting)

    def write(self, contents: bytes) -> None:
        """As `OutputStream` says."""
        with self._changed:
            self._written += len(contents)
            limit = min((n for n in (self._most, self._declared) if n is not None), default=None)
            if limit is not None and self._written > limit:
                self._failure = HttpError(self._too_large, limit)
                self._notify()
                raise StreamFailedError(str(self._failure), self._failure.code)
            self._waiting += contents
            self._notify()

    def finish(self, trailers: Entries) -> None:
        """Say that the body is whole.

        Raises:
            HttpError: it is shorter than declared, cannot have trailers, or has failed already.
        """
        with self._changed:
            if self._failure is None and self._declared is not None and self._written < self._declared:
                self._failure = HttpError(self._too_large, self._written)
            elif self._failure is None and self._declared is not None and trailers:
                # Only a chunked body has room for them (RFC 9112, section 7.1.2).
                self._failure = HttpError("HTTP-protocol-error")
            if self._failure is not None:
                self._notify()
                raise self._failure
            self._ended, self._trailers = True, trailers
            self._notify()

    def abandon(self) -> None:
        """Say that the rest will not come; nothing happens to a body that is whole."""
        with self._changed:
            if not self._ended and self._failure is None:
                self._failure = HttpError("HTTP-protocol-error")
                self._notify()

    # --- the connection's side ---

    def take(self, until: float) -> bytes:
        """Take what there is, after waiting for it; `b""` is the end.

        Raises:
            HttpError: why the body will never be whole; connection-write-timeout at the monotonic second `until`.
        """
        with self._changed:
            while not self._waiting:
                if self._failure is not None:
                    raise self._failure
                if self._ended:
                    return b""
                left = until - time.monotonic()
                if left <= 0:
                    raise HttpError("connection-write-timeout")
                self._changed.wait(left)
            taken = bytes(self._waiting)
            self._waiting.clear()
            self._notify()
            return taken

    def trailers(self) -> Entries:
        """Return the trailers of a body that has ended."""
        return self._trailers

    def shut(self) -> None:
        """Take nothing any more: nobody reads on the other side."""
        with self._changed:
            self._shut = True
            self._waiting.clear()
            self._notify()
