"""When a node renews before its time: the release lists other authorities than its certificate came with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.identity import Identity, IdentityStore, make_request
from edge_agent.reissue import Reissue
from orchestrator import pki, principals
from tests.fakes.disk import MemoryDisk

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FIRST, SECOND, OTHER = (pki.new_authority(name, NOW) for name in ("first", "second", "other"))
ONE, TWO, THREE = FIRST.certificate, SECOND.certificate, OTHER.certificate


@dataclass
class Bench:
    """A node whose certificate came with `came_with`."""

    came_with: bytes = ONE
    listed: bytes = b""
    store: IdentityStore = field(default_factory=lambda: IdentityStore(MemoryDisk(), Path("/node")))

    def __post_init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        named = principals.NodeIdentity("node-1", 1, NOW + timedelta(days=1))
        issuer = FIRST if ONE in self.came_with else SECOND
        certificate = pki.issue_node(issuer, "demo", named, make_request(key), NOW)
        identity = Identity("node-1", "demo", 1, 1, "a:1", "a:2", "00" * 32)
        self.store.save(identity, key, certificate, self.came_with)
        self.reissue = Reissue(self.store, lambda: self.listed)

    def wants(self, listed: bytes) -> bool:
        """Whether the node wants to renew once it has adopted a release with these."""
        self.reissue.wanted.clear()
        self.listed = listed
        self.reissue.compare()
        return self.reissue.wanted.is_set()


@pytest.mark.parametrize(
    ("came_with", "listed", "wants"),
    [
        (ONE, ONE, False),
        (ONE, ONE + TWO, True),  # a rotation begins
        (ONE + TWO, TWO + ONE, False),
        (ONE + TWO, TWO, True),  # and ends
        (TWO, TWO, False),
        (ONE, b"", False),  # no release yet
        (ONE, THREE, False),  # about another coordinator
    ],
)
def test_what_is_listed_decides(came_with: bytes, listed: bytes, wants: bool) -> None:
    assert Bench(came_with).wants(listed) is wants


def test_a_node_asks_once_for_each_change() -> None:
    bench = Bench()
    assert bench.wants(ONE + TWO)
    assert not bench.wants(ONE + TWO)  # the coordinator gave no other bundle: asking again helps nobody
    assert bench.wants(ONE + TWO + THREE)


def test_a_node_without_a_usable_certificate_renews_anyway() -> None:
    bench = Bench()
    bench.reissue = Reissue(IdentityStore(MemoryDisk(), Path("/node")), lambda: bench.listed)
    assert not bench.wants(ONE + TWO)
