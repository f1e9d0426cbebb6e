"""A repository that verifies, and what changes it the way a thief or a careless person would."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from fleet.errors import Code, FleetError
from fleet.targets import bundle_path, grant_path
from fleet.trust import (
    Release,
    open_release,
)
from tests.fakes.publisher import NOW, Publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.signing import SigningKey

BUNDLE = bundle_path("context-agent", "1.0.0")
GRANT = grant_path("climate/context", 1)


@pytest.fixture
def repository() -> Publisher:
    publisher = Publisher()
    publisher.add(BUNDLE, b"index", {"imports": 3})
    publisher.add(GRANT, b"grant")
    publisher.publish()
    return publisher


def opened(publisher: Publisher, **changes: object) -> Release:
    arguments = {"root": publisher.root, "now": NOW, "allow_dev": True, **changes}
    files = arguments.pop("files", publisher.files)
    return open_release(files, **arguments)


def refused(code: Code, publisher: Publisher, **changes: object) -> FleetError:
    with pytest.raises(FleetError) as caught:
        opened(publisher, **changes)
    assert caught.value.code is code
    return caught.value


def signed_by(*keys: SigningKey) -> list[CryptoSigner]:
    return [CryptoSigner(item.private, SSlibKey.from_crypto(item.private.public_key())) for item in keys]


def edit(
    publisher: Publisher, name: str, change: Callable[[Root | Targets | Snapshot | Timestamp], None], *keys: SigningKey
) -> None:
    """Change the signed part of one file and sign it again, by default with the role's own keys."""
    document = Metadata.from_bytes(publisher.files[name])
    change(document.signed)
    document.signatures.clear()
    role = name.removesuffix(".json").rpartition(".")[2]
    for signer in signed_by(*(keys or publisher.keys.of(role))):
        document.sign(signer, append=True)
    publisher.files[name] = document.to_bytes(JSONSerializer(compact=True))


def edit_targets(publisher: Publisher, change: Callable[[Targets], None]) -> None:
    """Change the top-level targets and publish the result, all with the right keys."""
    edit(publisher, "1.targets.json" if "1.targets.json" in publisher.files else "2.targets.json", change)
    publisher.publish()


def expire(signed: Root | Targets | Snapshot | Timestamp) -> None:
    signed.expires = NOW - timedelta(seconds=1)


def snapshot_of(publisher: Publisher) -> str:
    return next(name for name in publisher.files if name.endswith(".snapshot.json"))


def renamed(publisher: Publisher, change: Callable[[Snapshot], None], *keys: SigningKey) -> None:
    """Change the snapshot and let the timestamp follow, as a thief of the timestamp key would."""
    name = snapshot_of(publisher)
    edit(publisher, name, change, *keys)
    data = publisher.files[name]
    meta = MetaFile.from_data(int(name.partition(".")[0]), data, ["sha256"])
    edit(publisher, "timestamp.json", lambda timestamp: setattr(timestamp, "snapshot_meta", meta))


def targets_of(publisher: Publisher) -> str:
    return next(name for name in publisher.files if name.endswith(".targets.json"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
INTACT = Publisher()
INTACT_DOCUMENTS = opened(INTACT).documents
