"""Keys at hand: files, encrypted or not, and keys that stay in a token or a key service.

Owns: the key folder, one key per NAME::

    NAME.pem   Ed25519 private key, PKCS #8, mode 0600; may be encrypted with a passphrase
    NAME.uri   or where the private key is: one URI of securesystemslib (`file2:PATH`, `hv:NAME/VERSION`)
    NAME.pub   the public key as people hand it on; may be left out beside a key that is not encrypted

A key is opened when it signs, not before, and what it signs is checked against the public key at once. The only door to
the signers of securesystemslib. Never decides what a key may sign: that is in the metadata.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import UnsupportedLibraryError, VerificationError
from securesystemslib.signer import Signer, SSlibKey

from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.release import NamedKey, format_named_key, parse_named_key
from fleet.signing import KEY_BYTES, SigningKey
from orchestrator.files import read_named

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from fleet.signing import PublicKey

MAX_KEY_FILE = 16 * 1024

_OPENING = (ValueError, TypeError, OSError, VerificationError, UnsupportedLibraryError)
"""What the signers of securesystemslib raise for a URI that leads nowhere."""


def ask_nobody(name: str) -> str:
    """Refuse to open an encrypted key where nobody can be asked.

    Raises:
        FleetError: CONFIG_INVALID.
    """
    raise FleetError(Code.CONFIG_INVALID, f"the key {name} is encrypted, and there is nobody to ask", key=name)


@dataclass(frozen=True, slots=True)
class RemoteSigner:
    """A key that a token or a key service holds.

    Attributes:
        public: public half, as the release names it.
        uri: where the private half is.
    """

    public: PublicKey
    uri: str

    def sign(self, data: bytes) -> bytes:
        """Sign with the key behind the URI.

        Raises:
            FleetError: CONFIG_INVALID when the URI leads to no key that signs; SIGNATURE_INVALID for another key.
        """
        key = SSlibKey(self.public.key_id, "ed25519", "ed25519", {"public": self.public.hex})
        try:
            signature = bytes.fromhex(Signer.from_priv_key_uri(self.uri, key).sign(data).signature)
        except _OPENING as error:
            raise FleetError(Code.CONFIG_INVALID, f"no key signs: {error}", place=self.uri) from error
        self.public.verify(signature, data)
        return signature


@dataclass(frozen=True, slots=True)
class EncryptedSigner:
    """A key in an encrypted file; its passphrase is asked for when it signs."""

    public: PublicKey
    file: Path
    ask: Callable[[str], str]

    def sign(self, data: bytes) -> bytes:
        """Open the key and sign.

        Raises:
            FleetError: CONFIG_INVALID for a wrong passphrase; SIGNATURE_INVALID when the file holds another key.
        """
        passphrase = self.ask(self.file.stem).encode()
        signature = SigningKey.from_pem(read_named(self.file, MAX_KEY_FILE), passphrase).sign(data)
        self.public.verify(signature, data)
        return signature


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """The keys of one person or program.

    Attributes:
        path: the folder; one that is not there holds no key.
        ask: returns the passphrase of the named key.
    """

    path: Path
    ask: Callable[[str], str] = ask_nobody

    def signers(
        self, wanted: Collection[PublicKey] | None = None
    ) -> tuple[SigningKey | EncryptedSigner | RemoteSigner, ...]:
        """Return the keys, or those of `wanted`, sorted by name.

        Raises:
            FleetError: CONFIG_INVALID with the file.
        """
        files = sorted([*self.path.glob("*.pem"), *self.path.glob("*.uri")])
        found = [self._open(file) for file in files]
        return tuple(signer for signer in found if wanted is None or signer.public in wanted)

    def named(self) -> tuple[NamedKey, ...]:
        """Return the public keys, sorted by name."""
        files = sorted([*self.path.glob("*.pem"), *self.path.glob("*.uri")])
        return tuple(NamedKey(self._open(file).public, file.stem) for file in files)

    def make(self, name: str, passphrase: str = "") -> NamedKey:
        """Make a key; the private half never leaves the folder.

        Raises:
            FleetError: ALREADY_EXISTS; CONFIG_INVALID for what is not a name.
        """
        key = SigningKey.from_seed(secrets.token_bytes(KEY_BYTES))
        named = NamedKey(key.public, name)
        self._write(name, ".pem", key.to_pem(passphrase.encode() if passphrase else None))
        (self.path / f"{name}.pub").write_text(format_named_key(named), encoding="ascii")
        return named

    def register(self, key: NamedKey, uri: str) -> None:
        """Note where the private half of a key is, after it signed something as a proof.

        Raises:
            FleetError: as `make` and `RemoteSigner.sign`.
        """
        RemoteSigner(key.public, uri).sign(b"fleet: proof that the URI leads to this key")
        self._write(key.name, ".uri", f"{uri}\n".encode())
        (self.path / f"{key.name}.pub").write_text(format_named_key(key), encoding="ascii")

    def _write(self, name: str, suffix: str, data: bytes) -> None:
        if not is_name(name):
            raise FleetError(Code.CONFIG_INVALID, f"{name!r} is not a name: lower-case words joined by hyphens")
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        taken = [file for file in self.path.glob(f"{name}.*") if file.suffix in {".pem", ".uri"}]
        if taken:
            raise FleetError(Code.ALREADY_EXISTS, "there is a key of this name", place=str(taken[0]))
        file = self.path / f"{name}{suffix}"
        file.touch(mode=0o600)
        file.write_bytes(data)

    def _open(self, file: Path) -> SigningKey | EncryptedSigner | RemoteSigner:
        data = read_named(file, MAX_KEY_FILE)
        public = self._public(file.with_suffix(".pub"))
        if file.suffix == ".uri":
            if public is None:
                raise FleetError(Code.CONFIG_INVALID, "the public key is missing beside it", place=str(file))
            return RemoteSigner(public, data.decode(errors="replace").strip())
        if not _encrypted(data):
            return _plain(data, file)
        if public is None:
            raise FleetError(Code.CONFIG_INVALID, "the public key is missing beside an encrypted key", place=str(file))
        return EncryptedSigner(public, file, self.ask)

    def _public(self, file: Path) -> PublicKey | None:
        if not file.exists():
            return None
        return parse_named_key(read_named(file, MAX_KEY_FILE).decode(errors="replace"), str(file)).public


def _plain(data: bytes, file: Path) -> SigningKey:
    try:
        return SigningKey.from_pem(data)
    except FleetError as error:
        raise FleetError(error.code, error.private, place=str(file)) from error


def _encrypted(data: bytes) -> bool:
    try:
        load_pem_private_key(data, password=None)
    except TypeError:  # cryptography: a passphrase is needed and was not given
        return True
    except ValueError:
        return False
    return False
