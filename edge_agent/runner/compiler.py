"""The compile worker: a forked process that turns one component into machine code and ends.

Owns: `main`. The compiler reads bytes that a stranger wrote, so it runs in a process of its own with limits on time
and memory, and it compiles only bytes whose digest it has checked itself: the file may change under it, they may not.
"""

from __future__ import annotations

import hashlib
import os
import resource
from typing import TYPE_CHECKING

from edge_agent.runner import memory_file
from edge_agent.runner.engine import Engine
from edge_agent.runner.messages import Compile, Compiled, CompileFailed, Describe, EngineDescribed, Fault
from fleet.component import MAX_COMPONENT
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from edge_agent.runner.connection import Connection

MAX_CPU_S = 900
"""Processor time of one compilation; 12 MB of JavaScript engine take about a minute."""

MAX_ADDRESS_SPACE = 8 << 30
"""Memory of one compilation, thread stacks and reserved ranges included."""

NICENESS = 10
"""Compiling gives way to the agents that run."""


def main(connection: Connection) -> None:
    """Answer one request and return.

    Raises:
        FleetError: MESSAGE_INVALID, when it is not one that a compile worker takes.
    """
    received = connection.receive()
    if received is None:
        return
    message, descriptors = received
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))
    match message:
        case Describe():
            connection.send(EngineDescribed(Engine().fingerprint, Engine(fuel=True).fingerprint))
        case Compile():
            try:
                module, size = _compile(descriptors[0], message.digest, fuel=bool(message.fuel))
            except FleetError as error:
                connection.send(CompileFailed(Fault.of(error)))
            else:
                connection.send(Compiled(size), [module])
        case _:
            raise FleetError(Code.MESSAGE_INVALID, f"a compile worker does not take {type(message).__name__}")


def _compile(component: int, digest: str, *, fuel: bool) -> tuple[int, int]:
    data = memory_file.read(component, MAX_COMPONENT)
    actual = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if actual != digest:
        raise FleetError(Code.DIGEST_MISMATCH, "the component's file changed", expected=digest, actual=actual)
    machine_code = Engine(fuel=fuel).compile(data)
    module = memory_file.create("compiled")
    memory_file.write(module, machine_code)
    memory_file.seal(module)
    return module, len(machine_code)
