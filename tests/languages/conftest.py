from __future__ import annotations

import pytest

from edge_agent.runner.host import RunnerPaths
from tests.edge_agent.runner.conftest import host, zygotes  # noqa: F401 - fixtures
from tests.system.conftest import fleet  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Compiled code is shared by the tests: CPython takes half a minute."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def paths(compiled, tmp_path):
    return RunnerPaths(tmp_path / "run/zygote.sock", compiled / "cache", compiled / "cache.key")
