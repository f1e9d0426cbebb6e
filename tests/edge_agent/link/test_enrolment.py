"""Joining and renewing against real TLS: the pin comes first, and a lost reply costs nothing."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.disk import LocalDisk
from edge_agent.identity import Identity, IdentityStore, make_request
from edge_agent.link.enrolment import join, parse_token, renew
from fleet.errors import Code, FleetError
from fleet.joining import check_join
from fleet.signing import SigningKey
from orchestrator import pki, principals
from tests.fakes.coordinator import FakeCoordinator
from tests.fakes.disk import MemoryDisk, PowerCutError
from tests.fakes.refusals import code_of


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    coordinator = FakeCoordinator()
    await coordinator.open()
    yield coordinator
    await coordinator.close()


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(LocalDisk(), tmp_path)


LABELS = {"site": "oslo"}


async def joined(coordinator: FakeCoordinator, store: IdentityStore) -> Identity:
    return await join(store, coordinator.enrolment_address, parse_token(coordinator.token()), LABELS, "0.1.0")


async def code_of_join(store: IdentityStore, address: str, token: str) -> Code | None:
    try:
        await join(store, address, parse_token(token), LABELS, "0.1.0")
    except FleetError as error:
        return error.code
    return None


async def test_a_machine_becomes_a_node(coordinator: FakeCoordinator, store: IdentityStore, tmp_path: Path) -> None:
    identity = await joined(coordinator, store)
    assert (identity.node, identity.fleet, identity.epoch, identity.sequence) == ("node-1", "demo", 1, 1)
    assert identity.labels == {"site": "oslo"}
    assert store.load() == identity
    tls = store.tls()
    assert tls is not None
    assert x509.load_pem_x509_certificate(tls.certificate).subject.rfc4514_string().endswith("CN=node-1")
    assert store.bound_key().public.raw == coordinator.bound_key
    assert coordinator.join_statement == b"", "this token has no key"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}


async def test_the_certificate_is_renewed_at_two_thirds_of_its_life(
    coordinator: FakeCoordinator, store: IdentityStore
) -> None:
    await joined(coordinator, store)
    tls = store.tls()
    assert tls is not None
    life = tls.not_after - tls.not_before
    assert tls.renew_at == tls.not_before + life * 2 / 3


async def test_nothing_is_sent_to_a_port_that_the_token_does_not_name(
    coordinator: FakeCoordinator, store: IdentityStore
) -> None:
    token = coordinator.token(pin=bytes(32))
    assert await code_of_join(store, coordinator.enrolment_address, token) is Code.CERTIFICATE_INVALID
    assert (coordinator.bound_key, store.load()) == (b"", None)


async def test_a_wrong_secret_is_refused_by_the_coordinator(coordinator: FakeCoordinator, store: IdentityStore) -> None:
    token = coordinator.token(secret=bytes(32))
    assert await code_of_join(store, coordinator.enrolment_address, token) is Code.TOKEN_INVALID
    assert store.load() is None


@pytest.mark.parametrize(
    ("address", "code"),
    [("127.0.0.1:1", Code.UNAVAILABLE), ("nowhere", Code.CONFIG_INVALID), ("", Code.CONFIG_INVALID)],
)
async def test_an_address_where_nothing_listens(
    coordinator: FakeCoordinator, store: IdentityStore, address: str, code: Code
) -> None:
    assert await code_of_join(store, address, coordinator.token()) is code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flt1",
        "flt1.a.b.c",
        "flt2.x.y.z",
        "flt1.." + "A" * 43,
        "flt1.é.i.s",
        "x" * 300,
        "flt1.a.b.c.d",
        "flt1.a.b.c.d.e",
    ],
)
def test_a_malformed_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_token(text)
    assert caught.value.code is Code.TOKEN_INVALID
    assert len(text) < 5 or text not in str(caught.value)


def test_a_token_is_taken_apart() -> None:
    part = base64.urlsafe_b64encode(bytes(range(200, 232))).rstrip(b"=").decode()
    token = parse_token(f"flt1.{part}.id7.{part}\n")
    assert (token.pin, token.id, token.secret) == (bytes(range(200, 232)), "id7", bytes(range(200, 232)))
    assert token.key is None
    own = parse_token(f"flt1.{part}.id7.{part}.{part}").key
    assert own is not None
    assert own.public == SigningKey.from_seed(bytes(range(200, 232))).public


async def test_the_key_of_the_token_signs_the_bound_key(coordinator: FakeCoordinator, store: IdentityStore) -> None:
    part = base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()
    token = parse_token(f"{coordinator.token()}.{part}")
    await join(store, coordinator.enrolment_address, token, LABELS, "0.1.0")
    public = SigningKey.from_seed(bytes(32)).public
    check_join(coordinator.join_statement, bound_key=store.bound_key().public.raw, key=public)


async def test_renewal_moves_the_join_state(coordinator: FakeCoordinator, store: IdentityStore) -> None:
    identity = await joined(coordinator, store)
    first = store.tls()
    identity = await renew(store, identity)
    assert (identity.sequence, store.load()) == (2, identity)
    assert store.tls() != first
    assert (await renew(store, identity)).sequence == 3
    assert coordinator.renewals == [(1, 1), (1, 2)]


async def test_a_lost_reply_costs_nothing(coordinator: FakeCoordinator, store: IdentityStore) -> None:
    identity = await joined(coordinator, store)
    coordinator.lose_replies = 2
    for _ in range(2):
        with pytest.raises(FleetError):
            await renew(store, identity)
    assert store.load() == identity
    assert (await renew(store, identity)).sequence == 4


async def test_a_restored_disk_is_locked_out(coordinator: FakeCoordinator, store: IdentityStore) -> None:
    old = await joined(coordinator, store)
    await renew(store, await renew(store, old))
    with pytest.raises(FleetError) as caught:
        await renew(store, old)
    assert caught.value.code is Code.NODE_LOCKED


async def test_a_coordinator_that_gives_other_labels_gets_no_node(
    coordinator: FakeCoordinator, store: IdentityStore
) -> None:
    """Labels decide which grants apply: a captured coordinator shall not choose them."""
    token = parse_token(coordinator.token())
    with pytest.raises(FleetError) as caught:
        await join(store, coordinator.enrolment_address, token, {"site": "bergen"}, "0.1.0")
    assert caught.value.code is Code.CERTIFICATE_INVALID
    assert "site=oslo" in caught.value.private
    assert store.load() is None


async def test_labels_do_not_change_by_renewal(coordinator: FakeCoordinator, store: IdentityStore) -> None:
    identity = replace(await joined(coordinator, store), labels={"site": "bergen"})
    assert (await renew(store, identity)).labels == {"site": "bergen"}


async def test_the_enrolment_key_stays_pinned_for_renewals(coordinator: FakeCoordinator, store: IdentityStore) -> None:
    identity = replace(await joined(coordinator, store), enrolment_pin="00" * 32)
    with pytest.raises(FleetError) as caught:
        await renew(store, identity)
    assert caught.value.code is Code.CERTIFICATE_INVALID
    assert coordinator.renewals == []


NOW = datetime(2026, 6, 1, tzinfo=UTC)
IDENTITY = Identity("node-1", "demo", 1, 1, "a:1", "b:2", "00" * 32)


@pytest.mark.parametrize("fault", ["key", "node", "issuer", "text"])
def test_a_certificate_that_is_not_this_nodes_is_never_stored(store: IdentityStore, fault: str) -> None:
    authority, other = pki.new_authority("a", NOW), pki.new_authority("a", NOW)
    key, another = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    request = make_request(another if fault == "key" else key)
    named = principals.NodeIdentity("node-2" if fault == "node" else "node-1", 1, NOW + timedelta(days=1))
    certificate = b"?" if fault == "text" else pki.issue_node(authority, "demo", named, request, NOW)
    ca = (other if fault == "issuer" else authority).certificate
    assert code_of(store.save, IDENTITY, key, certificate, ca) is Code.CERTIFICATE_INVALID
    assert store.load() is None


def test_a_spoiled_identity_is_not_believed(store: IdentityStore, tmp_path: Path) -> None:
    for spoil in (b"{}", b"\xff", b'{"schema":"fleet.node/v2"}'):
        (tmp_path / "node.json").write_bytes(spoil)
        assert code_of(store.load) is Code.CONFIG_INVALID


def test_a_spoiled_certificate_is_renewed_not_fatal(store: IdentityStore, tmp_path: Path) -> None:
    assert store.tls() is None
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "tls.pem").write_bytes(b"half")
    (tmp_path / "keys" / "ca.pem").write_bytes(b"half")
    assert store.tls() is None


def test_a_bound_key_of_another_kind_is_refused(store: IdentityStore, tmp_path: Path) -> None:
    store.bound_key()
    path = tmp_path / "keys" / "bound.pem"
    path.write_bytes(pki.new_authority("a", NOW).key)
    assert code_of(store.bound_key) is Code.CERTIFICATE_INVALID
    path.write_bytes(b"half")
    assert code_of(store.bound_key) is Code.CERTIFICATE_INVALID


@pytest.mark.parametrize("seed", range(4))
async def test_a_power_cut_while_an_identity_is_stored_leaves_one_that_renews(seed: int) -> None:
    authority = pki.new_authority("a", NOW)

    def issue(store: IdentityStore, sequence: int) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        named = principals.NodeIdentity("node-1", 1, NOW + timedelta(days=1))
        certificate = pki.issue_node(authority, "demo", named, make_request(key), NOW)
        store.save(replace(IDENTITY, sequence=sequence), key, certificate, authority.certificate)

    for cut_at in range(1, 13):
        disk = MemoryDisk()
        store = IdentityStore(disk, Path("/node"))
        bound = store.bound_key().public.raw
        issue(store, 1)
        disk.operations, disk.cut_at = 0, cut_at
        with pytest.raises(PowerCutError):
            issue(store, 2)
        found = IdentityStore(disk.after_power_cut(Random(seed)), Path("/node"))
        identity = found.load()
        assert identity is not None
        assert identity.sequence in (1, 2)
        assert found.bound_key().public.raw == bound
        tls = found.tls()
        assert tls is not None
        certificate = x509.load_pem_x509_certificate(tls.certificate)
        private = serialization.load_pem_private_key(tls.private_key, None)
        assert certificate.public_key() == private.public_key()


async def test_a_port_that_says_nothing_holds_up_no_end_of_the_program(
    coordinator: FakeCoordinator, store: IdentityStore
) -> None:
    identity = await joined(coordinator, store)
    called = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    renewal = asyncio.create_task(renew(store, replace(identity, enrolment_address=f"127.0.0.1:{port}")))
    await called.wait()
    renewal.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait({renewal})
        await asyncio.get_running_loop().shutdown_default_executor()  # what `asyncio.run` waits for at the end
    assert renewal.cancelled()
    gone.set()
    server.close()
    await server.wait_closed()
