"""wasi:config: only granted keys, in both versions."""

from __future__ import annotations

import pytest

from edge_agent.capabilities import config_store
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node, functions

CONFIG = {"site": "oslo", "detector.gain": "2", "secret": "s"}
DENIED = Err(Variant("upstream", "the grant does not include this key"))


@pytest.mark.parametrize("name", config_store.INTERFACES)
def test_only_granted_keys_are_seen(node: Node, name: str) -> None:
    agent = node.agent({"wasi:config/store": [{"keys": ["site", "detector.*"]}]}, config=CONFIG)
    store = functions(config_store.interfaces(agent), name)
    assert store["get"]("site") == Ok("oslo")
    assert store["get"]("detector.none") == Ok(None)
    assert store["get"]("secret") == DENIED
    assert store["get-all"]() == Ok([("detector.gain", "2"), ("site", "oslo")])


@pytest.mark.parametrize("capabilities", [{}, {"wasi:config/store": []}])
def test_without_the_grant_nothing_is_seen(node: Node, capabilities: dict) -> None:
    store = functions(config_store.interfaces(node.agent(capabilities, config=CONFIG)), config_store.INTERFACES[0])
    assert store["get"]("site") == DENIED
    assert store["get-all"]() == Ok([])
