"""The two doors to the network that requests of agents go through, and how servers are verified.

Owns: `Network`, the look-up of a name and the connection to an address, and `tls_context`. Whether either may happen
is not asked here: that is `http_policy`.
"""

from __future__ import annotations

import socket
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Network(Protocol):
    """The two doors to the outside, so that tests can stand in them."""

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """Addresses of a name, in the order in which to try them. Raises OSError."""
        ...

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """A connection to an address. Raises OSError."""
        ...


class SystemNetwork:
    """The network of the node."""

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """As `Network` says."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICSERV)
        return list(dict.fromkeys(str(place[0]).partition("%")[0] for *_, place in found))

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """As `Network` says."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect((address, port))
        except BaseException:
            connection.close()
            raise
        return connection


@lru_cache(maxsize=4)
def tls_context(authorities: Path | None) -> ssl.SSLContext:
    """Return how servers are verified: by the system's authorities, and by those in a file of the node."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if authorities is not None and authorities.exists():
        context.load_verify_locations(authorities)
    return context
