"""What an operator's machine seals secrets with: the key that signs them, and the operator's own sealing key."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.sealing import KEY_BYTES, seal, sign_sealed
from orchestrator.cli.trust import TrustDirectory, synchronise
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from fleet.sealing import Label, SecretValue
    from fleet.signing import PublicKey, Signer
    from fleet.trust import FleetTrust
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

ESCROW_FILE = "escrow/secrets.key"
"""Where the operator's own sealing key is, below the trust directory."""


@dataclass(frozen=True, slots=True)
class KeySigner:
    """A key for secrets, wherever its private half is."""

    public: PublicKey
    signer: Signer

    @property
    def key_id(self) -> str:
        """Id of the public half."""
        return self.public.key_id

    def sign(self, data: bytes) -> bytes:
        """Sign raw bytes."""
        return self.signer.sign(data)


@dataclass(frozen=True, slots=True)
class Sealer:
    """What this machine seals with."""

    directory: TrustDirectory
    trust: FleetTrust
    signer: KeySigner

    @classmethod
    def open(cls, session: Session, client: Client) -> Sealer:
        """Take over the newest release, and find the key that it lists.

        Raises:
            FleetError: NOT_FOUND when no key for secrets is here; else as `synchronise`.
        """
        directory = TrustDirectory(session.context().trust)
        synchronise(directory, client, session.now())
        trust = directory.fleet_trust(session.now())
        signers = directory.keys.signers(trust.secret_keys)
        if not signers:
            raise FleetError(
                Code.NOT_FOUND,
                "no key on this machine signs secrets that the nodes of this fleet take",
                place=str(directory.path / "keys"),
                remedy="Make one with `fleetctl trust key new secrets`, and list it: "
                "`fleetctl trust rotate secrets --add KEY.pub`.",
            )
        return cls(directory, trust, KeySigner(signers[0].public, signers[0]))  # type: ignore[arg-type]  # has sign

    def escrow(self) -> bytes:
        """The operator's own X25519 key; made at the first use."""
        path = self.directory.path / ESCROW_FILE
        try:
            key = base64.b64decode(read_bounded(path, 1024), validate=True)
        except FileNotFoundError:
            key = secrets.token_bytes(KEY_BYTES)
            self.directory.write(ESCROW_FILE, base64.b64encode(key), 0o600)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise FleetError(Code.CONFIG_INVALID, f"not {KEY_BYTES} bytes in base64", place=str(path))
        return key

    def seal(self, value: SecretValue, label: Label, public: bytes) -> bytes:
        """Make the envelope for one recipient."""
        return sign_sealed(seal(value, label, public), self.signer)
