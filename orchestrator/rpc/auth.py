"""Who calls, and whether they may: mutual TLS identity and one rule per method.

Owns: the rule table (a method without a rule is refused), the `Principal` of the running call, and the end of a call
whose certificate expires meanwhile, since a stream outlives its handshake. TLS has verified the chain and the
validity before any code here runs. Real authority over code and grants is with signing keys that are not here; these
rules are a second fence.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from fleet.errors import Code, FleetError
from orchestrator.principals import NodeIdentity, OperatorIdentity, Role, load_certificate, read_identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cryptography import x509

    from orchestrator.clock import Clock
    from orchestrator.rpc.interceptor import Context

Principal = NodeIdentity | OperatorIdentity

_PRINCIPAL: ContextVar[Principal] = ContextVar("principal")

_ANY = frozenset(Role)
_DEPLOY = frozenset({Role.DEPLOYER, Role.ADMIN})
_PUBLISH = frozenset({Role.DEPLOYER, Role.APPROVER, Role.ADMIN})
_NODES = frozenset({Role.NODE_ADMIN, Role.ADMIN})
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
    "ListNodes": _ANY,
    "GetNode": _ANY,
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
    """Refuse a caller that the method has no rule for.

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
    if not allowed:
        kind = "node" if isinstance(principal, NodeIdentity) else "user"
        raise FleetError(Code.PERMISSION_DENIED, f"{kind}/{principal.name} may not call {method}", method=method)


class Authentication:
    """The interceptor's context manager.

    Args:
        fleet: SPIFFE trust domain.
        node_authority: vouches for nodes.
        operator_authority: vouches for operators.
        admit: checks that a node's certificate still counts (`Nodes.admit`).
        clock: the clock.
    """

    def __init__(
        self,
        *,
        fleet: str,
        node_authority: x509.Certificate,
        operator_authority: x509.Certificate,
        admit: Callable[[NodeIdentity], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._fleet = fleet
        self._node_authority = node_authority
        self._operator_authority = operator_authority
        self._admit = admit
        self._clock = clock

    @asynccontextmanager
    async def around(self, method: str, context: Context) -> AsyncIterator[None]:
        """Authenticate the caller, check the rule, and end the call when the certificate expires.

        Raises:
            FleetError: UNAUTHENTICATED, CERTIFICATE_INVALID, NODE_LOCKED, PERMISSION_DENIED.
        """
        principal = self._identify(context)
        check_rule(method, principal)
        if isinstance(principal, NodeIdentity):
            await self._admit(principal)
        left = (principal.expires - self._clock()).total_seconds()
        token = _PRINCIPAL.set(principal)
        try:
            async with asyncio.timeout(left) as limit:
                yield
        except TimeoutError as error:
            if limit.expired():
                raise FleetError(Code.CERTIFICATE_INVALID, "the certificate expired meanwhile") from error
            raise
        finally:
            _PRINCIPAL.reset(token)

    def _identify(self, context: Context) -> Principal:
        certificates = list(context.auth_context().get("x509_pem_cert", ()))
        if len(certificates) != 1:
            raise FleetError(Code.UNAUTHENTICATED, "no client certificate")
        return read_identity(
            load_certificate(certificates[0]),
            self._fleet,
            node_authority=self._node_authority,
            operator_authority=self._operator_authority,
        )
