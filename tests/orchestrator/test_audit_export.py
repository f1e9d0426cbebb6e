"""Exports of the audit log: the same bytes for the same log, bounds on what is read, and the check of one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.audit import FindingKind
from fleet.checkpoint import KeyKind, format_vkey, sign_checkpoint
from fleet.errors import Code, FleetError
from fleet.history import History, Rows
from fleet.logs import ClosedLog
from fleet.trust import FleetTrust, Profile
from fleet.witnesses import NO_WITNESSES, WitnessPolicy, add_lines, cosign, parse_policy, witness_name
from orchestrator import audit_export
from orchestrator.audit_export import Export, Header, Writer, open_export
from orchestrator.cli.audit_check import Believed, Material, Report, check
from tests.fakes.audited import ORIGIN, AuditedFleet, agent_of, grant, ms
from tests.fakes.publisher import NODE_CA, key

ONE = grant("app/one")
TRUST = FleetTrust("demo", (key("director").public,), (format_vkey(ORIGIN, key("log").public),), NODE_CA, Profile.DEV)
HEADER = Header("demo", 3, 2)


def write(path: Path, scratch: Path, *, folder: bool) -> None:
    scratch.mkdir()
    writer = Writer(path, scratch)
    assert writer.long("leaves", (b"one", b"", b"three")) == 3
    writer.long("notes", ())
    writer.long("rows", (b"row",))
    for name in ("trust/timestamp.json", "trust/1.root.json"):
        writer.small(name, name.encode())
    writer.small("checkpoint", b"note")
    writer.header(HEADER)
    writer.finish(folder=folder)


@pytest.mark.parametrize("folder", [False, True])
def test_an_export_is_read_as_it_was_written(tmp_path: Path, *, folder: bool) -> None:
    write(tmp_path / "log", tmp_path / "scratch", folder=folder)
    with open_export(tmp_path / "log") as found:
        assert found.header() == HEADER
        assert list(found.items("leaves")) == [b"one", b"", b"three"]
        assert list(found.items("leaves")) == [b"one", b"", b"three"]  # from the beginning each time
        assert dict(found.metadata()) == {
            "timestamp.json": b"trust/timestamp.json",
            "1.root.json": b"trust/1.root.json",
        }
        assert found.small("checkpoint") == b"note"
        assert not found.has("policy")
        with pytest.raises(FleetError, match="not in the export"):
            found.small("policy")


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, tmp_path / f"scratch-{name}", folder=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    (tmp_path / "there").mkdir()
    with pytest.raises(FleetError) as refused:
        write(tmp_path / "there", tmp_path / "scratch", folder=True)
    assert refused.value.code is Code.ALREADY_EXISTS


def tar_of(path: Path, *members: tuple[str, bytes, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            tar.addfile(info, io.BytesIO(data))
    return path


def refusal(path: Path, read: Callable[[Export], object] = lambda found: found.header()) -> Code:
    with pytest.raises(FleetError) as refused, open_export(path) as found:
        read(found)
    return refused.value.code


def test_a_strange_file_is_refused_and_nothing_unbounded_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regular, link = tarfile.REGTYPE, tarfile.SYMTYPE
    (tmp_path / "text").write_bytes(b"no tar")
    assert refusal(tmp_path / "text") is Code.AUDIT_INVALID
    assert refusal(tmp_path / "absent") is Code.NOT_FOUND
    for name in ("../leaves", "/leaves", "trust/../x.json", "trust/a/b.json", "LEAVES"):
        assert refusal(tar_of(tmp_path / "t", (name, regular, b""))) is Code.AUDIT_INVALID
    assert refusal(tar_of(tmp_path / "t", ("leaves", link, b""))) is Code.AUDIT_INVALID
    assert refusal(tar_of(tmp_path / "t", *[("leaves", regular, b"")] * 2)) is Code.AUDIT_INVALID
    assert refusal(tar_of(tmp_path / "t", ("export.json", regular, b"{}"))) is Code.AUDIT_INVALID
    bad = b'{"schema":"fleet.audit-export/v1","fleet":"A B","size":0,"rows_size":0}'
    assert refusal(tar_of(tmp_path / "t", ("export.json", regular, bad))) is Code.AUDIT_INVALID
    leaves: Callable[[Export], object] = lambda found: list(found.items("leaves"))  # noqa: E731 - two lines less
    for cut in (b"\0\0", b"\0\0\0\5abc"):
        assert refusal(tar_of(tmp_path / "t", ("leaves", regular, cut)), leaves) is Code.AUDIT_INVALID
    assert refusal(tar_of(tmp_path / "t", ("leaves", regular, b"\xff\0\0\0x")), leaves) is Code.LIMIT_EXCEEDED
    monkeypatch.setattr(audit_export, "MAX_SMALL", 4)
    small: Callable[[Export], object] = lambda found: found.small("checkpoint")  # noqa: E731 - two lines less
    assert refusal(tar_of(tmp_path / "t", ("checkpoint", regular, b"12345")), small) is Code.LIMIT_EXCEEDED
    monkeypatch.setattr(audit_export, "MAX_FILES", 1)
    two = [("leaves", regular, b""), ("notes", regular, b"")]
    assert refusal(tar_of(tmp_path / "t", *two)) is Code.LIMIT_EXCEEDED
    (tmp_path / "folder").mkdir()
    for name in ("leaves", "notes"):
        (tmp_path / "folder" / name).touch()
    assert refusal(tmp_path / "folder") is Code.LIMIT_EXCEEDED


def logged() -> AuditedFleet:
    fleet = AuditedFleet()
    fleet.enrol("n1")
    fleet.witness("n1")
    fleet.publish(1, ONE)
    fleet.order(2, "n1", agent_of("app/one", ONE))
    fleet.receive(3, "n1", agent_of("app/one", ONE))
    return fleet


def rows_of(fleet: AuditedFleet) -> Rows:
    history = History()
    for index, leaf in enumerate(fleet.leaves):
        history.apply(index, leaf)
    return history.rows()


def checked(
    fleet: AuditedFleet,
    rows: Rows,
    *held: tuple[str, bytes],
    notes: tuple[bytes, ...] = (),
    policy: WitnessPolicy = NO_WITNESSES,
    trust: FleetTrust = TRUST,
) -> Report:
    material = Material(fleet.note(), iter(fleet.leaves), notes, rows, fleet.log.size, lambda _: None)
    return check(material, Believed(trust, policy, b""), held)


def test_answers_that_the_leaves_do_not_give_are_told() -> None:
    fleet = logged()
    rows = rows_of(fleet)
    assert checked(fleet, rows).misfits == {}
    hidden = replace(rows, assigned=())
    assert checked(fleet, hidden).misfits == {"assigned": 1}
    assert checked(fleet, hidden).rows == rows  # answers from an export come from its leaves, whatever its rows say


def test_cosignatures_tell_how_far_the_quorum_has_seen() -> None:
    fleet = logged()
    name = witness_name("demo", "n1")
    vkey = format_vkey(name, key("w-n1").public, KeyKind.COSIGNER)
    policy = parse_policy(f"witness n1 {vkey}\nquorum n1\n".encode())
    notes = tuple(
        add_lines(fleet.note(size), [cosign(fleet.note(size), name, key("w-n1"), ms(9) // 1000)]) for size in (2, 4)
    )
    report = checked(fleet, rows_of(fleet), notes=(*notes, fleet.note(5)), policy=policy)
    assert (report.quorum_size, report.agreed, report.signatures["cosignatures"]) == (4, {name: 4}, 2)
    assert checked(fleet, rows_of(fleet), notes=notes).quorum_size is None


def test_what_others_hold_decides() -> None:
    fleet, other = logged(), AuditedFleet()
    for number in range(9):
        other.publish(number)
    rows = rows_of(fleet)
    assert checked(fleet, rows, ("security", fleet.note(3)), notes=(fleet.note(2),)).agreed == {"security": 3}
    for note in (other.note(3), other.note(9)):
        with pytest.raises(FleetError) as refused:
            checked(fleet, rows, ("security", note))
        assert (refused.value.code, refused.value.detail["holder"]) == (Code.LOG_FORKED, "security")
    with pytest.raises(FleetError) as refused:
        checked(fleet, rows, ("stranger", fleet.note(3, "thief")))
    assert refused.value.code is Code.PROOF_INVALID


def cosigned(fleet: AuditedFleet, size: int, minutes: float, node: str = "n1") -> bytes:
    line = cosign(fleet.note(size), witness_name("demo", node), key(f"w-{node}"), ms(minutes) // 1000)
    return add_lines(fleet.note(size), [line])


def test_a_witness_that_saw_a_leaf_before_its_time_is_told_and_a_quorum_decides() -> None:
    """A leaf that claims a later time than when it was there; one witness may have a wrong clock, a quorum has not."""
    fleet = logged()
    fleet.order(60, "n1")
    fleet.publish(61)
    rows = rows_of(fleet)
    notes = (cosigned(fleet, 4, 9), cosigned(fleet, 6, 9), cosigned(fleet, 7, 9))
    found = checked(fleet, rows, notes=notes).findings
    assert [(one.kind, one.leaf, one.holder) for one in found] == [
        (FindingKind.CLOCK, 5, "demo/node/n1"),
        (FindingKind.CLOCK, 6, "demo/node/n1"),
    ]
    assert "it claims to be of 2026-06-01T01:00:00Z" in found[0].text
    vkeys = [format_vkey(witness_name("demo", n), key(f"w-{n}").public, KeyKind.COSIGNER) for n in ("n1", "n2")]
    two = parse_policy(f"witness a {vkeys[0]}\nwitness b {vkeys[1]}\ngroup both all a b\nquorum both\n".encode())
    assert len(checked(fleet, rows, notes=notes, policy=two).findings) == 2
    with pytest.raises(FleetError, match="a quorum of witnesses") as refused:
        checked(fleet, rows, notes=(*notes, cosigned(fleet, 6, 9, "n2")), policy=two)
    assert (refused.value.code, refused.value.detail["leaf"]) == (Code.AUDIT_INVALID, 5)


def test_what_was_seen_of_a_log_that_ended_is_compared_as_far_as_it_goes_on() -> None:
    fleet = logged()
    old = sign_checkpoint("demo/audit/0", 9, bytes(32), key("old"))
    ended = ClosedLog((format_vkey("demo/audit/0", key("old").public),), 3, fleet.checkpoint(3).root)
    trust = replace(TRUST, closed_logs=(ended,))
    rows = rows_of(fleet)
    (found,) = checked(fleet, rows, ("security", old), trust=trust).findings
    assert (found.kind, found.holder) == (FindingKind.LOST, "security")
    report = checked(fleet, rows, notes=(old, fleet.note(4)), trust=trust)
    assert (report.findings, report.agreed) == ((), {})  # its own checkpoints from before its end are no evidence
    seen = sign_checkpoint("demo/audit/0", 3, ended.root, key("old"))
    assert checked(fleet, rows, ("security", seen), trust=trust).agreed == {"security": 3}
    with pytest.raises(FleetError) as refused:
        checked(fleet, rows, trust=replace(trust, closed_logs=(replace(ended, root=bytes(32)),)))
    assert refused.value.code is Code.LOG_FORKED
    with pytest.raises(FleetError) as refused:
        checked(fleet, rows, ("security", sign_checkpoint("demo/audit/0", 3, ended.root, key("thief"))), trust=trust)
    assert refused.value.code is Code.PROOF_INVALID
