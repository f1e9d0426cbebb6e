"""Exactly the bytes that were checked are used: who changes a file in between gains nothing but a refusal.

That the compile worker and the inference session hash the very buffer they use is proven beside them
(`runner/test_host.py`, `runner/test_agent_links.py`, `capabilities/test_nn.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.admission import AdmittedAgent
from edge_agent.blobs import Blobs
from edge_agent.disk import LocalDisk
from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from orchestrator import blobs as coordinator
from tests.edge_agent.admission.conftest import Case, Make, make  # noqa: F401 - a fixture
from tests.edge_agent.test_adoption import NodeUnderTest
from tests.fakes.fleet import bundle, component, grant
from tests.fakes.refusals import code_of, refusal

LOGGING = "wasi:logging/logging@0.1.0-draft"
KEYVALUE = "wasi:keyvalue/store@0.2.0-draft2"


@dataclass
class SwappingDisk(LocalDisk):
    """Somebody replaces one file right before it is read for the `at`-th time."""

    path: Path
    data: bytes
    at: int
    reads: int = 0

    def read(self, path: Path, offset: int, length: int) -> bytes:
        if path == self.path:
            self.reads += 1
            if self.reads == self.at:
                path.write_bytes(self.data)
        return super().read(path, offset, length)


class SwappedCase(Case):
    disk: LocalDisk

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.disk, self.folder / "blobs", 10**6)


async def outcome(case: Case) -> AdmittedAgent | Code:
    try:
        return await case.admit()
    except FleetError as error:
        return error.code


@pytest.mark.parametrize("longer", [False, True])
async def test_a_component_that_is_swapped_during_admission_is_never_judged_by_other_bytes(
    make: Make,  # noqa: F811 - pytest passes the fixture
    longer: bool,
    tmp_path: Path,
) -> None:
    """The honest component is granted nothing. Whatever the moment, it is refused, never half believed."""
    honest, greedy = component(LOGGING), component(KEYVALUE) + bytes(10 * longer)
    seen: set[Code] = set()
    at = 1
    while True:
        plain = make(LOGGING, caps="{'wasi:logging/logging': []}")
        case = SwappedCase(plain.folder, plain.world, plain.spec)
        file = tmp_path / "blobs" / "sha256" / digest_of(honest).removeprefix("sha256:")
        case.disk = SwappingDisk(file, greedy, at)
        found = await outcome(case)
        if isinstance(found, AdmittedAgent):
            assert case.disk.reads < at  # it was not swapped at all
            break
        seen.add(found)
        at += 1
    assert at > 2  # it is read more than once, and checked each time
    assert seen <= {Code.BLOB_CORRUPT, Code.BLOB_MISSING}


@pytest.mark.parametrize("changed", [b"othr", b"other bytes", b""])
def test_a_stored_blob_of_the_coordinator_is_hashed_as_it_is_returned(tmp_path: Path, changed: bytes) -> None:
    stored = coordinator.Blobs(tmp_path)
    digest = stored.put(b"some")
    next(path for path in tmp_path.rglob("*") if path.is_file()).write_bytes(changed)
    assert code_of(stored.read, digest, 4) in {Code.BLOB_CORRUPT, Code.DIGEST_MISMATCH}
    assert refusal(lambda: stored.read(digest_of(b"never"), 4)) is not None


async def test_a_model_of_two_bundles_is_fetched_and_stored_once(tmp_path: Path) -> None:
    node = NodeUnderTest(tmp_path)
    weights = b"weights that both agents use"
    specs = [
        node.world.release(
            bundle(name, "1.0.0", models={"scorer": weights}), name, grant(f"app/{name}", name), f"app/{name}"
        )
        for name in ("one", "two")
    ]
    assert await node.accept(node.world.assign(*specs)) is None
    assert node.world.fetched.count(digest_of(weights)) == 1
    assert len({spec.bundle.digest for spec in specs}) == 2
    files = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file() and path.read_bytes() == weights]
    assert len(files) == 1
