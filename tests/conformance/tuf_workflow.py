"""The client workflow without a fleet's rules: any repository that TUF allows, read as a general client reads it.

Verification is `fleet.metadata.Workflow`, the code that a node runs. What a node never does is here: delegations of any
depth and shape, file names without versions, hashes other than SHA-256, and metadata kept role by role as it verifies
(a node adopts a release whole or not at all). For suites of others; a node reaches the workflow through `fleet.trust`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Root, TargetFile, Targets

from fleet.errors import Code, FleetError
from fleet.metadata import MAX_METADATA, Workflow
from fleet.trust import MAX_TARGET
from tests.conformance.fetching import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

PIN = "pinned/root.json"
MAX_ROLES = 32
"""Roles that are looked at for one target (TUF 5.6.7.1)."""


class Files(Mapping[str, bytes]):
    """Metadata under its versioned names: what is kept first, the rest from the repository when it is asked for."""

    def __init__(self, url: str, kept: dict[str, bytes]) -> None:
        self.url = url
        self.versioned = True
        self.reused: set[str] = set()
        self._kept = kept
        self._fetched: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        if name in self._fetched:
            return self._fetched[name]
        changes = name == "timestamp.json" or name.endswith(".root.json")
        if name in self._kept and not changes:
            self.reused.add(name)
            return self._kept[name]
        data = fetch(f"{self.url}/{quote(self._served_as(name), '')}", MAX_METADATA)
        if data is None:
            raise KeyError(name)
        self._fetched[name] = data
        return data

    def __iter__(self) -> Iterator[str]:
        return iter({**self._kept, **self._fetched})

    def __len__(self) -> int:
        return len({**self._kept, **self._fetched})

    def distrust(self) -> None:
        """Ask the repository from now on for what was reused: the copy does not verify as what is wanted."""
        for name in self.reused:
            del self._kept[name]
        self.reused.clear()

    def _served_as(self, name: str) -> str:
        return name if self.versioned or name == "timestamp.json" or name.endswith(".root.json") else _role_of(name)


class GeneralClient:
    """The trusted metadata in a folder, and the repository behind a URL; `refresh` once, then `find`."""

    def __init__(self, folder: Path, url: str, now: datetime) -> None:
        self._folder = folder
        self._adopted = {unquote(path.name): path.read_bytes() for path in (folder / "kept").glob("*.json")}
        self._files = Files(url, dict(self._adopted))
        self._workflow = Workflow(self._files, (folder / PIN).read_bytes(), now)

    def refresh(self) -> None:
        """Go through the client workflow; each role that verifies is kept before the next one is asked for.

        Raises:
            FleetError: as the methods of `Workflow`.
        """
        workflow = self._workflow
        self._step(lambda: workflow.climb_roots(self._adopted, self._files))
        self._files.versioned = workflow.trusted.root.consistent_snapshot is True
        self._step(lambda: workflow.load_timestamp(self._adopted))
        self._step(lambda: workflow.load_snapshot(self._adopted))
        self._step(lambda: workflow.load_role(Targets.type, Root.type))

    def find(self, path: str) -> TargetFile:
        """Look a target up in the roles that may list it, in the order of trust (TUF 5.6.7).

        Raises:
            FleetError: TARGET_UNSIGNED when none lists it; as `Workflow.load_role`.
        """
        waiting, visited = [(Targets.type, Root.type)], set[str]()
        while waiting and len(visited) <= MAX_ROLES:
            role, delegator = waiting.pop()
            if role in visited:
                continue
            visited.add(role)
            self._step(lambda role=role, delegator=delegator: self._workflow.load_role(role, delegator))
            listing = self._workflow.listings[role]
            if path in listing.targets:
                return listing.targets[path]
            children: list[tuple[str, str]] = []
            for child, terminating in listing.delegations.get_roles_for_target(path) if listing.delegations else ():
                children.append((child, role))
                if terminating:
                    waiting = []
                    break
            waiting += reversed(children)
        raise FleetError(Code.TARGET_UNSIGNED, "no role that may list it does", place=path)

    def download(self, path: str, base: str, folder: Path) -> None:
        """Fetch a target, unless it is there as it was signed, and keep it under its quoted name.

        Raises:
            FleetError: as `find`; NOT_FOUND; DIGEST_MISMATCH.
        """
        target, stored = self.find(path), folder / quote(path, "")
        if stored.exists() and _is(target, stored.read_bytes()):
            return
        parent, _, last = path.rpartition("/")
        prefix = f"{next(iter(target.hashes.values()))}." if self._files.versioned else ""
        served = "/".join(part for part in (parent, f"{prefix}{last}") if part)
        data = fetch(f"{base}/{quote(served)}", min(target.length, MAX_TARGET))
        if data is None:
            raise FleetError(Code.NOT_FOUND, "the repository does not have the file", place=path)
        if not _is(target, data):
            raise FleetError(Code.DIGEST_MISMATCH, "not the signed file", place=path)
        stored.write_bytes(data)

    def _step(self, step: Callable[[], object]) -> None:
        """Take one step, a second time without the copies of earlier runs where it fails by one of them."""
        self._files.reused.clear()
        try:
            try:
                step()
            except FleetError:
                if not self._files.reused:
                    raise
                self._files.distrust()
                step()
        finally:
            self._keep()

    def _keep(self) -> None:
        """Write what has verified so far, in place of the earlier version of each role."""
        kept = self._folder / "kept"
        kept.mkdir(exist_ok=True)
        for name, data in self._workflow.used.items():
            role, file = _role_of(name), quote(name, "")
            if role != "root.json":
                for older in kept.glob("*.json"):
                    if older.name != file and _role_of(unquote(older.name)) == role:
                        older.unlink()
            (kept / file).write_bytes(data)
            if role != "root.json" or name == f"{self._workflow.trusted.root.version}.root.json":
                (self._folder / quote(role, "")).write_bytes(data)


def _role_of(name: str) -> str:
    """`7.code.json` to `code.json`; a role may have dots in its name, a version has digits only."""
    version, _, rest = name.partition(".")
    return rest if version.isdecimal() else name


def _is(target: TargetFile, data: bytes) -> bool:
    try:
        target.verify_length_and_hashes(data)
    except LengthOrHashMismatchError:
        return False
    return True
