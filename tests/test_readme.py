"""What README.md says can be typed as it stands: commands parse, exit codes and make targets are the real ones."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click
import pytest

from fleet.errors import ExitCode
from orchestrator.cli.main import fleetctl

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

WRITTEN_BY_THE_READER = {"grant.yaml"}
"""Files that an earlier command of the README writes."""


def commands(text: str) -> list[str]:
    """Every fleetctl command in some lines, without its comment."""
    lines = [line.partition("  #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if re.match("fleetctl [a-z]", line)]


TYPED = commands("\n".join(BLOCKS))
PROSE = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
NAMED = commands("\n".join(re.findall(r"`([^`\n]+)`", PROSE)))
"""Commands in running text, which may leave their arguments out."""


def parse(command: click.Command, arguments: list[str]) -> None:
    """Parse a command line down to its last subcommand, without running anything."""
    if isinstance(command, click.Group):
        assert arguments[0] in command.commands, f"no command {arguments[0]}"
        parse(command.commands[arguments[0]], arguments[1:])
    else:
        command.make_context(command.name, arguments).close()


@pytest.mark.parametrize("line", TYPED)
def test_commands_parse(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for file in ("components", "examples"):
        (tmp_path / file).symlink_to(ROOT / file)
    for file in WRITTEN_BY_THE_READER:
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    parse(fleetctl, shlex.split(line)[1:])


@pytest.mark.parametrize("line", NAMED)
def test_commands_in_running_text_exist(line: str) -> None:
    with contextlib.suppress(click.MissingParameter):
        parse(fleetctl, shlex.split(line)[1:])


def test_there_are_commands_to_check() -> None:
    assert len(TYPED) > 12
    assert NAMED


def test_the_exit_codes_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    assert [int(number) for number, _ in rows] == [int(code) for code in ExitCode]


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join([*BLOCKS, *re.findall(r"`([^`\n]+)`", README)])))
    assert named >= {"demo", "demo-stop", "test"}
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_every_environment_variable_is_read() -> None:
    named = set(re.findall(r"`(FLEET_[A-Z]+)`", README))
    read = {option.envvar for option in fleetctl.params if isinstance(option, click.Option) and option.envvar}
    assert named == read | {"FLEET_HOME"}


def test_every_linked_file_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
