"""Every command for grants acts on the grants of the team that is meant, and never takes one team's for another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import ExitCode
from fleet.release import NamedKey, format_named_key
from fleet.targets import grant_path
from orchestrator.cli.context import load_config, save_config
from tests.fakes.publisher import key
from tests.fakes.served_home import ServedHome
from tests.orchestrator.test_recovery import joined

COMPONENT = Path(__file__).resolve().parents[2] / "components" / "context-agent"
OURS, THEIRS = "climate/ours", "climate/theirs"
BUNDLE = "context-agent@0.1.0"
STORE = "wasi:keyvalue/store"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[ServedHome]:
    with ServedHome(tmp_path / "fleet", monkeypatch, capsys) as home:
        yield home


def make_key(home: ServedHome, name: str) -> str:
    """Make a private key here; returns the file of its public half."""
    home.directory.write(f"keys/{name}.pem", key(name).to_pem(), 0o600)
    file = home.home.parent / f"{name}.pub"
    file.write_text(format_named_key(NamedKey(key(name).public, name)))
    return str(file)


def deploy(home: ServedHome, *agents: str) -> None:
    """Order agents of the application `climate` on a node that is never there."""
    file = home.home / "fleet.yaml"
    lines = [f"  - {{name: {name}, bundle: {bundle}{more}}}\n" for name, bundle, more in (a.split("|") for a in agents)]
    file.write_text(f"schema: fleet.application/v1\napplication: climate\nagents:\n{''.join(lines)}")
    home.ctl("deploy", str(file), "--no-wait")


def set_team(home: ServedHome, team: str) -> None:
    file = home.home / "config.yaml"
    config = load_config(file)
    contexts = {name: replace(context, team=team) for name, context in config.contexts.items()}
    save_config(file, replace(config, contexts=contexts))


def test_each_command_acts_on_the_grants_of_the_team_that_is_meant(served: ServedHome) -> None:
    code, grants = make_key(served, "vision-code"), make_key(served, "vision-grants")
    served.ctl("trust", "add-team", "vision", "--code", code, "--grants", grants, "--yes")
    served.ctl("bundle", "push", str(COMPONENT))
    served.ctl("bundle", "push", str(COMPONENT), "--team", "vision")
    joined(served.coordinator.services, ["n1"])
    ours, theirs = served.home / "ours.yaml", served.home / "theirs.yaml"

    # propose, check, approve: of several teams one must be named; afterwards the grant itself says whose it is.
    shown = served.ctl("grant", "propose", THEIRS, "--bundle", BUNDLE, expect=ExitCode.USAGE)
    assert "--team default or --team vision" in shown
    served.ctl("grant", "propose", OURS, "--bundle", BUNDLE, "--team", "default", "--file", str(ours))
    served.ctl("grant", "propose", THEIRS, "--bundle", BUNDLE, "--team", "vision", "--file", str(theirs))
    assert "role:" not in theirs.read_text()
    foreign = served.ctl("grant", "propose", THEIRS, "--bundle", f"default/{BUNDLE}", "--team", "vision")
    assert "    role: code-default\n" in foreign
    served.ctl("grant", "check", str(theirs), "--team", "vision")
    served.ctl("grant", "check", str(theirs), expect=ExitCode.USAGE)
    served.ctl("grant", "approve", str(ours), "--team", "default", "--yes")
    served.ctl("grant", "approve", str(theirs), "--team", "vision", "--yes")
    listed = {row["agent"]: row["team"] for row in served.ask("grant", "list")}
    assert listed == {OURS: "default", THEIRS: "vision"}

    # propose once more, diff and explain: the next revision of the same team's grant.
    again = served.ctl("grant", "propose", THEIRS, "--bundle", BUNDLE)
    assert "revision: 2\n" in again
    theirs.write_text(theirs.read_text().replace("revision: 1", "revision: 2").replace("exists, get", "get"))
    compared = served.ask("grant", "diff", str(theirs))
    assert (compared["team"], compared["old"]["revision"], compared["widened"]) == ("vision", 1, [])
    explained = served.ask("grant", "explain", THEIRS, STORE, "bucket=theirs", "op=get")
    assert explained["document"].startswith(grant_path(THEIRS, 1, "vision"))
    assert served.ask("grant", "explain", THEIRS)["document"] == grant_path(THEIRS, 1, "vision")
    missing = served.ctl("grant", "explain", THEIRS, "--team", "default", expect=ExitCode.REFUSED)
    assert "no approved grant of team default" in missing

    # What is deployed decides, even where another team has a grant of that name, and before the context does.
    deploy(served, f"ours|default/{BUNDLE}|", f"theirs|vision/{BUNDLE}|")
    ours.write_text(ours.read_text().replace(OURS, THEIRS))
    served.ctl("grant", "approve", str(ours), "--team", "default", "--yes")
    set_team(served, "default")
    assert served.ask("grant", "explain", THEIRS)["document"] == grant_path(THEIRS, 1, "vision")
    assert served.ask("grant", "explain", THEIRS, "--node", "n1")["document"] == grant_path(THEIRS, 1, "vision")
    assert "revision: 1\n" in served.ctl("grant", "propose", "climate/new", "--bundle", BUNDLE)

    # unused and expiring know the team of each grant that runs, and may be asked about one.
    assert {(row["agent"], row["team"]) for row in served.ask("grant", "expiring", "--within", "400d")} == {
        (OURS, "default"),
        (THEIRS, "default"),
        (THEIRS, "vision"),
    }
    (ending,) = served.ask("grant", "expiring", "--within", "400d", "--team", "vision")
    assert (ending["agent"], ending["nodes"]) == (THEIRS, ["n1"])
    assert served.ask("grant", "unused", "--team", "vision") == []

    # revoke takes back the deployed team's grants alone.
    served.ctl("grant", "revoke", THEIRS, "--reason", "it misbehaves", "--yes")
    left = {(row["agent"], row["team"]) for row in served.ask("grant", "list")}
    assert left == {(OURS, "default"), (THEIRS, "default")}
    note = served.ctl("grant", "unused", THEIRS)
    assert f"{grant_path(THEIRS, 1, 'vision')}, which is not approved any more" in note
