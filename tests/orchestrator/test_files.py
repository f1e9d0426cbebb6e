"""Files are read whole, once, and never beyond their limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import disk
from fleet.errors import Code
from orchestrator import files
from tests.fakes.refusals import code_of


@pytest.mark.parametrize("module", [files, disk])
def test_a_file_is_read_up_to_its_limit(module: object, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    for read in (module.read_bounded, module.read_named):
        assert read(file, 10) == b"0123456789"
        assert code_of(read, file, 9) is Code.LIMIT_EXCEEDED
    # A file whose size says nothing: what its kind promises is not asked for.
    assert code_of(module.read_bounded, Path("/dev/zero"), 1000) is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize("module", [files, disk])
def test_what_cannot_be_read_is_the_readers_to_explain(module: object, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        module.read_bounded(tmp_path, 1)
    with pytest.raises(FileNotFoundError):
        module.read_bounded(tmp_path / "missing", 1)
    assert code_of(module.read_named, tmp_path / "missing", 1) is Code.CONFIG_INVALID
