"""Runs WebAssembly components: our own thin layer over the Wasmtime C API.

The stock component bindings of the `wasmtime` package are slow, leak memory, and mix up exceptions between stores;
a supervisor cannot be built on them. This package keeps what it needs: compile and load a component (`Engine`,
`Component`), offer it host functions (`HostInterface`, `HostFunction`), run it with limits (`Instance`, `Limits`), and
say why it stopped (`Trap`). Values are mapped as tabled in `fleet.wit_types`.

Rules for the caller: tick the engine about every `TICK_SECONDS`, or deadlines do not hold; run guests in threads with
the default stack (2 MiB is safe, 512 KiB is not); close every instance. Lists of numbers cross through a generated shim
(`shim`), at about 2 ms per MiB; a call carries half of the agent's memory limit and never more than 64 MiB.

Components with asynchronous functions have a second engine, which `Engine` keeps beside itself (`Component.engine` is
the one to tick); docs/wasi-0.3.md says what they can do.

Such components can have several calls in flight in one instance (`Instance.serve`, `in_flight`).

Read `instance` first, then `component`; `ffi` is the only module that declares C functions.

    engine = Engine()
    component = engine.load(engine.compile(wasm))
    instance = Instance(component, [clock_interface], Limits(memory_bytes=16 << 20))
    instance.call("syuthd:agent-mesh/sensor-handler#handle-data", {"source": "a", "value": 1.5, "timestamp": 3})
"""

from edge_agent.capabilities.base import HostFunction, HostInterface
from edge_agent.runner.engine.component import Component
from edge_agent.runner.engine.engine import TICK_SECONDS, Engine
from edge_agent.runner.engine.in_flight import Calls, GuestCall
from edge_agent.runner.engine.instance import Instance
from edge_agent.runner.engine.limits import Limits
from edge_agent.runner.engine.resources import GuestResource
from edge_agent.runner.engine.traps import Trap
from edge_agent.runner.engine.types import ROOT, ComponentTypes, InterfaceType

__all__ = [
    "ROOT",
    "TICK_SECONDS",
    "Calls",
    "Component",
    "ComponentTypes",
    "Engine",
    "GuestCall",
    "GuestResource",
    "HostFunction",
    "HostInterface",
    "Instance",
    "InterfaceType",
    "Limits",
    "Trap",
]
