"""The node's TUF client as a program, so that conformance suites of others can drive it.

    tuf_client.py --metadata-dir D init ROOT
    tuf_client.py --metadata-dir D --metadata-url U refresh
    tuf_client.py --metadata-dir D --metadata-url U --target-name N --target-base-url B --target-dir T download

The commands and options are those of the client-under-test in theupdateframework/tuf-conformance (CLIENT-CLI.md); it
ends with 0 on success and 1 on refusal. `--rules fleet` verifies with `fleet.trust`, as a node does: a repository that
delegates to roles that no fleet has, whose keys are not Ed25519, or without versioned file names, is refused, and a
release is kept whole or not at all. `--rules tuf` drives the workflow below that, which `fleet.trust` is made of
(`tuf_workflow`). What this program adds is fetching over HTTP and files in a folder.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from edge_agent.disk import LocalDisk
from edge_agent.root_store import RootStore
from fleet.documents import load_json
from fleet.errors import Code, FleetError
from fleet.metadata import MAX_METADATA, MAX_ROOT_ROTATIONS
from fleet.roots import climb_roots
from fleet.trust import MAX_TARGET, open_release
from tests.conformance.fetching import fetch
from tests.conformance.tuf_workflow import PIN, GeneralClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.trust import Release


class Client:
    """The adopted metadata in a folder, and the repository behind a URL."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url.rstrip("/")

    def refresh(self) -> Release:
        """Fetch what the repository offers, verify it as a node does, and keep it; of a refused one the roots alone."""
        pinned, disk = (self._folder / PIN).read_bytes(), LocalDisk()
        adopted = {unquote(path.name): path.read_bytes() for path in self._folder.glob("adopted/*.json")}
        climb_roots({}, pinned, {})  # nothing is asked for with a pin that is no root
        roots = RootStore(disk, self._folder / "roots")
        roots.load()
        previous = {**adopted, **roots.known}
        offered = self._offered(pinned, previous)
        try:
            release = open_release(offered, root=pinned, now=datetime.now(UTC), previous=previous, allow_dev=True)
        except FleetError:
            roots.keep(offered, pinned, adopted)
            for data in tuple(roots.known.values())[-1:]:
                (self._folder / "root.json").write_bytes(data)
            raise
        self._keep(release)
        return release

    def _offered(self, pinned: bytes, adopted: dict[str, bytes]) -> dict[str, bytes]:
        """Every file that the workflow may ask for: what is named is followed, and nothing is believed yet."""
        offered: dict[str, bytes] = {}
        number = _version(pinned)
        for _ in range(MAX_ROOT_ROTATIONS + 1):
            number += 1
            name = f"{number}.root.json"
            if name not in adopted and not self._add(offered, name):
                break
        if not self._add(offered, "timestamp.json"):
            return offered
        for name in _named(offered["timestamp.json"]):
            if self._add(offered, name) or name in adopted:
                for role in _named(offered.get(name, adopted.get(name, b""))):
                    if role not in adopted:
                        self._add(offered, role)
        return offered

    def _add(self, offered: dict[str, bytes], name: str) -> bool:
        data = fetch(f"{self._url}/{quote(name, '')}", MAX_METADATA)
        if data is not None:
            offered[name] = data
        return data is not None

    def _keep(self, release: Release) -> None:
        """Keep the verified files, and each role under the name by which suites look for it."""
        folder = self._folder / "adopted"
        folder.mkdir(exist_ok=True)
        for path in folder.glob("*.json"):
            if unquote(path.name) not in release.files:
                path.unlink()
        for name, data in release.files.items():
            (folder / quote(name, "")).write_bytes(data)
            role = name if name == "timestamp.json" else name.partition(".")[2]
            if name == role or name == f"{release.versions[role.removesuffix('.json')]}.{role}":
                (self._folder / role).write_bytes(data)


def download(release: Release, name: str, base: str, folder: Path) -> None:
    """Fetch a target, compare it with what was signed, and keep it under its quoted name."""
    target = release.target(name)
    parent, _, last = name.rpartition("/")
    hashed = "/".join(part for part in (parent, f"{target.digest.removeprefix('sha256:')}.{last}") if part)
    stored = folder / quote(name, "")
    if stored.exists() and hashlib.sha256(stored.read_bytes()).hexdigest() == target.digest.removeprefix("sha256:"):
        return
    data = fetch(f"{base.rstrip('/')}/{quote(hashed)}", min(target.length, MAX_TARGET))
    if data is None:
        raise FleetError(Code.NOT_FOUND, "the repository does not have the file", place=name)
    stored.write_bytes(target.check(data))


def _version(data: bytes) -> int:
    document = load_json(data, Code.TRUST_INVALID, "root.json")
    signed = document.get("signed") if isinstance(document, dict) else None
    version = signed.get("version") if isinstance(signed, dict) else None
    return version if isinstance(version, int) else 0


def _named(data: bytes) -> list[str]:
    """File names that a timestamp or a snapshot speaks of; empty when it cannot be read."""
    try:
        document = load_json(data, Code.TRUST_INVALID, "metadata", MAX_METADATA)
    except FleetError:
        return []
    signed = document.get("signed") if isinstance(document, dict) else None
    meta = signed.get("meta") if isinstance(signed, dict) else None
    entries = meta.items() if isinstance(meta, dict) else ()
    return [f"{entry['version']}.{name}" for name, entry in entries if isinstance(entry, dict) and "version" in entry]


def initialise(folder: Path, root: Path) -> None:
    """Pin a root."""
    for file in (folder / PIN, folder / "root.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(root.read_bytes())


def run_fleet(options: argparse.Namespace) -> None:
    """Run `refresh` or `download` as a node verifies."""
    release = Client(Path(options.metadata_dir), options.metadata_url).refresh()
    if options.command == "download":
        for name in options.target_name:
            download(release, name, options.target_base_url, Path(options.target_dir))


def run_general(options: argparse.Namespace) -> None:
    """Run `refresh` or `download` by the workflow alone."""
    client = GeneralClient(Path(options.metadata_dir), options.metadata_url.rstrip("/"), datetime.now(UTC))
    client.refresh()
    if options.command == "download":
        for name in options.target_name:
            client.download(name, options.target_base_url.rstrip("/"), Path(options.target_dir))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(description="The node's TUF client for conformance suites.")
    for option in ("--metadata-dir", "--metadata-url", "--target-base-url", "--target-dir"):
        parser.add_argument(option, default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--rules", choices=["fleet", "tuf"], default="fleet")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    options = parser.parse_args(arguments)
    try:
        if options.command == "init":
            initialise(Path(options.metadata_dir), options.root)
        elif options.rules == "tuf":
            run_general(options)
        else:
            run_fleet(options)
    except FleetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
