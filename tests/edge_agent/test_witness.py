"""The node as a witness: what it remembers, what it signs, and what it never takes again."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from edge_agent.agent import main
from edge_agent.data_dir import lock_data_dir, prepare_data_dir
from edge_agent.disk import LocalDisk
from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.witness import Offered, Witness, read_evidence
from fleet.certificates import open_witness
from fleet.checkpoint import format_vkey, sign_checkpoint
from fleet.errors import CATALOG, Code, FleetError
from fleet.logs import ClosedLog
from fleet.merkle import consistency_proof, root
from fleet.model import DesiredState
from fleet.signing import SigningKey
from fleet.trust import FleetTrust
from fleet.witnesses import open_cosignature
from tests.fakes.clock import VirtualClock
from tests.fakes.disk import MemoryDisk
from tests.fakes.publisher import LOG, NOW, MemoryLog, fleet_trust, key
from tests.fakes.refusals import code_of

IDENTITY = Identity("node-1", "demo", 1, 1, "127.0.0.1:1", "127.0.0.1:2", "00" * 32)


def log_of(size: int, mark: bytes = b"") -> MemoryLog:
    return MemoryLog(*(mark + b"%d" % number for number in range(size)))


def note(log: MemoryLog, size: int, signer: str = "log") -> bytes:
    return sign_checkpoint(LOG, size, root(log.read, size), key(signer))


def offer(log: MemoryLog, old: int, size: int) -> Offered:
    return Offered(note(log, size), old, consistency_proof(log.read, old, size) if old <= size else ())


class Bench:
    """One witness over a folder; `start` is what switching the node on does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trust: FleetTrust | None = fleet_trust()
        self.start()

    def start(self) -> None:
        self.journal = Journal("node-1", 10)
        self.witness = Witness(LocalDisk(), self.folder, IDENTITY, lambda: self.trust, self.journal, VirtualClock(NOW))
        self.witness.load()

    def kinds(self) -> list[str]:
        return [event.kind for event in self.journal.take_events(100, NOW)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_checkpoint_is_remembered_and_cosigned(bench: Bench) -> None:
    log = log_of(9)
    envelope = bench.witness.certificate(key("bound"))
    certified = open_witness(envelope, fleet="demo", node="node-1", epoch=1, key=key("bound").public)
    for old, size in ((0, 4), (4, 9), (9, 9)):
        answer = await bench.witness.answer(offer(log, old, size))
        assert (answer.size, answer.seen, answer.error) == (size, size, None)
        cosignature = open_cosignature(note(log, size), answer.line, certified.key)
        assert cosignature.at_s == int(NOW.timestamp())
    bench.start()  # what was seen outlives the process, and so does the key
    assert bench.witness.seen == 9
    assert bench.witness.certificate(key("bound")) == envelope
    assert (bench.folder / "keys" / "witness.pem").stat().st_mode & 0o777 == 0o600


async def test_the_rules_of_an_answer(bench: Bench) -> None:
    log, other = log_of(9), log_of(9, b"x")
    bench.trust = None
    with pytest.raises(FleetError) as refused:
        await bench.witness.answer(offer(log, 0, 4))
    assert refused.value.code is Code.TRUST_INVALID
    bench.trust = fleet_trust()
    await bench.witness.answer(offer(log, 0, 4))
    with pytest.raises(FleetError) as refused:  # 2
        await bench.witness.answer(Offered(note(log, 9, "thief"), 4, consistency_proof(log.read, 4, 9)))
    assert refused.value.code is Code.PROOF_INVALID
    answer = await bench.witness.answer(offer(log, 2, 9))  # 3
    assert (answer.line, answer.seen, answer.error) == ("", 4, None)
    assert (await bench.witness.answer(offer(log, 4, 9))).line
    answer = await bench.witness.answer(offer(other, 9, 9))  # 4
    assert (answer.line, answer.seen, answer.error) == ("", 9, Code.LOG_FORKED)
    answer = await bench.witness.answer(offer(log, 9, 9))  # 1: also what would fit is not signed any more
    assert (answer.line, answer.error) == ("", Code.LOG_FORKED)


@pytest.mark.parametrize("size", [9, 12, 3])
async def test_two_histories_and_a_lost_end_leave_evidence_and_stop_new_orders(bench: Bench, size: int) -> None:
    log, other = log_of(9), log_of(12, b"x")
    await bench.witness.answer(offer(log, 0, 9))
    assert (await bench.witness.answer(offer(other, 9, size))).error is Code.LOG_FORKED
    assert bench.kinds() == ["audit:log:forked"]
    bench.start()
    evidence = read_evidence(LocalDisk(), bench.folder / "witness" / "evidence.json")
    assert evidence == bench.witness.evidence
    assert evidence is not None
    assert (evidence.seen, evidence.shown) == (note(log, 9), note(other, size))
    index = log.append(b"the order")
    desired = DesiredState(b"", log.proof(index, key("log")), 9, consistency_proof(log.read, 9, 10))
    assert await refusal(bench, desired) is Code.LOG_FORKED  # even one that the true log proves
    (bench.folder / "witness" / "evidence.json").unlink()  # a person has looked at it
    bench.start()
    assert await refusal(bench, desired) is None


async def refusal(bench: Bench, desired: DesiredState) -> Code | None:
    try:
        await bench.witness.place(desired)
    except FleetError as error:
        return error.code
    return None


async def test_an_order_is_placed_in_what_was_seen(bench: Bench) -> None:
    log = log_of(4)
    early = log.proof(3, key("log"))
    assert await refusal(bench, DesiredState(b"", early)) is None  # the first that is ever seen
    assert bench.witness.seen == 4
    log.append(b"4")
    await bench.witness.answer(offer(log, 4, 5))
    assert await refusal(bench, DesiredState(b"", early, 5, consistency_proof(log.read, 4, 5))) is None
    other = log_of(7, b"x")
    forged = DesiredState(b"", other.proof(6, key("log")), 5, consistency_proof(other.read, 5, 7))
    assert await refusal(bench, DesiredState(b"", forged.proof, 3, ())) is Code.PROOF_INVALID
    assert bench.witness.evidence is None  # a proof about something else is no proof of a fork
    assert await refusal(bench, forged) is Code.LOG_FORKED
    assert bench.kinds() == ["audit:log:forked"]


async def test_a_node_never_forgets_by_itself_what_it_saw(bench: Bench) -> None:
    log = log_of(4)
    await bench.witness.answer(offer(log, 0, 4))
    (bench.folder / "witness" / "seen.json").write_bytes(b"{}")
    with pytest.raises(FleetError) as refused:
        bench.start()
    assert refused.value.code is Code.STATE_CORRUPT
    assert await refusal(bench, DesiredState(b"", log.proof(3, key("log")))) is Code.STATE_CORRUPT
    with pytest.raises(FleetError) as refused:
        await bench.witness.answer(offer(log, 0, 4))
    assert refused.value.code is Code.STATE_CORRUPT
    (bench.folder / "witness" / "evidence.json").write_bytes(b"[]")
    assert code_of(read_evidence, LocalDisk(), bench.folder / "witness" / "evidence.json") is Code.STATE_CORRUPT
    (bench.folder / "witness" / "evidence.json").write_bytes(b'{"schema":"x"}')
    assert code_of(read_evidence, LocalDisk(), bench.folder / "witness" / "evidence.json") is Code.STATE_CORRUPT


NEXT = f"{LOG}/2"


def closed_at(log: MemoryLog, size: int) -> FleetTrust:
    """The fleet's keys after the log ended, as the holders of the targets keys sign them."""
    ended = ClosedLog(fleet_trust().log_vkeys, size, root(log.read, size))
    return replace(fleet_trust(), log_vkeys=(format_vkey(NEXT, key("log-2").public),), closed_logs=(ended,))


def next_offer(log: MemoryLog, old: int, size: int) -> Offered:
    whole = sign_checkpoint(NEXT, size, root(log.read, size), key("log-2"))
    return Offered(whole, old, consistency_proof(log.read, old, size) if old <= size else ())


@pytest.mark.parametrize("accused", [True, False])
async def test_a_node_goes_over_to_the_log_that_is_signed_to_go_on(bench: Bench, *, accused: bool) -> None:
    """The coordinator lost the last leaves: refused until the targets role says how the log goes on."""
    log = log_of(7)
    for old, size in ((0, 3), (3, 5), (5, 7)):
        await bench.witness.answer(offer(log, old, size))
    restored = log_of(5)
    for leaf in (b"new", b"newer", b"newest"):
        restored.append(leaf)
    if accused:
        assert (await bench.witness.answer(offer(restored, 7, 8))).error is Code.LOG_FORKED
    bench.trust = closed_at(restored, 5)
    bench.start()
    assert bench.witness.evidence is None
    answer = await bench.witness.answer(next_offer(restored, 7, 8))
    assert (answer.line, answer.seen, answer.error) == ("", 5, None)  # it says where it is now
    assert (await bench.witness.answer(next_offer(restored, 5, 8))).line
    assert bench.kinds() == ["audit:log:closed"]
    evidence = bench.folder / "witness" / "evidence.closed.json"
    assert evidence.exists() is accused
    assert (bench.folder / "witness" / "evidence.json").exists() is False
    bench.start()
    assert (bench.witness.seen, bench.witness.evidence) == (8, None)
    proof = restored.proof(7, key("log-2"), NEXT)
    assert await refusal(bench, DesiredState(b"", proof, 8, ())) is None
    assert (
        await refusal(bench, DesiredState(b"", restored.proof(7), 8, ())) is Code.PROOF_INVALID
    )  # the closed log's key


async def test_no_statement_makes_a_node_forget_what_came_before(bench: Bench) -> None:
    log, other = log_of(7), log_of(9, b"x")
    for old, size in ((0, 3), (3, 7)):
        await bench.witness.answer(offer(log, old, size))
    bench.trust = closed_at(log, 5)
    assert (await bench.witness.answer(next_offer(other, 3, 9))).error is Code.LOG_FORKED
    bench.start()
    assert await refusal(bench, DesiredState(b"", b"")) is Code.LOG_FORKED  # evidence about the log that goes on counts


async def test_a_successor_of_the_logs_key_changes_nothing_of_what_was_seen(bench: Bench) -> None:
    log, new = log_of(7), format_vkey(LOG, key("log-2").public)
    await bench.witness.answer(offer(log, 0, 4))
    bench.trust = replace(fleet_trust(), log_vkeys=(*fleet_trust().log_vkeys, new))
    both = sign_checkpoint(LOG, 5, root(log.read, 5), key("log-2"), key("log"))
    assert (await bench.witness.answer(Offered(both, 4, consistency_proof(log.read, 4, 5)))).line
    bench.trust = replace(fleet_trust(), log_vkeys=(new,))
    with pytest.raises(FleetError) as refused:
        await bench.witness.answer(offer(log, 5, 7))
    assert refused.value.code is Code.PROOF_INVALID
    assert bench.witness.evidence is None  # anybody may have the retired key: that is no evidence against the log
    signed = Offered(note(log, 7, "log-2"), 5, consistency_proof(log.read, 5, 7))
    assert (await bench.witness.answer(signed)).line


def test_a_chip_may_keep_the_key_and_a_key_in_a_file_stays_the_one_that_policy_names() -> None:
    disk, folder = MemoryDisk(), Path("/node")

    def public(seed: bytes | None) -> bytes:
        witness = Witness(disk, folder, IDENTITY, fleet_trust, Journal("node-1", 10), VirtualClock(NOW))
        witness.seed = None if seed is None else lambda: seed
        said = witness.certificate(key("bound"))
        bound = key("bound").public
        who = {"fleet": IDENTITY.fleet, "node": IDENTITY.node, "epoch": IDENTITY.epoch}
        return open_witness(said, **who, key=bound).key.public.raw

    assert public(bytes(32)) == SigningKey.from_seed(bytes(32)).public.raw
    assert disk.size(folder / "keys" / "witness.pem") is None, "nothing of it is on disk"
    in_file = public(None)
    assert public(bytes(32)) == in_file


def test_what_was_seen_is_durable_before_it_is_signed() -> None:
    disk = MemoryDisk()
    log, folder = log_of(4), Path("/node")
    witness = Witness(disk, folder, IDENTITY, fleet_trust, Journal("node-1", 10), VirtualClock(NOW))
    witness.certificate(key("bound"))

    async def answered() -> str:
        return (await witness.answer(offer(log, 0, 4))).line

    assert asyncio.run(answered())
    again = Witness(
        disk.after_power_cut(Random(1)), folder, IDENTITY, fleet_trust, Journal("node-1", 10), VirtualClock(NOW)
    )
    again.load()
    assert again.seen == 4


async def test_the_command_shows_what_was_seen_and_forgets_it_for_a_person(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["witness", "--data-dir", str(bench.folder)]
    prepare_data_dir(bench.folder)
    assert main(command) == CATALOG[Code.NOT_FOUND].exit_code
    log = log_of(4)
    await bench.witness.answer(offer(log, 0, 4))
    assert main(command) == 0
    assert capsys.readouterr().out == note(log, 4).decode()
    assert main([*command, "--evidence"]) == CATALOG[Code.NOT_FOUND].exit_code
    await bench.witness.answer(offer(log_of(4, b"x"), 4, 4))
    capsys.readouterr()
    assert main([*command, "--evidence"]) == 0
    assert json.loads(capsys.readouterr().out)["shown"] == note(log_of(4, b"x"), 4).decode()
    with lock_data_dir(bench.folder):
        assert main([*command, "--forget"]) == CATALOG[Code.ALREADY_EXISTS].exit_code  # not under a node that runs
    assert main([*command, "--forget"]) == 0
    bench.start()
    assert (bench.witness.seen, bench.witness.evidence) == (0, None)
