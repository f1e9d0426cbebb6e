"""Commands for the fleet's policies about authority: ceilings, guardrails, break-glass; the policy role signs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.documents import MAX_DOCUMENT
from fleet.grants import parse_break_glass, parse_ceilings
from fleet.release import AddDocument, ChangeKeys, RemoveDocument
from fleet.targets import BREAK_GLASS_PATH, BREAK_GLASS_ROLE, CEILINGS_PATH, GUARDRAILS_PATH
from orchestrator.cli.granted import Approved
from orchestrator.cli.trust_change import FILE, OFFLINE, YES, perform
from orchestrator.cli.trust_keys import read_public
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

    Guardrails say which grants may be approved, and by whom: Cedar policies over orchestrator/guardrails.cedarschema.
    docs/grants.md lists those that hold where a fleet has none of its own.
    """
    if file is None:
        _show(session, GUARDRAILS_PATH, default_text())
        return
    data = read_named(file, MAX_DOCUMENT)
    load_guardrails(data, str(file))
    _sign(session, GUARDRAILS_PATH, data, how)


@click.command("break-glass")
@click.argument("file", type=FILE, required=False, metavar="[BREAK-GLASS.YAML]")
@click.option("--key", "keys", type=FILE, multiple=True, metavar="PUBLIC-KEY", help="Somebody who may break the glass.")
@click.option("--off", is_flag=True, help="Withdraw the policy: what runs under an emergency grant stops.")
@OFFLINE
@YES
@click.pass_obj
def break_glass(session: Session, /, file: Path | None, keys: tuple[Path, ...], **how: bool) -> None:
    """Show what emergency grants may give, or allow them.

    An emergency grant takes one signature, by a key that no other role has. The policy, which the policy role signs,
    bounds what it gives and how long it is valid; every node checks both. Who may sign one, the targets role says: the
    first --key makes the role grants-breakglass. Without a policy, or without the role, there are no such grants.
    """
    if how["off"] and (file is not None or keys):
        raise click.UsageError("--off stands alone")
    if file is None and not keys and not how["off"]:
        _show(session, BREAK_GLASS_PATH, "# no policy: there are no emergency grants\n")
        return
    data = b"" if file is None else read_named(file, MAX_DOCUMENT)
    if file is not None:
        parse_break_glass(data, str(file))
    holders = tuple(read_public(key) for key in keys)

    def operations(release: Release) -> tuple[Operation, ...]:
        listed = release.documents.get(BREAK_GLASS_PATH)
        replaces = "" if listed is None else listed.digest
        known = release.role_keys.get(BREAK_GLASS_ROLE, frozenset())
        new = tuple(holder for holder in holders if holder.public not in known)
        return (
            *([RemoveDocument(BREAK_GLASS_PATH)] if how["off"] else []),
            *([ChangeKeys(BREAK_GLASS_ROLE, new, threshold=1)] if new else []),
            *([AddDocument(BREAK_GLASS_PATH, data, replaces=replaces)] if file is not None else []),
        )

    title = "allow no emergency grants" if how["off"] else "change who and what breaks the glass"
    perform(session, operations, title, offline=how["offline"], yes=how["yes"])


def _show(session: Session, path: str, without: str) -> None:
    with session.connect() as client:
        approved = Approved.newest(session, client, "")
        target = approved.release.documents.get(path)
        text = without if target is None else approved.read(target).decode()
    if session.output.machine:
        session.output.value({"path": path, "published": target is not None, "text": text})
    else:
        session.output.text(text.rstrip("\n"))


def _sign(session: Session, path: str, data: bytes, how: dict[str, bool]) -> None:
    def operations(release: Release) -> tuple[Operation, ...]:
        listed = release.documents.get(path)
        return (AddDocument(path, data, replaces="" if listed is None else listed.digest),)

    perform(session, operations, f"change {path}", offline=how["offline"], yes=how["yes"])
