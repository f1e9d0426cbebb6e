"""The grant document: `fleet.grant/v1`, and the ceiling: `fleet.ceiling/v1`.

Owns: reading the signed YAML into `Grant`. Strict: unknown keys, interfaces and constraints are refused, and what
would widen by being forgotten must be written. Signatures are `fleet.trust`; whether a grant applies here and now is
`fleet.grants.admission`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from fleet.documents import Reader, is_plain, load_yaml
from fleet.errors import Code, FleetError
from fleet.grants.lattice import Authority
from fleet.grants.limits import DEFAULT_LIMITS, HIGHEST_LIMITS, Limits, parse_limits
from fleet.grants.requests import MAX_REQUESTED, Request, request_digest
from fleet.grants.rules import Rules, parse_capabilities
from fleet.names import is_agent_name, is_digest, is_name
from fleet.quantities import parse_duration
from fleet.semver import VersionRange, parse_range

if TYPE_CHECKING:
    from collections.abc import Mapping

E = TypeVar("E", bound=StrEnum)

GRANT_SCHEMA = "fleet.grant/v1"
CEILING_SCHEMA = "fleet.ceiling/v1"

MAX_REVISION = 1 << 31
MAX_PINS = 64
"""Bundle digests in one grant."""
MAX_LABELS = 32
MAX_LABEL = 63
MAX_REASON = 1024
"""Characters of the reason."""

MAX_BREAK_GLASS = timedelta(hours=24)
"""Longest validity of a break-glass grant, whatever the policy of a fleet allows."""

_LABEL_KEY = re.compile(r"[a-z0-9]+([-./][a-z0-9]+)*")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class Risk(StrEnum):
    """How much harm the authority could do; a high risk must name the bundles by digest."""

    LOW = "low"
    STANDARD = "standard"
    HIGH = "high"


class OnLapse(StrEnum):
    """What happens to a running agent whose node has not heard from the release repository for `max_stale`."""

    CONTINUE = "continue"
    DROP = "drop"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a node may go on without fresh trust metadata.

    Attributes:
        max_stale_ms: the limit.
        on_lapse: what happens then.
        drop: interfaces that `OnLapse.DROP` takes away.
    """

    max_stale_ms: int
    on_lapse: OnLapse
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleSelector:
    """Which bundles a grant is for: the name, a version range, and the digests when it is pinned.

    Attributes:
        role: the code role that signs them; empty for that of the grant's own team.
    """

    name: str
    versions: VersionRange
    digests: tuple[str, ...] = ()
    role: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as its approvers signed it.

    Attributes:
        agent: `application/agent`.
        revision: number of this grant of the agent; a change is a new revision.
        node_labels: pairs that a node must all have; none means every node.
        not_before: start of the validity, inclusive.
        not_after: end of the validity, exclusive.
        request: what its approvers saw the bundle ask for; None: any bundle of the range may ask for what the rules
            give.
        proposed_by: name of who drafted it, for the rule that somebody else approves; empty where nobody says so.
        break_glass: made in an emergency: valid for `MAX_BREAK_GLASS` at most, with a reason, and below a ceiling of
            its own (`fleet.grants.break_glass`).
    """

    agent: str
    revision: int
    bundle: BundleSelector
    node_labels: Mapping[str, str]
    not_before: datetime
    not_after: datetime
    lease: Lease
    risk: Risk
    capabilities: Mapping[str, Rules]
    limits: Limits
    reason: str
    request: Request | None = None
    break_glass: bool = False
    proposed_by: str = ""

    @property
    def authority(self) -> Authority:
        """What the grant gives, before any ceiling."""
        return Authority(self.capabilities, self.limits)


def parse_grant(data: bytes, name: str) -> Grant:
    """Parse a grant document.

    Args:
        data: the signed bytes.
        name: file name or target path, for error places.

    Raises:
        FleetError: GRANT_INVALID with the place; LIMIT_EXCEEDED when too large.
    """
    with Reader(load_yaml(data, Code.GRANT_INVALID, name), Code.GRANT_INVALID, name) as reader:
        _expect_schema(reader, GRANT_SCHEMA)
        bundle, labels, request = reader.section("applies_to", _parse_applies_to)
        not_before, not_after = reader.section("validity", _parse_validity)
        grant = Grant(
            agent=reader.text("agent"),
            revision=reader.integer("revision", 1, MAX_REVISION),
            bundle=bundle,
            node_labels=labels,
            not_before=not_before,
            not_after=not_after,
            lease=reader.section("lease", _parse_lease),
            risk=_member(reader, "risk", Risk, Risk.STANDARD),
            capabilities=reader.section("caps", parse_capabilities),
            limits=parse_optional_limits(reader, DEFAULT_LIMITS),
            reason=reader.text("reason", ""),
            request=request,
            break_glass=reader.flag("break_glass", default=False),
            proposed_by=reader.text("proposed_by", ""),
        )
        if grant.proposed_by and not is_name(grant.proposed_by):
            reader.fail("proposed_by", "expected the name of an operator, such as alice")
        if not is_agent_name(grant.agent):
            reader.fail("agent", f"{grant.agent[:128]!r} is not application/agent")
        if len(grant.reason) > MAX_REASON or not is_plain(grant.reason):
            reader.fail("reason", f"expected one line of at most {MAX_REASON} characters")
        if grant.risk is Risk.HIGH and not grant.bundle.digests:
            reader.fail("applies_to.bundle.sha256", "a high risk needs the digests of the bundles")
        if grant.break_glass and grant.not_after - grant.not_before > MAX_BREAK_GLASS:
            reader.fail("validity.not_after", "a break-glass grant holds for at most a day")
        if grant.break_glass and not grant.bundle.role:
            reader.fail("applies_to.bundle.role", "a break-glass grant names the role that signs its bundle")
        if grant.break_glass and not grant.reason:
            reader.fail("reason", "a break-glass grant says why it is needed")
        for interface in grant.lease.drop:
            if interface not in grant.capabilities:
                reader.fail("lease.on_lapse.drop", f"{interface[:256]!r} is not in caps")
    return grant


def parse_ceiling(data: bytes, name: str) -> Authority:
    """Parse a ceiling: the most that agents of a fleet or node may have, written like the caps and limits of a grant.

    An interface that is absent is not allowed; a limit that is absent restricts nothing.

    Raises:
        FleetError: GRANT_INVALID with the place; LIMIT_EXCEEDED when too large.
    """
    with Reader(load_yaml(data, Code.GRANT_INVALID, name), Code.GRANT_INVALID, name) as reader:
        _expect_schema(reader, CEILING_SCHEMA)
        return Authority(reader.section("caps", parse_capabilities), parse_optional_limits(reader, HIGHEST_LIMITS))


def _expect_schema(reader: Reader, schema: str) -> None:
    if reader.text("schema") != schema:
        reader.fail("schema", f"expected {schema}")


def parse_optional_limits(reader: Reader, defaults: Limits) -> Limits:
    """Read `limits` where there are any; what is not named is taken from `defaults`."""
    if not reader.has("limits"):
        return defaults
    return reader.section("limits", lambda section: parse_limits(section, defaults))


def _parse_applies_to(reader: Reader) -> tuple[BundleSelector, Mapping[str, str], Request | None]:
    bundle = reader.section("bundle", _parse_bundle)
    labels = reader.section("nodes", parse_node_labels) if reader.has("nodes") else {}
    return bundle, labels, _parse_request(reader)


def _parse_request(reader: Reader) -> Request | None:
    """Read `request_sha256` and `requests`. Named, the set must be the one that the digest is of."""
    if not reader.has("request_sha256"):
        if reader.has("requests"):
            reader.fail("request_sha256", "requests needs the digest that it was reviewed under")
        return None
    digest = reader.text("request_sha256")
    if not is_digest(digest):
        reader.fail("request_sha256", "expected a digest sha256:...")
    if not reader.has("requests"):
        return Request(digest)
    interfaces = reader.texts("requests", MAX_REQUESTED)
    if request_digest(interfaces) != digest or len(set(interfaces)) != len(interfaces):
        reader.fail("requests", f"not the set that {digest} is the digest of")
    return Request(digest, tuple(sorted(interfaces)))


def _parse_bundle(reader: Reader) -> BundleSelector:
    name = reader.text("name")
    if not is_name(name):
        reader.fail("name", f"{name[:64]!r} is not a bundle name")
    versions = parse_range(reader.text("versions"), reader.code, reader.at("versions"))
    digests = reader.texts("sha256", MAX_PINS)
    for i, digest in enumerate(digests):
        if not is_digest(digest) or digest in digests[:i]:
            raise FleetError(
                reader.code, "expected a digest sha256:... that is named once", place=f"{reader.at('sha256')}[{i}]"
            )
    role = reader.text("role", "")
    if role and not (role.startswith("code-") and is_name(role.removeprefix("code-"))):
        reader.fail("role", f"{role[:64]!r} is not a role code-TEAM")
    return BundleSelector(name, versions, digests, role)


def parse_node_labels(reader: Reader) -> Mapping[str, str]:
    """Read `labels`: pairs that a node must all have.

    Raises:
        FleetError: the code of the document, at the offending label.
    """
    labels = reader.mapping("labels", MAX_LABELS)
    for key, value in labels.items():
        if len(key) > MAX_LABEL or _LABEL_KEY.fullmatch(key) is None or not _is_label_value(value):
            raise FleetError(reader.code, "not a label", place=f"{reader.at('labels')}.{key[:MAX_LABEL]}")
    return labels


def _is_label_value(value: str) -> bool:
    return 0 < len(value) <= MAX_LABEL and value.isascii() and value.isprintable() and " " not in value


def _parse_validity(reader: Reader) -> tuple[datetime, datetime]:
    not_before, not_after = _instant(reader, "not_before"), _instant(reader, "not_after")
    if not_before >= not_after:
        reader.fail("not_after", "ends before it begins")
    return not_before, not_after


def format_instant(instant: datetime) -> str:
    """Write a point in time as documents do: RFC 3339, UTC, whole seconds."""
    return instant.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _instant(reader: Reader, key: str) -> datetime:
    text = reader.text(key)
    message = f"{text[:64]!r} is not a UTC time such as 2030-01-31T00:00:00Z"
    if _INSTANT.fullmatch(text) is None:
        reader.fail(key, message)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise FleetError(reader.code, message, place=reader.at(key)) from error


def _parse_lease(reader: Reader) -> Lease:
    max_stale_ms = parse_duration(reader.text("max_stale"), reader.code, reader.at("max_stale"))
    if isinstance(reader.take("on_lapse"), dict):
        drop = reader.section("on_lapse", lambda section: section.texts("drop", MAX_PINS))
        if not drop:
            reader.fail("on_lapse", "drop names no interface")
        return Lease(max_stale_ms, OnLapse.DROP, drop)
    action = _member(reader, "on_lapse", OnLapse, OnLapse.STOP)
    if action is OnLapse.DROP:
        reader.fail("on_lapse", "drop needs its interfaces: {drop: [...]}")
    return Lease(max_stale_ms, action)


def _member(reader: Reader, key: str, kind: type[E], default: E) -> E:
    text = reader.text(key, str(default))
    if text not in set(kind):
        reader.fail(key, f"{text[:64]!r} is not one of {', '.join(kind)}")
    return kind(text)
