"""The ports that agents of this process are granted, while they are open.

Owns: `Listeners`, which opens each port once. Two instances of one agent may overlap while one takes the place of the
other: they share the port, and its connections go to the one that started last, so that none is refused. A port that
another agent or program has is an error.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import Protocol

from fleet.errors import Code, FleetError

BACKLOG = 64
"""Connections that the system holds until they are taken."""


@dataclass(frozen=True, slots=True)
class Place:
    """A granted port.

    Attributes:
        max_body: bytes of a request's body.
        max_rps: requests per second; None for no ceiling.
    """

    address: str
    port: int
    max_body: int
    max_rps: int | None


class Server(Protocol):
    """Who takes the connections of a port."""

    def take(self, connection: socket.socket, place: Place) -> None:
        """Serve a connection, in a thread of one's own."""
        ...


class Listener:
    """One open port; made by `Listeners`."""

    def __init__(self, agent: str, place: Place, opened: socket.socket) -> None:
        self.agent = agent
        self.place = place
        self.users = 1
        self._opened = opened
        self._server: Server | None = None
        self._served = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http listener", daemon=True)
        self._thread.start()

    def hand_to(self, server: Server) -> None:
        """Give each connection to this server from now on."""
        self._server = server
        self._served.set()

    def leave(self, server: Server) -> None:
        """Give no more connections to this server; they wait for the next one."""
        if self._server is server:
            self._served.clear()
            self._server = None

    def close(self) -> None:
        """Close the port."""
        cut(self._opened)
        self._opened.close()
        self._served.set()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._opened.accept()
            except OSError:
                return  # closed
            self._served.wait()
            server = self._server
            if server is None:
                connection.close()
            else:
                server.take(connection, self.place)


class Listeners:
    """The open ports of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int], Listener] = {}

    def open(self, agent: str, place: Place) -> Listener:
        """Open a port, or share the one that another instance of the same agent has open.

        Raises:
            FleetError: PORT_UNAVAILABLE.
        """
        with self._lock:
            known = self._open.get((place.address, place.port))
            if known is not None and known.agent == agent:
                known.users += 1
                return known
            if known is not None:
                raise _unavailable(agent, place, f"{known.agent} listens there")
            family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
            try:
                opened = socket.create_server((place.address, place.port), family=family, backlog=BACKLOG)
            except OSError as error:
                raise _unavailable(agent, place, error.strerror or str(error)) from error
            listener = self._open[place.address, place.port] = Listener(agent, place, opened)
            return listener

    def close(self, listener: Listener, server: Server) -> None:
        """Give a port up; it is closed with the last instance that has it."""
        with self._lock:
            listener.leave(server)
            listener.users -= 1
            if listener.users == 0:
                del self._open[listener.place.address, listener.place.port]
                listener.close()


LISTENERS = Listeners()
"""Those of this process, which runs the agents of one application."""


def cut(connection: socket.socket) -> None:
    """End both directions of a connection, so that whoever waits for it in another thread comes back."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster


def _unavailable(agent: str, place: Place, reason: str) -> FleetError:
    return FleetError(
        Code.PORT_UNAVAILABLE,
        f"{agent} cannot listen on {place.address} port {place.port}: {reason}",
        agent=agent,
        address=place.address,
        port=place.port,
    )
