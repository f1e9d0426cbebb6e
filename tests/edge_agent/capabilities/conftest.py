"""Fixtures of the capability tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.capabilities import filesystem_paths, keyvalue_store
from tests.fakes.agents import Node
from tests.fakes.file_guest import Guest, rule


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


@pytest.fixture(params=["kernel", "steps"])
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to resolve a path give the same answers."""
    if request.param == "steps":
        monkeypatch.setattr(filesystem_paths, "_resolver", lambda: filesystem_paths.resolve_by_steps)


@pytest.fixture
def guest(node: Node) -> Guest:
    """An agent with one volume."""
    return Guest(node, rule("scratch/data"))


@pytest.fixture
def folder(guest: Guest, node: Node) -> Path:
    """Where the guest's volume is."""
    return node.state_dir / "files" / "data"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that no guest may reach."""
    secret = tmp_path / "outside"
    secret.mkdir()
    (secret / "secret").write_text("secret")
    return secret
