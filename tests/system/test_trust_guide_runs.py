"""Every command of docs/trust.md, typed as it stands there, at a fleet that is as the guide says it is by then."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet.oci import digest_of
from orchestrator.cli.main import fleetctl
from orchestrator.cli.trust import TrustDirectory
from tests.fakes.publisher import key
from tests.fakes.served_home import ServedHome
from tests.system.harness import run, wait_for

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
LINES = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
ELSEWHERE = {
    "fleetctl trust export usb --node n1": "tests/system/test_production.py, with a node that has an order",
    "edge-agent trust import --data-dir /var/lib/edge-agent usb": "tests/system/test_production.py",
}
"""Commands that need a node, and where they are run."""


PUBLISH = "fleet-publisher run --config carried/publisher/publisher.toml"


class Typed:
    """Somebody who types the lines of the guide in a folder, and answers every question with y."""

    def __init__(self, served: ServedHome, folder: Path) -> None:
        self.served, self.folder = served, folder
        self.done: list[str] = []

    def type(self, line: str, **words: str) -> str:
        """Type a line of the guide; `words` are put in the place of its placeholders."""
        assert line in LINES, f"the guide does not say {line!r}"
        self.done.append(line)
        for placeholder, word in words.items():
            line = line.replace(placeholder, word)
        program, *arguments = shlex.split(line)
        if program == "cp":
            shutil.copy(*(self.folder / word for word in arguments))
            return ""
        if program == "fleet-publisher":
            done = run("orchestrator.publisher.program", *arguments, "--once", cwd=self.folder)
            assert done.returncode == 0, done.stderr
            return done.stderr
        return self.fleetctl(*arguments)

    def fleetctl(self, *arguments: str) -> str:
        """Run fleetctl; passphrases are y, too."""
        done = CliRunner().invoke(fleetctl, list(arguments), input="y\n" * 20)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        return done.output

    def until_done(self, line: str) -> None:
        """Type a line again until it is not refused for what somebody else still has to do."""
        self.done.append(line)

        def done() -> bool:
            result = CliRunner().invoke(fleetctl, shlex.split(line)[1:], input="y\n" * 20)
            return result.exit_code == 0

        wait_for(f"`{line}` is accepted", done)

    def key(self, name: str, folder: str = "fleet/trust") -> None:
        """Make a key elsewhere, and bring its public half here."""
        self.fleetctl("--trust", str(self.folder / folder), "trust", "key", name)
        shutil.copy(self.folder / folder / "keys" / f"{name}.pub", self.folder / f"{name}.pub")


def carried(typed: Typed) -> None:
    """Development, the ceremony, the publisher, and signing together."""
    typed.type("fleetctl trust status")
    typed.type("fleetctl trust refresh")
    typed.type("fleetctl trust promote-to-production --to carried")
    settings = typed.folder / "carried" / "publisher" / "publisher.toml"
    settings.write_text(re.sub(r"127\.0\.0\.1:\d+", str(typed.served.coordinator.session), settings.read_text()))
    typed.type(PUBLISH)
    typed.type("fleetctl --trust carried/code-default bundle push my.bundle")
    code = TrustDirectory(typed.folder / "carried" / "code-default")
    for file in code.staged():
        shutil.move(file, typed.folder / "carried" / "publisher" / "inbox")
    typed.type(PUBLISH)
    typed.type("fleetctl trust export usb")
    typed.type("fleetctl --trust carried/grants-default-1 trust import usb")
    typed.fleetctl("grant", "propose", "climate/context", "--bundle", "my.bundle", "--file", "grant.yaml")
    typed.type("fleetctl --trust carried/grants-default-1 grant approve --offline grant.yaml")
    (staged,) = TrustDirectory(typed.folder / "carried" / "grants-default-1").staged()
    shutil.copy(staged, typed.folder / "change.json")
    typed.type("fleetctl --trust carried/grants-default-3 trust sign change.json")
    typed.type("cp change.json carried/publisher/inbox/")
    typed.type(PUBLISH)
    assert list((typed.folder / "carried" / "publisher" / "inbox" / "refused").iterdir()) == []
    assert [grant["agent"] for grant in typed.served.ask("grant", "list")] == ["climate/context"]


def apart(typed: Typed) -> None:
    """The ceremony with keys that their holders made."""
    ann = TrustDirectory(typed.folder / "ann")
    ann.write("root.json", typed.served.directory.root)
    typed.type("fleetctl --trust ann trust key ann --passphrase")
    shutil.copy("ann/keys/ann.pub", "ann.pub")
    for name in ("bob", "eve"):
        TrustDirectory(typed.folder / name).write("root.json", typed.served.directory.root)
        typed.key(name, name)
    typed.type(
        "fleetctl trust promote-to-production --to carried --key root=ann.pub --key root=bob.pub --key root=eve.pub"
    )
    (staged,) = typed.served.directory.staged()
    shutil.copy(staged, "change.json")
    typed.type("fleetctl --trust ann trust sign change.json")
    typed.fleetctl("--trust", "bob", "trust", "sign", "change.json")
    typed.type("fleetctl --trust carried/publisher trust publish change.json")
    typed.type("fleetctl trust promote-to-production --finish")


def keys(typed: Typed) -> None:
    """Changing keys, of roles and of the fleet, where every key is on one machine."""
    typed.key("grants-default-3")
    typed.fleetctl("trust", "add-approver", "grants-default-3.pub")
    typed.type("fleetctl trust key dan --passphrase")
    shutil.copy(typed.served.home / "trust" / "keys" / "dan.pub", "dan.pub")
    typed.type("fleetctl trust rotate code-default")
    typed.type("fleetctl trust rotate grants-default --remove grants-default-3 --add dan.pub")
    typed.type("fleetctl trust rotate snapshot timestamp")
    typed.type("fleetctl trust remove-key grants-default dan")
    typed.type("fleetctl trust add-approver dan.pub --threshold 2")
    for name in ("kim", "lee"):
        typed.key(name)
    typed.type("fleetctl trust add-team vision --code kim.pub --grants lee.pub")
    typed.type("fleetctl trust remove-team vision")
    typed.type("fleetctl trust renew policy")
    typed.type("fleetctl trust rotate director")
    typed.type("fleetctl trust rotate log")
    typed.done += ["fleetctl coordinator down", "fleetctl coordinator up"]
    typed.served.restart()
    typed.until_done("fleetctl trust rotate director --finish")
    typed.until_done("fleetctl trust rotate log --finish")
    typed.type("fleetctl trust rotate node-ca")
    assert "listed" in typed.type("fleetctl trust node-ca").lower()
    typed.until_done("fleetctl trust rotate node-ca --finish")
    typed.type(
        'fleetctl trust revoke bundle sha256:DIGEST --reason "signed with a stolen key"',
        **{"sha256:DIGEST": digest_of(b"")},
    )
    typed.type('fleetctl trust revoke director-key HEX --reason "coordinator stolen"', HEX=key("stolen").public.hex)


def test_the_guide_can_be_typed_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: set[str] = set()
    for story in (carried, apart, keys):
        folder = tmp_path / story.__name__
        with ServedHome(folder / "fleet", monkeypatch, capsys) as served:
            component = str(ROOT / "components" / "context-agent")
            served.ctl("bundle", "build", component, "--to", str(folder / "my.bundle"))
            monkeypatch.chdir(folder)
            typed = Typed(served, folder)
            story(typed)
            done.update(typed.done)
    assert sorted(set(LINES) - done - ELSEWHERE.keys() - {""}) == []
