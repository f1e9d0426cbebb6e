"""Copies a template into a new folder: the start of an agent, complete, and built by `fleetctl bundle build` as it is.

Owns: which files make up a scaffold, and the two words in them that change. The templates are whole projects, kept as
files of this package; the language tests build and run what is copied here, so a template that fails is seen.
"""

from __future__ import annotations

import shutil
from importlib import resources
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from fleet.bundle import Language

NAME = b"sample-agent"
"""Stands in the templates for the agent's name."""

LANGUAGE = b"sample-language"
"""Stands in the templates for the language."""

BINARY = (".onnx", ".o")
"""Files that are copied as they are."""

RENAMED = {"gitignore": ".gitignore"}
"""Files that may not have their name inside this package: packaging and git would act on it."""


def scaffold(name: str, language: Language, folder: Path) -> None:
    """Write a new project for an agent.

    Args:
        name: name of the bundle.
        language: what it is written in.
        folder: folder to make; its parents may be missing.

    Raises:
        FleetError: ALREADY_EXISTS when there is something of that name.
    """
    if folder.exists() or folder.is_symlink():
        raise FleetError(
            Code.ALREADY_EXISTS,
            "a scaffold is never written over something",
            place=str(folder),
            remedy="Name another folder with --dir.",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    words = {NAME: name.encode(), LANGUAGE: language.value.encode()}
    templates = resources.files(__package__) / "templates"
    for part in ("common", language.value):
        _copy(templates / part, staging, words)
    staging.rename(folder)


def _copy(source: Traversable, target: Path, words: dict[bytes, bytes]) -> None:
    target.mkdir(exist_ok=True)
    for item in source.iterdir():
        if item.name == "__pycache__":
            continue
        copied = target / RENAMED.get(item.name, item.name)
        if item.is_dir():
            _copy(item, copied, words)
            continue
        data = item.read_bytes()
        if not item.name.endswith(BINARY):
            for word, value in words.items():
                data = data.replace(word, value)
        copied.write_bytes(data)
