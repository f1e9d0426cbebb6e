"""Fixtures of the capability tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.capabilities import keyvalue_store
from tests.fakes.agents import Node


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests stand in for a power cut by copying files, so they need not wait until the disk has them."""
    monkeypatch.setattr(keyvalue_store, "SYNCHRONOUS", "OFF")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "state")
    yield node
    node.close()


@pytest.fixture
def new_node(tmp_path: Path) -> Iterator[Callable[[], Node]]:
    """Makes nodes with fresh state, for tests that run many examples."""
    nodes: list[Node] = []

    def make() -> Node:
        nodes.append(Node(tmp_path / f"state-{len(nodes)}"))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()
