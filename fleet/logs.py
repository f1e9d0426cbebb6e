"""Which audit log a fleet believes: the keys of the present one, and the logs that it continues.

Owns: `ClosedLog`, the statement of the targets role that a log ended, and how far it goes on in the one after it. A log
ends so when its coordinator came back from a backup, and leaves that others had seen are lost: its name is never used
again, for whoever saw the longer one could not tell that from an attack. Never verifies
a note: `fleet.checkpoint` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.checkpoint import parse_vkey
from fleet.documents import Reader
from fleet.errors import Code, FleetError
from fleet.merkle import HASH_BYTES, MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.documents import Value

MAX_LOG_KEYS = 4
"""Keys of one log that count at once: the one in use and its successors."""

MAX_CLOSED_LOGS = 16
"""Logs that ended: what happens once in years at most."""


@dataclass(frozen=True, slots=True)
class ClosedLog:
    """A log that ended: the next one begins with its first `size` leaves, which have this root.

    Attributes:
        vkeys: its verifier keys, all under its one name.
        size: how many of its leaves go on; leaves beyond are lost.
        root: root hash of them.
    """

    vkeys: tuple[str, ...]
    size: int
    root: bytes

    @property
    def origin(self) -> str:
        """Its name."""
        return origin_of(self.vkeys)


def origin_of(vkeys: Sequence[str]) -> str:
    """Return the name of the log that has these verifier keys."""
    return parse_vkey(vkeys[0]).name


def keys_of(origin: str, vkeys: tuple[str, ...], closed: Sequence[ClosedLog]) -> tuple[str, ...]:
    """Return the keys of the closed log of this name; those of the present one where none of them has it."""
    return next((log.vkeys for log in closed if log.origin == origin), vkeys)


def check_logs(vkeys: Sequence[str], closed: Sequence[ClosedLog]) -> None:
    """Check what a fleet says of its logs.

    Checks, in this order:
        1. The present log has at least one key, every key once, all well-formed and under one name.
        2. So has each closed log.
        3. No two logs have one name.

    Raises:
        FleetError: TRUST_INVALID; PROOF_INVALID for a malformed key.
    """
    names = [_name(keys) for keys in (vkeys, *(log.vkeys for log in closed))]  # 1, 2
    if len(set(names)) != len(names):  # 3
        raise _invalid("two logs have one name")


def next_origin(fleet: str, closed: Sequence[ClosedLog]) -> str:
    """Return the name of a fleet's log after so many have ended: `FLEET/audit`, `FLEET/audit/2`, and so on."""
    return f"{fleet}/audit" if not closed else f"{fleet}/audit/{len(closed) + 1}"


def encode_closed(log: ClosedLog) -> dict[str, object]:
    """Write a closed log as it stands in `trust/fleet.json`."""
    return {"vkeys": list(log.vkeys), "size": log.size, "root": log.root.hex()}


def decode_closed(item: Value, place: str) -> ClosedLog:
    """Read what `encode_closed` wrote; `check_logs` checks the keys.

    Raises:
        FleetError: TRUST_INVALID with the place.
    """
    with Reader(item, Code.TRUST_INVALID, place) as entry:
        vkeys = entry.texts("vkeys", MAX_LOG_KEYS)
        size = entry.integer("size", 0, MAX_SIZE)
        return ClosedLog(vkeys, size, bytes.fromhex(entry.matching("root", _is_root)))


def _is_root(text: str) -> bool:
    return len(text) == 2 * HASH_BYTES and set(text) <= set("0123456789abcdef")


def _name(vkeys: Sequence[str]) -> str:
    names = {parse_vkey(vkey).name for vkey in vkeys}
    if len(names) != 1 or len(set(vkeys)) != len(vkeys):
        raise _invalid("a log has different keys, at least one, under one name")
    return names.pop()


def _invalid(message: str) -> FleetError:
    return FleetError(Code.TRUST_INVALID, message)
