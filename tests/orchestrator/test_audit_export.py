"""Exports of the audit log: the same bytes for the same log, bounds on what is read, and the check of one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.checkpoint import KeyKind, format_vkey
from fleet.errors import Code, FleetError
from fleet.history import History, Rows
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
) -> Report:
    material = Material(fleet.note(), iter(fleet.leaves), notes, rows, fleet.log.size, lambda _: None)
    return check(material, Believed(TRUST, policy, b""), held)


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
    notes = tuple(add_lines(fleet.note(size), [cosign(fleet.note(size), name, key("w-n1"), ms(9) // 1000)]) for size in (2, 4))
    report = checked(fleet, rows_of(fleet), notes=(*notes, fleet.note(5)), policy=policy)
    assert (report.quorum_size, report.agreed, report.signatures["cosignatures"]) == (4, {name: 4}, 2)
    assert checked(fleet, rows_of(fleet), notes=notes).quorum_size is None


def test_what_others_hold_decides() -> None:
    fleet, other = logged(), AuditedFleet()
    for number in range(9):
        other.publish(number)
    rows = rows_of(fleet)
    assert checked(fleet, rows, ("security", fleet.note(3))).agreed == {"security": 3}
    for note in (other.note(3), other.note(9)):
        with pytest.raises(FleetError) as refused:
            checked(fleet, rows, ("security", note))
        assert (refused.value.code, refused.value.detail["holder"]) == (Code.LOG_FORKED, "security")
    with pytest.raises(FleetError) as refused:
        checked(fleet, rows, ("stranger", fleet.note(3, "thief")))
    assert refused.value.code is Code.PROOF_INVALID
