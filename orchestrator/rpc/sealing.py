"""ControlService, secrets: keys that operators seal for, and what they sealed, to keep and pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.v1 import control_pb2
from orchestrator.rpc.auth import principal_operator
from orchestrator.rpc.services import Door, check_number
from orchestrator.rpc.teams import agents_named, check_agent

if TYPE_CHECKING:
    from orchestrator.principals import OperatorIdentity
    from orchestrator.rpc.interceptor import Context


class SealingDoor(Door):
    """Methods about secrets."""

    async def ListSealingKeys(  # noqa: N802
        self,
        request: control_pb2.ListSealingKeysRequest,
        _: Context,
    ) -> control_pb2.ListSealingKeysReply:
        """List the nodes that secrets can be sealed for, with the proof of each key, a part at a time."""
        keys = await self._run(self._services.secrets.recipients, request.after)
        return control_pb2.ListSealingKeysReply(
            keys=[
                control_pb2.SealingKey(
                    node=key.node,
                    epoch=key.epoch,
                    bound_key=key.bound_key,
                    statement=key.statement,
                    leaf=key.leaf,
                    proof=key.proof,
                    agents=key.agents,
                    join_proof=key.join_proof,
                )
                for key in keys
            ]
        )

    async def PutSecret(self, request: control_pb2.PutSecretRequest, _: Context) -> control_pb2.PutSecretReply:  # noqa: N802
        """Keep a sealed secret and send it to its nodes."""
        version = check_number(request.version, "version")
        operator = principal_operator()
        await self._run(self._check_team, operator, request.agent)
        put, envelopes = self._services.secrets.put, tuple(request.envelopes)
        nodes = await self._run(put, request.agent, request.name, version, envelopes, operator.name)
        return control_pb2.PutSecretReply(nodes=nodes)

    async def ListSecrets(self, request: control_pb2.ListSecretsRequest, _: Context) -> control_pb2.ListSecretsReply:  # noqa: N802
        """List secrets: names, versions and nodes."""
        views = await self._run(self._services.secrets.list, request.agent)
        return control_pb2.ListSecretsReply(
            secrets=[
                control_pb2.Secret(
                    agent=view.row.agent,
                    name=view.row.name,
                    version=view.row.version,
                    set_ms=view.row.set_ms,
                    operator=view.row.operator,
                    nodes=[node for node, version in view.versions.items() if version == view.row.version],
                    behind=[node for node, version in view.versions.items() if version < view.row.version],
                    escrow=view.row.escrow,
                )
                for view in views
            ]
        )

    async def RemoveSecret(  # noqa: N802
        self, request: control_pb2.RemoveSecretRequest, _: Context
    ) -> control_pb2.RemoveSecretReply:
        """Take a secret from every node."""
        operator = principal_operator()
        await self._run(self._check_team, operator, request.agent)
        nodes = await self._run(self._services.secrets.remove, request.agent, request.name, operator.name)
        return control_pb2.RemoveSecretReply(nodes=nodes)

    def _check_team(self, operator: OperatorIdentity, agent: str) -> None:
        if not operator.team:
            return
        releases = self._services.releases
        ordered = agents_named(self._services.nodes.list(), agent)
        check_agent(operator, agent, ordered, releases.find_grants(releases.adopted(), agent) if agent else ())
