"""What the commands for grants share: finding grants and policies of a release, and asking its guardrails.

Owns: reading documents of a release with their signature checked, from this machine or the coordinator. Signs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.documents import MAX_DOCUMENT
from fleet.errors import Code, FleetError
from fleet.grants import Grant, parse_grant
from fleet.targets import grant_path, role_of
from fleet.x509 import load_certificate, uris_of
from orchestrator.cli.render import Column, Row
from orchestrator.cli.trust import fetch_document
from orchestrator.files import read_bounded
from orchestrator.guardrails import circumstances_of
from orchestrator.policies import fleet_guardrails

if TYPE_CHECKING:
    from fleet.trust import Release, Target
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session
    from orchestrator.cli.trust import TrustDirectory
    from orchestrator.guardrails import Circumstances, Refusal
    from orchestrator.policies import Read

REFUSAL_COLUMNS = (
    Column("GUARDRAIL", "guardrail"),
    Column("FOR", "for"),
    Column("REASON", "reason", fold=True),
    Column("REMEDY", "remedy", fold=True),
)


@dataclass(frozen=True, slots=True)
class Document:
    """A grant with the bytes that say it and the place that they are from."""

    grant: Grant
    data: bytes
    place: str


def revision_of(path: str) -> int:
    """Revision that a grant's target path names."""
    return int(path.rpartition("/")[2].removesuffix(".yaml"))


def newest_revision(release: Release, agent: str) -> int:
    """Return the newest published revision of an agent's grant; 0 when there is none."""
    prefix = grant_path(agent, 1).rpartition("/")[0] + "/"
    return max((revision_of(target.path) for target in release.targets(prefix)), default=0)


def reader(directory: TrustDirectory, client: Client | None, release: Release) -> Read:
    """Return what reads a release's documents, each checked against its target."""

    def read(target: Target) -> bytes:
        return fetch_document(directory, client, release, target.path)

    return read


def published(read: Read, release: Release, agent: str, revision: int = 0) -> Document:
    """Return an approved grant; revision 0 is the newest.

    Raises:
        FleetError: GRANT_MISSING when there is none; TARGET_UNSIGNED for a revision that is not listed.
    """
    number = revision or newest_revision(release, agent)
    if not number:
        raise FleetError(
            Code.GRANT_MISSING,
            f"{agent} has no approved grant: every call is denied",
            agent=agent,
            remedy=f"fleetctl grant propose {agent} --bundle NAME@VERSION",
        )
    target = release.target(grant_path(agent, number))
    data = read(target)
    return Document(parse_grant(data, target.path), data, target.path)


def named(text: str, read: Read, release: Release) -> Document:
    """Return the grant that an argument names: a file, `application/agent`, or `application/agent@REVISION`.

    Raises:
        FleetError: as `published`; GRANT_INVALID for a file or name that is neither.
    """
    file = Path(text)
    if file.is_file():
        data = read_bounded(file, MAX_DOCUMENT)
        return Document(parse_grant(data, text), data, text)
    agent, _, revision = text.partition("@")
    if agent.count("/") != 1 or (revision and not revision.isdecimal()):
        raise FleetError(Code.GRANT_INVALID, "expected a file, an agent, or an agent@REVISION", place=text)
    try:
        return published(read, release, agent, int(revision or 0))
    except ValueError as error:
        raise FleetError(Code.GRANT_INVALID, "not the name of an agent and a revision", place=text) from error


def circumstances(
    session: Session, directory: TrustDirectory, release: Release, grant: Grant, *, publishing: bool
) -> Circumstances:
    """Return who would approve a grant if it were signed here and now: the holders of the role's keys at hand."""
    role = str(role_of(grant_path(grant.agent, grant.revision)))
    here = {signer.public for signer in directory.keys.signers()} & release.role_keys.get(role, frozenset())
    publisher = operator_name(session) if publishing else ""
    return circumstances_of(release, grant, [key.key_id for key in here], publisher)


def operator_name(session: Session) -> str:
    """Name of the operator whom the context's certificate is for (`spiffe://FLEET/user/NAME`); empty for none."""
    try:
        (uri,) = uris_of(load_certificate(read_bounded(session.context().certificate, MAX_DOCUMENT)))
    except (FleetError, ValueError):
        return ""
    return uri.rpartition("/user/")[2]


def refusals(
    session: Session, directory: TrustDirectory, release: Release, grant: Grant, read: Read, *, publishing: bool
) -> tuple[Refusal, ...]:
    """Return the guardrails that would refuse a grant if it were signed here.

    Args:
        session: the run of fleetctl.
        directory: where the keys are.
        release: the release to add the grant to.
        grant: the grant.
        read: reads the guardrails.
        publishing: whether the number of approvals is asked about too.
    """
    about = circumstances(session, directory, release, grant, publishing=publishing)
    return fleet_guardrails(release, read).refusals(grant, about)


def check_guardrails(session: Session, directory: TrustDirectory, release: Release, grant: Grant, read: Read) -> None:
    """Refuse to sign what a guardrail refuses; how many approve is counted when it is published.

    Raises:
        FleetError: GUARDRAIL_REFUSED.
    """
    about = circumstances(session, directory, release, grant, publishing=False)
    fleet_guardrails(release, read).check(grant, about)


def refusal_rows(found: tuple[Refusal, ...]) -> list[Row]:
    """Return refusals as rows of a table."""
    return [
        Row({"guardrail": item.id, "for": item.subject, "reason": item.reason, "remedy": item.remedy}) for item in found
    ]
