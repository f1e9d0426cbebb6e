"""Ports for servers that are told theirs before they start.

A port that the system chose may be given to somebody else before a server binds it, above all to an outgoing
connection. These are below the range that it chooses from (net.ipv4.ip_local_port_range), and each process of a test
run walks through a part of its own.
"""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _LAST = 20_000, 32_000
_STEP = 40
"""Ports that one process usually takes."""

_walk = itertools.count(os.getpid() * _STEP)


def free_port() -> int:
    """A port of this machine that nobody listens on; each call returns another one."""
    while True:
        port = _FIRST + next(_walk) % (_LAST - _FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
