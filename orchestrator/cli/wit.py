"""Commands for authors of capabilities and of tests: Python for a WIT world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.wit_document import parse_document
from fleet.wit_python import GENERATED, world_package
from fleet.wit_tokens import MAX_DOCUMENT
from fleet.wit_world import Packages
from orchestrator.files import read_named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.cli.session import Session


@click.group()
def wit() -> None:
    """Work with WIT packages."""


@wit.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--world", default="", metavar="NAME", help="World to write; needed where the package has several.")
@click.option(
    "--to", "target", required=True, type=click.Path(file_okay=False, path_type=Path), help="Package to write; made."
)
@click.pass_obj
def python(session: Session, folder: Path, world: str, target: Path) -> None:
    """Write typed Python for a world.

    FOLDER holds the .wit files of one package, and those that it uses below deps/.
    A module per interface has dataclasses and enums for its types, a Provider protocol for what a host implements and a
    Caller for what a component exports.

    Example: fleetctl wit python wit/syuthd-agent-mesh --to agent_world
    """
    packages = Packages()
    name = _add(packages, sorted(folder.glob("*.wit")), folder)
    for file in sorted(folder.glob("deps/*.wit")):
        _add(packages, [file], file)
    for entry in sorted(folder.glob("deps/*")):
        if entry.is_dir():
            _add(packages, sorted(entry.glob("*.wit")), entry)
    files = world_package(packages, packages.world(world or _only(packages.worlds(name), folder), name))
    _check_replaceable(target, files)
    target.mkdir(parents=True, exist_ok=True)
    for module, text in files.items():
        (target / module).write_text(text, encoding="utf-8")
    session.output.text(f"{len(files) - 1} modules written to {target}")


def _add(packages: Packages, files: Iterable[Path], place: Path) -> str:
    return packages.add([parse_document(_read(file), str(file)) for file in files], str(place))


def _read(file: Path) -> str:
    data = read_named(file, MAX_DOCUMENT * 4)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FleetError(Code.WIT_INVALID, "the file is not UTF-8", place=f"{file}: byte {error.start}") from error


def _only(worlds: tuple[str, ...], folder: Path) -> str:
    if len(worlds) != 1:
        found = ", ".join(worlds) or "none"
        raise FleetError(Code.WIT_INVALID, f"name one with --world: {found}", place=str(folder))
    return worlds[0]


def _check_replaceable(target: Path, files: Iterable[str]) -> None:
    """Refuse to write over what somebody wrote by hand, before anything is written."""
    for name in files:
        file = target / name
        if file.exists():
            with file.open(encoding="utf-8", errors="replace") as stream:
                if GENERATED not in stream.readline(1024):
                    raise FleetError(Code.ALREADY_EXISTS, "the file was not generated", place=str(file))
