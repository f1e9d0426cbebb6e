"""An operator's machine as `fleetctl init` leaves it, with its coordinator serving on a thread."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from orchestrator.cli.main import main
from orchestrator.cli.trust import TrustDirectory
from orchestrator.config import load_settings
from orchestrator.server import start
from tests.fakes.fleet_fixture import ShiftedClock

if TYPE_CHECKING:
    import pytest

    from orchestrator.server import Coordinator


START_S = 120.0
"""Bound for starting and stopping, on a machine that is busy with other tests."""


@dataclass
class ServedHome:
    """Enter it to serve. `FLEET_HOME` and `FLEET_ADDRESS` are set for the test.

    Attributes:
        home: the operator's directory; made by `fleetctl init`.
        coordinator: while it serves.
    """

    home: Path
    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    clock: ShiftedClock = field(default_factory=ShiftedClock)

    def __post_init__(self) -> None:
        self.monkeypatch.setenv("FLEET_HOME", str(self.home))
        self.ctl("init", "--fleet", "demo")
        self.directory = TrustDirectory(self.home / "trust")
        self._stop: asyncio.Event
        self.coordinator: Coordinator

    async def _serve(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        free = {"listen_session": "127.0.0.1:0", "listen_enrolment": "127.0.0.1:0"}
        try:
            settings = load_settings(self.home / "coordinator" / "coordinator.toml", {}, free)
            self.coordinator = await start(settings, self.clock)
        except BaseException as fault:
            self._fault = fault
            raise
        finally:
            self._started.set()
        await self._stop.wait()
        await self.coordinator.stop()

    def restart(self, *, empty: bool = False) -> None:
        """Stop the coordinator, and start it on the files as they are now; an empty one has nothing but its keys."""
        self.__exit__()
        for path in (self.home / "coordinator").iterdir() if empty else ():
            if path.is_dir() and path.name not in {"keys", "tls", "trust"}:
                shutil.rmtree(path)
            elif path.is_file() and path.suffix != ".toml":
                path.unlink()
        self._start()

    def _start(self) -> None:
        self._started = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(START_S)
        assert self._fault is None, self._fault
        self.monkeypatch.setenv("FLEET_ADDRESS", str(self.coordinator.session))

    def __enter__(self) -> Self:
        self._start()
        documents = [file.read_bytes() for file in (self.directory.path / "documents").rglob("*") if file.is_file()]
        self.coordinator.services.releases.publish(self.directory.files(), documents, "admin")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)

    def ctl(self, *arguments: str, expect: int = 0) -> str:
        """Run fleetctl; returns stdout and stderr."""
        self.capture.readouterr()
        code = main(list(arguments))
        out, err = self.capture.readouterr()
        assert code == expect, out + err
        return out + err

    def ask(self, *arguments: str) -> Any:
        """Run fleetctl for its JSON."""
        self.capture.readouterr()
        code = main(["-o", "json", *arguments])
        out, err = self.capture.readouterr()
        assert code == 0, out + err
        return json.loads(out)

    def another(self, name: str) -> Path:
        """Return the trust directory of a second machine: its release and documents, and none of its keys."""
        other = TrustDirectory(self.home.parent / name)
        other.write("root.json", self.directory.root)
        other.save(self.directory.files())
        for file in (self.directory.path / "documents").rglob("*"):
            if file.is_file():
                other.write(f"documents/{file.relative_to(self.directory.path / 'documents')}", file.read_bytes())
        return other.path
