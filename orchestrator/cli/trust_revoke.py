"""Command trust revoke: what must not run any more, wherever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.release import AddDocument
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations, parse_revocations
from fleet.targets import REVOCATIONS_PATH
from orchestrator.cli.trust import TrustDirectory, fetch_document
from orchestrator.cli.trust_change import OFFLINE, YES, perform

if TYPE_CHECKING:
    from fleet.release import Operation
    from fleet.trust import Release
    from orchestrator.cli.session import Session


@click.command()
@click.argument("kind", type=click.Choice([kind.value for kind in Kind]))
@click.argument("subject", metavar="DIGEST|KEY")
@click.option("--reason", required=True, help="One line for whoever is refused.")
@OFFLINE
@YES
@click.pass_obj
def revoke(session: Session, /, kind: str, subject: str, reason: str, **how: bool) -> None:
    """Revoke a bundle, grant, model or key.

    The policy role signs the list; nodes stop what is on it as soon as they know, and nobody can take an entry back.
    A bundle is named by the digest of its index, a grant by that of its document, a model by that of its file, a key by
    its 64 hexadecimal digits.
    """
    directory = TrustDirectory(session.trust_folder())
    entry = Revocation(Kind(kind), subject, reason, session.now())

    def operations(release: Release) -> tuple[Operation, ...]:
        listed = release.documents.get(REVOCATIONS_PATH)
        if listed is None:
            known = Revocations()
        else:
            known = parse_revocations(fetch_document(directory, None, release, REVOCATIONS_PATH))
        data = encode_revocations(known.extended([entry]))
        return (AddDocument(REVOCATIONS_PATH, data, replaces="" if listed is None else listed.digest),)

    perform(session, operations, f"revoke {kind} {subject[:19]}", offline=how["offline"], yes=how["yes"])
