"""Fixtures of the capability tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.agents import Node


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
