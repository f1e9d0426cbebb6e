"""Guests whose lists of numbers go through the shim."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from edge_agent.runner.engine import Component, Engine, HostFunction, HostInterface, Instance, Limits
from fleet.wit_types import (
    FuncType,
    WitType,
    WitValue,
)
from tests.fakes.components import ECHO_INTERFACE, echo

ENGINE = Engine()
CONTEXT_AGENT = Path(__file__).parents[2] / "components/context-agent/context_agent.wasm"


@lru_cache(maxsize=64)
def component_of(kind: WitType) -> Component:
    return ENGINE.load(ENGINE.compile(echo(kind)))


def echoing(kind: WitType, limits: Limits | None = None) -> tuple[Instance, list[WitValue]]:
    """An instance that gives every value to the host and back, and what the host got."""
    got: list[WitValue] = []

    def call(value: WitValue) -> WitValue:
        got.append(value)
        return value

    function = HostFunction(FuncType((("v", kind),), kind), call)
    return Instance(component_of(kind), [HostInterface(ECHO_INTERFACE, {"echo": function})], limits or Limits()), got
