"""The supervisor's end of a control socket, on asyncio.

Owns: `Channel`. It never blocks and never trusts its peer: what waits to be sent is bounded, one read is bounded, and
the first malformed message closes it.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Protocol

from edge_agent.runner.connection import Inbox
from edge_agent.runner.protocol import MAX_FRAME, encode
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from edge_agent.runner.messages import Message

MAX_UNSENT = 2 * MAX_FRAME
"""Bytes that may wait for a peer that does not read; beyond it the peer counts as wedged."""


class Receiver(Protocol):
    """Who owns a channel."""

    def received(self, message: Message, descriptors: tuple[int, ...]) -> None:
        """Take one message; the receiver closes the descriptors.

        Raises:
            FleetError: the message does not belong here; the channel closes.
        """
        ...

    def closed(self, error: FleetError | None) -> None:
        """Hear once that the channel is closed: by the peer (None) or for an error. Not told after `close`."""
        ...


class Channel:
    """Sends and receives messages of one peer process."""

    def __init__(self, sock: socket.socket, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._receiver = receiver
        self._loop = loop
        self._inbox = Inbox()
        self._unsent: deque[tuple[memoryview, list[int]]] = deque()
        self._unsent_bytes = 0
        self._open = True
        loop.add_reader(sock, self._readable)

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._open

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message as soon as the peer reads; the caller keeps its descriptors.

        Raises:
            FleetError: RUNNER_LOST when the channel is closed, LIMIT_EXCEEDED for a message that is too large.
        """
        if not self._open:
            raise FleetError(Code.RUNNER_LOST, "the process has ended")
        frame = encode(message)
        self._unsent.append((memoryview(frame), [os.dup(number) for number in descriptors]))
        self._unsent_bytes += len(frame)
        if len(self._unsent) == 1:
            self._writable()
        if self._unsent_bytes > MAX_UNSENT:
            self._fail(FleetError(Code.RUNNER_LOST, "the process does not read its control socket"))

    def close(self) -> None:
        """Close without telling the receiver. Idempotent."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._inbox.close()
        for _, numbers in self._unsent:
            for number in numbers:
                os.close(number)
        self._unsent.clear()
        self._socket.close()

    def _fail(self, error: FleetError | None) -> None:
        if self._open:
            self.close()
            self._receiver.closed(error)

    def _readable(self) -> None:
        try:
            more = self._inbox.receive(self._socket)
            while self._open and (received := self._inbox.next()) is not None:
                self._receiver.received(*received)
        except BlockingIOError:
            return
        except OSError:  # a reset is an end like any other
            self._fail(None)
        except FleetError as error:
            self._fail(error)
        else:
            if not more:
                self._fail(None)

    def _writable(self) -> None:
        try:
            while self._unsent:
                data, numbers = self._unsent[0]
                sent = socket.send_fds(self._socket, [data], numbers) if numbers else self._socket.send(data)
                while numbers:
                    os.close(numbers.pop())
                self._unsent_bytes -= sent
                if sent == len(data):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = (data[sent:], numbers)
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._writable)
        except OSError:
            # What the peer sent before it ended is still to be read; the reader finds the end of the stream.
            self._loop.remove_writer(self._socket)
        else:
            self._loop.remove_writer(self._socket)
