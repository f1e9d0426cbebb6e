"""Runs the verifiers of others: pinned, kept where fleetctl keeps its tools, never skipped when missing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from orchestrator.building.tools import INSTALL_NODE, Tools, cache_directory, program

HERE = Path(__file__).parent
TIMEOUT_S = 120
INSTALL_GO = "Install Go 1.21 or newer (it fetches the toolchain that go.mod names): https://go.dev/doc/install."


def tools() -> Tools:
    """Where tools are kept and how one is started; progress goes to standard error."""
    return Tools(lambda text: sys.stderr.write(f"{text}\n"))


def go_checker() -> Path:
    """The program of `go/`, built with the modules that its go.sum pins."""
    sources = sorted((HERE / "go").glob("*.*"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    built = cache_directory() / f"interop-go-{digest}"
    if not built.exists():
        unfinished = built.with_name(f"unfinished-{os.getpid()}-{built.name}")
        go = program("go", INSTALL_GO)
        tools().run([go, "build", "-trimpath", "-mod=readonly", "-o", unfinished, "."], HERE / "go")
        unfinished.rename(built)
    return built


def run_go(document: Mapping[str, object]) -> tuple[bool, str]:
    """Whether Go accepts a log's statements, and what it says."""
    done = subprocess.run(
        [go_checker()], input=json.dumps(document), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0, done.stdout.strip()


def run_javascript(*arguments: str | Path) -> dict[str, Any]:
    """What `javascript/check.mjs` prints."""
    folder = HERE / "javascript"
    modules = tools().node(folder / "package-lock.json").parent
    done = subprocess.run(
        [program("node", INSTALL_NODE), folder / "check.mjs", *arguments],
        env={**os.environ, "FLEET_MODULES": str(modules.parent)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert ("refused" in result) == bool(done.returncode), done.stdout
    return result


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_repository(folder: Path, files: Mapping[str, bytes], documents: Mapping[str, bytes]) -> None:
    """Lay a release out as TUF clients fetch it: targets under their hash (TUF specification 1.0, section 6.2)."""
    for name, data in files.items():
        _write(folder / "metadata" / name, data)
    for path, data in documents.items():
        parent, _, name = path.rpartition("/")
        _write(folder / "targets" / parent / f"{hashlib.sha256(data).hexdigest()}.{name}", data)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
