"""A publisher with all keys of a fleet in memory: attacks are edits of what it made."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.checkpoint import format_proof, format_vkey, sign_checkpoint
from fleet.merkle import append, inclusion_proof, leaf_hash, root
from fleet.release import RoleKeys, add_target, new_release, publish, remove_target
from fleet.signing import SigningKey
from fleet.targets import TRUST_PATH
from fleet.trust import FleetTrust, Profile, encode_fleet_trust

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
ROLES = ("root", "targets", "snapshot", "timestamp", "code-default", "grants-default")
LOG = "fleet.example/log"


def key(name: str) -> SigningKey:
    """A key that is the same in every run."""
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


def role_keys(profile: Profile = Profile.DEV, **others: SigningKey) -> RoleKeys:
    """Keys of every role; production grants take two of three. `others` replaces the key of a role (`_` for `-`)."""
    keys = {role: (others.get(role.replace("-", "_"), key(role)),) for role in ROLES}
    if profile is Profile.PRODUCTION:
        keys["grants-default"] = tuple(key(f"approver-{number}") for number in range(3))
    return RoleKeys(keys, {"grants-default": 1 if profile is Profile.DEV else 2})


def certificate() -> bytes:
    """A self-signed certificate, PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node CA")])
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, NOW, NOW + timedelta(days=1))
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


NODE_CA = certificate()


def fleet_trust(profile: Profile = Profile.DEV, director: SigningKey | None = None) -> FleetTrust:
    """Keys of the director and the log."""
    return FleetTrust(
        fleet="demo",
        director_keys=((director or key("director")).public,),
        log_vkeys=(format_vkey(LOG, key("log").public),),
        node_ca_pem=NODE_CA,
        profile=profile,
        secret_keys=(key("secrets").public,),
    )


class Publisher:
    """Holds the repository's files; every method leaves a new mapping in `files`."""

    def __init__(self, profile: Profile = Profile.DEV, keys: RoleKeys | None = None, now: datetime = NOW) -> None:
        self.keys = keys or role_keys(profile)
        self.now = now
        self.document = encode_fleet_trust(fleet_trust(profile))
        self.files = new_release(self.keys, profile=profile, now=now, documents={TRUST_PATH: self.document})
        self.root = self.files["1.root.json"]
        self.policies: dict[str, bytes] = {}

    @property
    def documents(self) -> dict[str, bytes]:
        """What every node keeps of the release: the fleet's keys and all policies."""
        return {TRUST_PATH: self.document, **self.policies}

    def add(self, path: str, data: bytes, custom: dict[str, object] | None = None) -> None:
        """List a document; takes effect with `publish`."""
        if path.startswith("policy/"):
            self.policies[path] = data
        self.files = add_target(self.files, self.keys, path, data, custom or {}, self.now)

    def remove(self, path: str) -> None:
        """Withdraw a document; takes effect with `publish`."""
        self.policies.pop(path, None)
        self.files = remove_target(self.files, self.keys, path, self.now)

    def publish(self) -> None:
        """Sign snapshot and timestamp."""
        self.files = publish(self.files, self.keys, self.now)


class MemoryLog:
    """An audit log in a dictionary, over the same tree functions as the coordinator's."""

    def __init__(self, *leaves: bytes) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.size = 0
        for leaf in leaves:
            self.append(leaf)

    def read(self, level: int, index: int) -> bytes:
        """Node reader."""
        return self.nodes[level, index]

    def append(self, leaf: bytes) -> int:
        """Append a leaf and return its index."""
        self.nodes.update({(n.level, n.index): n.hash for n in append(self.read, self.size, [leaf_hash(leaf)])})
        self.size += 1
        return self.size - 1

    def proof(self, index: int, log_key: SigningKey | None = None, origin: str = LOG) -> bytes:
        """Proof file of a leaf in the current tree."""
        note = sign_checkpoint(origin, self.size, root(self.read, self.size), log_key or key("log"))
        return format_proof(index, inclusion_proof(self.read, index, self.size), note)
