"""Generate the protobuf stubs under fleet/v1, or check that the committed ones are up to date.

Usage: python protos/generate.py [--check]

The recorded descriptor set protos/fleet.v1.binpb is what the wire-compatibility test compares with: it is written by
`--record` alone, at a release, never by the ordinary run.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = sorted((ROOT / "protos").glob("fleet/v1/*.proto"))
RECORDED = ROOT / "protos" / "fleet.v1.binpb"


def _protoc(*arguments: str) -> None:
    include = str(resources.files("grpc_tools") / "_proto")
    command = ["protoc", f"-I{ROOT / 'protos'}", f"-I{include}", *arguments, *map(str, PROTOS)]
    if protoc.main(command) != 0:
        sys.exit("protoc failed; see the lines above")


def generate(target: Path) -> None:
    """Write the stubs for every .proto file below `target`."""
    typed_grpc = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    _protoc(
        f"--plugin=protoc-gen-mypy_grpc={typed_grpc}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out=quiet:{target}",
    )


def stale() -> list[str]:
    """Names of committed stubs that differ from freshly generated ones, or that nothing generates."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {path.name: path for path in (Path(scratch) / "fleet" / "v1").iterdir()}
        committed = {p.name: p for p in (ROOT / "fleet" / "v1").glob("*_pb2*")}
        return sorted(
            name
            for name in fresh.keys() | committed.keys()
            if name not in fresh
            or name not in committed
            or not filecmp.cmp(fresh[name], committed[name], shallow=False)
        )


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="fail when a committed stub is not up to date")
    mode.add_argument("--record", action="store_true", help="record today's descriptor set as the released one")
    options = parser.parse_args()
    if options.record:
        _protoc(f"--descriptor_set_out={RECORDED}", "--include_imports")
    elif options.check:
        if names := stale():
            sys.stderr.write(f"not up to date: {', '.join(names)}; run `make protos` and commit the result\n")
            return 1
    else:
        generate(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
