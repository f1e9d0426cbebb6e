"""Keys that a TPM 2.0 holds: the node's bound key, and the vault's keys sealed to the chip.

Owns: driving Debian's `tpm2-tools`, the only door to a TPM. The bound key is a P-256 signing key that is made in the
chip and cannot leave it; what is on disk is wrapped by the chip's own storage key (TCG, TPM 2.0 Library, part 1,
section 23) and loads in no other chip. A key of the vault is random bytes sealed the same way; it is in the
supervisor's memory while the node runs. Nothing secret is ever an argument of a command or in a file.

The storage key is the primary ECC key of the owner hierarchy with an empty password. No boot state (PCR) is asked for:
the chip ties keys to a machine, not to what the machine has booted.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO, Self

from edge_agent.disk import LocalDisk, replace_file
from edge_agent.vault import KEY_BYTES
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.keys import P256PublicKey
from fleet.signing import encode_base64, read_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = "fleet.tpm-key/v1"
MAX_FILE = 16 * 1024
TIMEOUT_S = 60.0
"""One command; a discrete chip takes some seconds to make a key."""

BOUND = "bound"
"""Name of the file of the key that identifies the node."""

_SIGNING = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign"


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """A key as the chip gave it out: only the same chip can load it."""

    public: bytes
    private: bytes
    spki: bytes = b""


class Tpm:
    """One TPM as a vault, and as the holder of the node's bound key.

    Args:
        tcti: how to reach it, as tpm2-tools take it: `device:/dev/tpmrm0`, `swtpm:path=SOCKET`.
        folder: `keys/` of the data directory.
    """

    def __init__(self, tcti: str, folder: Path) -> None:
        self._tcti = tcti
        self._folder = folder
        self._known: dict[str, bytes] = {}

    def key(self, name: str) -> bytes:
        """Return a key of 32 bytes that is sealed to the chip; made on first use (see `edge_agent.vault.Vault`).

        Raises:
            FleetError: KEY_UNAVAILABLE without the chip that sealed it; STORAGE_FULL.
        """
        if name not in self._known:
            wrapped = self._read(name)
            with _Session(self) as chip:
                if wrapped is None:
                    key = secrets.token_bytes(KEY_BYTES)
                    self._write(name, chip.seal(key))
                else:
                    key = chip.unseal(wrapped)
            if len(key) != KEY_BYTES:
                raise _unavailable(f"the chip gave {len(key)} bytes for {name}")
            self._known[name] = key
        return self._known[name]

    def bound_key(self) -> TpmBoundKey:
        """Return the key that identifies the node; made in the chip on first use.

        Raises:
            FleetError: KEY_UNAVAILABLE, STORAGE_FULL.
        """
        wrapped = self._read(BOUND)
        if wrapped is None:
            with _Session(self) as chip:
                wrapped = chip.make_signing_key()
            self._write(BOUND, wrapped)
        return TpmBoundKey(self, wrapped)

    @property
    def has_bound_key(self) -> bool:
        """Whether a bound key was made in a chip."""
        return self._path(BOUND).exists()

    def sign(self, wrapped: _Wrapped, data: bytes) -> bytes:
        """Sign with a key of the chip: ECDSA over SHA-256 of `data`, in DER."""
        with _Session(self) as chip:
            return chip.sign(wrapped, data)

    def run(self, arguments: Sequence[str], folder: Path, stdin: bytes = b"") -> bytes:
        """Run one of the tools in a folder for its files and return what it wrote.

        Raises:
            FleetError: KEY_UNAVAILABLE.
        """
        environment = {"PATH": f"{os.environ.get('PATH', '')}:/usr/bin", "TPM2TOOLS_TCTI": self._tcti}
        try:
            done = subprocess.run(  # noqa: S603 - a fixed tool with arguments of ours
                [_find(arguments[0]), *arguments[1:]],
                cwd=folder,
                env=environment,
                input=stdin,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _unavailable(f"{arguments[0]}: {type(error).__name__}") from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise _unavailable(f"{arguments[0]}: {lines[-1][:300] if lines else done.returncode}")
        return done.stdout

    def lock_file(self) -> BinaryIO:
        """Open the file over which users of the chip take turns."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.fdopen(os.open(self._folder / "tpm.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb")

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.tpm"

    def _read(self, name: str) -> _Wrapped | None:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return None
        code, place = Code.KEY_UNAVAILABLE, str(path)
        with Reader(load_json(data, code, place, MAX_FILE), code, place) as top:
            if top.text("schema") != SCHEMA:
                top.fail("schema", f"expected {SCHEMA}")
            return _Wrapped(read_base64(top, "public"), read_base64(top, "private"), read_base64(top, "spki"))

    def _write(self, name: str, wrapped: _Wrapped) -> None:
        document = {
            "schema": SCHEMA,
            "public": encode_base64(wrapped.public),
            "private": encode_base64(wrapped.private),
            "spki": encode_base64(wrapped.spki),
        }
        replace_file(LocalDisk(), self._path(name), dump_json(document))


class TpmBoundKey:
    """The key that identifies a node, in a chip (`edge_agent.identity.BoundKey`)."""

    def __init__(self, tpm: Tpm, wrapped: _Wrapped) -> None:
        self._tpm = tpm
        self._wrapped = wrapped
        self.public = P256PublicKey(wrapped.spki)
        self.key_id = self.public.key_id

    def sign(self, data: bytes) -> bytes:
        """Sign raw bytes in the chip, and check that it was this key that signed.

        Raises:
            FleetError: KEY_UNAVAILABLE, SIGNATURE_INVALID.
        """
        signature = self._tpm.sign(self._wrapped, data)
        self.public.verify(signature, data)
        return signature


class _Session:
    """A few commands in a row over one storage key; what they load into the chip is taken out of it at the end.

    One at a time, in all processes that share the key folder: a chip has room for three objects, and without a resource
    manager between takes one user at a time.
    """

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as held:
            lock = held.enter_context(self._tpm.lock_file())
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._folder = Path(held.enter_context(TemporaryDirectory(prefix="fleet-tpm-")))
            self._run("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent.ctx")
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def seal(self, data: bytes) -> _Wrapped:
        """Seal bytes to the chip."""
        parts = ("-i", "-", "-u", "key.pub", "-r", "key.priv")
        self._run("tpm2_create", "-Q", "-C", "parent.ctx", *parts, stdin=data)
        return _Wrapped(self._take("key.pub"), self._take("key.priv"))

    def unseal(self, wrapped: _Wrapped) -> bytes:
        """Return what was sealed."""
        self._load(wrapped)
        return self._run("tpm2_unseal", "-Q", "-c", "key.ctx")

    def make_signing_key(self) -> _Wrapped:
        """Make a P-256 key that only signs."""
        parts = ("-G", "ecc256", "-a", _SIGNING, "-u", "key.pub", "-r", "key.priv")
        self._run("tpm2_create", "-Q", "-C", "parent.ctx", *parts)
        wrapped = _Wrapped(self._take("key.pub"), self._take("key.priv"))
        self._load(wrapped)
        self._run("tpm2_readpublic", "-Q", "-c", "key.ctx", "-f", "der", "-o", "key.der")
        return _Wrapped(wrapped.public, wrapped.private, self._take("key.der"))

    def sign(self, wrapped: _Wrapped, data: bytes) -> bytes:
        """Sign the SHA-256 of the data."""
        self._load(wrapped)
        (self._folder / "digest").write_bytes(hashlib.sha256(data).digest())
        parts = ("-g", "sha256", "-s", "ecdsa", "-f", "plain", "-o", "signature", "-d", "digest")
        self._run("tpm2_sign", "-Q", "-c", "key.ctx", *parts)
        return self._take("signature")

    def _load(self, wrapped: _Wrapped) -> None:
        (self._folder / "key.pub").write_bytes(wrapped.public)
        (self._folder / "key.priv").write_bytes(wrapped.private)
        self._run("tpm2_load", "-Q", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        output = self._tpm.run(arguments, self._folder, stdin)
        # Without a resource manager between, a chip keeps what a tool has loaded, and has room for three objects.
        self._tpm.run(("tpm2_flushcontext", "-Q", "-t"), self._folder)
        return output

    def _take(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()


def _find(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        raise FleetError(
            Code.TOOL_MISSING,
            f"{tool} is not installed",
            remedy="Install tpm2-tools (Debian: `apt install tpm2-tools`), or take `tpm` out of agent.toml.",
        )
    return found


def _unavailable(message: str) -> FleetError:
    return FleetError(Code.KEY_UNAVAILABLE, message)
