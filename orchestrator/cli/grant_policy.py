"""Commands for the fleet's policies about authority: ceilings and guardrails, which the policy role signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.documents import MAX_DOCUMENT
from fleet.grants import parse_ceilings
from fleet.release import AddDocument
from fleet.targets import CEILINGS_PATH, GUARDRAILS_PATH
from orchestrator.cli.granted import reader
from orchestrator.cli.trust import TrustDirectory, synchronise
from orchestrator.cli.trust_change import FILE, OFFLINE, YES, perform
from orchestrator.files import read_named
from orchestrator.guardrails import default_text, load_guardrails

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.release import Operation
    from fleet.trust import Release
    from orchestrator.cli.session import Session


@click.command()
@click.argument("file", type=FILE, required=False, metavar="[CEILINGS.YAML]")
@OFFLINE
@YES
@click.pass_obj
def ceilings(session: Session, /, file: Path | None, **how: bool) -> None:
    """Show the fleet's ceilings, or sign new ones.

    Agents on a node may have no more than every ceiling allows whose labels the node has, whatever their grants say. A
    node that no ceiling is for may give nothing.
    """
    if file is None:
        _show(session, CEILINGS_PATH, "# no ceilings: grants alone decide\n")
        return
    data = read_named(file, MAX_DOCUMENT)
    parse_ceilings(data, str(file))
    _sign(session, CEILINGS_PATH, data, how)


@click.command()
@click.argument("file", type=FILE, required=False, metavar="[GUARDRAILS.CEDAR]")
@OFFLINE
@YES
@click.pass_obj
def guardrails(session: Session, /, file: Path | None, **how: bool) -> None:
    """Show the guardrails in force, or sign new ones.

    Guardrails say which grants may be approved, and by whom: Cedar policies over the schema that docs/grants.md shows.
    """
    if file is None:
        _show(session, GUARDRAILS_PATH, default_text())
        return
    data = read_named(file, MAX_DOCUMENT)
    load_guardrails(data, str(file))
    _sign(session, GUARDRAILS_PATH, data, how)


def _show(session: Session, path: str, without: str) -> None:
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        target = release.documents.get(path)
        text = without if target is None else reader(directory, client, release)(target).decode()
    if session.output.machine:
        session.output.value({"path": path, "published": target is not None, "text": text})
    else:
        session.output.text(text.rstrip("\n"))


def _sign(session: Session, path: str, data: bytes, how: dict[str, bool]) -> None:
    def operations(release: Release) -> tuple[Operation, ...]:
        listed = release.documents.get(path)
        return (AddDocument(path, data, replaces="" if listed is None else listed.digest),)

    perform(session, operations, f"change {path}", offline=how["offline"], yes=how["yes"])
