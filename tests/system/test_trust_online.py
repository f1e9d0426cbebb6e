"""`fleetctl trust` against a coordinator that serves: withdrawing keys, publishing, rebasing, carried folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import ExitCode, FleetError
from fleet.model import ObservedAgent, ObservedState, Phase
from fleet.oci import digest_of
from fleet.release import NamedKey, format_named_key
from fleet.signing import SigningKey
from fleet.targets import TRUST_PATH
from fleet.trust import parse_fleet_trust
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.trust import TrustDirectory
from orchestrator.cli.trust_teams import check_nothing_runs
from orchestrator.director import Director
from orchestrator.store import nodes as node_rows
from tests.fakes.publisher import key
from tests.fakes.served_home import ServedHome
from tests.orchestrator.test_recovery import joined


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[ServedHome]:
    with ServedHome(tmp_path / "fleet", monkeypatch, capsys) as home:
        yield home


def public(home: ServedHome, name: str) -> str:
    file = home.home.parent / f"{name}.pub"
    file.write_text(format_named_key(NamedKey(key(name).public, name)))
    return str(file)


def listed_directors(home: ServedHome) -> tuple[str, ...]:
    return tuple(k.key_id for k in parse_fleet_trust(home.directory.document(TRUST_PATH)).director_keys)


def test_a_director_key_goes_only_when_no_connected_node_needs_it(served: ServedHome) -> None:
    """NODES_BEHIND names the nodes; who is offline follows later and holds nobody up."""
    services = served.coordinator.services
    joined(services, ["n1", "n2"])
    served.ctl("trust", "rotate", "director", "--yes")
    file = served.home / "coordinator" / "keys" / "director.pem"
    new = SigningKey.from_pem(file.read_bytes())
    old, now = listed_directors(served)[0], datetime.now(UTC)

    def ordered(signer: SigningKey) -> int:
        services = served.coordinator.services
        with services.store.control.write() as connection:
            node = node_rows.get_node(connection, "n1")
            assert node is not None
            return Director("demo", signer, services.log, timedelta(days=1)).order(connection, node, (), now).generation

    def finish(expect: ExitCode) -> str:
        return served.ctl("trust", "rotate", "director", "--finish", "--yes", expect=expect)

    services.inventory.open("n1", "session")
    shown = finish(ExitCode.REFUSED)  # 1
    assert "NODES_BEHIND" in shown
    assert "n1 has not adopted the newest trust/fleet.json" in shown
    trust = digest_of(served.directory.document(TRUST_PATH))
    earlier = SigningKey.from_pem((served.home / "coordinator/keys/director.old.pem").read_bytes())
    ordered(earlier)
    services.nodes.record("n1", ObservedState(1, "", now, trust_digest=trust))
    shown = finish(ExitCode.REFUSED)  # 2
    assert f"the key {old[:8]}" in shown
    assert "Start the coordinator again" in shown
    served.restart()
    services = served.coordinator.services
    services.inventory.open("n1", "session")
    generation = ordered(new)
    assert "has not taken in order 2" in finish(ExitCode.REFUSED)  # 3
    assert old in listed_directors(served)
    services.nodes.record("n1", ObservedState(generation, "", now, trust_digest=trust))
    assert "Offline now, and will follow when they are back: n2." in finish(ExitCode.OK)
    assert listed_directors(served) == (new.public.key_id,)


def test_a_key_that_no_release_lists_is_not_made_the_only_one(served: ServedHome) -> None:
    (served.home / "coordinator" / "keys" / "director.pem").write_bytes(key("stray").to_pem())
    shown = served.ctl("trust", "rotate", "director", "--finish", "--yes", expect=ExitCode.ERROR)
    assert "no release lists the key that the coordinator has" in shown
    assert key("stray").public.key_id not in listed_directors(served)


def test_what_another_machine_changed_is_there_before_it_is_changed_again(served: ServedHome) -> None:
    """A copy of a document from before somebody else's change is replaced by the published one."""
    other = TrustDirectory(served.another("other"))
    shutil.copytree(served.home / "trust" / "keys", other.path / "keys")
    served.ctl("trust", "rotate", "secrets", "--add", public(served, "ann"), "--yes")
    served.ctl("trust", "revoke", "bundle", digest_of(b"one"), "--reason", "first", "--yes")
    served.ctl("--trust", str(other.path), "trust", "rotate", "secrets", "--add", public(served, "bob"), "--yes")
    served.ctl("--trust", str(other.path), "trust", "revoke", "bundle", digest_of(b"two"), "--reason", "two", "--yes")
    trust = parse_fleet_trust(other.document(TRUST_PATH))
    assert {key("ann").public, key("bob").public} <= set(trust.secret_keys)
    revoked = other.document("policy/revocations.json").decode()
    assert digest_of(b"one") in revoked
    assert digest_of(b"two") in revoked


def staged(home: ServedHome, *arguments: str) -> Path:
    """Stage a change without the coordinator."""
    change = home.ask("trust", *arguments, "--offline", "--yes")
    assert not change["published"]
    return Path(change["staged"])


def approvers(home: ServedHome) -> int:
    (row,) = [row for row in home.ask("trust", "status") if row["role"] == "grants-default"]
    return len(row["keys"])


def test_a_complete_change_is_published_and_the_file_goes(served: ServedHome) -> None:
    file = staged(served, "add-approver", public(served, "ann"))
    copy = served.home.parent / "copy.json"
    shutil.copy(file, copy)
    assert served.ask("trust", "publish", str(file))["published"]
    assert not file.exists()
    assert approvers(served) == 2
    refused = served.ctl("trust", "publish", str(copy), expect=ExitCode.ERROR)
    assert "GENERATION_CONFLICT" in refused
    assert copy.exists()  # only what lies in staged/ is cleared away


def test_a_change_that_lacks_signatures_or_a_publisher_is_not_published(served: ServedHome) -> None:
    half = staged(served, "add-approver", public(served, "ann"), "--threshold", "2")
    shown = served.ctl("trust", "publish", str(half), expect=ExitCode.REFUSED)
    assert "SIGNATURES_MISSING" in shown
    assert "ann" in shown
    whole = staged(served, "add-approver", public(served, "bob"))
    other = served.another("other")
    shown = served.ctl("--trust", str(other), "trust", "publish", str(whole), expect=ExitCode.ERROR)
    assert "Put the file into the inbox of the publisher" in shown
    assert approvers(served) == 1
    assert whole.exists()


def test_a_change_that_was_overtaken_is_made_anew_and_signed_again(served: ServedHome) -> None:
    file = staged(served, "add-approver", public(served, "ann"))
    served.ctl("trust", "add-approver", public(served, "bob"), "--yes")
    refused = served.ctl("trust", "publish", str(file), expect=ExitCode.ERROR)
    assert "fleetctl trust rebase FILE" in refused
    again = served.ask("trust", "rebase", str(file), "--yes")
    assert (again["complete"], again["published"], again["staged"]) == (True, False, str(file))
    served.ctl("trust", "publish", str(file))
    assert approvers(served) == 3


OTHER_RELEASES = {b'"fleet.staged/v1"': b'"fleet.staged/v2"', b'"change-keys"': b'"change-colours"'}


def test_a_file_of_another_release_of_fleetctl_is_refused_and_said_to_be_one(served: ServedHome) -> None:
    file = staged(served, "add-approver", public(served, "ann"))
    ours = file.read_bytes()
    for old, new in OTHER_RELEASES.items():
        file.write_bytes(ours.replace(old, new))
        for command in (("publish", str(file)), ("sign", str(file), "--yes"), ("rebase", str(file), "--yes")):
            shown = served.ctl("trust", *command, expect=ExitCode.VERIFICATION_FAILED)
            assert "STAGED_INVALID" in shown
            assert "release of fleetctl" in shown
        assert "cannot be used here" in served.ctl("trust", "status")  # and everything else is shown still


def test_a_rebased_change_that_somebody_else_made_already_is_refused_and_stays(served: ServedHome) -> None:
    file = staged(served, "add-approver", public(served, "ann"))
    before = file.read_bytes()
    served.ctl("trust", "add-approver", public(served, "ann"), "--yes")
    assert "ALREADY_EXISTS" in served.ctl("trust", "rebase", str(file), "--yes", expect=ExitCode.ERROR)
    assert file.read_bytes() == before


def test_a_medium_brings_a_release_with_its_bundles_to_another_coordinator(served: ServedHome) -> None:
    usb = served.home.parent / "usb"
    served.ctl("bundle", "push", "components/context-agent")
    first = served.ask("trust", "export", str(usb))
    assert first["blobs_written"] > 0
    assert served.ask("trust", "export", str(usb))["blobs_written"] == 0  # what is there is not written again
    joined(served.coordinator.services, ["n1"])
    assert "there is no order for n1" in served.ctl("trust", "export", str(usb), "--node", "n1", expect=ExitCode.ERROR)
    (listed,) = served.ask("bundle", "list")
    served.restart(empty=True)
    assert "fleetctl trust import DIR --push" in served.ctl("bundle", "list", expect=ExitCode.ERROR)
    other = TrustDirectory(served.home.parent / "other")
    other.write("root.json", served.directory.root)
    brought = served.ask("--trust", str(other.path), "trust", "import", str(usb), "--push")
    assert brought["pushed"]
    assert brought["changed"]
    assert served.ask("bundle", "list") == [listed]
    assert other.files() == served.directory.files()


def test_a_spoiled_medium_changes_nothing_here_or_there(served: ServedHome) -> None:
    usb = served.home.parent / "usb"
    served.ctl("bundle", "push", "components/context-agent")
    served.ctl("trust", "export", str(usb))
    component = max((usb / "blobs" / "sha256").iterdir(), key=lambda file: file.stat().st_size)
    component.write_bytes(component.read_bytes()[:-1] + b"?")
    served.restart(empty=True)
    other = TrustDirectory(served.home.parent / "other")
    other.write("root.json", served.directory.root)
    shown = served.ctl(
        "--trust", str(other.path), "trust", "import", str(usb), "--push", expect=ExitCode.VERIFICATION_FAILED
    )
    assert "DIGEST_MISMATCH" in shown
    assert other.files() == {}
    assert "fleetctl trust import DIR --push" in served.ctl("bundle", "list", expect=ExitCode.ERROR)


ROOTS, TARGETS, POLICY, APPROVERS = ("ann", "bob", "eve"), ("tim", "tom"), ("pam", "pat"), ("gus", "guy", "gil")
HELD = {"root": ROOTS, "targets": TARGETS, "policy": POLICY, "grants-default": APPROVERS, "code-default": ("cid",)}


def held(home: ServedHome, **instead: tuple[str, ...]) -> list[str]:
    """Options that name the public keys of every holder but the publisher's."""
    chosen = HELD | {role.replace("_", "-"): names for role, names in instead.items()}
    return [word for role, names in chosen.items() for n in names for word in ("--key", f"{role}={public(home, n)}")]


def holder(home: ServedHome, name: str) -> TrustDirectory:
    """The machine of somebody who made a key there, and was given the root."""
    directory = TrustDirectory(home.home.parent / name)
    directory.write("root.json", home.directory.root)
    directory.write(f"keys/{name}.pem", key(name).to_pem(), 0o600)
    return directory


def test_production_begins_with_keys_that_their_holders_made(served: ServedHome) -> None:
    """No private key but the publisher's is ever on this machine, and nothing changes before enough have signed."""
    carried = served.home.parent / "carried"
    change = served.ask("trust", "promote-to-production", "--to", str(carried), *held(served), "--yes")
    assert (change["complete"], change["published"]) == (False, False)
    assert [folder.name for folder in carried.iterdir()] == ["publisher"]
    file, publisher = Path(change["staged"]), str(carried / "publisher")
    assert "SIGNATURES_MISSING" in served.ctl("trust", "promote-to-production", "--finish", expect=ExitCode.REFUSED)
    signing = (*ROOTS[:2], *TARGETS, *POLICY, *APPROVERS[1:], "cid")
    for name in signing:
        refused = served.ctl("--trust", publisher, "trust", "publish", str(file), expect=ExitCode.REFUSED)
        assert "SIGNATURES_MISSING" in refused
        served.ctl("--trust", str(holder(served, name).path), "trust", "sign", str(file), "--yes")
    served.ctl("--trust", publisher, "trust", "publish", str(file))
    served.ctl("trust", "promote-to-production", "--finish")
    assert not (served.directory.path / "keys").exists()
    assert (served.directory.path / "keys.development").is_dir()
    assert b"x-fleet-profile" not in served.directory.root
    shown = {row["role"]: (row["threshold"], sorted(row["names"])) for row in served.ask("trust", "status")}
    assert shown["root"] == (2, sorted(ROOTS))
    assert shown["grants-default"] == (2, sorted(APPROVERS))
    assert shown["timestamp"] == (1, ["timestamp"])


REFUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "root takes 2 signatures, and has 1 keys": {"root": ("ann",)},
    "one key stands for root and policy": {"policy": ("pam", "ann")},
    "one key stands for policy and policy": {"policy": ("pam", "pam")},
    "there is no role grants-vision": {"grants_vision": ("gus",)},
}


def test_keys_that_cannot_be_are_refused_before_anything_is_made(served: ServedHome) -> None:
    carried = served.home.parent / "carried"
    for told, instead in REFUSED.items():
        words = ("trust", "promote-to-production", "--to", str(carried), *held(served, **instead), "--yes")
        assert told in served.ctl(*words, expect=ExitCode.ERROR if "no role" in told else ExitCode.USAGE)
    assert not carried.exists()
    assert served.directory.staged() == ()


def test_a_team_leaves_once_nothing_of_it_is_left(served: ServedHome) -> None:
    for name in ("kim", "lee"):
        (served.directory.path / "keys" / f"{name}.pem").write_bytes(key(name).to_pem())
    served.ctl(
        "trust", "add-team", "vision", "--code", public(served, "kim"), "--grants", public(served, "lee"), "--yes"
    )
    draft = str(served.home.parent / "grant.yaml")
    served.ctl("bundle", "push", "components/context-agent", "--team", "vision")
    bundle = "vision/context-agent@0.1.0"
    served.ctl("grant", "propose", "climate/context", "--bundle", bundle, "--team", "vision", "--file", draft)
    served.ctl("grant", "approve", draft, "--team", "vision", "--yes")
    shown = served.ctl("trust", "remove-team", "vision", "--yes", expect=ExitCode.ERROR)
    assert "PLAN_INVALID" in shown
    assert "fleetctl grant revoke climate/context --team vision" in shown
    served.ctl("grant", "revoke", "climate/context", "--team", "vision", "--reason", "over", "--yes")
    services, now = served.coordinator.services, datetime.now(UTC)
    (listed,) = served.ask("bundle", "list")
    joined(services, ["n1"])
    agent = ObservedAgent("climate/context", Phase.RUNNING, bundle_digest=listed["digest"])
    services.nodes.record("n1", ObservedState(1, "", now, (agent,)))
    shown = served.ctl("trust", "remove-team", "vision", "--yes", expect=ExitCode.REFUSED)
    assert "nodes run climate/context of vision" in shown
    order = pb.AgentOnNode(bundle="context-agent@0.1.0", desired=True)  # of a node that has not reported it yet
    order.agent.name = "climate/context"
    release = served.directory.release(now)
    with pytest.raises(FleetError, match="climate/context of vision"):
        check_nothing_runs("vision", release, [order])
    services.nodes.record("n1", ObservedState(2, "", now))
    assert served.ask("trust", "remove-team", "vision", "--yes")["published"]
    assert served.ask("bundle", "list") == []
    assert not any("vision" in row["role"] for row in served.ask("trust", "status"))
    served.ctl("trust", "refresh")
    for team in ("vision", "default"):
        assert "no team" in served.ctl("trust", "remove-team", team, "--yes", expect=ExitCode.ERROR)
