"""Crash reports of real guests that ran under a recorder, without any process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge_agent.capabilities.base import HostInterface
from edge_agent.crashes import engine_name
from edge_agent.runner.engine import Engine, Trap
from edge_agent.runner.instantiation import instantiate
from edge_agent.runner.invocation import evaluate
from edge_agent.runner.linking import link
from edge_agent.runner.recorder import RecordedInstance, Recorder
from edge_agent.runner.ticker import Ticker
from fleet.crash import CrashReport, decode_recording
from fleet.oci import digest_of
from tests.fakes.agents import Capabilities, Node


def crash(
    node: Node,
    wasm: bytes,
    calls: Iterable[str],
    capabilities: Capabilities | None = None,
    *,
    recorder: Recorder | None = None,
    change: Callable[[HostInterface], HostInterface] = lambda interface: interface,
    **limits: str | int,
) -> CrashReport:
    """Call an agent until it ends, and report that as a node would.

    Args:
        node: makes the agent's context.
        wasm: the component.
        calls: invocations, as many as it takes.
        capabilities: what is granted.
        recorder: one with other bounds.
        change: applied to each interface before it is recorded.
        limits: as a grant writes them.
    """
    context = node.agent(capabilities or {}, **limits)
    granted = context.authority.limits
    engine = Engine(fuel=granted.fuel_per_call is not None)
    component = engine.load(engine.compile(wasm))
    recorder = recorder or Recorder()
    interfaces = [change(interface) for interface in link(component, context, context.authority, ())]
    with Ticker().running(component.engine):
        try:
            instance = instantiate(lambda shared: RecordedInstance(component, interfaces, shared, recorder), granted)
            for call in calls:
                evaluate(instance, call, granted.deadline_ms / 1000)
        except Trap as trap:
            return CrashReport(
                node="node-1",
                agent="app/agent",
                generation=1,
                bundle="sha256:b",
                grant="sha256:g",
                component=digest_of(wasm),
                authority=context.authority.encode().decode(),
                engine=engine_name(),
                cause=trap.cause,
                message=trap.message,
                at_ms=1,
                backtrace=trap.backtrace,
                recording=decode_recording(recorder.recording(component.exports)),
            )
    raise AssertionError("the guest did not end")
