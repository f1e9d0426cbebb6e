"""Decides whether a grant applies here and now, and whether it covers what a component imports.

Owns: the checks that are about authority, in the order in which they are numbered. Each raises; nothing returns a
boolean that a caller could forget. Pure: the supervisor, the coordinator and fleetctl decide by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.grants.document import format_instant
from fleet.grants.lattice import meet
from fleet.grants.requests import propose_command
from fleet.grants.vocabulary import BASELINE, EXPORTS, find_specs, is_link
from fleet.links import linked_imports
from fleet.semver import parse_version
from fleet.wit import parse_interface

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from fleet.grants.ceilings import Ceiling
    from fleet.grants.document import Grant
    from fleet.grants.lattice import Authority
    from fleet.model import Link

_NO_LINKS: Mapping[str, Link] = MappingProxyType({})


def effective(grant: Grant, *ceilings: Authority) -> Authority:
    """Return what an agent may do: the grant's authority under every ceiling (fleet, node, narrowing)."""
    authority = grant.authority
    for ceiling in ceilings:
        authority = meet(authority, ceiling)
    return authority


def check_applies(  # noqa: PLR0913 - one named fact for each condition that the grant states
    grant: Grant,
    *,
    agent: str,
    bundle_name: str,
    bundle_version: str,
    bundle_digest: str,
    labels: Mapping[str, str],
    now: datetime,
) -> None:
    """Check that a grant is meant for this agent, bundle, node and moment.

    1. agent  2. bundle name  3. version range  4. pinned digests  5. node labels  6. validity

    Args:
        grant: the verified grant.
        agent: `application/agent`.
        bundle_name: name in the verified bundle.
        bundle_version: version in the verified bundle.
        bundle_digest: digest of the verified bundle.
        labels: labels from the node's own disk, never the coordinator's view of them.
        now: aware time of the node.

    Raises:
        FleetError: GRANT_NOT_APPLICABLE (1 to 5) or GRANT_EXPIRED (6) with the failing `condition`.
    """
    selector = grant.bundle
    if grant.agent != agent:  # 1
        raise _not_applicable(agent, "agent", f"the grant is for {grant.agent}")
    if selector.name != bundle_name:  # 2
        raise _not_applicable(agent, "bundle.name", f"the grant is for {selector.name}, not {bundle_name}")
    version = parse_version(bundle_version, Code.BUNDLE_INVALID, bundle_name)
    if version not in selector.versions:  # 3
        raise _not_applicable(agent, "bundle.versions", f"{bundle_version} is not in {selector.versions.text}")
    if selector.digests and bundle_digest not in selector.digests:  # 4
        raise _not_applicable(agent, "bundle.sha256", f"{bundle_digest} is not one of the pinned digests")
    check_holds(grant, agent, labels, now)  # 5, 6


def check_holds(grant: Grant, agent: str, labels: Mapping[str, str], now: datetime) -> None:
    """Check that a grant is meant for this agent, node and moment, whichever bundle it runs.

    Args:
        grant: the verified grant.
        agent: `application/agent`.
        labels: labels from the node's own disk, never the coordinator's view of them.
        now: aware time of the node.

    Raises:
        FleetError: GRANT_NOT_APPLICABLE or GRANT_EXPIRED with the failing `condition`.
    """
    if grant.agent != agent:
        raise _not_applicable(agent, "agent", f"the grant is for {grant.agent}")
    for key, value in grant.node_labels.items():
        if labels.get(key) != value:
            have = f"{key}={labels[key]}" if key in labels else f"no label {key}"
            raise _not_applicable(agent, f"nodes.labels.{key}", f"the grant needs {key}={value}, the node has {have}")
    if not grant.not_before <= now < grant.not_after:
        period = f"{format_instant(grant.not_before)} to {format_instant(grant.not_after)}"
        raise FleetError(Code.GRANT_EXPIRED, f"the grant is valid from {period}", agent=agent, condition="validity")


def check_team(grant: Grant, grants_role: str, code_role: str) -> None:
    """Check that a grant is for bundles of the team that signed this one.

    A grant is for its own team's bundles: `grants-NAME` for what `code-NAME` signs. For another team's it must name
    the role (`applies_to.bundle.role`), so that approvers who meant their own team's bundle of that name are not taken
    to have meant anybody's.

    Args:
        grant: the verified grant.
        grants_role: the role that lists the grant.
        code_role: the role that lists the bundle.

    Raises:
        FleetError: GRANT_NOT_APPLICABLE.
    """
    wanted = grant.bundle.role or f"code-{grants_role.removeprefix('grants-')}"
    if code_role != wanted:
        message = f"the grant is for bundles that {wanted} signs, and {code_role} signed this one"
        raise _not_applicable(grant.agent, "bundle.role", message)


def _not_applicable(agent: str, condition: str, message: str) -> FleetError:
    return FleetError(Code.GRANT_NOT_APPLICABLE, message, agent=agent, condition=condition)


@dataclass(frozen=True, slots=True)
class ImportDecision:
    """What to link for a component, by the names that it imports.

    Attributes:
        granted: imports that the authority covers.
        baseline: imports that need no grant and have none.
        deny_stubs: optional imports without a grant, to be met by functions that refuse every call.
        unused: unversioned interfaces that are granted and neither imported nor of those that agents export.
        links: imports that another agent answers, with the link that says who.
    """

    granted: tuple[str, ...]
    baseline: tuple[str, ...]
    deny_stubs: tuple[str, ...]
    unused: tuple[str, ...]
    links: Mapping[str, Link] = field(default_factory=lambda: _NO_LINKS)


def check_imports(
    imports: Sequence[str],
    authority: Authority,
    optional: Collection[str],
    agent: str,
    bundle: str,
    links: Iterable[Link] = (),
) -> ImportDecision:
    """Check that every import is granted, baseline or optional, and that links answer what no node serves.

    A link is no authority: the grant must name the interface, and allow the agent that the link names. A grant whose
    lease dropped the interface still links it, and every call is denied.

    Args:
        imports: top-level imports of the component (`fleet.component.read_component`).
        authority: the effective authority.
        optional: interfaces that the bundle declares optional, with or without version.
        agent: `application/agent`.
        bundle: `name@version`, for the remedy.
        links: the agent's links, with full names of agents.

    Raises:
        FleetError: COMPONENT_UNSUPPORTED for an import that is no interface; IMPORT_NOT_GRANTED naming the missing
            interfaces, with `remedy` the exact command that would grant them, or the agent that a link may not name;
            LINK_INVALID for a link that fits no import, and for an import that only a link could answer.
    """
    linked = linked_imports(links, imports, agent)
    spare = {parse_interface(name).unversioned for name in optional}
    granted: list[str] = []
    baseline: list[str] = []
    stubs: list[str] = []
    missing: list[str] = []
    answered: dict[str, Link] = {}
    seen: set[str] = set()
    for name in imports:
        interface = parse_interface(name, Code.COMPONENT_UNSUPPORTED).unversioned
        seen.add(interface)
        has = interface in authority.capabilities
        if interface in BASELINE and not has:
            baseline.append(name)
        elif has and name in linked and authority.capabilities[interface]:
            answered[name] = linked[name]
        elif has and not is_link(interface):
            granted.append(name)
        elif (has and name in linked) or (interface in spare and name not in linked):
            stubs.append(name)
        elif interface not in missing:
            missing.append(interface)
    if missing:
        raise _not_granted(missing, authority, agent, bundle)
    _check_links(linked, authority, agent)
    unused = tuple(sorted(authority.capabilities.keys() - seen - EXPORTS))
    return ImportDecision(tuple(granted), tuple(baseline), tuple(stubs), unused, MappingProxyType(answered))


def _check_links(linked: Mapping[str, Link], authority: Authority, agent: str) -> None:
    """Check that each link is of an interface that agents serve, and names an agent that the grant allows."""
    for name, link in linked.items():
        interface = parse_interface(name).unversioned
        if not is_link(interface):
            raise FleetError(
                Code.LINK_INVALID,
                f"{agent} links {name}, which only a node serves",
                agent=agent,
                imports=name,
                remedy="Take the link out of fleet.yaml: agents answer only interfaces that no node serves.",
            )
        if authority.capabilities[interface] and not authority.allows(interface, agent=link.agent):
            raise FleetError(
                Code.IMPORT_NOT_GRANTED,
                f"the grant of {agent} does not let {link.agent} answer {interface}",
                agent=agent,
                imports=interface,
                remedy=f"Add {link.agent} to `agents` of {interface} in a new revision of the grant of {agent}.",
            )


def check_ceilings(
    names: Iterable[str], grant: Grant, ceilings: Sequence[Ceiling], optional: Collection[str], agent: str
) -> None:
    """Check that no ceiling leaves out what a component needs and its grant gives, so that the error names the ceiling.

    A ceiling's rules bound the calls; this is about interfaces that it does not name at all.

    Args:
        names: imports and exports of the component.
        grant: the verified grant.
        ceilings: those that hold on the node.
        optional: interfaces that the bundle declares optional; they are denied call by call.
        agent: `application/agent`.

    Raises:
        FleetError: IMPORT_NOT_GRANTED with the `place` of the ceiling.
    """
    spare = {name.partition("@")[0] for name in optional}
    needed = {name.partition("@")[0] for name in names} & grant.capabilities.keys()
    for ceiling in ceilings:
        beyond = sorted(needed - ceiling.authority.capabilities.keys() - spare - BASELINE)
        if beyond:
            raise FleetError(
                Code.IMPORT_NOT_GRANTED,
                f"{ceiling.place} allows no agent {', '.join(beyond)}, which {agent} needs and its grant gives",
                agent=agent,
                imports=", ".join(beyond),
                place=ceiling.place,
                remedy=f"Raise the ceiling, place {agent} on other nodes, or build it without {', '.join(beyond)}.",
            )


def check_exports(exports: Iterable[str], authority: Authority, agent: str, bundle: str) -> tuple[str, ...]:
    """Check that whatever a node would serve for the component is granted; return those exports.

    Args:
        exports: top-level exports of the component (`fleet.component.read_component`).
        authority: the effective authority.
        agent: `application/agent`.
        bundle: `name@version`, for the remedy.

    Raises:
        FleetError: IMPORT_NOT_GRANTED naming the missing interfaces, with `remedy` the command that would grant them.
    """
    served = {name: name.partition("@")[0] for name in exports if name.partition("@")[0] in EXPORTS}
    missing = sorted({interface for interface in served.values() if interface not in authority.capabilities})
    if missing:
        command = propose_command(agent, bundle, missing)
        raise FleetError(
            Code.IMPORT_NOT_GRANTED,
            f"{agent} exports {', '.join(missing)}, which a node serves by grant only; run: {command}",
            agent=agent,
            exports=", ".join(missing),
            remedy=command,
        )
    return tuple(served)


def _not_granted(missing: list[str], authority: Authority, agent: str, bundle: str) -> FleetError:
    """Name everything that is missing at once, so that one proposal mends it."""
    unlinked = [interface for interface in missing if interface in authority.capabilities]
    if unlinked:
        return FleetError(
            Code.LINK_INVALID,
            f"{agent} imports {', '.join(unlinked)}, and no link says which agent answers",
            agent=agent,
            imports=", ".join(unlinked),
            remedy=f"Add to {agent} in fleet.yaml, for each: links: [{{import: {unlinked[0]}, agent: NAME}}]",
        )
    unknown = [interface for interface in missing if find_specs(interface) is None]
    if unknown:
        return FleetError(
            Code.IMPORT_NOT_GRANTED,
            f"{agent} imports {', '.join(unknown)}, which no grant of this release can name",
            agent=agent,
            imports=", ".join(missing),
            remedy=f"Build {bundle} without {', '.join(unknown)}, or declare it in optional_imports of bundle.yaml.",
        )
    command = propose_command(agent, bundle, missing)
    return FleetError(
        Code.IMPORT_NOT_GRANTED,
        f"{agent} imports {', '.join(missing)} without a grant; run: {command}",
        agent=agent,
        imports=", ".join(missing),
        remedy=command,
    )
