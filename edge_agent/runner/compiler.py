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
from edge_agent.runner.messages import Compile, Compiled, CompileFailed, Describe, EngineDescribed, Fault, Fuse
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
        case Fuse():
            try:
                module, size = _fuse(descriptors[0], message)
            except FleetError as error:
                connection.send(CompileFailed(Fault.of(error)))
            else:
                connection.send(Compiled(size), [module])
        case _:
            raise FleetError(Code.MESSAGE_INVALID, f"a compile worker does not take {type(message).__name__}")


def _compile(component: int, digest: str, *, fuel: bool) -> tuple[int, int]:
    data = memory_file.read(component, MAX_COMPONENT)
    _check_digest(data, digest)
    return _sealed(Engine(fuel=fuel).compile(data))


def _fuse(components: int, message: Fuse) -> tuple[int, int]:
    data = memory_file.read(components, MAX_COMPONENT)
    parts: list[tuple[str, bytes]] = []
    for part in message.parts:
        component, data = data[: part.size], data[part.size :]
        _check_digest(component, part.digest)
        parts.append((part.agent, component))
    engine = Engine(fuel=bool(message.fuel))
    try:
        return _sealed(engine.compile(engine.fuse(parts, message.wires)))
    except FleetError as error:
        if error.code is Code.COMPONENT_INVALID:  # the parts are valid, or the fault would have named one of them
            names = ", ".join(agent for agent, _ in parts)
            raise FleetError(Code.LINK_INVALID, f"{names} do not fit together: {error.private}") from error
        raise


def _check_digest(data: bytes, digest: str) -> None:
    actual = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if actual != digest:
        raise FleetError(Code.DIGEST_MISMATCH, "the component's file changed", expected=digest, actual=actual)


def _sealed(machine_code: bytes) -> tuple[int, int]:
    module = memory_file.create("compiled")
    memory_file.write(module, machine_code)
    memory_file.seal(module)
    return module, len(machine_code)
