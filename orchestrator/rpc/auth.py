"""Who calls, and whether they may: mutual TLS identity and one rule per method.

Owns: the rule table (a method without a rule is refused), which methods an operator must sign for, the `Principal` of
the running call, and the order of the checks. TLS has verified the chain and the validity before any code here runs.
Real authority over code and grants is with signing keys that are not here; these rules are a second fence.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.errors import Code, FleetError
from fleet.x509 import load_certificate
from orchestrator.actions import announced
from orchestrator.principals import NodeIdentity, OperatorIdentity, Role, read_identity
from orchestrator.rpc.teams import check_scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cryptography import x509

    from orchestrator.actions import Actions, Statement
    from orchestrator.clock import Clock
    from orchestrator.principals import Authorities
    from orchestrator.rpc.interceptor import Context
    from orchestrator.rpc.live import LiveCalls
    from orchestrator.workers import Workers

Principal = NodeIdentity | OperatorIdentity

_PRINCIPAL: ContextVar[Principal] = ContextVar("principal")

_ANY = frozenset(Role)
_DEPLOY = frozenset({Role.DEPLOYER, Role.ADMIN})
_PUBLISH = frozenset({Role.DEPLOYER, Role.APPROVER, Role.ADMIN})
_NODES = frozenset({Role.NODE_ADMIN, Role.ADMIN})
_ADMIN = frozenset({Role.ADMIN})
_NOBODY: frozenset[Role] = frozenset()

OPERATOR_RULES: Final[dict[str, frozenset[Role]]] = {
    "HasBlobs": _PUBLISH,
    "PutBlob": _PUBLISH,
    "Publish": _PUBLISH,
    "GetTrust": _ANY,
    "GetBlob": _ANY,
    "Plan": _ANY,
    "Deploy": _DEPLOY,
    "WatchDeployment": _ANY,
    "ListDeployments": _ANY,
    "GetDeployment": _ANY,
    "CancelDeployment": _DEPLOY,
    "CreateJoinToken": _NODES,
    "ListJoinTokens": _NODES,
    "RevokeJoinToken": _NODES,
    "LockNode": _NODES,
    "UnlockNode": _NODES,
    "RevokeNode": _NODES,
    "ResetNode": _NODES,
    "AddOperator": _ADMIN,
    "ListOperators": _ANY,
    "RevokeOperator": _ADMIN,
    "ListNodeAuthorities": _ANY,
    "MakeNodeAuthority": _ADMIN,
    "ListNodes": _ANY,
    "GetNode": _ANY,
    "GetOrder": _ANY,
    "ListAgents": _ANY,
    "GetAgent": _ANY,
    "ListGrants": _ANY,
    "GetGrant": _ANY,
    "ListBundles": _ANY,
    "CallAgent": _DEPLOY,
    "SendEvent": _DEPLOY,
    "StreamLogs": _ANY,
    "ListEvents": _ANY,
    "ListCrashes": _ANY,
    "GetCrash": _DEPLOY,
    "ListSealingKeys": _DEPLOY,
    "PutSecret": _DEPLOY,
    "ListSecrets": _ANY,
    "RemoveSecret": _DEPLOY,
    "AuditWho": _ANY,
    "AuditCheckpoint": _ANY,
    "AuditEntries": _ANY,
    "AuditRows": _ANY,
    "AuditCheckpoints": _ANY,
    "AuditWitnesses": _ANY,
    "AuditOffer": _ANY,
    "AuditCosign": _ANY,
}
"""Method of ControlService to the roles of which an operator needs one."""

SIGNED_FIRST: Final = frozenset({"CallAgent", "SendEvent"})
"""Methods whose statement is in the log before they act: they act on nodes, outside of any transaction."""

SIGNED: Final = SIGNED_FIRST | {
    "Publish",
    "Deploy",
    "CancelDeployment",
    "CreateJoinToken",
    "RevokeJoinToken",
    "LockNode",
    "UnlockNode",
    "RevokeNode",
    "ResetNode",
    "AddOperator",
    "RevokeOperator",
    "MakeNodeAuthority",
    "PutSecret",
    "RemoveSecret",
}
"""Methods that change something: the operator's signed statement becomes a leaf in the transaction of the change."""

ACTION_METADATA: Final = "fleet-action-bin"
"""Metadata of a call with the operator's signed statement (`fleet.action`)."""

TLS_VERSION: Final = b"TLSv1.3"

_CONTROL: Final = "/fleet.v1.ControlService/"
_NODE: Final = "/fleet.v1.NodeService/"
_OPEN: Final = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
"""Services for everybody with a certificate of the fleet."""


def principal_node() -> NodeIdentity:
    """Return the node that calls; only within a call of NodeService."""
    principal = _PRINCIPAL.get()
    if isinstance(principal, NodeIdentity):
        return principal
    raise RuntimeError("not within a call of a node")


def principal_operator() -> OperatorIdentity:
    """Return the operator who calls; only within a call of ControlService."""
    principal = _PRINCIPAL.get()
    if isinstance(principal, OperatorIdentity):
        return principal
    raise RuntimeError("not within a call of an operator")


def check_rule(method: str, principal: Principal) -> None:
    """Refuse a caller that the method has no rule for, or whose team it reaches beyond (`rpc.teams`).

    Raises:
        FleetError: PERMISSION_DENIED.
    """
    if method.startswith(_OPEN):
        return
    if isinstance(principal, NodeIdentity):
        allowed = method.startswith(_NODE)
    else:
        rule = OPERATOR_RULES.get(method.removeprefix(_CONTROL), _NOBODY) if method.startswith(_CONTROL) else _NOBODY
        allowed = not rule.isdisjoint(principal.roles)
        if allowed:
            check_scope(principal, method.removeprefix(_CONTROL))
    if not allowed:
        kind = "node" if isinstance(principal, NodeIdentity) else "user"
        raise FleetError(Code.PERMISSION_DENIED, f"{kind}/{principal.name} may not call {method}", method=method)


@dataclass(frozen=True, slots=True)
class Gates:
    """What is asked about every caller.

    Attributes:
        node: checks that a node's certificate still counts (`Nodes.admit`).
        operator: the same for an operator; returns what they may do now (`Operators.admit`).
    """

    node: Callable[[NodeIdentity], None]
    operator: Callable[[OperatorIdentity], OperatorIdentity]


class Authentication:
    """The interceptor's context manager.

    Args:
        fleet: SPIFFE trust domain.
        authorities: returns who vouches for whom now.
        gates: what else is asked about every caller.
        actions: checks and records what operators sign.
        live: where calls are ended from.
        workers: runs what reads the database.
        clock: the clock.
    """

    def __init__(  # noqa: PLR0913 - a composition root calls it once, by keyword
        self,
        *,
        fleet: str,
        authorities: Callable[[], Authorities],
        gates: Gates,
        actions: Actions,
        live: LiveCalls,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._fleet = fleet
        self._authorities = authorities
        self._gates = gates
        self._actions = actions
        self._live = live
        self._workers = workers
        self._clock = clock

    @asynccontextmanager
    async def around(self, method: str, context: Context, request: bytes | None = None) -> AsyncIterator[None]:
        """Let a call through.

        1. TLS is of the newest version, and the caller has one certificate of the fleet.
        2. The caller may still come, and the method has a rule for the caller.
        3. A method that changes something comes with the operator's signed statement about exactly this call.
        4. The call ends when the certificate expires, and at once when its caller is locked or revoked.

        Raises:
            FleetError: UNAUTHENTICATED, CERTIFICATE_INVALID, NODE_LOCKED, PERMISSION_DENIED, ACTION_INVALID.
        """
        certificate = _certificate(context)  # 1
        principal = read_identity(certificate, self._fleet, self._authorities())
        kind = "node" if isinstance(principal, NodeIdentity) else "user"
        left = (principal.expires - self._clock()).total_seconds()
        # Registered before it is admitted: whoever is locked in between is either refused here or ended there.
        async with self._live.running(f"{kind}/{principal.name}", left):  # 4
            if isinstance(principal, NodeIdentity):  # 2
                check_rule(method, principal)
                await self._workers.run(self._gates.node, principal)
            else:
                principal = await self._workers.run(self._gates.operator, principal)
                check_rule(method, principal)
            token = _PRINCIPAL.set(principal)
            try:
                name = method.removeprefix(_CONTROL)
                if isinstance(principal, OperatorIdentity) and name in SIGNED:  # 3
                    statement = self._statement(method, context, request, principal, certificate)
                    if name in SIGNED_FIRST:
                        await self._workers.run(self._actions.record, statement)
                    with announced(statement, self._clock):
                        yield
                    await self._workers.run(self._actions.record, statement)
                else:
                    yield
            finally:
                _PRINCIPAL.reset(token)

    def _statement(
        self,
        method: str,
        context: Context,
        request: bytes | None,
        principal: OperatorIdentity,
        certificate: x509.Certificate,
    ) -> Statement:
        envelopes = [value for key, value in context.invocation_metadata() or () if key == ACTION_METADATA]
        if len(envelopes) != 1 or not isinstance(envelopes[0], bytes) or request is None:
            raise FleetError(Code.ACTION_INVALID, f"{method} without the operator's signed statement")
        return self._actions.verify(
            envelopes[0], operator=principal.name, certificate=certificate, method=method, request=request
        )


def check_tls(context: Context) -> None:
    """Refuse a connection that is not of the newest TLS: nobody of the fleet speaks an older one.

    Raises:
        FleetError: UNAUTHENTICATED.
    """
    versions = list(context.auth_context().get("ssl_tls_version", ()))
    if versions != [TLS_VERSION]:
        raise FleetError(Code.UNAUTHENTICATED, f"TLS 1.3 is needed, not {versions}")


def _certificate(context: Context) -> x509.Certificate:
    check_tls(context)
    certificates = list(context.auth_context().get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise FleetError(Code.UNAUTHENTICATED, "no client certificate")
    return load_certificate(certificates[0])
