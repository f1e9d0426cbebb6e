"""What docs/trust.md says can be typed as it stands, and its table of roles is the real one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fleet.release import LIFETIMES
from fleet.trust import Profile
from orchestrator.cli.main import fleetctl
from orchestrator.cli.trust_holders import GRANTS, PRODUCTION
from tests.test_readme import commands, parse

GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "trust.md").read_text(encoding="utf-8")
TYPED = commands("\n".join(re.findall(r"^```\w*\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)))
FILES = ("dan.pub", "kim.pub", "lee.pub", "grant.yaml", "change.json", "my.bundle")


def without_options_of_the_program(line: str) -> list[str]:
    words = shlex.split(line)[1:]
    return words[2:] if words[0] == "--trust" else words


@pytest.mark.parametrize("line", TYPED)
def test_commands_parse(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for file in FILES:
        Path(file).touch()
    Path("usb").mkdir()
    parse(fleetctl, without_options_of_the_program(line))


def test_the_table_of_roles_is_the_real_one() -> None:
    assert len(TYPED) > 15
    lifetimes = LIFETIMES[Profile.PRODUCTION]
    assert lifetimes.delegated.days <= 60
    for role, text in (("root", "2 of 3"), ("targets", "2 of 2"), ("policy", "2 of 2")):
        holders = PRODUCTION[role]
        assert f"{holders.threshold} of {holders.people}" == text
        assert re.search(rf"^\| {role} \|.*\| {text}", GUIDE, re.MULTILINE)
    assert f"| {GRANTS.threshold} of {GRANTS.people} people | {lifetimes.delegated.days} days |" in GUIDE
    days = f"| the publisher, 1 | {lifetimes.snapshot.days} and {lifetimes.timestamp.days} days |"
    assert days in GUIDE
