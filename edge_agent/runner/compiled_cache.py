"""Machine code of components, compiled on this node, kept under a message authentication code.

Owns: the files of the cache. Machine code is never accepted from the network, and the engine runs whatever it is
handed, so a file counts only if this node wrote it: HMAC-SHA-256 (RFC 2104) under a key of this node
(`edge_agent.vault`), which a security chip may keep. Never compiles and never imports the engine.

An entry is named by the hash of (component digest, engine), where `engine` stands for version, configuration and
processor: another one simply finds nothing. A file is a magic, the code, and then the machine code. Its bytes are
copied into a sealed memory file first and verified there: what was verified is what the runner maps, whatever happens
to the file meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import shutil
from typing import TYPE_CHECKING, BinaryIO

from edge_agent.runner import memory_file
from edge_agent.vault import open_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_MODULE_BYTES = 512 << 20
"""Machine code of one component; about twice the component's size is common."""

MAX_CACHE_BYTES = 2 << 30
"""All files together; the least recently used ones make room."""

_MAGIC = b"fleet compiled 1"
_MAC_SIZE = hashlib.sha256().digest_size
_HEADER = len(_MAGIC) + _MAC_SIZE
_CHUNK = 1 << 20

_log = logging.getLogger(__name__)


def _tell_nobody(_: str) -> None:
    """Tell nobody of a refused entry: for caches outside a node."""


class CompiledCache:
    """Finds and stores machine code.

    Args:
        directory: the cache's own directory; made when missing, mode 0700.
        key: authentication key.
        engine: fingerprint of version, configuration and processor (`Engine.fingerprint`).
        max_bytes: limit of all files together.
        refused: told the digest of a component whose entry did not verify; from any thread.
    """

    def __init__(
        self,
        directory: Path,
        key: bytes,
        *,
        engine: str,
        max_bytes: int = MAX_CACHE_BYTES,
        refused: Callable[[str], None] = _tell_nobody,
    ) -> None:
        self._refused = refused
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._key = key
        self._engine = engine
        self._max_bytes = max_bytes

    def path(self, digest: str) -> Path:
        """File of a component's machine code, whether it exists or not."""
        return self._directory / f"{hashlib.sha256(self._identity(digest)).hexdigest()}.compiled"

    def find(self, digest: str) -> int | None:
        """Return the descriptor of a sealed memory file with the machine code of a component, or None.

        Checks, in this order:
            1. The file is a regular one of this user alone, and no link.
            2. It has a header, and no more code than `MAX_MODULE_BYTES`.
            3. The code, copied where nobody can change it any more, is what this node stored under its key for this
               component and this engine.

        A file that fails is removed, logged and told: the caller compiles again.
        """
        path = self.path(digest)
        descriptor = open_private(path)  # 1
        if descriptor is not None:
            with os.fdopen(descriptor, "rb") as file:
                header = file.read(_HEADER)
                module = _sealed_copy(file)
                size = os.fstat(module).st_size  # 2
                if 0 < size <= MAX_MODULE_BYTES and hmac.compare_digest(header, self._header(digest, module)):  # 3
                    os.utime(file.fileno())
                    return module
            os.close(module)
        elif not os.path.lexists(path):
            return None
        self._refused(digest)
        _log.error("compiled code of %s does not verify; it is compiled again", digest, extra={"path": str(path)})
        _remove(path)
        return None

    def store(self, digest: str, module: int) -> None:
        """Keep the machine code in the sealed memory file `module`.

        Raises:
            OSError: the disk is full or failed; the cache is as it was.
        """
        path = self.path(digest)
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)  # whatever it is, nothing is written through it
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self._header(digest, module))
                with memory_file.view(module) as contents:
                    file.write(contents)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._make_room(path)

    def _identity(self, digest: str) -> bytes:
        return b"\0".join(text.encode() for text in (digest, self._engine))

    def _header(self, digest: str, module: int) -> bytes:
        identity = self._identity(digest)
        mac = hmac.new(self._key, _MAGIC + len(identity).to_bytes(4, "big") + identity, hashlib.sha256)
        with memory_file.view(module) as contents:
            mac.update(contents)
        return _MAGIC + mac.digest()

    def _make_room(self, newest: Path) -> None:
        files = sorted(
            (status.st_mtime_ns, status.st_size, path)
            for path in self._directory.iterdir()
            for status in [path.lstat()]
        )
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._max_bytes:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sealed_copy(file: BinaryIO) -> int:
    module = memory_file.create("compiled")
    try:
        size = 0
        while size <= MAX_MODULE_BYTES and (part := file.read(_CHUNK)):
            size += len(part)
            memory_file.write(module, part)
        memory_file.seal(module)
    except OSError:
        os.close(module)
        raise
    return module
