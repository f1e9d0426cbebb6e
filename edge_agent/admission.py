"""Whether one agent may run on this node, now, and with which authority.

Owns the ordered checks between an assignment and a start. They take a narrow context and depend on nothing that could
be asked over a network: an agent that was admitted yesterday is admitted again tonight from local disk alone. Never
starts anything, never fetches: what is missing is an error with a code.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from edge_agent.runtime import AgentStart, ModelFile
from fleet.bundle import MAX_COMPONENT, open_bundle
from fleet.component import read_component
from fleet.errors import Code, FleetError
from fleet.grants import OnLapse, check_applies, check_imports, effective, parse_grant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from edge_agent.blobs import Blobs
    from edge_agent.runtime import Runtime
    from fleet.grants import Authority, Grant
    from fleet.model import AssignedAgent, TargetRef
    from fleet.trust import Release

CODE_ROLES = "code-"
GRANT_ROLES = "grants-"


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What the checks may know about the node.

    Attributes:
        release: the adopted release.
        fresh_at: when the release was last known to be the newest; leases count from then.
        blobs: the node's files.
        labels: from the node's own identity.
        ceiling: the most that any agent of this node may have; None restricts nothing.
        state_root: folder of the applications' own data.
        now: the time, never earlier than `fresh_at`.
    """

    release: Release
    fresh_at: datetime
    blobs: Blobs
    labels: Mapping[str, str]
    ceiling: Authority | None
    state_root: Path
    now: datetime


@dataclass(frozen=True, slots=True)
class AdmittedAgent:
    """What may run, made only by `admit`.

    Attributes:
        start: everything that the runtime needs.
        valid_until: when admission must be asked again: the end of the grant or of its lease. None: no end.
    """

    start: AgentStart
    valid_until: datetime | None


async def admit(spec: AssignedAgent, context: NodeContext, runtime: Runtime) -> AdmittedAgent:
    """Check one agent and compile its component.

    Checks, in this order:
        1. Signatures: the release lists the bundle under a code role and the grant under a grants role, with these
           digests.
        2. Digest: the documents and files that the assignment names are stored and match.
        3. The grant applies to this agent, bundle, node and moment.
        4. Effective authority: the grant under the node's ceiling, and under its lease.
        5. Imports: every import of the component's bytes is granted, baseline or optional.
        6. Compile: the engine accepts the component (cached by digest).

    Raises:
        FleetError: 1 TARGET_UNSIGNED, DIGEST_MISMATCH; 2 BLOB_MISSING, BLOB_CORRUPT, DIGEST_MISMATCH, BUNDLE_INVALID;
            3 GRANT_NOT_APPLICABLE, GRANT_EXPIRED, GRANT_INVALID; 4 GRANT_EXPIRED; 5 IMPORT_NOT_GRANTED,
            COMPONENT_UNSUPPORTED, COMPONENT_INVALID; 6 whatever `Runtime.prepare` raises.
    """
    # Hashing a model takes as long as reading it, so it must not hold up the event loop.
    admitted = await asyncio.to_thread(_check, spec, context)
    await runtime.prepare(admitted.start.component, admitted.start.component_digest)  # 6
    return admitted


def _check(spec: AssignedAgent, context: NodeContext) -> AdmittedAgent:
    _check_signed(spec.bundle, CODE_ROLES, context.release)  # 1
    _check_signed(spec.grant, GRANT_ROLES, context.release)
    index, document = context.blobs.read(spec.bundle.digest), context.blobs.read(spec.grant.digest)  # 2
    bundle = open_bundle(index, context.blobs.read)
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
    authority, valid_until = _effective(grant, context)  # 4
    imports = read_component(context.blobs.read(bundle.component.digest, MAX_COMPONENT)).imports
    name = f"{bundle.name}@{bundle.version}"
    decision = check_imports(imports, authority, bundle.optional_imports, spec.name, name)  # 5
    start = AgentStart(
        name=spec.name,
        component=component,
        component_digest=bundle.component.digest,
        authority=authority.encode(),
        state_dir=context.state_root / spec.application,
        deny_stubs=decision.deny_stubs,
        config=spec.config,
        models=models,
        on_full_queue=spec.on_full_queue,
    )
    return AdmittedAgent(start, valid_until)


def _check_signed(ref: TargetRef, roles: str, release: Release) -> None:
    target = release.target(ref.path)
    if not target.role.startswith(roles):
        raise FleetError(Code.TARGET_UNSIGNED, f"signed by {target.role}, which is no {roles} role", place=ref.path)
    if target.digest != ref.digest:
        raise FleetError(Code.DIGEST_MISMATCH, f"{target.role} signed {target.digest} there", place=ref.path)


def _effective(grant: Grant, context: NodeContext) -> tuple[Authority, datetime]:
    """Authority under the ceiling and the lease, and when to ask again."""
    authority = effective(grant, *(() if context.ceiling is None else (context.ceiling,)))
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
