"""When a certificate is to be renewed before its time: the fleet's node authorities are others than it came with.

Owns that comparison. The release says which authorities there are, the enrolment port hands out what a node believes
(`keys/ca.pem`): a node renews once for each change, so that it comes under a new authority within minutes, and forgets
one that was withdrawn. A release that lists none of those that the node knows is not about its coordinator, and changes
nothing here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.x509 import fingerprints

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.identity import IdentityStore


class Reissue:
    """Notices changes of the node authorities.

    Args:
        store: knows what the certificate came with.
        listed: returns the authorities that the adopted release lists, PEM; empty before the first release.
    """

    def __init__(self, store: IdentityStore, listed: Callable[[], bytes]) -> None:
        self._store = store
        self._listed = listed
        self._compared: frozenset[str] = frozenset()
        self.wanted = asyncio.Event()
        """Set when a certificate should be renewed soon; whoever renews clears it."""

    def compare(self) -> None:
        """Look at a release that was adopted."""
        pem, tls = self._listed(), self._store.tls()
        listed = fingerprints(pem) if pem else frozenset()
        if listed == self._compared or tls is None:
            return
        self._compared = listed
        known = fingerprints(tls.ca_certificates)
        if listed != known and not listed.isdisjoint(known):
            self.wanted.set()
