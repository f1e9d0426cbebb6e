"""The publisher against a real coordinator: what it takes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import Code, FleetError
from fleet.release import (
    AddDocument,
    ChangeKeys,
    Lifetimes,
    NamedKey,
    Operation,
    RoleKeys,
    encode_staged,
    role_states,
    sign_staged,
    stage,
)
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations
from fleet.targets import GUARDRAILS_PATH, REVOCATIONS_PATH, TRUST_PATH
from fleet.trust import Release, encode_fleet_trust
from orchestrator.cli.client import Client, connect
from orchestrator.cli.context import Context
from orchestrator.cli.trust import TrustDirectory
from orchestrator.pki import new_authority
from orchestrator.principals import Role
from orchestrator.publisher import program
from orchestrator.publisher.publisher import Fate, Outcome, Publisher
from orchestrator.publisher.settings import format_settings, load_settings
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import FleetFixture, Operator, ShiftedClock, serving
from tests.fakes.publisher import key, role_keys

HOUR = timedelta(hours=1)
ROLES = {**role_keys().keys, "policy": (key("policy"),)}


@dataclass
class Desk:
    """A publisher's machine and the coordinator that it publishes to."""

    fleet: FleetFixture
    coordinator: Coordinator
    clock: ShiftedClock
    folder: Path
    publisher: Publisher
    context: Context

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    def release(self) -> Release:
        return self.coordinator.services.releases.current()

    def put(
        self, name: str, *operations: Operation, signers: tuple[str, ...] = (), base: Release | None = None
    ) -> Path:
        """Put a staged change into the inbox."""
        release = base or self.release()
        staged = sign_staged(stage(release, operations, name, self.clock(), {}), [key(signer) for signer in signers])
        file = self.inbox / f"{name}.json"
        file.write_bytes(encode_staged(staged))
        return file

    async def look(self) -> tuple[Outcome, ...]:
        """Look twice: a file is taken when it has not changed since the look before."""
        first = await asyncio.to_thread(self.publisher.tick)
        return first + await asyncio.to_thread(self.publisher.tick)

    async def refusal(self) -> Code:
        """Look, and return why the one file was refused."""
        before = dict(self.release().files)
        (outcome,) = await self.look()
        assert outcome.fate is Fate.REFUSED
        assert outcome.error is not None
        assert dict(self.release().files) == before
        reason = json.loads((self.inbox / "refused" / outcome.what).with_suffix(".error.json").read_bytes())
        assert reason["code"] == outcome.error.code
        assert list(self.inbox.glob("*.json")) == []
        return outcome.error.code


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock = ShiftedClock()
    short = Lifetimes(100 * HOUR, 100 * HOUR, 100 * HOUR, 2 * HOUR, HOUR)
    fleet = FleetFixture(tmp_path / "fleet", role_keys=RoleKeys(ROLES, lifetimes=short))
    async with serving(fleet, clock) as coordinator:
        operator = Operator(fleet, coordinator)
        async with operator.channel:
            await operator.push()
        folder = tmp_path / "publisher"
        directory = TrustDirectory(folder)
        directory.write("root.json", fleet.files["1.root.json"])
        directory.save(fleet.files)
        for role in ("snapshot", "timestamp"):
            directory.write(f"keys/{role}.pem", key(role).to_pem(), 0o600)
        identity = fleet.operator("publisher", Role.APPROVER)
        directory.write("publisher.pem", identity.key, 0o600)
        directory.write("publisher.crt", identity.certificate)
        directory.write("node-ca.crt", fleet.node_ca.certificate)
        directory.write("publisher.toml", format_settings(str(coordinator.session)).encode())
        context = load_settings(folder / "publisher.toml").context
        publisher = Publisher(
            directory, folder / "inbox", lambda: connect(context, clock), clock, "publisher", context.ca
        )
        await asyncio.to_thread(publisher.tick)  # the release of this fixture is due at once: sign it again
        yield Desk(fleet, coordinator, clock, folder, publisher, context)


APPROVER = ChangeKeys("grants-default", add=(NamedKey(key("bob").public, "bob"),))


async def test_a_complete_change_is_published_and_kept(desk: Desk) -> None:
    desk.put("bob", APPROVER, signers=("targets",))
    assert await desk.look() == (Outcome(Fate.PUBLISHED, "bob.json"),)
    assert key("bob").public in desk.release().role_keys["grants-default"]
    assert [file.name for file in (desk.inbox / "published").iterdir()] == ["bob.json"]
    assert await desk.look() == ()


async def test_changes_that_do_not_meet_are_both_published(desk: Desk) -> None:
    base = desk.release()
    empty = AddDocument(REVOCATIONS_PATH, encode_revocations(Revocations()))
    desk.put("a", APPROVER, signers=("targets",), base=base)
    desk.put("b", empty, signers=("policy",), base=base)
    assert [outcome.fate for outcome in await desk.look()] == [Fate.PUBLISHED, Fate.PUBLISHED]


async def test_it_follows_a_rotation_of_the_node_authority(desk: Desk) -> None:
    """It publishes both stages, and reaches its coordinator afterwards; a list of strangers it does not follow."""
    services = desk.coordinator.services
    services.node_authorities.prepare("alice")
    first, second = (authority.pem for authority in services.node_authorities.list())
    stranger = new_authority("strangers", desk.clock()).certificate
    for number, listed in enumerate((first + second, second)):
        desk.put(f"stage-{number}", fleet_document(desk, listed), signers=("targets",))
        assert [outcome.fate for outcome in await desk.look()] == [Fate.PUBLISHED]
        assert desk.context.ca.read_bytes() == listed == services.node_authorities.bundle()
    desk.put("wrong", fleet_document(desk, stranger), signers=("targets",))
    assert [outcome.fate for outcome in await desk.look()] == [Fate.PUBLISHED]
    assert desk.context.ca.read_bytes() == second
    desk.put("bob", APPROVER, signers=("targets",))
    assert [outcome.fate for outcome in await desk.look()] == [Fate.PUBLISHED]


def fleet_document(desk: Desk, authorities: bytes) -> AddDocument:
    """The fleet's own document with other node authorities."""
    changed = encode_fleet_trust(replace(desk.fleet.trust, node_ca_pem=authorities))
    return AddDocument(TRUST_PATH, changed, replaces=desk.release().target(TRUST_PATH).digest)


async def test_what_a_node_would_refuse_is_refused_before_it_leaves(desk: Desk) -> None:
    """Half signed; one key for code and grants; policies that cannot be asked; what is no change at all."""
    desk.put("bob", APPROVER)
    assert await desk.refusal() is Code.SIGNATURES_MISSING
    shared = ChangeKeys("grants-default", add=(NamedKey(key("code-default").public, "x"),))
    desk.put("x", shared, signers=("targets",))
    assert await desk.refusal() is Code.TRUST_INVALID
    desk.put("y", AddDocument(GUARDRAILS_PATH, b"permit(principal, action, resource) when {"), signers=("policy",))
    assert await desk.refusal() is Code.CONFIG_INVALID
    for data in (b"", b"{}", b"\xff"):
        (desk.inbox / "z.json").write_bytes(data)
        assert await desk.refusal() is Code.STAGED_INVALID


async def test_what_is_due_is_signed_again_and_no_other_key_is_wanted(desk: Desk) -> None:
    states = {state.role: state for state in role_states(desk.release())}
    assert states["timestamp"].expires - desk.clock() > 100 * HOUR  # the fixture had it signed again: it was due
    assert states["timestamp"].version == states["snapshot"].version == 3
    assert await desk.look() == ()
    desk.publisher.check_keys()
    directory = TrustDirectory(desk.folder)
    directory.write("keys/code.pem", key("code-default").to_pem(), 0o600)
    with pytest.raises(FleetError, match="keys of code-default are here"):
        desk.publisher.check_keys()
    (desk.folder / "keys" / "code.pem").unlink()
    (desk.folder / "keys" / "snapshot.pem").unlink()
    with pytest.raises(FleetError, match="not here"):
        desk.publisher.check_keys()


async def test_a_change_on_an_older_release_is_refused(desk: Desk) -> None:
    base = desk.release()
    desk.put("bob", APPROVER, signers=("targets",), base=base)
    await desk.look()
    ann = ChangeKeys("grants-default", add=(NamedKey(key("ann").public, "ann"),))
    desk.put("ann", ann, signers=("targets",), base=base)
    assert await desk.refusal() is Code.GENERATION_CONFLICT


async def test_what_was_revoked_stays_revoked(desk: Desk) -> None:
    entry = Revocation(Kind.BUNDLE, "sha256:" + "a" * 64, "stolen", desk.clock())
    desk.put(
        "one", AddDocument(REVOCATIONS_PATH, encode_revocations(Revocations().extended([entry]))), signers=("policy",)
    )
    assert [outcome.fate for outcome in await desk.look()] == [Fate.PUBLISHED]
    listed = desk.release().target(REVOCATIONS_PATH).digest
    empty = AddDocument(REVOCATIONS_PATH, encode_revocations(Revocations()), replaces=listed)
    desk.put("none", empty, signers=("policy",))
    assert await desk.refusal() is Code.TRUST_ROLLBACK


async def test_a_file_that_grows_and_a_link_are_left_alone(desk: Desk, tmp_path: Path) -> None:
    file = desk.put("bob", APPROVER, signers=("targets",))
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert await asyncio.to_thread(desk.publisher.tick) == ()
    file.write_bytes(whole)
    assert await asyncio.to_thread(desk.publisher.tick) == ()
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(whole)
    (desk.inbox / "link.json").symlink_to(elsewhere)
    assert await asyncio.to_thread(desk.publisher.tick) == (Outcome(Fate.PUBLISHED, "bob.json"),)
    assert await desk.look() == ()


async def test_a_lost_answer_is_no_conflict(desk: Desk) -> None:
    """The coordinator adopted it, and the publisher never heard: the same file again is done, not refused."""
    file = desk.put("bob", APPROVER, signers=("targets",))
    again = file.read_bytes()
    before = {file.name: file.read_bytes() for file in (desk.folder / "repository").iterdir()}
    await desk.look()
    TrustDirectory(desk.folder).save(before)
    (desk.inbox / "bob.json").write_bytes(again)
    assert await desk.look() == (Outcome(Fate.PUBLISHED, "bob.json"),)


async def test_without_a_coordinator_everything_waits(desk: Desk) -> None:
    file = desk.put("bob", APPROVER, signers=("targets",))
    nowhere = Context("127.0.0.1:1", desk.context.ca, desk.context.certificate, desk.context.key, desk.context.trust)
    lost = _publisher(desk, lambda: connect(nowhere, desk.clock))
    await asyncio.to_thread(lost.tick)
    (outcome, *_) = await _settled(lost)
    assert (outcome.fate, file.exists()) == (Fate.WAITING, True)


async def _settled(publisher: Publisher) -> tuple[Outcome, ...]:
    try:
        return await asyncio.to_thread(publisher.tick)
    except FleetError as error:
        return (Outcome(Fate.WAITING, "", error),)


def _publisher(desk: Desk, door: Callable[[], AbstractContextManager[Client]]) -> Publisher:
    return Publisher(TrustDirectory(desk.folder), desk.inbox, door, desk.clock, "publisher", desk.context.ca)


async def test_new_keys_of_the_publisher_have_to_be_there_first(desk: Desk) -> None:
    rotation = ChangeKeys("timestamp", (NamedKey(key("t2").public, "t2"),), (key("timestamp").public,))
    file = desk.put("t2", rotation, signers=("root",))
    staged = file.read_bytes()
    assert await desk.refusal() is Code.CONFIG_INVALID
    TrustDirectory(desk.folder).write("keys/t2.pem", key("t2").to_pem(), 0o600)
    file.write_bytes(staged)
    assert [outcome.fate for outcome in await desk.look()] == [Fate.PUBLISHED]
    assert desk.release().versions["timestamp"] == 1


async def test_the_program_looks_once_and_says_whether_all_went_well(desk: Desk) -> None:
    config = str(desk.folder / "publisher.toml")
    desk.put("bob", APPROVER, signers=("targets",))
    assert await asyncio.to_thread(program.main, ["run", "--once", "--config", config]) == 0
    (desk.inbox / "bad.json").write_bytes(b"{}")
    assert await asyncio.to_thread(program.main, ["run", "--once", "--config", config]) == 1
    (desk.folder / "keys" / "snapshot.pem").unlink()
    assert await asyncio.to_thread(program.main, ["run", "--once", "--config", config]) == 2


async def test_serving_goes_on_after_a_fault(desk: Desk) -> None:
    """A look that fails is logged; the next one comes all the same, until it is told to stop."""
    looks: list[int] = []

    def stopped() -> bool:
        looks.append(1)
        return len(looks) == 3

    nowhere = Context("127.0.0.1:1", desk.context.ca, desk.context.certificate, desk.context.key, desk.context.trust)
    desk.put("bob", APPROVER, signers=("targets",))
    await asyncio.to_thread(program.serve, _publisher(desk, lambda: connect(nowhere, desk.clock)), stopped)
    assert len(looks) == 3


@pytest.mark.parametrize(
    "text",
    ["[", "", 'name = "Not a name"\n[coordinator]\n', "poll_s = 0\n", "more = 1\n", "[coordinator]\naddress = 1\n"],
)
def test_settings_that_are_not_valid_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "publisher.toml").write_text(text)
    with pytest.raises(FleetError) as refused:
        load_settings(tmp_path / "publisher.toml")
    assert refused.value.code is Code.CONFIG_INVALID
