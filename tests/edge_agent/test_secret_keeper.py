"""Secrets on their way into a running node: taken when they can be, told once, never lost to an early offer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from edge_agent.journal import Journal
from edge_agent.secret_keeper import SecretKeeper
from edge_agent.secret_store import FILE, SecretStore
from fleet.errors import Code, FleetError
from fleet.sealing import open_statement
from tests.edge_agent.test_secret_store import FOLDER, PRIVATE, WHO, Bench, FixedVault, sealed, values
from tests.fakes.clock import START, VirtualClock
from tests.fakes.publisher import key
from tests.fakes.wait import until


class Node:
    """A keeper that runs, and what it tells."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.store = SecretStore(bench.disk, FOLDER, bench.identity, FixedVault(), lambda: bench.keys)
        self.journal = Journal("n1", 10)
        self.changes = 0
        self.keeper = SecretKeeper(self.store, lambda: key("n1"), self._changed, self.journal, VirtualClock())
        self.seen: list[str] = []

    def _changed(self) -> None:
        self.changes += 1

    def kinds(self) -> list[str]:
        self.seen += [event.kind for event in self.journal.take_events(100, START)]
        return self.seen


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node(Bench())
    running = asyncio.create_task(node.keeper.run())
    yield node
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_what_is_offered_is_taken_and_told(node: Node) -> None:
    node.keeper.offer([sealed()])
    await until(lambda: node.changes == 1, "the change")
    assert values(node.store) == {"api-token": "hunter2"}
    assert node.kinds() == ["secret:set:accepted"]
    node.keeper.offer([sealed(), sealed("api-key", signer="director")])
    await until(lambda: "secret:value:refused" in node.kinds(), "the refusal")
    node.keeper.release_changed()
    node.keeper.offer([])
    await until(lambda: values(node.store) == {}, "the removal")
    assert node.kinds().count("secret:value:refused") == 1, "told once"


async def test_an_offer_before_the_release_is_adopted_is_taken_afterwards(node: Node) -> None:
    """A node that has just joined is offered its secrets before it knows whose signatures count."""
    trusted = node.bench.keys[:]
    node.bench.keys.clear()
    node.keeper.release_changed()
    node.keeper.offer([sealed()])
    await until(lambda: "secret:value:refused" in node.kinds(), "the refusal")
    node.bench.keys += trusted
    node.keeper.release_changed()
    await until(lambda: values(node.store) == {"api-token": "hunter2"}, "the second try")


async def test_a_set_that_is_too_large_changes_nothing(node: Node) -> None:
    node.keeper.offer([sealed()] * 65)
    await until(lambda: "secret:set:refused" in node.kinds(), "the refusal")
    assert node.changes == 0


def test_the_statement_is_signed_once_by_the_bound_key() -> None:
    node = Node(Bench())
    said = node.keeper.statement()
    opened = open_statement(said, fleet="demo", node="n1", epoch=1, key=key("n1").public)
    assert opened == node.store.statement()
    assert node.keeper.statement() is said


def test_a_chip_that_is_away_is_told_and_asked_again() -> None:
    node = Node(Bench())
    answers: list[object] = [FleetError(Code.KEY_UNAVAILABLE, "no chip"), PRIVATE]

    class Sleeping:
        def key(self, _name: str) -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, FleetError):
                raise answer
            return PRIVATE

    node.store._vault = Sleeping()
    assert node.keeper.statement() == b""
    assert node.kinds() == ["secret:key:unavailable"]
    assert node.keeper.statement() != b""


def test_a_spoiled_store_is_told_at_boot() -> None:
    bench = replace(Bench(), identity=WHO)
    bench.disk.write(FOLDER / FILE, b"spoiled", 0)
    node = Node(bench)
    node.keeper.boot()
    assert node.kinds() == ["secret:store:incomplete"]
