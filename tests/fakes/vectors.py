"""Test vectors of others, which this project does not carry.

`FLEET_TEST_VECTORS` names a folder with `merkle/inclusion` and `merkle/consistency` (transparency-dev/merkle, testdata)
and `ed25519_test.json` (C2SP/wycheproof, testvectors_v1). The tests that use them add to tests of our own for the same
code; they are skipped where the folder is not given.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def outside_vectors(name: str) -> Path:
    """Path of a vector file or folder, or skip the test with what it takes."""
    folder = os.environ.get("FLEET_TEST_VECTORS", "")
    path = Path(folder) / name
    if not folder or not path.exists():
        pytest.skip(f"FLEET_TEST_VECTORS names no folder with {name}: see tests/fakes/vectors.py")
    return path
