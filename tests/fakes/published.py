"""A release repository, and the leaves that a coordinator writes of what is published."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from fleet.leaves import PUBLISHED, EventLeaf, event_leaf, read_leaf
from fleet.oci import digest_of
from fleet.publications import METADATA, Publications
from fleet.signing import encode_base64
from fleet.targets import grant_path
from fleet.trust import open_release
from tests.fakes.publisher import NOW, Publisher

GRANT = grant_path("app/one", 1)
DOCUMENT = b"a grant that nobody reads here"


@dataclass
class Repository:
    """A publisher, and the leaves that a coordinator writes of what it publishes."""

    publisher: Publisher = field(default_factory=Publisher)
    blobs: dict[str, bytes] = field(default_factory=dict)
    known: dict[str, object] = field(default_factory=dict)

    def keep(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def publish(self, at: datetime = NOW, **changed: object) -> EventLeaf:
        """Publish what the publisher has; `changed` replaces facts of the leaf, or removes them."""
        release = open_release(self.publisher.files, root=self.publisher.root, now=NOW, allow_dev=True)
        added = {path: target for path, target in release.documents.items() if self.known.get(path) != target}
        grant = release.documents.get(GRANT)
        shown = {}
        if grant is not None and GRANT in added:
            document = encode_base64(DOCUMENT)
            shown[GRANT] = {"digest": grant.digest, "approvers": list(grant.approvers), "document": document}
        facts: dict[str, object] = {
            "added": {path: target.digest for path, target in added.items()},
            "removed": sorted(self.known.keys() - release.documents.keys()),
            "grants": shown,
            METADATA: {name: self.keep(data) for name, data in release.files.items()},
        }
        self.keep(self.publisher.document)
        self.known = dict(release.documents)
        facts |= changed
        leaf = read_leaf(event_leaf(PUBLISHED, at, "user/ann", **{k: v for k, v in facts.items() if v is not None}))
        assert isinstance(leaf, EventLeaf)
        return leaf

    def approve(self) -> None:
        self.publisher.add(GRANT, DOCUMENT)
        self.publisher.publish()

    def verifier(self) -> Publications:
        return Publications("demo", self.publisher.root, self.blobs.get)
