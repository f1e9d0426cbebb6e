"""The secrets that operators have sealed for this node, on disk as they came.

Owns one file: the envelopes that the coordinator forwarded, and the newest version that each secret has ever had here.
Values are decrypted for a moment only: to see that they open when they arrive, and when an agent starts whose
effective authority names them. Nobody is believed but the keys for secrets that the adopted release lists; those are
asked again at every use, so that what a key signed goes out of use with the key.

The whole set comes with every session and replaces the one before. It survives a power cut: accepted means durable.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edge_agent.disk import replace_file
from edge_agent.held_secret import HeldSecret
from edge_agent.vault import SEALING
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.sealing import MAX_SEALED, MAX_VERSION, SealingKeyStatement, open_sealed, public_of, unseal
from fleet.signing import decode_base64, encode_base64

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from edge_agent.disk import Disk
    from edge_agent.identity import Identity
    from edge_agent.runtime import AgentStart
    from edge_agent.vault import Vault
    from fleet.grants import Authority
    from fleet.sealing import Sealed
    from fleet.signing import PublicKey

SCHEMA: Final = "fleet.secrets/v1"
STORE: Final = "fleet:secrets/store"
"""Interface whose rules say which secrets an agent may hold at all."""

MAX_SECRETS = 64
"""Secrets of one node."""

MAX_KNOWN = 1_024
"""Secrets whose newest version is remembered, removed ones included."""

MAX_FILE = 6 << 20
FILE = "sealed.json"
CORRUPT = "sealed.corrupt"

Name = tuple[str, str]
"""Agent and name of a secret."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """An envelope that was not taken."""

    error: FleetError


@dataclass(frozen=True, slots=True)
class _Kept:
    envelopes: Mapping[Name, bytes] = field(default_factory=dict)
    newest: Mapping[Name, int] = field(default_factory=dict)


class SecretStore:
    """Keeps sealed secrets. Call `load` once before anything else.

    Args:
        disk: the file operations.
        folder: `secrets/` of the data directory.
        identity: who the node is.
        vault: keeps the key that secrets are sealed for.
        keys: the keys for secrets of the adopted release; none before there is one.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        identity: Identity,
        vault: Vault,
        keys: Callable[[], Collection[PublicKey]],
    ) -> None:
        self._disk = disk
        self._path = folder / FILE
        self._identity = identity
        self._vault = vault
        self._keys = keys
        self._kept = _Kept()

    def load(self) -> None:
        """Read what was accepted before, in this enrolment.

        Raises:
            FleetError: STATE_CORRUPT when the file cannot be read back. It is moved aside then; the coordinator sends
                the secrets again.
        """
        if self._disk.size(self._path) is None:
            return
        try:
            self._kept = self._decode(self._disk.read(self._path, 0, MAX_FILE + 1))
        except FleetError as error:
            self._disk.rename(self._path, self._path.with_name(CORRUPT))
            self._disk.sync(self._path.parent)
            raise FleetError(Code.STATE_CORRUPT, "the sealed secrets cannot be read", place=CORRUPT) from error

    def statement(self) -> SealingKeyStatement:
        """What the node says about its key, for its bound key to sign.

        Raises:
            FleetError: KEY_UNAVAILABLE.
        """
        who = self._identity
        return SealingKeyStatement(who.fleet, who.node, who.epoch, public_of(self._vault.key(SEALING)))

    def receive(self, envelopes: Sequence[bytes]) -> tuple[bool, tuple[Refused, ...]]:
        """Take the whole set in, durably; tells whether anything is different now, and what was refused.

        Checks of each, in this order:
            1. There are at most `MAX_SECRETS`, or nothing is taken.
            2. A key for secrets of the adopted release signed it for this node (`fleet.sealing.open_sealed`).
            3. It is no older than what this node has had under its name in this enrolment.
            4. It opens with the node's key.

        One that is refused leaves in place what the node has under the name.

        Raises:
            FleetError: LIMIT_EXCEEDED for 1; KEY_UNAVAILABLE; STORAGE_FULL. Nothing has changed then.
        """
        if len(envelopes) > MAX_SECRETS:  # 1
            raise FleetError(Code.LIMIT_EXCEEDED, f"{len(envelopes)} secrets for one node", limit=MAX_SECRETS)
        kept: dict[Name, bytes] = {}
        newest = dict(self._kept.newest)
        refused: list[Refused] = []
        for envelope in envelopes:
            try:
                sealed = self._open(envelope)  # 2
                name = sealed.label.agent, sealed.label.name
                try:
                    self._take(sealed, newest)  # 3, 4
                    kept[name] = envelope
                except FleetError:
                    if name in self._kept.envelopes:
                        kept.setdefault(name, self._kept.envelopes[name])
                    raise
            except FleetError as error:
                if error.code is Code.KEY_UNAVAILABLE:
                    raise
                refused.append(Refused(error))
        after = _Kept(kept, newest)
        if after == self._kept:
            return False, tuple(refused)
        replace_file(self._disk, self._path, self._encode(after))
        self._kept = after
        return True, tuple(refused)

    def versions(self, agent: str, authority: Authority) -> dict[str, int]:
        """Return the secrets that an agent may hold and the node has, and their versions."""
        return {
            name: sealed.label.version for name, sealed in self._of(agent).items() if authority.allows(STORE, name=name)
        }

    def unseal(self, start: AgentStart) -> Mapping[str, HeldSecret]:
        """Decrypt what an agent starts with; whoever gets the values overwrites them.

        What is not there any more, or does not open any more, is left out: the guest is told that there is none.

        Raises:
            FleetError: KEY_UNAVAILABLE.
        """
        if not start.secrets:
            return {}
        private, found = self._vault.key(SEALING), dict[str, HeldSecret]()
        for name, source in start.secrets.items():
            sealed = self._of(source.partition("#")[0]).get(name)
            try:
                if sealed is not None:
                    value = unseal(sealed, private)
                    found[name] = HeldSecret(value.kind, bytearray(value.data))
            except FleetError as error:
                _log.error("secret %s of %s: %s", name, start.name, error)
        return found

    def _of(self, agent: str) -> dict[str, Sealed]:
        """Secrets of an agent whose signer is trusted now, by name."""
        found: dict[str, Sealed] = {}
        for (owner, name), envelope in self._kept.envelopes.items():
            if owner == agent:
                try:
                    found[name] = self._open(envelope)
                except FleetError as error:
                    _log.warning("secret %s of %s is out of use: %s", name, agent, error)
        return found

    def _open(self, envelope: bytes) -> Sealed:
        return open_sealed(envelope, self._keys(), fleet=self._identity.fleet, node=self._identity.node)

    def _take(self, sealed: Sealed, newest: dict[Name, int]) -> None:
        label = sealed.label
        name = label.agent, label.name
        if label.version < newest.get(name, 0):  # 3
            raise FleetError(
                Code.SECRET_INVALID,
                f"version {label.version} of {label.name} is older than {newest[name]}",
                agent=label.agent,
                secret=label.name,
            )
        if name not in newest and len(newest) >= MAX_KNOWN:
            raise FleetError(Code.LIMIT_EXCEEDED, "too many secrets have been known here", limit=MAX_KNOWN)
        unseal(sealed, self._vault.key(SEALING))  # 4
        newest[name] = label.version

    def _encode(self, kept: _Kept) -> bytes:
        return dump_json(
            {
                "schema": SCHEMA,
                "epoch": self._identity.epoch,
                "newest": [
                    {"agent": agent, "name": name, "version": version}
                    for (agent, name), version in sorted(kept.newest.items())
                ],
                "envelopes": [
                    {"agent": agent, "name": name, "envelope": encode_base64(envelope)}
                    for (agent, name), envelope in sorted(kept.envelopes.items())
                ],
            }
        )

    def _decode(self, data: bytes) -> _Kept:
        newest: dict[Name, int] = {}
        envelopes: dict[Name, bytes] = {}
        with Reader(load_json(data, Code.STATE_CORRUPT, FILE, MAX_FILE), Code.STATE_CORRUPT, FILE) as top:
            if top.text("schema") != SCHEMA:
                top.fail("schema", f"expected {SCHEMA}")
            epoch = top.integer("epoch", 0, MAX_VERSION)
            for value, place in top.items("newest", MAX_KNOWN):
                with Reader(value, Code.STATE_CORRUPT, place) as entry:
                    newest[entry.text("agent"), entry.text("name")] = entry.integer("version", 1, MAX_VERSION)
            for value, place in top.items("envelopes", MAX_SECRETS):
                with Reader(value, Code.STATE_CORRUPT, place) as entry:
                    envelopes[entry.text("agent"), entry.text("name")] = _bytes(entry, "envelope")
        # A node that was enrolled again begins anew: whoever did that may have had to.
        return _Kept(envelopes, newest) if epoch == self._identity.epoch else _Kept()


def _bytes(entry: Reader, key: str) -> bytes:
    try:
        data = decode_base64(entry.text(key))
    except ValueError as error:
        raise FleetError(entry.code, str(error), place=entry.at(key)) from error
    if len(data) > MAX_SEALED:
        entry.fail(key, "too large")
    return data
