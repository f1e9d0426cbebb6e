"""fleetctl as a program: exit codes, output formats, faults, completion."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from fleet.errors import CATALOG, Code, FleetError
from orchestrator.cli.main import fleetctl, main
from orchestrator.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "none"))


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys; from orchestrator.cli.main import main; sys.exit(main(['completion', 'bash']))"
    rich = (
        "import sys; from orchestrator.cli import main as m; from orchestrator.cli.render import Format, Output\n"
        "import click\n"
        "@click.command()\n"
        "def many():\n"
        "    for _ in range(100_000): Output(Format.TABLE).line(('a line', ''))\n"
        "m.fleetctl.add_command(many); sys.exit(m.main(['many']))"
    )
    for program in (code, rich):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            done = subprocess.run([sys.executable, "-c", program], stdout=pipe, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (0, b""), program


def test_without_a_fleet_the_error_names_the_command_that_makes_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes"]) == CATALOG[Code.NOT_FOUND].exit_code
    error = capsys.readouterr().err
    assert "NOT_FOUND" in error
    assert "fleetctl init" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["deploy"],
        ["-o", "xml", "nodes"],
        ["send", "topic"],
        ["send", "topic", "--csv", "no-such-file"],
        ["send", "topic", "payload", "--limit", "-1"],
        ["node", "token"],
        ["node", "token", "n1", "--ttl", "0"],
        ["node", "join", ""],
        ["node", "join", "Not_A_Name"],
        ["nodes", "Not_A_Name"],
        ["agents", "climate/"],
        ["events", "--agent", "climate"],
        ["call", "climate", "handle()"],
        ["logs", "climate"],
        ["grant", "explain", "climate"],
        ["grant", "propose", "climate", "--bundle", "a@1.0.0"],
        ["audit", "who", "--agent", "climate"],
        ["audit", "who", "--at", "yesterday"],
        ["bundle", "build", "no-such-folder"],
        ["grant", "approve", "README.md", "-o", "json"],
    ],
    ids=" ".join,
)
def test_usage_errors_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Usage:" in capsys.readouterr().err


def test_a_malformed_manifest_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("schema: fleet.application/v1\napplication: climate\nagents: [\n")
    assert main(["plan", str(file)]) == 1
    error = capsys.readouterr().err
    assert "MANIFEST_INVALID" in error
    assert f"{file}:4:1" in error


def test_an_unreachable_coordinator_is_an_error_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "fleet"
    monkeypatch.setenv("FLEET_HOME", str(home))
    assert main(["init", "--port", "1"]) == 0
    assert main(["nodes"]) == 1
    error = capsys.readouterr().err
    assert "UNAVAILABLE: no coordinator answers at 127.0.0.1:1" in error
    assert "fleetctl coordinator up" in error


@pytest.mark.parametrize("code", list(Code))
def test_every_code_ends_fleetctl_with_its_exit_code(
    code: Code, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def stumble() -> None:
        raise FleetError(code, "the reason")

    monkeypatch.setitem(fleetctl.commands, "stumble", stumble)
    assert main(["-q", "stumble"]) == CATALOG[code].exit_code
    assert capsys.readouterr().err.splitlines() == [f"error {code}: the reason", f"  remedy  {CATALOG[code].remedy}"]


def test_a_folder_without_a_manifest_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "build", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"at      {tmp_path / 'bundle.yaml'}" in error
    assert "Name a bundle.yaml" in error


def test_a_node_that_never_joined_is_not_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "up", "n9", "--data-dir", str(tmp_path / "n9")]) == 1
    assert "fleetctl node join n9" in capsys.readouterr().err
    assert not (tmp_path / "n9").exists()


@pytest.mark.parametrize(("cause", "told"), [(EOFError, True), (KeyboardInterrupt, False)])
def test_a_question_without_an_answer_changes_nothing_and_says_so(
    cause: type[BaseException], told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def ask() -> None:
        if cause is KeyboardInterrupt:
            raise KeyboardInterrupt
        click.confirm("Sure?", err=True)

    monkeypatch.setitem(fleetctl.commands, "ask", ask)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["ask"]) == 130
    assert ("nothing was changed" in capsys.readouterr().err) == told


def test_every_command_has_help() -> None:
    def walk(command: object, path: tuple[str, ...]) -> None:
        result = CliRunner().invoke(fleetctl, [*path, "--help"])
        assert result.exit_code == 0, path
        assert len(result.output.splitlines()) > 3, path
        assert "..." not in result.output.partition("Commands:")[2], path  # a summary that was cut
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*path, name))

    walk(fleetctl, ())


@pytest.mark.parametrize(
    "arguments", [["-o", "json", "probe"], ["probe", "-o", "json"], ["-o", "wide", "probe", "-o", "json"]]
)
def test_the_output_option_may_stand_before_or_behind_the_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command(params=[option for option in fleetctl.commands["status"].params if option.name == "output"])
    @click.pass_obj
    def probe(session: Session) -> None:
        session.output.value([1])

    monkeypatch.setitem(fleetctl.commands, "probe", probe)
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == [1]


def test_every_command_takes_the_output_option() -> None:
    def leaves(command: click.Command) -> Iterator[click.Command]:
        if isinstance(command, click.Group):
            for child in command.commands.values():
                yield from leaves(child)
        else:
            yield command

    for command in leaves(fleetctl):
        assert [p.name for p in command.params if {"-o", "--output"} & {*p.opts}] == ["output"], command.name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell: str) -> None:
    result = CliRunner().invoke(fleetctl, ["completion", shell])
    assert "_FLEETCTL_COMPLETE" in result.output


def test_no_colour_reaches_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", "nodes"], capture_output=True, text=True, check=False
    )
    assert "\x1b[" not in done.stdout + done.stderr


INTERRUPTED_WHILE_LOADING = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "orchestrator.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.{handler})
sys.meta_path.insert(0, Interrupt())
sys.argv = ["fleetctl", "--version"]
from orchestrator.cli.entry import run
sys.exit(run())
"""


@pytest.mark.parametrize(("handler", "ends"), [("default_int_handler", -signal.SIGINT), ("SIG_IGN", 0)])
def test_ctrl_c_while_the_program_loads_leaves_no_stack_trace(handler: str, ends: int) -> None:
    code = INTERRUPTED_WHILE_LOADING.format(handler=handler)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (ends, "")
