"""The program's edges: exit codes, what it says, and what it must not import before the zygote runs."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.agent import main
from edge_agent.data_dir import MAX_DOCUMENT, prepare_data_dir, read_ceiling
from edge_agent.disk import LocalDisk
from edge_agent.vault import FileVault
from fleet.errors import Code, ExitCode
from fleet.grants import OwnCeiling
from fleet.oci import digest_of
from fleet.sealing import fingerprint, public_of
from tests.fakes.refusals import code_of


@pytest.fixture(autouse=True)
def _quiet_root_logger() -> Iterator[None]:
    """`main` configures the process's logging; a test run has its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_grpc_is_not_imported_before_the_zygote_is_started() -> None:
    check = "import sys, edge_agent.agent; sys.exit(any(name in sys.modules for name in sys.argv[1:]))"
    heavy = ("grpc", "google.protobuf", "wasmtime", "onnxruntime", "numpy", "sqlalchemy")
    assert subprocess.run([sys.executable, "-c", check, *heavy], check=False).returncode == 0


def test_a_data_directory_is_private(tmp_path: Path) -> None:
    prepare_data_dir(tmp_path / "node")
    folders = [tmp_path / "node", *(tmp_path / "node").rglob("*")]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    prepare_data_dir(tmp_path / "node")


def test_running_before_joining_says_how_to_join(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["run", "--data-dir", str(tmp_path)]) == ExitCode.USAGE
    assert "edge-agent join" in caplog.text


def test_a_bad_token_is_refused_without_being_repeated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "token").write_text("flt1.secret")
    (tmp_path / "root.json").write_text("{}")
    arguments = ["--coordinator", "127.0.0.1:1", "--token-file", str(tmp_path / "token")]
    code = main(["join", "--data-dir", str(tmp_path / "n"), "--root", str(tmp_path / "root.json"), *arguments])
    assert code == ExitCode.ERROR
    assert "TOKEN_INVALID" in caplog.text
    assert "flt1.secret" not in caplog.text


@pytest.mark.parametrize("pair", ["nonsense", "unknown=1", "coalesce_ms=often"])
def test_a_bad_setting_is_a_usage_error(tmp_path: Path, pair: str) -> None:
    assert main(["run", "--data-dir", str(tmp_path), "--set", pair]) == ExitCode.USAGE


def test_a_missing_root_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = ".".join(("flt1", "A" * 43, "id", "A" * 43))
    arguments = ["--coordinator", "127.0.0.1:1", "--token", token, "--root", str(tmp_path / "absent.json")]
    assert main(["join", "--data-dir", str(tmp_path), *arguments]) == ExitCode.USAGE
    assert "absent.json" in caplog.text


def test_a_node_says_who_it_is_without_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["identity", "--data-dir", str(tmp_path)]) == ExitCode.USAGE
    (tmp_path / "node.json").write_text(
        '{"enrolment_address":"a:1","enrolment_pin":"","epoch":3,"fleet":"demo","labels":{},"node":"n1",'
        '"schema":"fleet.node/v1","sequence":1,"session_address":"a:2"}'
    )
    assert main(["identity", "--data-dir", str(tmp_path)]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert shown.splitlines()[:3] == ["node         n1", "fleet        demo", "epoch        3"]
    assert fingerprint(public_of(FileVault(tmp_path / "keys").key("sealing"))) in shown
    assert main(["identity", "--data-dir", str(tmp_path)]) == ExitCode.OK
    assert capsys.readouterr().out == shown


def test_a_ceiling_that_cannot_be_read_is_never_taken_for_none(tmp_path: Path) -> None:
    file, disk = tmp_path / "ceiling.yaml", LocalDisk()
    assert read_ceiling(disk, file) == (None, OwnCeiling())
    file.symlink_to(tmp_path / "nowhere")
    assert code_of(read_ceiling, disk, file) is Code.CONFIG_INVALID
    file.unlink()
    file.mkdir()
    assert code_of(read_ceiling, disk, file) is Code.CONFIG_INVALID
    file.rmdir()
    for data, code in (
        (b"", Code.GRANT_INVALID),
        (b"schema: fleet.ceiling/v1\n", Code.GRANT_INVALID),
        (b"#" * (MAX_DOCUMENT + 1), Code.LIMIT_EXCEEDED),
    ):
        file.write_bytes(data)
        assert code_of(read_ceiling, disk, file) is code
    data = b"schema: fleet.ceiling/v1\ncaps: {}\n"
    file.write_bytes(data)
    ceiling, told = read_ceiling(disk, file)
    assert told == OwnCeiling(digest_of(data), data)
    assert ceiling is not None
    assert ceiling.capabilities == {}
