"""ControlService, administration: join tokens, locks of nodes, and operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.keys import P256PublicKey
from fleet.times import to_ms
from fleet.v1 import control_pb2
from orchestrator.rpc.auth import principal_operator
from orchestrator.rpc.operating import write_node
from orchestrator.rpc.services import Door

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.rpc.interceptor import Context
    from orchestrator.store.operators import OperatorRow


class AdministrationDoor(Door):
    """Methods about who belongs to the fleet."""

    async def ListJoinTokens(  # noqa: N802
        self,
        request: control_pb2.ListJoinTokensRequest,  # noqa: ARG002
        _: Context,
    ) -> control_pb2.ListJoinTokensReply:
        """List the join tokens that have not expired; never a secret."""
        tokens = await self._run(self._services.enrolment.tokens)
        return control_pb2.ListJoinTokensReply(
            tokens=[
                control_pb2.JoinToken(
                    id=token.id,
                    node=token.node,
                    labels=dict(token.labels),
                    created_by=token.created_by,
                    expires_ms=token.expires_ms,
                    used=token.used_by is not None,
                )
                for token in tokens
            ]
        )

    async def RevokeJoinToken(  # noqa: N802
        self, request: control_pb2.RevokeJoinTokenRequest, _: Context
    ) -> control_pb2.RevokeJoinTokenReply:
        """Make a join token worthless."""
        await self._run(self._services.enrolment.revoke_token, request.id, principal_operator().name)
        return control_pb2.RevokeJoinTokenReply()

    async def LockNode(self, request: control_pb2.ChangeNodeRequest, _: Context) -> control_pb2.Node:  # noqa: N802
        """Refuse a node until it is unlocked."""
        return await self._change(self._services.locks.lock, request)

    async def UnlockNode(self, request: control_pb2.ChangeNodeRequest, _: Context) -> control_pb2.Node:  # noqa: N802
        """Let a locked node come back."""
        return await self._change(self._services.locks.unlock, request)

    async def RevokeNode(self, request: control_pb2.ChangeNodeRequest, _: Context) -> control_pb2.Node:  # noqa: N802
        """Take a node's enrolment and orders back for good."""
        return await self._change(self._services.locks.revoke, request)

    async def ResetNode(self, request: control_pb2.ChangeNodeRequest, _: Context) -> control_pb2.Node:  # noqa: N802
        """Begin a new epoch of a node."""
        return await self._change(self._services.locks.reset, request)

    async def AddOperator(  # noqa: N802
        self, request: control_pb2.AddOperatorRequest, _: Context
    ) -> control_pb2.AddOperatorReply:
        """Invite an operator."""
        token, expires = await self._run(
            self._services.operators.add,
            request.name,
            tuple(request.roles),
            request.team,
            request.ttl_s,
            principal_operator().name,
        )
        return control_pb2.AddOperatorReply(
            token=token, enrolment_address=self._services.enrolment_address, expires_ms=to_ms(expires)
        )

    async def ListOperators(  # noqa: N802
        self,
        request: control_pb2.ListOperatorsRequest,  # noqa: ARG002
        _: Context,
    ) -> control_pb2.ListOperatorsReply:
        """List everybody whom the coordinator knows."""
        found = await self._run(self._services.operators.list)
        return control_pb2.ListOperatorsReply(operators=[_write_operator(row) for row in found])

    async def RevokeOperator(  # noqa: N802
        self, request: control_pb2.RevokeOperatorRequest, _: Context
    ) -> control_pb2.Operator:
        """Take an operator's access back."""
        by = principal_operator().name
        return _write_operator(await self._run(self._services.operators.revoke, request.name, request.reason, by))

    async def ListNodeAuthorities(  # noqa: N802
        self,
        request: control_pb2.ListNodeAuthoritiesRequest,  # noqa: ARG002
        _: Context,
    ) -> control_pb2.ListNodeAuthoritiesReply:
        """List the authority that vouches for nodes, and its successor."""
        return await self._run(self._authorities)

    async def MakeNodeAuthority(  # noqa: N802
        self,
        request: control_pb2.MakeNodeAuthorityRequest,  # noqa: ARG002
        _: Context,
    ) -> control_pb2.ListNodeAuthoritiesReply:
        """Make the successor of the node authority; it signs nothing before the release lists it."""
        await self._run(self._services.node_authorities.prepare, principal_operator().name)
        return await self._run(self._authorities)

    def _authorities(self) -> control_pb2.ListNodeAuthoritiesReply:
        return control_pb2.ListNodeAuthoritiesReply(
            authorities=[
                control_pb2.NodeAuthority(
                    certificate=authority.pem,
                    fingerprint=authority.fingerprint,
                    listed=authority.listed,
                    issues=authority.issues,
                    serves=authority.serves,
                    expires_ms=to_ms(authority.certificate.not_valid_after_utc),
                )
                for authority in self._services.node_authorities.list()
            ]
        )

    async def _change(
        self, change: Callable[[str, str, str], None], request: control_pb2.ChangeNodeRequest
    ) -> control_pb2.Node:
        await self._run(change, request.name, request.reason, principal_operator().name)
        view = await self._run(self._services.nodes.get, request.name)
        return write_node(view, await self._run(self._services.releases.min_node_version))


def _write_operator(row: OperatorRow) -> control_pb2.Operator:
    state = "revoked" if row.revoked else "invited" if row.bound_key is None else "active"
    return control_pb2.Operator(
        name=row.name,
        roles=row.roles,
        team=row.team,
        state=state,
        reason=row.revoked,
        key_id="" if row.bound_key is None else P256PublicKey(row.bound_key).key_id,
        created_by=row.created_by,
        created_ms=row.created_ms,
        certificate_expires_ms=row.certificate_expires_ms,
    )
