"""Drafts of grants: what `fleetctl grant propose` writes for people to read, correct and sign.

Owns: the least authority that a component's imports need, as far as a binary tells it, and the text form of a grant.
A draft gives nothing: only an approved signature does.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.errors import Code
from fleet.grants.constraints import Constraint, Literals, Maximum, Patterns
from fleet.grants.document import GRANT_SCHEMA, BundleSelector, Grant, Lease, OnLapse, Risk, format_instant
from fleet.grants.limits import DEFAULT_LIMITS
from fleet.grants.networks import PUBLIC, Hosts, Networks, Ports
from fleet.grants.requests import requested_interfaces, review_request
from fleet.grants.rules import Rule, Rules, write_rule
from fleet.grants.vocabulary import BASELINE, EXPORTS, Kind, find_specs, is_link, specs_of
from fleet.grants.volumes import SCRATCH, Volumes
from fleet.model import MessageTrigger, SensorTrigger
from fleet.quantities import format_duration
from fleet.semver import VersionRange, parse_range, parse_version
from fleet.wit import parse_interface

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.model import ApplicationAgent

VALIDITY = timedelta(days=365)
LEASE = Lease(30 * 86_400_000, OnLapse.CONTINUE)
NO_HOST = "host.invalid"
"""What stands in a draft for the hosts that only a person knows: a name that never exists (RFC 6761, section 6.4)."""

MAX_BYTES = 16 << 20
"""Bytes that a draft lets an agent keep."""

_COMMENTS: Mapping[str, str] = {
    "wasi:keyvalue/store": "buckets it may open, by custom its own name; strike the ops it does not need",
    "wasi:keyvalue/atomics": "the same buckets as in wasi:keyvalue/store",
    "wasi:keyvalue/batch": "the same buckets as in wasi:keyvalue/store",
    "wasi:keyvalue/watcher": "buckets whose changes it may be told",
    "wasi:messaging/producer": "topics it may send to; add max_bytes and max_rps to bound its messages",
    "wasi:messaging/request-reply": "topics it may ask, and on whose messages it may answer",
    "wasi:messaging/incoming-handler": "topics whose messages it may be given",
    "fleet:sensors/reader": "sources of the node, as its operator named them",
    "fleet:sensors/handler": "sources of the node, as its operator named them",
    "wasi:nn/graph": "models of the bundle, by name or by digest",
    "wasi:nn/inference": "add max_rps to bound how often it infers",
    "wasi:http/outgoing-handler": "name its hosts in place of host.invalid (*.example.org: those below); "
    "networks beside public: private, loopback, link-local, or a block such as 192.168.7.0/24",
    "wasi:http/incoming-handler": "ports that it answers on; addresses beside the node itself: 0.0.0.0 is every one",
    "wasi:filesystem/preopens": "folders that it sees: scratch/NAME is the application's own, node/NAME one that the "
    "node's operator declared; strike write for reading alone",
    "fleet:secrets/store": "secrets that it may hold, without being told their values",
    "fleet:secrets/reveal": "secrets whose values it is told; strike what it need not see",
    "fleet:secrets/http": "hosts that the node sends a held secret to, in a header that the agent never sees",
    "wasi:config/store": "keys of its configuration in fleet.yaml; a prefix ends in *",
}

_LINK_COMMENT = "agents that `links` of fleet.yaml may name for it; name the one you mean"

_PLAIN = re.compile(r"[a-z][a-z0-9]*([-/:][a-z0-9]+)*")
_NOT_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that some YAML reader takes for something else."""


@dataclass(frozen=True, slots=True)
class Known:
    """What an application's manifest says that a component's imports do not: drafts name it instead of a guess.

    Attributes:
        topics: message topics that the agent has triggers for.
        sources: sensors that it has triggers for.
        keys: keys of its configuration.
        agents: interface (unversioned) -> agents that answer it by a link.
        labels: labels of the nodes that it is placed on.
    """

    topics: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    agents: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def known_from(application: str, agent: ApplicationAgent) -> Known:
    """Return what fleet.yaml says of an agent."""
    agents: dict[str, set[str]] = {}
    for link in agent.links:
        agents.setdefault(link.interface.partition("@")[0], set()).add(f"{application}/{link.agent}")
    return Known(
        frozenset(trigger.topic for trigger in agent.triggers if isinstance(trigger, MessageTrigger)),
        frozenset(trigger.source for trigger in agent.triggers if isinstance(trigger, SensorTrigger)),
        frozenset(agent.config),
        MappingProxyType({interface: frozenset(names) for interface, names in agents.items()}),
        agent.placement.labels,
    )


def propose_grant(  # noqa: PLR0913 - the facts that a grant binds together
    imports: Iterable[str],
    *,
    agent: str,
    bundle_name: str,
    bundle_version: str,
    models: Sequence[str],
    revision: int,
    now: datetime,
    known: Known | None = None,
    bundle_role: str = "",
) -> bytes:
    """Draft the first grant of an agent from what its component imports.

    Args:
        imports: top-level imports of the component; those that need no grant are passed over, those that no grant can
            name are left as comments.
        agent: `application/agent`.
        bundle_name: name of the bundle.
        bundle_version: its version; the draft covers compatible later ones.
        models: names of the models in the bundle.
        revision: revision of the draft.
        now: aware time; the draft is valid for `VALIDITY` from then.
        known: what the application's manifest says of the agent.
        bundle_role: the code role that signs the bundle; empty for that of the grant's own team.

    Returns:
        Commented YAML that `parse_grant` reads.

    Raises:
        FleetError: COMPONENT_UNSUPPORTED for an import that is no interface.
    """
    interfaces = sorted({parse_interface(name, Code.COMPONENT_UNSUPPORTED).unversioned for name in imports})
    begin = now.replace(microsecond=0)
    grant = Grant(
        agent=agent,
        revision=revision,
        bundle=BundleSelector(bundle_name, _compatible_range(bundle_version), role=bundle_role),
        node_labels=(known or Known()).labels,
        not_before=begin,
        not_after=begin + VALIDITY,
        lease=LEASE,
        risk=Risk.STANDARD,
        capabilities={
            name: _draft_rules(name, agent, models, known or Known())
            for name in interfaces
            if find_specs(name) is not None and name not in BASELINE
        },
        limits=DEFAULT_LIMITS,
        reason="",
        request=review_request(requested_interfaces(interfaces, interfaces)),
    )
    outside = [name for name in interfaces if (find_specs(name) is None) != (name in BASELINE)]
    return render_grant(grant, outside)


def extend_grant(
    grant: Grant,
    add: Iterable[str],
    *,
    models: Sequence[str],
    revision: int,
    request: Iterable[str],
    known: Known | None = None,
) -> bytes:
    """Draft a new revision that differs by the added interfaces alone; what the grant names already stays as it is.

    Args:
        grant: the revision in force.
        add: interfaces to name beside those that it names.
        models: names of the models in the bundle.
        revision: revision of the draft.
        request: what the bundle now asks for (`requested_interfaces`); it takes the place of the reviewed request. A
            grant without one stays without.
        known: what the application's manifest says of the agent.

    Raises:
        FleetError: GRANT_INVALID for an interface that no grant of this release can name.
    """
    capabilities = dict(grant.capabilities)
    for interface in add:
        specs_of(interface, Code.GRANT_INVALID, interface)
        capabilities.setdefault(interface, _draft_rules(interface, grant.agent, models, known or Known()))
    reviewed = None if grant.request is None else review_request(request)
    return render_grant(replace(grant, revision=revision, capabilities=capabilities, request=reviewed))


def render_grant(grant: Grant, outside: Sequence[str] = ()) -> bytes:
    """Write a grant as commented YAML; `parse_grant` reads the same grant from it.

    Args:
        grant: the grant.
        outside: imported interfaces for a comment: those that no grant can name, and those that would do more with one.
    """
    lines = [
        f"schema: {GRANT_SCHEMA}",
        f"agent: {_text(grant.agent)}",
        f"revision: {grant.revision}",
        "applies_to:",
        "  bundle:",
        f"    name: {_text(grant.bundle.name)}",
        f"    versions: {_quote(grant.bundle.versions.text)}",
        *([f"    role: {grant.bundle.role}"] if grant.bundle.role else []),
        f"    sha256: {_list(grant.bundle.digests)}  # none: every bundle of that name and range",
        "  nodes:",
        f"    labels: {_mapping(grant.node_labels)}  # all must be on the node; none: every node",
        *_request(grant),
        "validity:",
        f"  not_before: {format_instant(grant.not_before)}",
        f"  not_after: {format_instant(grant.not_after)}",
        "lease:  # for nodes that hear no news of the release repository",
        f"  max_stale: {format_duration(grant.lease.max_stale_ms)}",
        f"  on_lapse: {_on_lapse(grant.lease)}",
        f"risk: {grant.risk}",
        *(("break_glass: true",) if grant.break_glass else ()),
        "caps:" if grant.capabilities else "caps: {}",
        *(
            line
            for interface in sorted(grant.capabilities)
            for line in _rules(interface, grant.capabilities[interface])
        ),
        *(f"  # {interface}: {_why_outside(interface)}" for interface in outside),
        "limits:",
        *(f"  {key}: {value}" for key, value in grant.limits.describe().items()),
        *((f"proposed_by: {_text(grant.proposed_by)}",) if grant.proposed_by else ()),
        f"reason: {_quote(grant.reason)}",
    ]
    return ("\n".join(lines) + "\n").encode()


def _why_outside(interface: str) -> str:
    if interface in BASELINE:
        return "imported, and needs no grant while it reaches nothing; `--add` drafts a rule"
    return "imported, but no grant of this release can name it"


def _compatible_range(version: str) -> VersionRange:
    """Return the range from this version to the end of its semver track; a pre-release is pinned."""
    parsed = parse_version(version, Code.BUNDLE_INVALID, "version")
    if parsed.pre_release:
        text = f"={parsed}"
    elif parsed.major:
        text = f">={parsed},<{parsed.major + 1}"
    else:
        text = f">={parsed},<0.{parsed.minor + 1}"
    return parse_range(text, Code.BUNDLE_INVALID, "version")


def name_proposer(draft: bytes, name: str) -> bytes:
    """Return a draft with the name of who proposes it, so that guardrails can tell whether somebody else approves."""
    lines = [line for line in draft.decode().splitlines() if not line.startswith("proposed_by:")]
    return "".join(f"{line}\n" for line in (*lines, *((f"proposed_by: {_text(name)}",) if name else ()))).encode()


def _draft_rules(interface: str, agent: str, models: Sequence[str], known: Known) -> Rules:
    application, _, own_name = agent.partition("/")
    values: dict[str, Constraint] = {
        "agents": Patterns(known.agents.get(interface, frozenset({f"{application}/*"}))),
        "buckets": Patterns(frozenset({own_name})),
        "models": Patterns(frozenset(models or (own_name,))),
        "devices": Literals(frozenset({"cpu"})),
        "keys": Patterns(known.keys or frozenset({"*"})),
        "topics": Patterns((known.topics if interface in EXPORTS else frozenset()) or frozenset({own_name})),
        "sources": Patterns((known.sources if interface in EXPORTS else frozenset()) or frozenset({own_name})),
        "names": Patterns(frozenset({own_name})),
        "volumes": Volumes(frozenset({f"{SCRATCH}{own_name}"})),
        "max_bytes": Maximum(MAX_BYTES),
        "hosts": Hosts(frozenset({NO_HOST})),
        "methods": Literals(frozenset({"GET"})),
        "schemes": Literals(frozenset({"https"})),
        "ports": Literals(frozenset({"8080"})) if interface in EXPORTS else Ports(frozenset({"443"})),
        "paths": Patterns(frozenset({"/*"})),
        "networks": Networks(frozenset({PUBLIC})),
        "addresses": Literals(frozenset({"127.0.0.1"})),
        "max_request_bytes": Maximum(1 << 20),
        "max_response_bytes": Maximum(MAX_BYTES),
    }
    constraints: dict[str, Constraint] = {}
    specs = specs_of(interface, Code.GRANT_INVALID, interface)
    for name, spec in specs.items():
        if name == "max_bytes" and "topics" in specs:
            continue  # bytes of a message, which the host bounds anyway
        if name in values:
            constraints[name] = values[name]
        elif spec.kind is Kind.LITERALS:
            constraints[name] = Literals(spec.values)
    return (Rule(constraints),)


def _rules(interface: str, rules: Rules) -> list[str]:
    text = _LINK_COMMENT if is_link(interface) else _COMMENTS.get(interface, "")
    comment = f"  # {text}" if text else ""
    if rules == (Rule({}),):
        return [f"  {interface}: []{comment}"]
    lines = [f"  {interface}:{comment}"]
    for rule in rules:
        written = write_rule(interface, rule)
        parts = ", ".join(f"{key}: {_list(v) if isinstance(v, list) else v}" for key, v in written.items())
        lines.append(f"    - {{{parts}}}")
    return lines


def _request(grant: Grant) -> list[str]:
    if grant.request is None:
        return []
    lines = [f"  request_sha256: {_quote(grant.request.digest)}  # of what the bundle asked for when it was reviewed"]
    if grant.request.interfaces is not None:
        lines.append(f"  requests: {_list(grant.request.interfaces)}  # a later bundle may ask for these or for less")
    return lines


def _on_lapse(lease: Lease) -> str:
    return f"{{drop: {_list(lease.drop)}}}" if lease.on_lapse is OnLapse.DROP else str(lease.on_lapse)


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"


def _mapping(values: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{_quote(key)}: {_text(value)}' for key, value in sorted(values.items()))}}}"


def _text(value: str) -> str:
    return value if _PLAIN.fullmatch(value) and value not in _NOT_TEXT else _quote(value)


def _quote(value: str) -> str:
    """Quote text; for printable characters a JSON string is a YAML one."""
    return json.dumps(value, ensure_ascii=False)
