"""Changes of the release on machines without a network: staged, shown, signed by several people, rebased."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fleet.errors import Code, FleetError
from fleet.release import ROOT_ROLE, NamedKey, format_named_key, role_states, stage
from fleet.revocations import Kind, parse_revocations
from fleet.signing import SigningKey
from fleet.targets import REVOCATIONS_PATH, TRUST_PATH
from fleet.trust import Profile, open_release, parse_fleet_trust
from orchestrator.cli.main import fleetctl, main
from orchestrator.cli.trust import TrustDirectory, context_of
from orchestrator.cli.trust_change import local_release
from orchestrator.cli.trust_holders import make_keys
from orchestrator.cli.trust_production import operations_of, sign_everything
from orchestrator.cli.trusting import signed_again
from tests.fakes.publisher import certificate, key


@dataclass
class Machine:
    """One machine: a fleet home, or a trust directory alone."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def directory(self) -> TrustDirectory:
        return TrustDirectory(self.folder)

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Run fleetctl; returns stdout and stderr."""
        self.capture.readouterr()
        code = main(["--trust", str(self.folder), *arguments])
        out, err = self.capture.readouterr()
        assert code == expect, out + err
        return out + err

    def ask(self, *arguments: str) -> Any:
        self.capture.readouterr()
        assert main(["--trust", str(self.folder), "-o", "json", *arguments]) == 0
        return json.loads(self.capture.readouterr().out)

    def change(self, *arguments: str) -> Any:
        """Stage a change without a coordinator; returns its description."""
        return self.ask("trust", *arguments, "--offline", "--yes")

    def with_key(self, *names: str) -> Machine:
        """Return a machine that has the pinned root and some keys, and nothing else."""
        other = TrustDirectory(self.folder.parent.parent / "-".join(names))
        other.write("root.json", self.directory.root)
        for name in names:
            other.write(f"keys/{name}.pem", key(name).to_pem(), 0o600)
        return Machine(other.path, self.capture)

    def public(self, name: str) -> str:
        """Return the file of somebody's public key."""
        file = self.folder.parent / f"{name}.pub"
        file.write_text(format_named_key(NamedKey(key(name).public, name)))
        return str(file)

    def staged(self) -> Path:
        (file,) = self.directory.staged()
        return file


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machine:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "fleet"))
    assert main(["init"]) == 0
    return Machine(tmp_path / "fleet" / "trust", capsys)


def test_a_threshold_is_met_by_people_on_machines_of_their_own(machine: Machine, tmp_path: Path) -> None:
    change = machine.change("add-approver", machine.public("bob"), "--threshold", "2")
    assert (change["complete"], change["published"]) == (False, False)
    assert {s["file"]: [k["name"] for k in s["may_sign"]] for s in change["signatures"]} == {
        "2.grants-default.json": ["bob"],
        "3.targets.json": [],
    }
    carried = tmp_path / "usb.json"
    shutil.copy(machine.staged(), carried)
    bob = machine.with_key("bob")
    shown = bob.run("trust", "sign", str(carried), "--yes")
    assert "targets: bob" in shown
    assert "takes 2 of 2 signatures, was 1" in shown
    assert "1 more of bob" in shown
    assert "Every signature is there" in shown
    assert "no key on this machine" in bob.run("trust", "sign", str(carried), "--yes", expect=1)


def test_who_has_no_key_cannot_sign_and_no_means_no(machine: Machine) -> None:
    machine.change("add-approver", machine.public("bob"), "--threshold", "2")
    file = machine.staged()
    before = file.read_bytes()
    assert "no key on this machine" in machine.with_key("eve").run("trust", "sign", str(file), "--yes", expect=1)
    bob = machine.with_key("bob")
    refused = CliRunner().invoke(fleetctl, ["--trust", str(bob.folder), "trust", "sign", str(file)], input="n\n")
    assert refused.exit_code != 0
    assert file.read_bytes() == before
    with pytest.raises(click.UsageError):
        fleetctl.main(["--trust", str(bob.folder), "-o", "json", "trust", "sign", str(file)], standalone_mode=False)


def test_copies_that_were_signed_apart_come_together(machine: Machine, tmp_path: Path) -> None:
    machine.change(
        "add-team",
        "vision",
        "--code",
        machine.public("dev"),
        "--grants",
        machine.public("ann"),
        "--grants",
        machine.public("bob"),
    )
    copies = []
    for name in ("dev", "ann", "bob"):
        copies.append(tmp_path / f"{name}.json")
        shutil.copy(machine.staged(), copies[-1])
        machine.with_key(name).run("trust", "sign", str(copies[-1]), "--yes")
    nobody = machine.with_key("eve")
    for copy in copies[1:]:
        said = nobody.run("trust", "sign", str(copies[0]), "--merge", str(copy), "--yes")
    assert "Every signature is there" in said


def test_status_shows_people_and_what_waits(machine: Machine) -> None:
    machine.change("add-approver", machine.public("bob"), "--threshold", "2")
    said = machine.run("trust", "status")
    assert "Staged:" in said
    assert "lacks 1 signatures" in said
    rows = {row["role"]: row for row in machine.ask("trust", "status")}
    assert rows["grants-default"]["threshold"] == 1
    assert rows["policy"]["key_here"]


def test_one_staged_change_does_not_write_over_another(machine: Machine) -> None:
    machine.change("add-approver", machine.public("bob"), "--threshold", "2")
    first = machine.staged().read_bytes()
    machine.change("add-approver", machine.public("ann"), "--threshold", "2")
    one, other = machine.directory.staged()
    assert first in {one.read_bytes(), other.read_bytes()}
    assert one.read_bytes() != other.read_bytes()


def test_what_was_overtaken_is_said_to_be(machine: Machine) -> None:
    machine.change("renew", "policy")
    files, _ = signed_again(machine.directory, datetime.now(UTC))
    machine.directory.save(files)
    assert "published, or overtaken" in machine.run("trust", "status")


def test_a_change_is_made_anew_on_a_newer_release(machine: Machine) -> None:
    machine.change("renew", "code-default")
    file = machine.staged()
    first = file.read_bytes()
    machine.run("trust", "rebase", str(file), "--offline", "--yes")
    assert file.read_bytes() != first  # expiry counts from now
    assert "code-default.json" in machine.run("-o", "json", "trust", "rebase", str(file), "--offline", "--yes")


def test_keys_are_made_here_and_encrypted_where_asked(machine: Machine) -> None:
    line = machine.run("trust", "key", "ann")
    assert line.startswith("fleet-key-ed25519 ")
    command = ["--trust", str(machine.folder), "trust", "key", "bob", "--passphrase"]
    assert CliRunner().invoke(fleetctl, command, input="horse\nhorse\n").exit_code == 0
    assert b"ENCRYPTED" in (machine.folder / "keys" / "bob.pem").read_bytes()
    secret = machine.folder.parent / "token.pem"
    secret.write_bytes(key("tom").to_pem())
    assert (
        machine.ask("trust", "key", "tom", "--uri", f"file2:{secret}", "--public", machine.public("tom"))["name"]
        == "tom"
    )
    assert (machine.folder / "keys" / "tom.uri").read_text() == f"file2:{secret}\n"
    machine.run("trust", "key", "tim", "--uri", "file2:x", expect=2)
    machine.run("trust", "key", "No", expect=2)


def test_an_encrypted_key_is_asked_for_when_it_signs(machine: Machine) -> None:
    bob = TrustDirectory(machine.folder.parent.parent / "bob")
    bob.write("root.json", machine.directory.root)
    made = CliRunner().invoke(
        fleetctl, ["--trust", str(bob.path), "trust", "key", "bob", "--passphrase"], input="x\nx\n"
    )
    assert made.exit_code == 0, made.output
    machine.change("add-approver", str(bob.path / "keys" / "bob.pub"), "--threshold", "2")
    command = ["--trust", str(bob.path), "trust", "sign", str(machine.staged()), "--yes"]
    wrong = CliRunner().invoke(fleetctl, command, input="y\n")
    assert isinstance(wrong.exception, FleetError)
    right = CliRunner().invoke(fleetctl, command, input="x\n")
    assert right.exit_code == 0, right.output


def test_rotation_makes_the_successor_here_and_keeps_the_old_one_until_it_is_published(machine: Machine) -> None:
    change = machine.change("rotate", "code-default")
    assert change["complete"]
    assert {file.name for file in (machine.folder / "keys").glob("code-default*.pem")} == {
        "code-default.pem",
        "code-default-2.pem",
    }
    assert any("code-default-2" in entry["text"] for entry in change["changes"])


def test_both_keys_of_the_publisher_change_at_once(machine: Machine) -> None:
    """Changed together, nodes compare with neither of the old versions, so those of a thief are forgotten."""
    change = machine.change("rotate", "snapshot", "timestamp")
    texts = [entry["text"] for entry in change["changes"]]
    assert [s["file"] for s in change["signatures"]] == ["2.root.json", "2.root.json"]
    assert any("snapshot-2" in text for text in texts)
    assert any("timestamp-2" in text for text in texts)
    machine.run("trust", "rotate", "director", "root", "--offline", "--yes", expect=2)


def test_named_keys_are_replaced_by_others(machine: Machine) -> None:
    old = {state.role: state for state in role_states(local_release(machine.directory))}["root"].keys[0]
    change = machine.change(
        "rotate", "root", "--remove", old.key_id[:12], "--add", machine.public("ann"), "--threshold", "1"
    )
    assert [s["authority"] for s in change["signatures"]] == ["root 1", "root 2"]
    assert not change["complete"]


REFUSALS = {
    "no such role": (("rotate", "everything"), 1),
    "no such key": (("remove-key", "root", "nobody"), 1),
    "an id that is too short": (("remove-key", "root", "a"), 1),
    "the last key": (("rotate", "policy", "--remove", "{policy}"), 2),
    "a threshold beyond the keys": (("rotate", "policy", "--add", "{ann}", "--threshold", "3"), 2),
    "a team's role that is not there": (("add-approver", "{ann}", "--team", "vision"), 1),
    "a team that is there": (("add-team", "default", "--code", "{ann}", "--grants", "{bob}"), 1),
    "a team without a name": (("add-team", "Vision", "--code", "{ann}", "--grants", "{bob}"), 2),
    "not a digest": (("revoke", "bundle", "sha256:1", "--reason", "x"), 7),
    "a node CA without a file": (("rotate", "node-ca"), 2),
    "a director key that is not listed": (("rotate", "director", "--remove", "0123456789"), 1),
    "a certificate that is not listed": (("rotate", "node-ca", "--remove", "0123456789"), 1),
    "a certificate that is none": (("rotate", "node-ca", "--add", "{ann}"), 2),
    "a role that nobody drafts": (("renew", "snapshot"), 7),
}


@pytest.mark.parametrize(("arguments", "code"), REFUSALS.values(), ids=REFUSALS)
def test_a_change_that_cannot_be_is_refused(machine: Machine, arguments: tuple[str, ...], code: int) -> None:
    states = {state.role: state for state in role_states(local_release(machine.directory))}
    given = {"policy": states["policy"].keys[0].key_id, "ann": machine.public("ann"), "bob": machine.public("bob")}
    words = [word.format(**given) for word in arguments]
    machine.run("trust", *words, "--offline", "--yes", expect=code)
    assert machine.directory.staged() == ()


def document_of(machine: Machine, path: str) -> bytes:
    """Take the one staged change away and return the document that it adds."""
    file = machine.staged()
    staged = json.loads(file.read_bytes())
    file.unlink()
    (operation,) = [o for o in staged["operations"] if o.get("path") == path]
    return base64.b64decode(operation["data"])


def test_a_revocation_is_added_to_the_list(machine: Machine) -> None:
    digest = "sha256:" + "a" * 64
    change = machine.change("revoke", "model", digest, "--reason", "poisoned")
    assert [s["file"] for s in change["signatures"]] == ["2.policy.json"]
    assert parse_revocations(document_of(machine, REVOCATIONS_PATH)).covers(Kind.MODEL, digest)


def test_the_director_gets_a_successor_beside_it(machine: Machine) -> None:
    own = machine.folder.parent / "coordinator" / "keys"
    before = (own / "director.pem").read_bytes()
    machine.run("trust", "rotate", "director", "--offline", "--yes")
    trust = parse_fleet_trust(document_of(machine, TRUST_PATH))
    successor = SigningKey.from_pem((own / "director.next.pem").read_bytes()).public
    assert trust.director_keys == (SigningKey.from_pem(before).public, successor)
    assert (own / "director.pem").read_bytes() == before  # nobody knows the successor yet
    machine.change("rotate", "director", "--finish")
    assert parse_fleet_trust(document_of(machine, TRUST_PATH)).director_keys == (SigningKey.from_pem(before).public,)


def test_authorities_and_keys_for_secrets_are_listed_early_and_withdrawn_later(
    machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "new.crt").write_bytes(certificate())
    change = machine.change("rotate", "node-ca", "--add", str(tmp_path / "new.crt"))
    (added,) = [entry["text"].split()[-1] for entry in change["changes"] if "node authority" in entry["text"]]
    assert parse_fleet_trust(document_of(machine, TRUST_PATH)).node_ca_pem.count(b"BEGIN CERTIFICATE") == 2
    assert added
    old = parse_fleet_trust(machine.directory.document(TRUST_PATH)).node_ca_pem
    fingerprint = x509.load_pem_x509_certificate(old).fingerprint(hashes.SHA256()).hex()
    machine.change("rotate", "node-ca", "--add", str(tmp_path / "new.crt"), "--remove", fingerprint[:12])
    assert parse_fleet_trust(document_of(machine, TRUST_PATH)).node_ca_pem.count(b"BEGIN CERTIFICATE") == 1
    machine.change("rotate", "secrets", "--add", machine.public("ann"))
    assert key("ann").public in parse_fleet_trust(document_of(machine, TRUST_PATH)).secret_keys


def test_production_has_the_thresholds_of_a_fleet_of_people(machine: Machine, tmp_path: Path) -> None:
    directory = machine.directory
    release = local_release(directory)
    now = datetime.now(UTC)
    folder = tmp_path / "carried"
    made = make_keys(folder, list(release.role_keys))
    document = directory.document(TRUST_PATH)
    operations = operations_of(release, document, made)
    context = context_of(directory, None, release, operations)
    files = sign_everything(directory, stage(release, operations, "", now, context), folder, now)
    promoted = open_release(files, root=directory.root, now=now, previous=release.files, allow_dev=False)
    assert promoted.profile is Profile.PRODUCTION
    assert {s.role: (s.threshold, len(s.keys)) for s in role_states(promoted)} == {
        "root": (2, 3),
        "targets": (2, 2),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
        "code-default": (1, 1),
        "grants-default": (2, 3),
        "policy": (2, 2),
    }
    assert all(old.isdisjoint(promoted.role_keys[role]) for role, old in release.role_keys.items())
    assert sorted(holder.name for holder in folder.iterdir()) == [
        "code-default",
        "grants-default-1",
        "grants-default-2",
        "grants-default-3",
        "policy-1",
        "policy-2",
        "publisher",
        "root-1",
        "root-2",
        "root-3",
        "targets-1",
        "targets-2",
    ]
    newest = files[f"{promoted.versions[ROOT_ROLE]}.root.json"]
    assert open_release(files, root=newest, now=now, allow_dev=False)


def medium(machine: Machine, folder: Path) -> Path:
    for name, data in machine.directory.files().items():
        TrustDirectory(folder).write(f"metadata/{name}", data)
    TrustDirectory(folder).write(f"documents/{TRUST_PATH}", machine.directory.document(TRUST_PATH))
    return folder


def test_a_release_comes_in_from_a_medium_and_an_older_one_does_not(machine: Machine, tmp_path: Path) -> None:
    usb = medium(machine, tmp_path / "usb")
    other = machine.with_key("ann")
    assert other.ask("trust", "import", str(usb))["changed"]
    assert not other.ask("trust", "import", str(usb))["changed"]
    files, _ = signed_again(machine.directory, datetime.now(UTC))
    machine.directory.save(files)
    newer = medium(machine, tmp_path / "newer")
    assert other.ask("trust", "import", str(newer))["changed"]
    assert Code.TRUST_ROLLBACK in other.run("trust", "import", str(usb), expect=7)
    (newer / "documents" / TRUST_PATH).write_bytes(b"{}")
    assert Code.DIGEST_MISMATCH in other.run("trust", "import", str(newer), expect=7)
    assert other.directory.files() == files
