"""How a change of the release is shown, confirmed, signed and passed on; commands that make one end in `perform`.

Owns: the words in which a person is shown what is to be signed, always computed from the bytes that are signed.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.release import BEFORE_EXPIRY, Sign, differences, sign_staged, stage
from fleet.trust import open_release
from orchestrator.cli.render import short_digest
from orchestrator.cli.trust import TrustDirectory, conclude, context_of, synchronise

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.release import NamedKey, Operation, StagedChange
    from fleet.trust import Release
    from orchestrator.cli.session import Session

STYLES = {Sign.ADDED: "green", Sign.REMOVED: "red", Sign.CHANGED: "dim"}

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
YES = click.option(
    "--yes", "-y", is_flag=True, help="Do not ask; for scripts that have shown the difference elsewhere."
)
OFFLINE = click.option("--offline", is_flag=True, help="Ask no coordinator: stage the change on the release at hand.")


def show_key(key: NamedKey) -> str:
    """Name of a key's holder, or the start of its id."""
    return key.name or short_digest(key.key_id)


def show_change(session: Session, staged: StagedChange) -> None:
    """Print what a staged change changes, and who still has to sign."""
    output = session.output
    output.text(f"{staged.title or 'A change'}, staged {staged.created:%Y-%m-%d %H:%M} UTC:")
    for difference in differences(staged):
        output.line(
            (f"  {difference.sign} ", STYLES[difference.sign]), (f"{difference.role}: ", "dim"), (difference.text, "")
        )
    for requirement in staged.requirements:
        signed = ", ".join(map(show_key, requirement.signed)) or "nobody"
        missing = f"; {requirement.missing} more of {', '.join(map(show_key, requirement.unsigned))}"
        rest = missing if requirement.missing else ""
        by = f"{requirement.file} by {requirement.authority}"
        output.text(f"  {by}: {requirement.threshold} to sign; signed by {signed}{rest}")


def describe_change(staged: StagedChange, file: Path | None) -> dict[str, object]:
    """One staged change for a program."""
    return {
        "title": staged.title,
        "staged": None if file is None else str(file),
        "complete": staged.complete,
        "published": file is None,
        "changes": [{"role": d.role, "change": str(d.sign), "text": d.text} for d in differences(staged)],
        "signatures": [
            {
                "file": r.file,
                "authority": r.authority,
                "takes": r.threshold,
                "signed": [{"name": key.name, "key": key.key_id} for key in r.signed],
                "may_sign": [{"name": key.name, "key": key.key_id} for key in r.unsigned],
            }
            for r in staged.requirements
        ],
    }


def tell_change(session: Session, staged: StagedChange, file: Path | None) -> None:
    """Say what became of a change: published, or where it lies and who is next."""
    if session.output.machine:
        session.output.value(describe_change(staged, file))
    elif file is None:
        session.output.note("Published. Nodes adopt it within the hour, and at their next order.")
    else:
        tell_staged(session, file, staged)


def tell_staged(session: Session, file: Path, staged: StagedChange) -> None:
    """Say on stderr who is next for a staged file."""
    missing = sorted({show_key(key) for r in staged.requirements if r.missing for key in r.unsigned})
    session.output.note(f"Staged in {file}; nothing is published yet.")
    if missing:
        session.output.note(
            f"Next, on a machine with a key of {', '.join(missing)}: `fleetctl trust sign {file.name}`."
        )
    else:
        session.output.note(
            f"Every signature is there. Put it into the publisher's inbox, or `fleetctl trust publish {file}`."
        )


def confirm(session: Session, question: str, *, yes: bool) -> None:
    """Ask the person at the terminal; the process ends where the answer is no.

    Raises:
        click.UsageError: when a program reads the output and did not say yes before.
    """
    if session.output.machine and not yes:
        raise click.UsageError("-o json and -o yaml need --yes: they show the difference only once it is signed")
    if not yes:
        click.confirm(question, err=True, abort=True)


def perform(
    session: Session, make: Callable[[Release], tuple[Operation, ...]], title: str, *, offline: bool, yes: bool
) -> bool:
    """Make a change on top of the newest release: show it, sign it with the keys at hand, publish or stage it.

    Args:
        session: the run of fleetctl.
        make: returns the operations for a release.
        title: what the change is for.
        offline: whether to leave the coordinator alone.
        yes: whether the person has agreed already.

    Returns:
        Whether it is published; else it is staged.

    Raises:
        FleetError: as `fleet.release.stage`, `synchronise` and `conclude`.
    """
    directory = TrustDirectory(session.trust_folder())
    with nullcontext() if offline else session.connect() as client:
        release = local_release(directory) if client is None else synchronise(directory, client, BEFORE_EXPIRY)
        operations = make(release)
        context = context_of(directory, client, release, operations)
        staged = confirmed(session, directory, stage(release, operations, title, session.now(), context), yes=yes)
        file = conclude(directory, client, staged, release, session.now())
    tell_change(session, staged, file)
    return file is None


def local_release(directory: TrustDirectory) -> Release:
    """Verify the release at hand, expired or not."""
    return open_release(directory.files(), root=directory.root, now=BEFORE_EXPIRY, allow_dev=True)


def confirmed(session: Session, directory: TrustDirectory, staged: StagedChange, *, yes: bool) -> StagedChange:
    """Show a change, ask, and sign it with the keys at hand."""
    if not session.output.machine:
        show_change(session, staged)
    confirm(session, "Sign this?", yes=yes)
    return sign_staged(staged, directory.keys.signers())
