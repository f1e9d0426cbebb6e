"""Requests of other programs as jobs of an agent.

Owns: `open_server`, which listens where the grant of an agent that exports `wasi:http/incoming-handler` says, and
`HttpJob`, one request on its way through the agent. The client always gets an answer: 503 where the agent is busy or
stopping, 504 at the deadline, 502 where it ended or answered nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities.http_body import Inflow
from edge_agent.capabilities.http_fields import Fields
from edge_agent.capabilities.http_listeners import Place
from edge_agent.capabilities.http_server import MAX_BODY, USUAL_BODY, HttpServer
from edge_agent.capabilities.http_types import HttpHandles, IncomingMessage
from edge_agent.capabilities.http_wit import INCOMING_HANDLER
from edge_agent.runner.engine import Trap
from edge_agent.runner.jobs import Job
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.capabilities.http_server import HttpRequest, Reply
    from edge_agent.runner.engine import Instance
    from edge_agent.runner.messages import Fault
    from fleet.grants import Authority

PATIENCE_S = 10.0
"""How long a request waits for room in the queue of an agent whose queue makes its sources wait."""


@dataclass(frozen=True, slots=True)
class HttpJob(Job):
    """One request.

    Attributes:
        function: full name of the exported function.
        reply: where the answer goes.
        context: of the agent, once it runs.
    """

    function: str
    request: HttpRequest
    reply: Reply
    context: Callable[[], AgentContext]

    @property
    def deadline_ms(self) -> int | None:
        """As `Job` says: the grant's deadline holds."""
        return None

    def run(self, instance: Instance, seconds: float) -> None:
        """As `Job` says."""
        if self.reply.gone:
            return
        handles = self.context().shared(HttpHandles)
        request = handles.requests_in.insert(self._message(handles))
        place = handles.places.insert(self.reply.answer)
        try:
            instance.call(self.function, request, place, seconds=seconds)
        except Trap as trap:
            self.reply.fail(504 if trap.cause is ExitCause.DEADLINE else 502)
            raise
        except FleetError:
            # The guest did not run, so both are still the host's.
            handles.requests_in.drop(request)
            handles.places.drop(place)
        self.reply.fail(502)  # nothing happens to an answer that is whole

    def refuse(self, fault: Fault) -> None:
        """As `Job` says."""
        self.reply.fail(503 if fault.code in (Code.AGENT_BUSY, Code.AGENT_NOT_RUNNING) else 502)

    def _message(self, handles: HttpHandles) -> IncomingMessage:
        body = Inflow(handles.wake)
        body.put(self.request.body, 0.0)
        body.end([])
        return IncomingMessage(
            Fields(self.request.headers, mutable=False),
            body,
            method=self.request.method,
            path=self.request.path,
            scheme="http",
            authority=self.request.authority,
        )


def open_server(
    agent: str,
    authority: Authority,
    exports: Iterable[str],
    submit: Callable[[Job, float], None],
    context: Callable[[], AgentContext],
) -> HttpServer | None:
    """Listen where the agent may, None for an agent that nobody may ask.

    Args:
        agent: `application/agent`.
        authority: decides about addresses and ports.
        exports: full names of the functions that the component exports.
        submit: queues a job, waiting so many seconds for room where the queue makes its sources wait.
        context: of the agent, once it runs.

    Raises:
        FleetError: PORT_UNAVAILABLE.
    """
    places = _places(authority)
    function = next((name for name in exports if _is_handler(name)), None)
    if not places or function is None:
        return None

    def take(request: HttpRequest, reply: Reply) -> None:
        submit(HttpJob(function, request, reply, context), PATIENCE_S)

    return HttpServer(agent, places, take, authority.limits.deadline_ms / 1000)


def _is_handler(function: str) -> bool:
    interface, _, name = function.rpartition("#")
    return name == "handle" and interface.partition("@")[0] == INCOMING_HANDLER


def _places(authority: Authority) -> tuple[Place, ...]:
    """Every pair of an address and a port that one rule names, with the highest ceilings that rules give it."""
    pairs = {
        (address, int(port))
        for rule in authority.capabilities.get(INCOMING_HANDLER, ())
        for address in rule.words("addresses")
        for port in rule.words("ports")
    }
    return tuple(_place(authority, address, port) for address, port in sorted(pairs))


def _place(authority: Authority, address: str, port: int) -> Place:
    asked = {"address": address, "port": str(port)}
    most = authority.maximum(INCOMING_HANDLER, "max_request_bytes", **asked)
    rate = authority.maximum(INCOMING_HANDLER, "max_rps", **asked)
    return Place(address, port, USUAL_BODY if most is None else min(most, MAX_BODY), rate)
