"""Which blobs a node may fetch: those of its own orders, and what every node obeys: the fleet's keys and policies.

Owns: the answer, remembered per order, since an order never changes. The order before the newest one counts too: the
node runs it until it has adopted the newest, and may have to mend it. A blob that is not the node's business is missing
like one that is not stored, so that nobody learns what else the coordinator holds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.bundle import open_bundle
from fleet.errors import Code, FleetError
from fleet.targets import TRUST_PATH
from orchestrator.director import agents_of
from orchestrator.store import nodes as rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.blobs import Blobs
    from orchestrator.releases import Releases
    from orchestrator.store.database import Store

MAX_BUNDLES = 1_024
"""Bundles whose list of blobs is remembered."""

_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Order:
    """What one order lets its node fetch."""

    digest: str
    blobs: frozenset[str]
    before: frozenset[str]


class Fetching:
    """Answers for every node; safe for several threads."""

    def __init__(self, *, store: Store, blobs: Blobs, releases: Releases) -> None:
        self._store = store
        self._blobs = blobs
        self._releases = releases
        self._lock = threading.Lock()
        self._orders: dict[str, _Order] = {}
        self._bundles: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._trust: tuple[Mapping[str, bytes], frozenset[str]] = ({}, _NOTHING)

    def size(self, node: str, digest: str) -> int:
        """Return the bytes of a blob that a node may fetch.

        Raises:
            FleetError: BLOB_MISSING, whether it is not stored or not for this node.
        """
        if digest in self._ordered(node) or digest in self._trust_documents():
            return self._blobs.size(digest)
        raise FleetError(Code.BLOB_MISSING, f"no blob for {node}", digest=digest)

    def _ordered(self, node: str) -> frozenset[str]:
        with self._store.control.read() as connection:
            desired = rows.get_desired(connection, node)
        if desired is None:
            return _NOTHING
        with self._lock:
            known = self._orders.get(node)
        if known is None or known.digest != desired.digest:
            needed: set[str] = set()
            whole = True
            for agent in (part for whole in agents_of(desired) for part in whole.parts):
                parts = self._parts(agent.bundle.digest)
                whole = whole and parts is not None
                needed |= {agent.bundle.digest, agent.grant.digest} | (parts or _NOTHING)
            known = _Order(desired.digest, frozenset(needed), _NOTHING if known is None else known.blobs)
            if whole:
                with self._lock:
                    self._orders[node] = known
        return known.blobs | known.before

    def _parts(self, bundle: str) -> frozenset[str] | None:
        """Return the blobs below a bundle's index; None when it cannot be read here, for example until a new push."""
        with self._lock:
            if bundle in self._bundles:
                self._bundles.move_to_end(bundle)
                return self._bundles[bundle]
        try:
            opened = open_bundle(self._blobs.read_all(bundle), self._blobs.read)
        except FleetError:
            return None
        parts = frozenset(blob.digest for blob in opened.blobs)
        with self._lock:
            self._bundles[bundle] = parts
            while len(self._bundles) > MAX_BUNDLES:
                self._bundles.popitem(last=False)
        return parts

    def _trust_documents(self) -> frozenset[str]:
        """Return what every node keeps of a release: `trust/fleet.json`, and everything below `policy/`."""
        files = self._releases.files()
        if not files:
            return _NOTHING
        with self._lock:
            seen, digests = self._trust
        if files != seen:
            release = self._releases.adopted()
            kept = (release.target(TRUST_PATH), *release.targets("policy/"))
            digests = frozenset(target.digest for target in kept)
            with self._lock:
                self._trust = (files, digests)
        return digests
