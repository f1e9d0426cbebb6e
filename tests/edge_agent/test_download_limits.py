"""Every read from outside has a limit: one row for each, with a source that sends without end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_agent import config, data_dir, identity, ledger, time_store, trust_store
from edge_agent.config import load_settings
from edge_agent.disk import LocalDisk, read_named
from edge_agent.identity import IdentityStore
from edge_agent.ledger import Ledger
from edge_agent.link import channel, remote
from edge_agent.time_store import TimeStore
from edge_agent.trust_store import TrustStore
from fleet import assignment, checkpoint, documents, metadata
from fleet.assignment import open_assignment
from fleet.errors import Code, FleetError
from fleet.model import AssignedAgent, DesiredState
from fleet.oci import digest_of
from fleet.revocations import Revocations, encode_revocations
from fleet.targets import REVOCATIONS_PATH
from fleet.trust import MAX_TARGET
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import NOW, Publisher, fleet_trust
from tests.fakes.refusals import code_of
from tests.fakes.teams import team_keys
from tests.fakes.whole_node import WholeNode

HUGE = 2**40


class Endless(FleetWorld):
    """A coordinator that sends one blob without end; `lie` is the size that it announces."""

    victim = ""
    lie = HUGE
    sent = 0

    async def fetch_blob(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        if digest != self.victim:
            async for piece in super().fetch_blob(digest, offset):
                yield piece
            return
        while True:
            self.sent += 1000
            yield b"x" * 1000, self.lie


def world() -> tuple[Endless, AssignedAgent, dict[str, str]]:
    """A published agent with everything that a node fetches for it, and the digest of each kind of thing."""
    made = Endless(Publisher(keys=team_keys("vision")))
    revocations = encode_revocations(Revocations())
    made.publisher.add(REVOCATIONS_PATH, revocations)
    built = bundle("one", "1.0.0", models={"anomaly": b"weights" * 1000})
    spec = made.release(built, "one", grant("app/one", "one"), "app/one")
    sizes = sorted(built.blobs.items(), key=lambda item: len(item[1]))
    fetched = {
        "the keys of the fleet": digest_of(made.publisher.document),
        "a policy": made.put(revocations),
        "the index of a bundle": spec.bundle.digest,
        "a grant": spec.grant.digest,
        "a component": digest_of(sizes[0][1]),
        "a model": digest_of(b"weights" * 1000),
    }
    for number, (digest, data) in enumerate(sizes):
        if data.startswith(b"{") and len(data) > 2:
            fetched[f"document {number} of a bundle"] = digest
    return made, spec, fetched


FETCHED = sorted(world()[2])


@pytest.mark.parametrize("what", FETCHED)
@pytest.mark.parametrize("announced", [HUGE, 5_000_000, MAX_TARGET])
def test_a_coordinator_that_sends_without_end_is_cut_off_before_it_fills_the_disk(what: str, announced: int) -> None:
    made, spec, fetched = world()
    made.victim, made.lie = fetched[what], announced
    node = WholeNode(made)
    code = node.accept(made.assign(spec))
    assert code in {Code.LIMIT_EXCEEDED, Code.DIGEST_MISMATCH}
    assert made.sent <= MAX_TARGET + 2_000
    assert node.running() == set()
    node.close()


@pytest.mark.parametrize(
    "offered",
    [
        dict.fromkeys(map(str, range(metadata.MAX_FILES + 1)), b"{}"),
        {"timestamp.json": b" " * (metadata.MAX_METADATA + 1)},
        {f"{number}.targets.json": b" " * metadata.MAX_METADATA for number in range(5)},
    ],
    ids=["too many files", "a file that is too large", "too much in sum"],
)
def test_metadata_without_end_is_refused_before_it_is_read(offered: Mapping[str, bytes]) -> None:
    made, spec, _ = world()
    node = WholeNode(made)
    made.withheld = dict(offered)
    assert node.accept(made.assign(spec)) is Code.LIMIT_EXCEEDED
    node.close()


def test_what_a_coordinator_says_in_one_message_is_bounded() -> None:
    assert channel.MAX_PUSH == 256 * 1024
    assert channel.MAX_REPLY == 16 * 1024 * 1024 >= metadata.MAX_RELEASE
    assert remote.MAX_CHUNK == 1024 * 1024
    assert remote.MIN_BYTES_PER_S > 0


def open_order(envelope: bytes, proof: bytes) -> Any:
    return open_assignment(DesiredState(envelope, proof), fleet_trust(), node="node-1", epoch=1, now=NOW)


VERIFIED: dict[str, Callable[[], Any]] = {
    "an order": lambda: open_order(b" " * (assignment.MAX_ENVELOPE + 1), b""),
    "a checkpoint": lambda: checkpoint.open_checkpoint(b"x" * (checkpoint.MAX_NOTE + 1), fleet_trust().log_vkeys),
    "a proof": lambda: checkpoint.parse_proof(b"x" * (checkpoint.MAX_PROOF + 1)),
    "a document": lambda: documents.load_json(b" " * (documents.MAX_DOCUMENT + 1), Code.GRANT_INVALID, "x"),
}


@pytest.mark.parametrize("what", VERIFIED)
def test_what_is_parsed_is_bounded_before_it_is_parsed(what: str) -> None:
    assert code_of(VERIFIED[what]) in {Code.LIMIT_EXCEEDED, Code.PROOF_INVALID}


def trust(data: Path) -> TrustStore:
    return TrustStore(LocalDisk(), data / "trust", allow_dev_profile=True)


ON_DISK: dict[str, tuple[str, int, Callable[[Path], Any]]] = {
    "the pinned root": ("trust/root.json", trust_store.MAX_ROOT, lambda data: trust(data).load()),
    "the adopted release": ("trust/metadata.json", trust_store.MAX_FILE, lambda data: trust(data).load()),
    "the time": (
        "trust/time.json",
        time_store.MAX_FILE,
        lambda data: TimeStore(LocalDisk(), data / "trust").load(NOW),
    ),
    "the ledger": ("ledger/desired.json", ledger.MAX_FILE, lambda data: Ledger(LocalDisk(), data / "ledger").load()),
    "who the node is": ("node.json", identity.MAX_FILE, lambda data: IdentityStore(LocalDisk(), data).load()),
    "settings": ("agent.toml", config.MAX_FILE, lambda data: load_settings(data, {}, {})),
    "a ceiling": (
        "ceiling.yaml",
        data_dir.MAX_DOCUMENT,
        lambda data: data_dir.read_ceiling(LocalDisk(), data / "ceiling.yaml"),
    ),
    "sensors": (
        "sensors.yaml",
        data_dir.MAX_DOCUMENT,
        lambda data: data_dir.read_placed(LocalDisk(), data / "sensors.yaml"),
    ),
    "a file that somebody named": ("x.json", 10, lambda data: read_named(data / "x.json", 10)),
}


@pytest.mark.parametrize("what", ON_DISK)
def test_a_file_of_the_node_that_somebody_made_huge_is_not_read_whole(what: str, tmp_path: Path) -> None:
    name, limit, read = ON_DISK[what]
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "root.json").write_bytes(Publisher().root)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(HUGE // 1024)  # sparse: a gigabyte that takes no room
    assert limit < HUGE // 1024
    with pytest.raises(FleetError) as caught:
        read(tmp_path)
    assert caught.value.code in {Code.LIMIT_EXCEEDED, Code.TRUST_INVALID, Code.LEDGER_CORRUPT, Code.CONFIG_INVALID}
