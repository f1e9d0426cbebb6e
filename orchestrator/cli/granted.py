"""What the commands for grants share: finding grants and policies of a release, and asking its guardrails.

Owns: reading documents of a release with their signature checked, from this machine or the coordinator. Signs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.documents import MAX_DOCUMENT
from fleet.errors import Code, FleetError
from fleet.grants import Grant, check_break_glass, parse_grant, propose_command
from fleet.oci import digest_of
from fleet.revocations import Kind, parse_revocations
from fleet.targets import (
    BREAK_GLASS_TEAM,
    REVOCATIONS_PATH,
    code_role,
    grant_path,
    grants_role,
    revision_of_grant,
    team_of_grant,
)
from fleet.x509 import load_certificate, uris_of
from orchestrator.cli.render import Column, Row
from orchestrator.cli.teams import choose_team
from orchestrator.cli.trust import TrustDirectory, fetch_document, synchronise
from orchestrator.files import read_bounded
from orchestrator.guardrails import circumstances_of
from orchestrator.policies import fleet_break_glass, fleet_guardrails

if TYPE_CHECKING:
    from fleet.trust import Release, Target
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session
    from orchestrator.guardrails import Circumstances, Refusal

REFUSAL_COLUMNS = (
    Column("GUARDRAIL", "guardrail"),
    Column("FOR", "for"),
    Column("REASON", "reason", fold=True),
    Column("REMEDY", "remedy", fold=True),
)


@dataclass(frozen=True, slots=True)
class Document:
    """A grant with the bytes that say it, the place that they are from, and the team whose role lists it or would."""

    grant: Grant
    data: bytes
    place: str
    team: str

    @property
    def path(self) -> str:
        """Target path of the grant."""
        return grant_path(self.grant.agent, self.grant.revision, self.team)


class Approved:
    """The approved grants of a release, as one command asks for them.

    Args:
        session: the run of fleetctl.
        directory: where release, documents and keys are.
        client: connection to the coordinator; None when offline.
        release: the verified release.
        team: whose grants are meant, as the command says; empty: `orchestrator.cli.teams` decides for each agent.
    """

    def __init__(
        self, session: Session, directory: TrustDirectory, client: Client | None, release: Release, team: str
    ) -> None:
        self.session = session
        self.directory = directory
        self.client = client
        self.release = release
        self.team = team

    @classmethod
    def newest(cls, session: Session, client: Client, team: str) -> Approved:
        """Take over the coordinator's newest release.

        Raises:
            FleetError: as `orchestrator.cli.trust.synchronise`.
        """
        directory = TrustDirectory(session.context().trust)
        return cls(session, directory, client, synchronise(directory, client, session.now()), team)

    def read(self, target: Target) -> bytes:
        """Return a document of the release, checked against its target."""
        return fetch_document(self.directory, self.client, self.release, target.path)

    def team_of(self, agent: str) -> str:
        """Return the team whose grants of an agent are meant.

        Raises:
            FleetError: as `orchestrator.cli.teams.find_team`.
        """
        return choose_team(self.session, self.client, self.release, agent, self.team)

    def revision(self, agent: str, team: str) -> int:
        """Return the newest published revision of an agent's grant; 0 when there is none."""
        prefix = grant_path(agent, 1, team).rpartition("/")[0] + "/"
        return max((revision_of_grant(target.path) for target in self.release.targets(prefix)), default=0)

    def document(self, agent: str, revision: int = 0, team: str = "") -> Document:
        """Return an approved grant; revision 0 is the newest, an empty team the one that is meant.

        Raises:
            FleetError: GRANT_MISSING when there is none; TARGET_UNSIGNED for a revision that is not listed.
        """
        whose = team or self.team_of(agent)
        number = revision or self.revision(agent, whose)
        if not number:
            raise FleetError(
                Code.GRANT_MISSING,
                f"{agent} has no approved grant of team {whose}: every call is denied",
                agent=agent,
                team=whose,
                remedy=propose_command(agent, "NAME@VERSION"),
            )
        return self.at(grant_path(agent, number, whose))

    def at(self, path: str) -> Document:
        """Return the approved grant of a target path.

        Raises:
            FleetError: TARGET_UNSIGNED.
        """
        data = self.read(self.release.target(path))
        return Document(parse_grant(data, path), data, path, team_of_grant(path))

    def file(self, path: Path) -> Document:
        """Return a grant that is a file here, and the team that it is meant for.

        Raises:
            FleetError: GRANT_INVALID; as `team_of`.
        """
        data = read_bounded(path, MAX_DOCUMENT)
        grant = parse_grant(data, str(path))
        return Document(grant, data, str(path), BREAK_GLASS_TEAM if grant.break_glass else self.team_of(grant.agent))

    def named(self, text: str) -> Document:
        """Return the grant that an argument names: a file, `application/agent`, or `application/agent@REVISION`.

        Raises:
            FleetError: as `document` and `file`; GRANT_INVALID for a file or name that is neither.
        """
        if Path(text).is_file():
            return self.file(Path(text))
        agent, _, revision = text.partition("@")
        if agent.count("/") != 1 or (revision and not revision.isdecimal()):
            raise _unnamed(text)
        try:
            return self.document(agent, int(revision or 0))
        except ValueError as error:
            raise _unnamed(text) from error

    def before(self, document: Document) -> Document | None:
        """Return the newest approved grant of the same agent that a document is compared with; None when there is none.

        An emergency grant is compared with the ordinary one of the team whose code it is for: what it widens is why it
        is needed.
        """
        emergency = document.grant.break_glass
        team = document.grant.bundle.role.removeprefix(code_role("")) if emergency else document.team
        newest = self.revision(document.grant.agent, team)
        return self.document(document.grant.agent, newest, team) if newest else None

    def refusals(self, document: Document) -> tuple[Refusal, ...]:
        """Return the guardrails that would refuse a grant if it were signed here and published now."""
        about = self._circumstances(document, publisher=operator_name(self.session))
        return fleet_guardrails(self.release, self.read).refusals(document.grant, about)

    def check_bounds(self, document: Document) -> None:
        """Refuse a grant that every node would refuse: these very bytes are revoked, or an emergency is out of bounds.

        Raises:
            FleetError: REVOKED; GRANT_NOT_APPLICABLE as `fleet.grants.check_break_glass`.
        """
        listed = self.release.documents.get(REVOCATIONS_PATH)
        if listed is not None:
            revocations = parse_revocations(self.read(listed))
            revocations.check(Kind.GRANT, digest_of(document.data), document.grant.agent)
        check_break_glass(document.grant, grants_role(document.team), fleet_break_glass(self.release, self.read))

    def check(self, document: Document) -> None:
        """Refuse to sign what a guardrail refuses, or every node; how many approve is counted when it is published.

        Raises:
            FleetError: GUARDRAIL_REFUSED; as `check_bounds`.
        """
        self.check_bounds(document)
        about = self._circumstances(document, publisher="")
        fleet_guardrails(self.release, self.read).check(document.grant, about)

    def _circumstances(self, document: Document, publisher: str) -> Circumstances:
        """Who would approve it if it were signed here and now: the holders of the role's keys at hand."""
        may_sign = self.release.role_keys.get(grants_role(document.team), frozenset())
        here = {signer.public for signer in self.directory.keys.signers()} & may_sign
        return circumstances_of(self.release, document.grant, [key.key_id for key in here], publisher)


def _unnamed(text: str) -> FleetError:
    return FleetError(
        Code.GRANT_INVALID,
        "neither a file, nor an agent, nor an agent@REVISION",
        place=text,
        remedy="List what is approved with `fleetctl grant list`.",
    )


def operator_name(session: Session) -> str:
    """Name of the operator whom the context's certificate is for (`spiffe://FLEET/user/NAME`); empty for none."""
    try:
        (uri,) = uris_of(load_certificate(read_bounded(session.context().certificate, MAX_DOCUMENT)))
    except (FleetError, ValueError):
        return ""
    return uri.rpartition("/user/")[2]


def refusal_rows(found: tuple[Refusal, ...]) -> list[Row]:
    """Return refusals as rows of a table."""
    return [
        Row({"guardrail": item.id, "for": item.subject, "reason": item.reason, "remedy": item.remedy}) for item in found
    ]
