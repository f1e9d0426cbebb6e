"""The blocking end of a control socket, used inside the zygote, runners and compile workers.

Owns: `Connection`, which sends and receives messages with their file descriptors, and `receive`, the one place that
takes descriptors off a socket. The asyncio end is `edge_agent.runner.channel`.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from edge_agent.runner.messages import Message
from edge_agent.runner.protocol import FrameBuffer, decode, encode
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Sequence

Received: TypeAlias = tuple[Message, tuple[int, ...]]
"""A message and the descriptors that came with it; the receiver closes them."""

READ_SIZE = 64 * 1024
"""Bytes taken off a socket at once, so that one busy peer cannot keep the others waiting."""

MAX_DESCRIPTORS = 8
"""Descriptors that may wait for their message."""

_DESCRIPTOR = struct.Struct("i")


class Inbox:
    """Joins bytes and descriptors of one socket into messages.

    The kernel keeps descriptors in order and never delivers them later than the first byte they were sent with, so
    the oldest waiting descriptor belongs to the oldest message that wants one.
    """

    def __init__(self) -> None:
        self._frames = FrameBuffer()
        self._descriptors: deque[int] = deque()

    def receive(self, sock: socket.socket) -> bool:
        """Take what is there; False at the end of the stream.

        Raises:
            BlockingIOError: nothing is there and the socket does not block.
            FleetError: MESSAGE_INVALID when more descriptors come than any message has.
        """
        space = socket.CMSG_LEN(MAX_DESCRIPTORS * _DESCRIPTOR.size)
        data, ancillary, flags, _ = sock.recvmsg(READ_SIZE, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(content) - len(content) % _DESCRIPTOR.size
                self._descriptors.extend(number for (number,) in _DESCRIPTOR.iter_unpack(content[:whole]))
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > MAX_DESCRIPTORS:
            raise FleetError(Code.MESSAGE_INVALID, "more file descriptors than any message has")
        self._frames.feed(data)
        return bool(data)

    def next(self) -> Received | None:
        """Return the next complete message, or None.

        Raises:
            FleetError: MESSAGE_INVALID; the stream is then useless.
        """
        payload = self._frames.next()
        if payload is None:
            if self._frames.empty and self._descriptors:
                raise FleetError(Code.MESSAGE_INVALID, "a file descriptor without a message")
            return None
        message = decode(payload)
        if len(self._descriptors) < message.FDS:
            raise FleetError(Code.MESSAGE_INVALID, f"{type(message).__name__} without its file descriptor")
        return message, tuple(self._descriptors.popleft() for _ in range(message.FDS))

    def close(self) -> None:
        """Close descriptors that no message claimed."""
        while self._descriptors:
            os.close(self._descriptors.popleft())


class Connection:
    """One end of a control socket. One thread receives; any thread may send, whole messages at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._inbox = Inbox()
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Descriptor of the socket."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message; waits while the peer is slow.

        Raises:
            FleetError: LIMIT_EXCEEDED, and then nothing was sent.
            OSError: the peer is gone.
        """
        self.send_frame(encode(message), descriptors)

    def send_frame(self, frame: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one encoded message; waits while the peer is slow.

        Raises:
            OSError: the peer is gone.
        """
        with self._sending:
            sent = socket.send_fds(self._socket, [frame], list(descriptors)) if descriptors else 0
            if sent < len(frame):  # a peer that has its message may be gone: nothing more is written to it
                self._socket.sendall(frame[sent:])

    def receive(self) -> Received | None:
        """Wait for the next message; None at the end of the stream.

        Raises:
            FleetError: MESSAGE_INVALID; the caller closes the connection.
        """
        while (received := self._inbox.next()) is None:
            if not self._inbox.receive(self._socket):
                return None
        return received

    def waiting(self) -> Received | None:
        """Return a message that has arrived already, without reading the socket."""
        return self._inbox.next()

    def close(self) -> None:
        """Close the socket and whatever descriptors came without a message."""
        self._inbox.close()
        self._socket.close()
