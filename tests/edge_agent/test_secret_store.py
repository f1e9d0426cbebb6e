"""Sealed secrets of a node: what is taken in, who is given what, and that no power cut loses any."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.disk import LocalDisk
from edge_agent.identity import Identity
from edge_agent.runtime import AgentStart
from edge_agent.secret_store import CORRUPT, FILE, MAX_KNOWN, MAX_SECRETS, SecretStore
from edge_agent.vault import FileVault
from fleet.errors import Code, FleetError
from fleet.sealing import Label, SecretKind, SecretValue, public_of, seal, sign_sealed
from fleet.signing import PublicKey
from tests.fakes.agents import authority
from tests.fakes.disk import MemoryDisk, PowerCutError
from tests.fakes.publisher import key
from tests.fakes.refusals import code_of

FOLDER = Path("/node/secrets")
PRIVATE = hashlib.sha256(b"node").digest()
WHO = Identity("n1", "demo", 1, 1, "a:1", "a:2", "00")
AGENT = "climate/context"
MAY_HOLD = authority({"fleet:secrets/store": [{"names": ["api-*"]}]})


class FixedVault:
    """A node's key that a test knows."""

    def key(self, name: str) -> bytes:
        assert name == "sealing"
        return PRIVATE


@dataclass
class Bench:
    """A store over a disk, and the keys that the release lists."""

    disk: MemoryDisk = field(default_factory=MemoryDisk)
    keys: list[PublicKey] = field(default_factory=lambda: [key("secrets").public])
    identity: Identity = WHO

    def store(self) -> SecretStore:
        store = SecretStore(self.disk, FOLDER, self.identity, FixedVault(), lambda: self.keys)
        store.load()
        return store


def sealed(
    name: str = "api-token", version: int = 1, value: bytes = b"hunter2", signer: str = "secrets", **label: str
) -> bytes:
    where = replace(Label("demo", "n1", AGENT, name, version), **label)
    return sign_sealed(seal(SecretValue(SecretKind.TEXT, value), where, public_of(PRIVATE)), key(signer))


def start(store: SecretStore, agent: str = AGENT) -> AgentStart:
    versions = store.versions(agent, MAY_HOLD)
    named = {name: f"{agent}#{version}" for name, version in versions.items()}
    return AgentStart(agent, Path("c"), "sha256:0", MAY_HOLD.encode(), Path("s"), secrets=named)


def values(store: SecretStore, agent: str = AGENT) -> dict[str, str]:
    return {name: secret.text() for name, secret in store.unseal(start(store, agent)).items()}


def test_secrets_come_back_after_a_restart() -> None:
    bench = Bench()
    store = bench.store()
    assert store.receive([sealed(), sealed("api-key", 4, b"k")]) == (True, ())
    assert store.versions(AGENT, MAY_HOLD) == {"api-token": 1, "api-key": 4}
    assert values(bench.store()) == {"api-token": "hunter2", "api-key": "k"}
    written = bench.disk.read(FOLDER / FILE, 0, 1 << 20)
    assert b"hunter2" not in written


def test_the_same_set_again_changes_nothing() -> None:
    bench = Bench()
    envelope = sealed()
    bench.store().receive([envelope])
    operations = bench.disk.operations
    assert bench.store().receive([envelope]) == (False, ())
    assert bench.disk.operations == operations


def test_an_agent_is_given_its_own_secrets_as_far_as_its_grant_names_them() -> None:
    store = Bench().store()
    store.receive([sealed(), sealed("other-token"), sealed("api-token", value=b"theirs", agent="climate/other")])
    assert values(store) == {"api-token": "hunter2"}
    assert values(store, "climate/other") == {"api-token": "theirs"}
    assert values(store, "climate/third") == {}
    assert store.versions(AGENT, authority({"fleet:secrets/reveal": [{"names": ["*"]}]})) == {}
    assert store.versions(AGENT, authority({})) == {}


def test_one_that_is_not_in_the_set_any_more_is_removed() -> None:
    bench = Bench()
    store = bench.store()
    store.receive([sealed(), sealed("api-key")])
    assert store.receive([sealed()])[0]
    assert values(bench.store()) == {"api-token": "hunter2"}


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        pytest.param(sealed(signer="director"), Code.SIGNATURE_INVALID, id="2-signer"),
        pytest.param(sealed(node="n2"), Code.SECRET_INVALID, id="2-other-node"),
        pytest.param(sealed(fleet="other"), Code.SECRET_INVALID, id="2-other-fleet"),
        pytest.param(b"garbage", Code.SIGNATURE_INVALID, id="2-garbage"),
        pytest.param(sealed(version=1), Code.SECRET_INVALID, id="3-older"),
        pytest.param(
            sign_sealed(
                seal(
                    SecretValue(SecretKind.TEXT, b"x"),
                    Label("demo", "n1", AGENT, "api-token", 3),
                    public_of(bytes(range(32))),
                ),
                key("secrets"),
            ),
            Code.SECRET_INVALID,
            id="4-other-key",
        ),
    ],
)
def test_what_is_refused_leaves_the_others_and_what_was_there(envelope: bytes, code: Code) -> None:
    store = Bench().store()
    store.receive([sealed(version=2)])
    _, refused = store.receive([envelope, sealed("api-key")])
    assert [entry.error.code for entry in refused] == [code]
    assert values(store)["api-key"] == "hunter2"


def test_refused_1_too_many_change_nothing() -> None:
    store = Bench().store()
    store.receive([sealed()])
    assert code_of(store.receive, [sealed()] * (MAX_SECRETS + 1)) is Code.LIMIT_EXCEEDED
    assert values(store) == {"api-token": "hunter2"}


def test_refused_3_an_older_version_never_comes_back() -> None:
    """Neither while the newer one is there, nor after it was removed, nor after a restart."""
    bench = Bench()
    store = bench.store()
    store.receive([sealed(version=2, value=b"new")])
    store.receive([sealed(version=1, value=b"old")])
    assert values(store) == {"api-token": "new"}
    store.receive([])
    _, refused = bench.store().receive([sealed(version=1, value=b"old")])
    assert [entry.error.code for entry in refused] == [Code.SECRET_INVALID]


def test_a_node_that_is_enrolled_again_begins_anew() -> None:
    bench = Bench()
    bench.store().receive([sealed(version=2)])
    again = replace(bench, identity=replace(WHO, epoch=2)).store()
    assert values(again) == {}
    assert again.receive([sealed(version=1)]) == (True, ())


def test_what_a_withdrawn_key_signed_goes_out_of_use_with_it() -> None:
    bench = Bench()
    store = bench.store()
    store.receive([sealed()])
    bench.keys.clear()
    assert values(store) == {}
    assert store.receive([sealed()])[1][0].error.code is Code.SIGNATURE_INVALID


def test_there_is_a_bound_on_what_is_remembered() -> None:
    store = Bench().store()
    for number in range(0, MAX_KNOWN, MAX_SECRETS):
        assert store.receive([sealed(f"s{number + one}") for one in range(MAX_SECRETS)])[1] == ()
    _, refused = store.receive([sealed("one-more")])
    assert [entry.error.code for entry in refused] == [Code.LIMIT_EXCEEDED]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"schema":"fleet.secrets/v2"}'])
def test_a_spoiled_file_is_set_aside(content: bytes) -> None:
    bench = Bench()
    bench.disk.write(FOLDER / FILE, content, 0)
    store = SecretStore(bench.disk, FOLDER, WHO, FixedVault(), lambda: bench.keys)
    assert code_of(store.load) is Code.STATE_CORRUPT
    assert bench.disk.names(FOLDER) == (CORRUPT,)
    assert store.receive([sealed()]) == (True, ())


@given(st.integers(1, 12), st.integers())
def test_a_power_cut_leaves_the_old_set_or_the_new_one(cut_at: int, seed: int) -> None:
    bench = Bench()
    bench.store().receive([sealed()])
    disk = bench.disk
    disk.cut_at = disk.operations + cut_at
    with suppress(PowerCutError):
        bench.store().receive([sealed(version=2, value=b"new")])
    after = Bench(disk.after_power_cut(Random(seed)))
    assert values(after.store()) in ({"api-token": "hunter2"}, {"api-token": "new"})


def test_a_real_disk_and_a_real_key(tmp_path: Path) -> None:
    vault = FileVault(tmp_path / "keys")
    store = SecretStore(LocalDisk(), tmp_path / "secrets", WHO, vault, lambda: [key("secrets").public])
    said = store.statement()
    assert (said.node, said.epoch, said.key) == ("n1", 1, public_of(vault.key("sealing")))
    label = Label("demo", "n1", AGENT, "api-token", 1)
    store.receive([sign_sealed(seal(SecretValue(SecretKind.TEXT, b"hunter2"), label, said.key), key("secrets"))])
    assert values(store) == {"api-token": "hunter2"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*") if path.is_file())


def test_without_its_key_a_node_takes_nothing() -> None:
    class Broken:
        def key(self, _name: str) -> bytes:
            raise FleetError(Code.KEY_UNAVAILABLE, "the chip is gone")

    store = SecretStore(MemoryDisk(), FOLDER, WHO, Broken(), lambda: [key("secrets").public])
    assert code_of(store.receive, [sealed()]) is Code.KEY_UNAVAILABLE
    assert code_of(store.statement) is Code.KEY_UNAVAILABLE
