"""Secret random keys that a node makes for itself: of its compiled-code cache, and for the secrets sealed for it.

Owns: `Vault` and the one that keeps keys in files of the node's user. `edge_agent.tpm` has one whose files only the
node's own security chip can open. Keys are 32 bytes, made on first use and durable before they are used.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from typing import TYPE_CHECKING, Protocol

from edge_agent.disk import LocalDisk, replace_file

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32

CACHE = "cache"
"""Name of the key that authenticates compiled code."""

SEALING = "sealing"
"""Name of the X25519 key that secrets are sealed for."""

WITNESS = "witness"
"""Name of the seed of the Ed25519 key that cosigns checkpoints, where a chip keeps the node's keys."""

_log = logging.getLogger(__name__)


class Vault(Protocol):
    """Keeps keys over restarts."""

    def key(self, name: str) -> bytes:
        """Return the key of a name; made on first use.

        Raises:
            FleetError: KEY_UNAVAILABLE when there is one that cannot be used now; STORAGE_FULL.
        """
        ...


class FileVault:
    """Keys in files that their owner alone can read.

    Args:
        folder: `keys/` of the data directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, name: str) -> bytes:
        """Return the key of a name (see `Vault.key`)."""
        return load_key(self._folder / f"{name}.key")


def load_key(path: Path) -> bytes:
    """Return the key in a file; made on first use, mode 0600.

    A file that others could have read or written, or that is no key, is replaced: a new key costs less than one that
    somebody knows. What the old one protected is then made again.

    Raises:
        FleetError: STORAGE_FULL.
    """
    key = _read_private(path)
    if key is None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = secrets.token_bytes(KEY_BYTES)
        path.unlink(missing_ok=True)
        replace_file(LocalDisk(), path, key)
    return key


def open_private(path: Path) -> int | None:
    """Open a file for reading that belongs to this user alone; None when there is none, or it is another's.

    A link is not followed; a file that others may write, or own, is not this user's.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
        return file
    os.close(file)
    return None


def _read_private(path: Path) -> bytes | None:
    file = open_private(path)
    if file is None:
        if os.path.lexists(path):
            _log.error("%s is not this user's alone; it is replaced", path)
        return None
    with os.fdopen(file, "rb") as opened:
        key = opened.read(KEY_BYTES + 1)
    return key if len(key) == KEY_BYTES else None
