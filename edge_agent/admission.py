"""Whether one agent may run on this node, now, and with which authority.

Owns the ordered checks between an assignment and a start. They take a narrow context and depend on nothing that could
be asked over a network: an agent that was admitted yesterday is admitted again tonight from local disk alone. Never
starts anything, never fetches: what is missing is an error with a code.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING

from edge_agent.fusion import Fusion, Part, Wire
from edge_agent.listing import check_grant, check_part
from edge_agent.runtime import AgentStart, ModelFile
from edge_agent.secret_store import STORE
from fleet.bundle import MAX_COMPONENT, open_bundle
from fleet.component import read_component
from fleet.errors import Code, FleetError
from fleet.floors import Floors
from fleet.grants import (
    Ceiling,
    OnLapse,
    check_applies,
    check_break_glass,
    check_ceilings,
    check_exports,
    check_holds,
    check_imports,
    check_request,
    check_team,
    check_triggers,
    decode_narrowing,
    effective,
    fuse,
    meet,
    parse_grant,
)
from fleet.grants.volumes import NODE, PREOPENS, named_volumes
from fleet.model import Isolation
from fleet.revocations import Kind, Revocations
from fleet.wit import parse_interface

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from edge_agent.blobs import Blobs
    from edge_agent.runtime import Runtime, VolumeFolder
    from fleet.grants import Authority, BreakGlass, Grant, ImportDecision
    from fleet.model import AssignedAgent, FusedAgent
    from fleet.trust import Release


def _no_secrets(_agent: str, _authority: Authority) -> Mapping[str, int]:
    """Return no secret: for nodes that have none."""
    return {}


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What the checks may know about the node.

    Attributes:
        release: the adopted release.
        fresh_at: when the release was last known to be the newest; leases count from then.
        blobs: the node's files.
        labels: from the node's own identity.
        ceiling: the most that any agent of this node may have; None restricts nothing.
        fleet_ceilings: those of the fleet's ceilings that hold on this node; none restricts nothing.
        state_root: folder of the applications' own data.
        volumes: folders that the operator has declared for agents, by name.
        now: the time, never earlier than `fresh_at`.
        revocations: what may not run any more.
        floors: smallest releases that may still run.
        secrets: names and versions of what the node has for an agent, as far as an authority lets it hold them.
        break_glass: bounds of emergency grants; None: there are none.
    """

    release: Release
    fresh_at: datetime
    blobs: Blobs
    labels: Mapping[str, str]
    ceiling: Authority | None
    state_root: Path
    now: datetime
    volumes: Mapping[str, VolumeFolder] = field(default_factory=dict)
    fleet_ceilings: Sequence[Ceiling] = ()
    revocations: Revocations = field(default_factory=Revocations)
    floors: Floors = field(default_factory=Floors)
    secrets: Callable[[str, Authority], Mapping[str, int]] = _no_secrets
    break_glass: BreakGlass | None = None

    @property
    def ceilings(self) -> tuple[Ceiling, ...]:
        """Every ceiling that holds here, the fleet's first."""
        own = () if self.ceiling is None else (Ceiling("ceiling.yaml of the node", {}, self.ceiling),)
        return (*self.fleet_ceilings, *own)


@dataclass(frozen=True, slots=True)
class AdmittedAgent:
    """What may run, made only by `admit`.

    Attributes:
        start: everything that the runtime needs.
        valid_until: when admission must be asked again: the end of the grant or of its lease. None: no end.
        exports: interfaces and functions that the component exports.
        emergencies: reasons of the emergency grants that it runs under; none for an ordinary start.
    """

    start: AgentStart
    valid_until: datetime | None
    exports: tuple[str, ...] = ()
    emergencies: tuple[str, ...] = ()


async def admit(spec: AssignedAgent, context: NodeContext, runtime: Runtime) -> AdmittedAgent:
    """Check one agent and compile its component.

    Checks, in this order:
        1. Signatures: the release lists the bundle under a code role and the grant under a grants role, with these
           digests; neither is revoked, and the bundle is not below the floor of releases (`edge_agent.listing`).
        2. Digest: the documents and files that the assignment names are stored and match; no model is revoked.
        3. The grant applies to this agent, bundle, team, node and moment; one for an emergency is within the policy
           for those (`fleet.grants.check_break_glass`).
        4. Effective authority: the grant under every ceiling of the fleet and the node, narrowed as the assignment
           says, and under its lease. The node has the volumes that it names.
        5. Imports: the component's bytes ask for nothing that the grant's approvers did not review; every import is
           granted, baseline or optional, and every export that a node serves is granted; links name agents that the
           grant allows, and triggers topics and sources.
        6. Compile: the engine accepts the component, or what it is fused into (cached by digest).

    What is fused into the agent passes 1 to 5 under its own bundle and grant; the whole then has the authority of
    `fleet.grants.fuse`. Whether types agree is the engine's to say: in 6 for parts of one whole, else when the second
    of two linked agents starts.

    Raises:
        FleetError: 1 TARGET_UNSIGNED, DIGEST_MISMATCH, REVOKED, RELEASE_TOO_OLD; 2 BLOB_MISSING, BLOB_CORRUPT,
            DIGEST_MISMATCH, BUNDLE_INVALID, REVOKED; 3 GRANT_NOT_APPLICABLE, GRANT_EXPIRED, GRANT_INVALID; 4
            GRANT_EXPIRED, VOLUME_UNAVAILABLE; 5 IMPORT_NOT_GRANTED, LINK_INVALID, EXPORT_NOT_FOUND,
            COMPONENT_UNSUPPORTED, COMPONENT_INVALID; 6 whatever `Runtime.prepare` raises.
    """
    # Hashing a model takes as long as reading it, so it must not hold up the event loop.
    admitted = await asyncio.to_thread(_check, spec, context)
    start = admitted.start
    await runtime.prepare(start.component, start.component_digest, start.fusion)  # 6
    return admitted


async def granted(spec: AssignedAgent, context: NodeContext) -> Authority:
    """Return what the grants of an agent give it here and now, whatever becomes of its component.

    For an agent that others are fused into: what all of the grants give, since its components are not looked at.

    Raises:
        FleetError: as `admit` for the checks 1 to 4, as far as they are about grants.
    """
    return await asyncio.to_thread(_granted, spec, context)


def _granted(spec: AssignedAgent, context: NodeContext) -> Authority:
    authorities = []
    for part in spec.parts:
        listed = check_grant(part, context.release, context.revocations)
        grant = parse_grant(context.blobs.read(part.grant.digest), part.grant.path)
        check_break_glass(grant, listed.role, context.break_glass)
        check_holds(grant, part.name, context.labels, context.now)
        authorities.append(_effective(grant, part, context)[0])
    return reduce(meet, authorities)


@dataclass(frozen=True, slots=True)
class _Part:
    """One component that passed the checks 1 to 5, with what its own grant gives it."""

    bundle: str
    component: Part
    exports: tuple[str, ...]
    imports: frozenset[str]
    models: Mapping[str, ModelFile]
    authority: Authority
    valid_until: datetime
    decision: ImportDecision
    emergencies: tuple[str, ...]


def _check(spec: AssignedAgent, context: NodeContext) -> AdmittedAgent:
    parts = [_check_part(part, context) for part in spec.parts]
    own = parts[0]
    check_triggers(spec.triggers, own.exports, own.authority, spec.name, own.bundle)  # 5
    stubs = {name for part in parts for name in part.decision.deny_stubs}
    authority = fuse([(part.authority, part.imports) for part in parts])
    start = AgentStart(
        name=spec.name,
        component=own.component.component,
        component_digest=own.component.digest,
        authority=authority.encode(),
        state_dir=context.state_root / spec.application,
        deny_stubs=tuple(sorted(stubs)) if spec.fused else own.decision.deny_stubs,
        config=spec.config,
        models=_models(spec.name, parts),
        on_full_queue=spec.on_full_queue,
        health=spec.health,
        links=_links(spec.name, parts, stubs),
        fusion=_fusion(parts) if spec.fused else None,
        volumes=_volumes(spec.name, authority, context.volumes),
        secrets=_secrets(spec.name, parts, context),
    )
    emergencies = tuple(reason for part in parts for reason in part.emergencies)
    return AdmittedAgent(start, min(part.valid_until for part in parts), own.exports, emergencies)


def _check_part(spec: AssignedAgent | FusedAgent, context: NodeContext) -> _Part:
    code, grants = check_part(spec, context.release, context.revocations, context.floors)  # 1
    index, document = context.blobs.read(spec.bundle.digest), context.blobs.read(spec.grant.digest)  # 2
    bundle = open_bundle(index, context.blobs.read)
    for model in bundle.models:
        context.revocations.check(Kind.MODEL, model.digest, spec.name)
    component = context.blobs.path(bundle.component.digest)
    models = {model.name: ModelFile(context.blobs.path(model.digest), model.digest) for model in bundle.models}
    grant = parse_grant(document, spec.grant.path)
    check_applies(  # 3
        grant,
        agent=spec.name,
        bundle_name=bundle.name,
        bundle_version=bundle.version,
        bundle_digest=bundle.digest,
        labels=context.labels,
        now=context.now,
    )
    check_team(grant, grants.role, code.role)
    check_break_glass(grant, grants.role, context.break_glass)
    authority, valid_until = _effective(grant, spec, context)  # 4
    info = read_component(context.blobs.read(bundle.component.digest, MAX_COMPONENT))
    imports = info.imports
    name = f"{bundle.name}@{bundle.version}"
    check_request(grant.request, imports, info.exports, spec.name, name)  # 5
    check_ceilings((*imports, *info.exports), grant, context.ceilings, bundle.optional_imports, spec.name)
    decision = check_imports(imports, authority, bundle.optional_imports, spec.name, name, spec.links)
    check_exports(info.exports, authority, spec.name, name)
    answered = {imported for imported, link in decision.links.items() if link.isolation is Isolation.NONE}
    return _Part(
        bundle=name,
        component=Part(spec.name, component, bundle.component.digest),
        exports=info.exports,
        imports=frozenset(parse_interface(imported).unversioned for imported in imports if imported not in answered),
        models=models,
        authority=authority,
        valid_until=valid_until,
        decision=decision,
        emergencies=(grant.reason,) if grant.break_glass else (),
    )


def _models(agent: str, parts: Sequence[_Part]) -> Mapping[str, ModelFile]:
    models: dict[str, ModelFile] = {}
    for part in parts:
        for name, model in part.models.items():
            if models.setdefault(name, model).digest != model.digest:
                raise FleetError(
                    Code.LINK_INVALID,
                    f"two parts of {agent} have different models named {name}",
                    agent=agent,
                    model=name,
                    remedy="Give one of them another name in its bundle, or link the agents with `isolation: store`.",
                )
    return models


def _links(agent: str, parts: Sequence[_Part], stubs: Collection[str]) -> Mapping[str, str]:
    """Imports of the whole that other agents answer. What one part may not call, no other part calls for it."""
    links: dict[str, str] = {}
    for part in parts:
        for imported, link in part.decision.links.items():
            if link.isolation is Isolation.NONE:
                continue
            if imported in stubs or links.setdefault(imported, link.agent) != link.agent:
                raise FleetError(
                    Code.LINK_INVALID,
                    f"the parts of {agent} do not link {imported} to one agent",
                    agent=agent,
                    imports=imported,
                    remedy="Link it to the same agent for each of them, or keep one apart with `isolation: store`.",
                )
    return links


def _volumes(agent: str, authority: Authority, declared: Mapping[str, VolumeFolder]) -> Mapping[str, VolumeFolder]:
    """Of the operator's volumes those that the agent may use; each that its grant names in full must be there."""
    for volume in named_volumes(authority):
        name = volume.removeprefix(NODE)
        if name == volume:
            continue  # a scratch volume, which is made when first needed
        if name not in declared or not declared[name].path.is_dir():
            raise FleetError(
                Code.VOLUME_UNAVAILABLE,
                f"{agent} is granted {volume}, which this node has not",
                agent=agent,
                volume=volume,
            )
    return {
        name: folder
        for name, folder in declared.items()
        if authority.allows(PREOPENS, volume=f"{NODE}{name}", mode="read")
    }


def _secrets(agent: str, parts: Sequence[_Part], context: NodeContext) -> Mapping[str, str]:
    """Secrets of the whole, by name: the part that each was sealed for and may hold it, and its version.

    Parts that are fused ask through one import, and nobody can tell which of them does. Where another part may ask for
    a secret of the same name, it would be given this one, so they are not fused.
    """
    secrets: dict[str, str] = {}
    asking = [part for part in parts if STORE in part.imports]
    for part in asking:
        owner = part.component.agent
        for name, version in context.secrets(owner, part.authority).items():
            for other in asking:
                if other is not part and other.authority.allows(STORE, name=name):
                    raise FleetError(
                        Code.LINK_INVALID,
                        f"fused into {agent}, {other.component.agent} could ask for the secret {name} of {owner}",
                        agent=agent,
                        secret=name,
                        remedy="Link the agents with `isolation: store`, or let only one of their grants name it.",
                    )
            secrets[name] = f"{owner}#{version}"
    return secrets


def _fusion(parts: Sequence[_Part]) -> Fusion:
    numbers = {part.component.agent: number for number, part in enumerate(parts)}
    wires = (
        Wire(number, imported, numbers[link.agent])
        for number, part in enumerate(parts)
        for imported, link in part.decision.links.items()
        if link.isolation is Isolation.NONE
    )
    return Fusion(tuple(part.component for part in parts), tuple(wires))


def _effective(grant: Grant, part: AssignedAgent | FusedAgent, context: NodeContext) -> tuple[Authority, datetime]:
    """Authority under the ceilings, the narrowing and the lease, and when to ask again."""
    ceilings = (ceiling.authority for ceiling in context.ceilings)
    authority = decode_narrowing(part.narrow).apply(effective(grant, *ceilings))
    lapses_at = context.fresh_at + timedelta(milliseconds=grant.lease.max_stale_ms)
    if grant.lease.on_lapse is OnLapse.CONTINUE:
        return authority, grant.not_after
    if context.now < lapses_at:
        return authority, min(lapses_at, grant.not_after)
    if grant.lease.on_lapse is OnLapse.DROP:
        return authority.without(frozenset(grant.lease.drop)), grant.not_after
    raise FleetError(
        Code.GRANT_EXPIRED,
        f"the lease of {grant.agent} lapsed: no fresh trust metadata since {context.fresh_at.isoformat()}",
        agent=grant.agent,
        condition="lease.max_stale",
    )
