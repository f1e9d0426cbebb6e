"""Which volumes an agent may use, and where they are on this node.

Owns: `Volumes`. Host paths come from the node alone: the application's state folder and what the operator declared.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge_agent.capabilities.filesystem_files import Volume
from edge_agent.capabilities.filesystem_quota import MAX_ENTRIES, Quota, release_usage, share_usage
from fleet.errors import Code, FleetError
from fleet.grants.volumes import NODE, PREOPENS, SCRATCH, named_volumes

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.capabilities.base import AgentContext

FOLDER = "files"
"""Folder of an application's scratch volumes in its state directory."""

MAX_VOLUMES = 16
"""Volumes of one agent."""


class Volumes:
    """The volumes of one agent, opened when first asked for. None is opened without a grant that names it."""

    def __init__(self, context: AgentContext) -> None:
        self._authority = context.authority
        self._declared = context.volumes
        self._scratch = context.state_dir / FOLDER
        self._open: list[Volume] | None = None

    def all(self) -> list[Volume]:
        """The volumes in the order of their names.

        Raises:
            FleetError: LIMIT_EXCEEDED for too many; VOLUME_UNAVAILABLE for one that is not there.
        """
        if self._open is None:
            names = self._names()
            if len(names) > MAX_VOLUMES:
                raise FleetError(Code.LIMIT_EXCEEDED, f"the grant names {len(names)} volumes, {MAX_VOLUMES} may be had")
            self._open = []
            for name in names:
                self._open.append(self._opened(name))
        return self._open

    def close(self) -> None:
        """Give back every volume."""
        for volume in self._open or ():
            release_usage(volume.usage)
            os.close(volume.folder)
        self._open = []

    def _names(self) -> list[str]:
        named = named_volumes(self._authority)
        declared = {f"{NODE}{name}" for name in self._declared}
        covered = {name for name in declared if self._authority.allows(PREOPENS, volume=name, mode="read")}
        return sorted(named | covered)

    def _opened(self, name: str) -> Volume:
        writable = self._authority.allows(PREOPENS, volume=name, mode="write")
        try:
            if name.startswith(SCRATCH):
                path = self._made(self._scratch / name.removeprefix(SCRATCH))
            else:
                declared = self._declared.get(name.removeprefix(NODE))
                if declared is None:
                    raise FleetError(Code.VOLUME_UNAVAILABLE, f"the node declares no {name}", volume=name)
                path, writable = declared.path, writable and declared.writable
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FleetError(
                Code.VOLUME_UNAVAILABLE, f"{name} cannot be opened: {error.strerror}", volume=name
            ) from error
        return Volume(name, folder, share_usage(folder), self._quota(name) if writable else None)

    @staticmethod
    def _made(path: Path) -> Path:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def _quota(self, name: str) -> Quota:
        most_bytes = self._authority.maximum(PREOPENS, "max_bytes", volume=name, mode="write")
        most_files = self._authority.maximum(PREOPENS, "max_files", volume=name, mode="write")
        return Quota(most_bytes, MAX_ENTRIES if most_files is None else most_files)
