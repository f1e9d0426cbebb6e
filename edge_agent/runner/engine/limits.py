"""What one instance may use.

Owns: `Limits`. The grant of an agent decides them; the engine holds them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one agent may use.

    Attributes:
        memory_bytes: size of each linear memory; the agent's total is this times `memories`. Where bytes cross through
            the shim (see `engine.shim`), it has a memory of its own for each direction, of `memory_bytes` too and never
            more than 128 MiB; half of that is what one call can carry.
        memories: number of linear memories.
        tables: number of tables.
        table_elements: elements of each table.
        instances: core instances the component is made of.
        resources: host resources the guest may hold at one time.
        call_seconds: wall-clock time of one call, host functions included; none for no limit. A guest is stopped when
            it next runs: a host function that waits must watch its own time.
        start_seconds: wall-clock time of instantiation; the smaller of it and `call_seconds` holds.
        fuel_per_call: instructions of one call, on an engine that counts them; none for no limit.
    """

    memory_bytes: int = 64 << 20
    memories: int = 2
    tables: int = 64
    table_elements: int = 100_000
    instances: int = 64
    resources: int = 1024
    call_seconds: float | None = 30.0
    start_seconds: float | None = None
    fuel_per_call: int | None = None
