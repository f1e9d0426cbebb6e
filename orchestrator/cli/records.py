"""What nodes, agents, deployments and events look like: one record for programs, and cells for tables.

Records hold exact values under stable keys: numbers, whole digests, RFC 3339 times in UTC, null for what is not there.
Cells hold what a person reads instead: ages, ratios, short digests. Never prints and never asks the coordinator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.targets import is_break_glass
from fleet.v1 import model_pb2
from orchestrator.cli.render import (
    Column,
    Row,
    ago,
    exact,
    grant_name,
    labels,
    result_text,
    short_digest,
    size,
    took,
    when,
)

if TYPE_CHECKING:
    from fleet.v1 import control_pb2 as pb

NODE_COLUMNS = (
    Column("NODE", "node"),
    Column("STATE", "state"),
    Column("AGENTS", "agents", right=True),
    Column("GENERATION", "generation", right=True),
    Column("SEEN", "last_seen", right=True),
    Column("LABELS", "labels", fold=True),
    Column("NOTE", "note", fold=True),
    Column("EPOCH", "epoch", wide=True, right=True),
    Column("ARCHITECTURE", "architecture", wide=True),
    Column("RELEASE", "release", wide=True),
    Column("CERTIFICATE UNTIL", "certificate_expires", wide=True),
)

AGENT_COLUMNS = (
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("PHASE", "phase"),
    Column("READY", "ready"),
    Column("RESTARTS", "restarts", right=True),
    Column("CALLS", "calls", right=True),
    Column("LAST EXIT", "last_exit", fold=True),
    Column("NEXT START", "next_attempt"),
    Column("BUNDLE", "bundle", wide=True),
    Column("GRANT", "grant_revision", wide=True),
    Column("ERRORS", "errors", wide=True, right=True),
    Column("P50", "p50_us", wide=True, right=True),
    Column("P99", "p99_us", wide=True, right=True),
    Column("MEMORY", "memory_bytes", wide=True, right=True),
    Column("PEAK", "memory_peak_bytes", wide=True, right=True),
    Column("QUEUE", "queue", wide=True, right=True),
    Column("LAST OUTPUT", "last_output", wide=True, fold=True),
)

DEPLOYMENT_COLUMNS = (
    Column("DEPLOYMENT", "id"),
    Column("APPLICATION", "application"),
    Column("STATE", "state"),
    Column("WAVES", "waves", right=True),
    Column("AGE", "created", right=True),
    Column("BY", "operator"),
    Column("REASON", "reason", fold=True),
    Column("CREATED", "created_at", wide=True),
)

EVENT_COLUMNS = (
    Column("NUMBER", "sequence", wide=True, right=True),
    Column("TIME", "time", wide=True),
    Column("AGE", "age", right=True),
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("EVENT", "kind"),
    Column("MESSAGE", "message", fold=True),
)


def node_row(node: pb.Node, now_ms: int) -> Row:
    """One node."""
    behind = node.observed_generation != node.desired_generation
    generation = f"{node.observed_generation}/{node.desired_generation}" if behind else str(node.desired_generation)
    return Row(
        {
            "node": node.name,
            "state": node.state,
            "agents": node.agents,
            "healthy": node.healthy,
            "desired_generation": node.desired_generation,
            "observed_generation": node.observed_generation,
            "last_seen": exact(node.last_seen_ms),
            "labels": dict(sorted(node.labels.items())),
            "epoch": node.epoch,
            "architecture": node.architecture,
            "release": node.agent_version,
            "certificate_expires": exact(node.certificate_expires_ms),
            "locked": node.locked,
            "warnings": list(node.warnings),
            "trust": node.trust_digest,
            "director_key": node.director_key,
            "log_keys": list(node.log_keys),
        },
        {
            "agents": f"{node.healthy}/{node.agents}",
            "generation": generation,
            "last_seen": ago(node.last_seen_ms, now_ms),
            "labels": labels(node.labels.items()),
            "note": "; ".join((*([node.locked] if node.locked else ()), *node.warnings)),
            "certificate_expires": when(node.certificate_expires_ms),
        },
    )


def agent_row(item: pb.AgentOnNode, now_ms: int) -> Row:
    """One agent on one node."""
    agent, vitals = item.agent, item.agent.vitals
    last_exit = refusal = None
    shown = ""
    if agent.last_exit.cause:
        last_exit = {
            "cause": agent.last_exit.cause,
            "message": agent.last_exit.message,
            "at": exact(agent.last_exit.at_ms),
        }
        shown = f"{agent.last_exit.cause}, {ago(agent.last_exit.at_ms, now_ms)} ago"
    if agent.refusal.code:
        refusal = {"code": agent.refusal.code, "message": agent.refusal.message, "remedy": agent.refusal.remedy}
        shown = f"refused: {agent.refusal.code}"
    wait_s = max(0, agent.next_attempt_at_ms - now_ms) / 1000
    return Row(
        {
            "node": item.node,
            "agent": agent.name,
            "phase": model_pb2.Phase.Name(agent.phase).removeprefix("PHASE_").lower(),
            "desired": item.desired,
            "restarts": agent.restarts,
            "calls": agent.calls,
            "errors": agent.errors,
            "last_exit": last_exit,
            "refusal": refusal,
            "next_attempt": exact(agent.next_attempt_at_ms),
            "running_since": exact(agent.running_since_ms),
            "bundle": item.bundle,
            "bundle_digest": agent.bundle_digest,
            "grant_revision": item.grant_revision or None,
            "grant_path": item.grant_path,
            "break_glass": is_break_glass(item.grant_path),
            "grant_digest": agent.grant_digest,
            "healthy": vitals.healthy if vitals.HasField("healthy") else None,
            "ready": vitals.ready if vitals.HasField("ready") else None,
            "reason": vitals.reason,
            "dropped": vitals.dropped,
            "p50_us": vitals.p50_us,
            "p99_us": vitals.p99_us,
            "memory_bytes": agent.memory_bytes,
            "memory_peak_bytes": vitals.memory_peak_bytes,
            "queue": vitals.queue,
            "host_calls": dict(sorted(vitals.host_calls.items())),
            "last_output": agent.last_output,
        },
        {
            "last_exit": shown,
            "next_attempt": f"in {wait_s:.0f}s" if agent.next_attempt_at_ms else "",
            "bundle": item.bundle or short_digest(agent.bundle_digest),
            "grant_revision": grant_name(item.grant_revision, emergency=is_break_glass(item.grant_path))
            if item.grant_revision
            else short_digest(agent.grant_digest),
            "ready": _ready(vitals),
            "p50_us": took(vitals.p50_us),
            "p99_us": took(vitals.p99_us),
            "memory_bytes": size(agent.memory_bytes),
            "memory_peak_bytes": size(vitals.memory_peak_bytes),
            "last_output": result_text(agent.last_output),
        },
    )


def _ready(vitals: model_pb2.Vitals) -> str:
    if not vitals.HasField("ready"):
        return ""
    return "yes" if vitals.ready else "no"


def deployment_row(deployment: pb.Deployment, now_ms: int) -> Row:
    """One deployment."""
    healthy = sum(wave.state == "healthy" for wave in deployment.waves)
    return Row(
        {
            "id": deployment.id,
            "application": deployment.application,
            "state": deployment.state,
            "waves": [{"number": w.number, "state": w.state, "nodes": list(w.nodes)} for w in deployment.waves],
            "created": exact(deployment.created_ms),
            "finished": exact(deployment.finished_ms),
            "operator": deployment.operator,
            "reason": deployment.reason,
        },
        {
            "waves": f"{healthy}/{len(deployment.waves)}",
            "created": ago(deployment.created_ms, now_ms),
            "created_at": when(deployment.created_ms),
        },
    )


def event_row(event: model_pb2.Event, now_ms: int) -> Row:
    """One event."""
    return Row(
        {
            "sequence": event.sequence,
            "time": exact(event.at_ms),
            "node": event.node,
            "agent": event.agent,
            "kind": event.kind,
            "message": event.message,
            "detail": dict(event.detail),
        },
        {"age": ago(event.at_ms, now_ms), "time": when(event.at_ms)},
    )
