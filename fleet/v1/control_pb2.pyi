from fleet.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HasBlobsRequest(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digests: _Optional[_Iterable[str]] = ...) -> None: ...

class HasBlobsReply(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, missing: _Optional[_Iterable[str]] = ...) -> None: ...

class PutBlobRequest(_message.Message):
    __slots__ = ("digest", "size", "data")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size: int
    data: bytes
    def __init__(self, digest: _Optional[str] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutBlobReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("files", "documents")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    FILES_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    files: _containers.ScalarMap[str, bytes]
    documents: _containers.RepeatedCompositeFieldContainer[_model_pb2.Blob]
    def __init__(self, files: _Optional[_Mapping[str, bytes]] = ..., documents: _Optional[_Iterable[_Union[_model_pb2.Blob, _Mapping]]] = ...) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ("timestamp_version", "added", "removed")
    TIMESTAMP_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    timestamp_version: int
    added: _containers.RepeatedScalarFieldContainer[str]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, timestamp_version: _Optional[int] = ..., added: _Optional[_Iterable[str]] = ..., removed: _Optional[_Iterable[str]] = ...) -> None: ...

class GetTrustRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTrustReply(_message.Message):
    __slots__ = ("files",)
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.ScalarMap[str, bytes]
    def __init__(self, files: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class GetBlobRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class GetBlobChunk(_message.Message):
    __slots__ = ("data", "total")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    total: int
    def __init__(self, data: _Optional[bytes] = ..., total: _Optional[int] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("manifest",)
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    def __init__(self, manifest: _Optional[bytes] = ...) -> None: ...

class PlannedAgent(_message.Message):
    __slots__ = ("node", "agent", "action", "bundle", "bundle_digest", "grant_digest", "grant_revision", "wave", "grant_path")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRANT_REVISION_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    GRANT_PATH_FIELD_NUMBER: _ClassVar[int]
    node: str
    agent: str
    action: str
    bundle: str
    bundle_digest: str
    grant_digest: str
    grant_revision: int
    wave: int
    grant_path: str
    def __init__(self, node: _Optional[str] = ..., agent: _Optional[str] = ..., action: _Optional[str] = ..., bundle: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., grant_digest: _Optional[str] = ..., grant_revision: _Optional[int] = ..., wave: _Optional[int] = ..., grant_path: _Optional[str] = ...) -> None: ...

class AuthorityChange(_message.Message):
    __slots__ = ("agent", "widened", "narrowed")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    WIDENED_FIELD_NUMBER: _ClassVar[int]
    NARROWED_FIELD_NUMBER: _ClassVar[int]
    agent: str
    widened: _containers.RepeatedScalarFieldContainer[str]
    narrowed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, agent: _Optional[str] = ..., widened: _Optional[_Iterable[str]] = ..., narrowed: _Optional[_Iterable[str]] = ...) -> None: ...

class PlanReply(_message.Message):
    __slots__ = ("application", "agents", "waves", "authority", "base", "changes", "warnings")
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    WAVES_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    application: str
    agents: _containers.RepeatedCompositeFieldContainer[PlannedAgent]
    waves: _containers.RepeatedCompositeFieldContainer[Wave]
    authority: _containers.RepeatedCompositeFieldContainer[AuthorityChange]
    base: str
    changes: bool
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, application: _Optional[str] = ..., agents: _Optional[_Iterable[_Union[PlannedAgent, _Mapping]]] = ..., waves: _Optional[_Iterable[_Union[Wave, _Mapping]]] = ..., authority: _Optional[_Iterable[_Union[AuthorityChange, _Mapping]]] = ..., base: _Optional[str] = ..., changes: _Optional[bool] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class Wave(_message.Message):
    __slots__ = ("number", "nodes", "state")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    number: int
    nodes: _containers.RepeatedScalarFieldContainer[str]
    state: str
    def __init__(self, number: _Optional[int] = ..., nodes: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ...) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("manifest", "base")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    base: str
    def __init__(self, manifest: _Optional[bytes] = ..., base: _Optional[str] = ...) -> None: ...

class DeployReply(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    def __init__(self, deployment: _Optional[str] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("id", "application", "state", "waves", "reason", "created_ms", "finished_ms", "operator", "nodes")
    ID_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAVES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_MS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    id: str
    application: str
    state: str
    waves: _containers.RepeatedCompositeFieldContainer[Wave]
    reason: str
    created_ms: int
    finished_ms: int
    operator: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeProgress]
    def __init__(self, id: _Optional[str] = ..., application: _Optional[str] = ..., state: _Optional[str] = ..., waves: _Optional[_Iterable[_Union[Wave, _Mapping]]] = ..., reason: _Optional[str] = ..., created_ms: _Optional[int] = ..., finished_ms: _Optional[int] = ..., operator: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeProgress, _Mapping]]] = ...) -> None: ...

class NodeProgress(_message.Message):
    __slots__ = ("node", "generation", "observed_generation", "healthy", "agents", "message")
    NODE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    node: str
    generation: int
    observed_generation: int
    healthy: int
    agents: int
    message: str
    def __init__(self, node: _Optional[str] = ..., generation: _Optional[int] = ..., observed_generation: _Optional[int] = ..., healthy: _Optional[int] = ..., agents: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class WatchDeploymentRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListDeploymentsRequest(_message.Message):
    __slots__ = ("application", "limit")
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    application: str
    limit: int
    def __init__(self, application: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListDeploymentsReply(_message.Message):
    __slots__ = ("deployments",)
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[Deployment]
    def __init__(self, deployments: _Optional[_Iterable[_Union[Deployment, _Mapping]]] = ...) -> None: ...

class GetDeploymentRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CancelDeploymentRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CreateJoinTokenRequest(_message.Message):
    __slots__ = ("node", "labels", "ttl_s", "key")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    node: str
    labels: _containers.ScalarMap[str, str]
    ttl_s: int
    key: bytes
    def __init__(self, node: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., ttl_s: _Optional[int] = ..., key: _Optional[bytes] = ...) -> None: ...

class CreateJoinTokenReply(_message.Message):
    __slots__ = ("token", "enrolment_address", "expires_ms")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    token: str
    enrolment_address: str
    expires_ms: int
    def __init__(self, token: _Optional[str] = ..., enrolment_address: _Optional[str] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class JoinToken(_message.Message):
    __slots__ = ("id", "node", "labels", "created_by", "expires_ms", "used")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    id: str
    node: str
    labels: _containers.ScalarMap[str, str]
    created_by: str
    expires_ms: int
    used: bool
    def __init__(self, id: _Optional[str] = ..., node: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., created_by: _Optional[str] = ..., expires_ms: _Optional[int] = ..., used: _Optional[bool] = ...) -> None: ...

class ListJoinTokensRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListJoinTokensReply(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[JoinToken]
    def __init__(self, tokens: _Optional[_Iterable[_Union[JoinToken, _Mapping]]] = ...) -> None: ...

class RevokeJoinTokenRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RevokeJoinTokenReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChangeNodeRequest(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Operator(_message.Message):
    __slots__ = ("name", "roles", "team", "state", "reason", "key_id", "created_by", "created_ms", "certificate_expires_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    team: str
    state: str
    reason: str
    key_id: str
    created_by: str
    created_ms: int
    certificate_expires_ms: int
    def __init__(self, name: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., team: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., key_id: _Optional[str] = ..., created_by: _Optional[str] = ..., created_ms: _Optional[int] = ..., certificate_expires_ms: _Optional[int] = ...) -> None: ...

class AddOperatorRequest(_message.Message):
    __slots__ = ("name", "roles", "team", "ttl_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    team: str
    ttl_s: int
    def __init__(self, name: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., team: _Optional[str] = ..., ttl_s: _Optional[int] = ...) -> None: ...

class AddOperatorReply(_message.Message):
    __slots__ = ("token", "enrolment_address", "expires_ms")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    token: str
    enrolment_address: str
    expires_ms: int
    def __init__(self, token: _Optional[str] = ..., enrolment_address: _Optional[str] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class ListOperatorsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListOperatorsReply(_message.Message):
    __slots__ = ("operators",)
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    operators: _containers.RepeatedCompositeFieldContainer[Operator]
    def __init__(self, operators: _Optional[_Iterable[_Union[Operator, _Mapping]]] = ...) -> None: ...

class RevokeOperatorRequest(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "labels", "state", "epoch", "desired_generation", "observed_generation", "last_seen_ms", "agent_version", "architecture", "agents", "healthy", "certificate_expires_ms", "locked", "warnings", "trust_digest", "director_key", "ceiling", "authority", "log_keys")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DESIRED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    LOCKED_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TRUST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DIRECTOR_KEY_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    LOG_KEYS_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    state: str
    epoch: int
    desired_generation: int
    observed_generation: int
    last_seen_ms: int
    agent_version: str
    architecture: str
    agents: int
    healthy: int
    certificate_expires_ms: int
    locked: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    trust_digest: str
    director_key: str
    ceiling: _model_pb2.NodeCeiling
    authority: str
    log_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., state: _Optional[str] = ..., epoch: _Optional[int] = ..., desired_generation: _Optional[int] = ..., observed_generation: _Optional[int] = ..., last_seen_ms: _Optional[int] = ..., agent_version: _Optional[str] = ..., architecture: _Optional[str] = ..., agents: _Optional[int] = ..., healthy: _Optional[int] = ..., certificate_expires_ms: _Optional[int] = ..., locked: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., trust_digest: _Optional[str] = ..., director_key: _Optional[str] = ..., ceiling: _Optional[_Union[_model_pb2.NodeCeiling, _Mapping]] = ..., authority: _Optional[str] = ..., log_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class ListNodeAuthoritiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodeAuthoritiesReply(_message.Message):
    __slots__ = ("authorities",)
    AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    authorities: _containers.RepeatedCompositeFieldContainer[NodeAuthority]
    def __init__(self, authorities: _Optional[_Iterable[_Union[NodeAuthority, _Mapping]]] = ...) -> None: ...

class NodeAuthority(_message.Message):
    __slots__ = ("certificate", "fingerprint", "listed", "issues", "serves", "expires_ms")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    LISTED_FIELD_NUMBER: _ClassVar[int]
    ISSUES_FIELD_NUMBER: _ClassVar[int]
    SERVES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    fingerprint: str
    listed: bool
    issues: bool
    serves: bool
    expires_ms: int
    def __init__(self, certificate: _Optional[bytes] = ..., fingerprint: _Optional[str] = ..., listed: _Optional[bool] = ..., issues: _Optional[bool] = ..., serves: _Optional[bool] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class MakeNodeAuthorityRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ("labels",)
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LABELS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListNodesReply(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class GetNodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class AgentOnNode(_message.Message):
    __slots__ = ("node", "agent", "desired", "bundle", "grant_revision", "narrow", "grant_path", "bundle_path")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    GRANT_REVISION_FIELD_NUMBER: _ClassVar[int]
    NARROW_FIELD_NUMBER: _ClassVar[int]
    GRANT_PATH_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_PATH_FIELD_NUMBER: _ClassVar[int]
    node: str
    agent: _model_pb2.ObservedAgent
    desired: bool
    bundle: str
    grant_revision: int
    narrow: str
    grant_path: str
    bundle_path: str
    def __init__(self, node: _Optional[str] = ..., agent: _Optional[_Union[_model_pb2.ObservedAgent, _Mapping]] = ..., desired: _Optional[bool] = ..., bundle: _Optional[str] = ..., grant_revision: _Optional[int] = ..., narrow: _Optional[str] = ..., grant_path: _Optional[str] = ..., bundle_path: _Optional[str] = ...) -> None: ...

class GetOrderRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class GetOrderReply(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: _model_pb2.DesiredState
    def __init__(self, order: _Optional[_Union[_model_pb2.DesiredState, _Mapping]] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ("application", "node")
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    application: str
    node: str
    def __init__(self, application: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class ListAgentsReply(_message.Message):
    __slots__ = ("agents",)
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[AgentOnNode]
    def __init__(self, agents: _Optional[_Iterable[_Union[AgentOnNode, _Mapping]]] = ...) -> None: ...

class GetAgentRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetAgentReply(_message.Message):
    __slots__ = ("agents", "grant")
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[AgentOnNode]
    grant: Grant
    def __init__(self, agents: _Optional[_Iterable[_Union[AgentOnNode, _Mapping]]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("agent", "revision", "digest", "path", "document", "not_before_ms", "not_after_ms", "interfaces", "approvers")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    INTERFACES_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    revision: int
    digest: str
    path: str
    document: bytes
    not_before_ms: int
    not_after_ms: int
    interfaces: _containers.RepeatedScalarFieldContainer[str]
    approvers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, agent: _Optional[str] = ..., revision: _Optional[int] = ..., digest: _Optional[str] = ..., path: _Optional[str] = ..., document: _Optional[bytes] = ..., not_before_ms: _Optional[int] = ..., not_after_ms: _Optional[int] = ..., interfaces: _Optional[_Iterable[str]] = ..., approvers: _Optional[_Iterable[str]] = ...) -> None: ...

class ListGrantsRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    def __init__(self, agent: _Optional[str] = ...) -> None: ...

class ListGrantsReply(_message.Message):
    __slots__ = ("grants",)
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    grants: _containers.RepeatedCompositeFieldContainer[Grant]
    def __init__(self, grants: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ...) -> None: ...

class GetGrantRequest(_message.Message):
    __slots__ = ("agent", "revision")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    agent: str
    revision: int
    def __init__(self, agent: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("name", "version", "digest", "path", "imports", "exports", "models", "size", "team", "release", "refused")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    IMPORTS_FIELD_NUMBER: _ClassVar[int]
    EXPORTS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    path: str
    imports: _containers.RepeatedScalarFieldContainer[str]
    exports: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedScalarFieldContainer[str]
    size: int
    team: str
    release: int
    refused: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., path: _Optional[str] = ..., imports: _Optional[_Iterable[str]] = ..., exports: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[str]] = ..., size: _Optional[int] = ..., team: _Optional[str] = ..., release: _Optional[int] = ..., refused: _Optional[str] = ...) -> None: ...

class ListBundlesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBundlesReply(_message.Message):
    __slots__ = ("bundles",)
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    bundles: _containers.RepeatedCompositeFieldContainer[Bundle]
    def __init__(self, bundles: _Optional[_Iterable[_Union[Bundle, _Mapping]]] = ...) -> None: ...

class CallAgentRequest(_message.Message):
    __slots__ = ("agent", "node", "invocation", "deadline_ms")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    node: str
    invocation: str
    deadline_ms: int
    def __init__(self, agent: _Optional[str] = ..., node: _Optional[str] = ..., invocation: _Optional[str] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class CallAgentReply(_message.Message):
    __slots__ = ("node", "output")
    NODE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    node: str
    output: str
    def __init__(self, node: _Optional[str] = ..., output: _Optional[str] = ...) -> None: ...

class SendEventRequest(_message.Message):
    __slots__ = ("topic", "payloads", "node")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    topic: str
    payloads: _containers.RepeatedScalarFieldContainer[str]
    node: str
    def __init__(self, topic: _Optional[str] = ..., payloads: _Optional[_Iterable[str]] = ..., node: _Optional[str] = ...) -> None: ...

class SendEventReply(_message.Message):
    __slots__ = ("nodes", "delivered")
    NODES_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    nodes: int
    delivered: int
    def __init__(self, nodes: _Optional[int] = ..., delivered: _Optional[int] = ...) -> None: ...

class StreamLogsRequest(_message.Message):
    __slots__ = ("agent", "node", "follow", "tail")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    agent: str
    node: str
    follow: bool
    tail: int
    def __init__(self, agent: _Optional[str] = ..., node: _Optional[str] = ..., follow: _Optional[bool] = ..., tail: _Optional[int] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("node", "agent", "after_sequence", "limit", "follow")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    node: str
    agent: str
    after_sequence: int
    limit: int
    follow: bool
    def __init__(self, node: _Optional[str] = ..., agent: _Optional[str] = ..., after_sequence: _Optional[int] = ..., limit: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class ListCrashesRequest(_message.Message):
    __slots__ = ("agent", "node")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    node: str
    def __init__(self, agent: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class ListCrashesReply(_message.Message):
    __slots__ = ("crashes", "silent")
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    crashes: _containers.RepeatedCompositeFieldContainer[_model_pb2.Crash]
    silent: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, crashes: _Optional[_Iterable[_Union[_model_pb2.Crash, _Mapping]]] = ..., silent: _Optional[_Iterable[str]] = ...) -> None: ...

class GetCrashRequest(_message.Message):
    __slots__ = ("id", "node")
    ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    id: str
    node: str
    def __init__(self, id: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class GetCrashReply(_message.Message):
    __slots__ = ("node", "document")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    node: str
    document: bytes
    def __init__(self, node: _Optional[str] = ..., document: _Optional[bytes] = ...) -> None: ...

class AuditWhoRequest(_message.Message):
    __slots__ = ("agent", "node", "interface", "at_ms")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    node: str
    interface: str
    at_ms: int
    def __init__(self, agent: _Optional[str] = ..., node: _Optional[str] = ..., interface: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class AuditAnswer(_message.Message):
    __slots__ = ("node", "agent", "interface", "constraints", "grant_revision", "grant_digest", "approvers", "bundle", "since_ms", "enforced", "leaf")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    GRANT_REVISION_FIELD_NUMBER: _ClassVar[int]
    GRANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    ENFORCED_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    node: str
    agent: str
    interface: str
    constraints: _containers.RepeatedScalarFieldContainer[str]
    grant_revision: int
    grant_digest: str
    approvers: _containers.RepeatedScalarFieldContainer[str]
    bundle: str
    since_ms: int
    enforced: bool
    leaf: int
    def __init__(self, node: _Optional[str] = ..., agent: _Optional[str] = ..., interface: _Optional[str] = ..., constraints: _Optional[_Iterable[str]] = ..., grant_revision: _Optional[int] = ..., grant_digest: _Optional[str] = ..., approvers: _Optional[_Iterable[str]] = ..., bundle: _Optional[str] = ..., since_ms: _Optional[int] = ..., enforced: _Optional[bool] = ..., leaf: _Optional[int] = ...) -> None: ...

class AuditWhoReply(_message.Message):
    __slots__ = ("answers", "checkpoint")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[AuditAnswer]
    checkpoint: bytes
    def __init__(self, answers: _Optional[_Iterable[_Union[AuditAnswer, _Mapping]]] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class AuditCheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditCheckpointReply(_message.Message):
    __slots__ = ("checkpoint",)
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ...) -> None: ...

class AuditEntriesRequest(_message.Message):
    __slots__ = ("from_index",)
    FROM_INDEX_FIELD_NUMBER: _ClassVar[int]
    from_index: int
    def __init__(self, from_index: _Optional[int] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("index", "leaf")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    index: int
    leaf: bytes
    def __init__(self, index: _Optional[int] = ..., leaf: _Optional[bytes] = ...) -> None: ...

class AuditRowsRequest(_message.Message):
    __slots__ = ("agent", "node")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    node: str
    def __init__(self, agent: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class AuditRow(_message.Message):
    __slots__ = ("approved", "assigned", "enforced", "size")
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    ENFORCED_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    approved: ApprovedRow
    assigned: AssignedRow
    enforced: EnforcedRow
    size: int
    def __init__(self, approved: _Optional[_Union[ApprovedRow, _Mapping]] = ..., assigned: _Optional[_Union[AssignedRow, _Mapping]] = ..., enforced: _Optional[_Union[EnforcedRow, _Mapping]] = ..., size: _Optional[int] = ...) -> None: ...

class ApprovedRow(_message.Message):
    __slots__ = ("path", "digest", "approvers", "document", "leaf", "from_ms", "to_ms")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    path: str
    digest: str
    approvers: _containers.RepeatedScalarFieldContainer[str]
    document: bytes
    leaf: int
    from_ms: int
    to_ms: int
    def __init__(self, path: _Optional[str] = ..., digest: _Optional[str] = ..., approvers: _Optional[_Iterable[str]] = ..., document: _Optional[bytes] = ..., leaf: _Optional[int] = ..., from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ...) -> None: ...

class AssignedRow(_message.Message):
    __slots__ = ("node", "agent", "bundle_path", "bundle_digest", "grant_path", "grant_digest", "leaf", "generation", "from_ms", "to_ms")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_PATH_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRANT_PATH_FIELD_NUMBER: _ClassVar[int]
    GRANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    node: str
    agent: str
    bundle_path: str
    bundle_digest: str
    grant_path: str
    grant_digest: str
    leaf: int
    generation: int
    from_ms: int
    to_ms: int
    def __init__(self, node: _Optional[str] = ..., agent: _Optional[str] = ..., bundle_path: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., grant_path: _Optional[str] = ..., grant_digest: _Optional[str] = ..., leaf: _Optional[int] = ..., generation: _Optional[int] = ..., from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ...) -> None: ...

class EnforcedRow(_message.Message):
    __slots__ = ("node", "agent", "bundle_digest", "grant_digest", "refusal", "leaf", "generation", "applied_ms", "known_ms", "ended_ms", "ended_known_ms")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    APPLIED_MS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_KNOWN_MS_FIELD_NUMBER: _ClassVar[int]
    node: str
    agent: str
    bundle_digest: str
    grant_digest: str
    refusal: str
    leaf: int
    generation: int
    applied_ms: int
    known_ms: int
    ended_ms: int
    ended_known_ms: int
    def __init__(self, node: _Optional[str] = ..., agent: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., grant_digest: _Optional[str] = ..., refusal: _Optional[str] = ..., leaf: _Optional[int] = ..., generation: _Optional[int] = ..., applied_ms: _Optional[int] = ..., known_ms: _Optional[int] = ..., ended_ms: _Optional[int] = ..., ended_known_ms: _Optional[int] = ...) -> None: ...

class AuditCheckpointsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditNote(_message.Message):
    __slots__ = ("size", "note")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    size: int
    note: bytes
    def __init__(self, size: _Optional[int] = ..., note: _Optional[bytes] = ...) -> None: ...

class AuditWitnessesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditWitness(_message.Message):
    __slots__ = ("name", "vkey", "node", "required", "size", "at_ms", "policy_name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VKEY_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    vkey: str
    node: str
    required: bool
    size: int
    at_ms: int
    policy_name: str
    def __init__(self, name: _Optional[str] = ..., vkey: _Optional[str] = ..., node: _Optional[str] = ..., required: _Optional[bool] = ..., size: _Optional[int] = ..., at_ms: _Optional[int] = ..., policy_name: _Optional[str] = ...) -> None: ...

class AuditWitnessesReply(_message.Message):
    __slots__ = ("witnesses", "size", "witnessed_size", "policy", "waiting")
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WITNESSED_SIZE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    witnesses: _containers.RepeatedCompositeFieldContainer[AuditWitness]
    size: int
    witnessed_size: int
    policy: bytes
    waiting: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, witnesses: _Optional[_Iterable[_Union[AuditWitness, _Mapping]]] = ..., size: _Optional[int] = ..., witnessed_size: _Optional[int] = ..., policy: _Optional[bytes] = ..., waiting: _Optional[_Iterable[str]] = ...) -> None: ...

class AuditOfferRequest(_message.Message):
    __slots__ = ("old_size",)
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    old_size: int
    def __init__(self, old_size: _Optional[int] = ...) -> None: ...

class AuditOfferReply(_message.Message):
    __slots__ = ("note", "consistency")
    NOTE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    note: bytes
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, note: _Optional[bytes] = ..., consistency: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AuditCosignRequest(_message.Message):
    __slots__ = ("size", "line")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    size: int
    line: str
    def __init__(self, size: _Optional[int] = ..., line: _Optional[str] = ...) -> None: ...

class AuditCosignReply(_message.Message):
    __slots__ = ("met",)
    MET_FIELD_NUMBER: _ClassVar[int]
    met: bool
    def __init__(self, met: _Optional[bool] = ...) -> None: ...

class ListSealingKeysRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: str
    def __init__(self, after: _Optional[str] = ...) -> None: ...

class ListSealingKeysReply(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[SealingKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[SealingKey, _Mapping]]] = ...) -> None: ...

class SealingKey(_message.Message):
    __slots__ = ("node", "epoch", "bound_key", "statement", "leaf", "proof", "agents", "join_proof")
    NODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BOUND_KEY_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    JOIN_PROOF_FIELD_NUMBER: _ClassVar[int]
    node: str
    epoch: int
    bound_key: bytes
    statement: bytes
    leaf: int
    proof: bytes
    agents: _containers.RepeatedScalarFieldContainer[str]
    join_proof: bytes
    def __init__(self, node: _Optional[str] = ..., epoch: _Optional[int] = ..., bound_key: _Optional[bytes] = ..., statement: _Optional[bytes] = ..., leaf: _Optional[int] = ..., proof: _Optional[bytes] = ..., agents: _Optional[_Iterable[str]] = ..., join_proof: _Optional[bytes] = ...) -> None: ...

class PutSecretRequest(_message.Message):
    __slots__ = ("agent", "name", "version", "envelopes")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    agent: str
    name: str
    version: int
    envelopes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, agent: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., envelopes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PutSecretReply(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class ListSecretsRequest(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    def __init__(self, agent: _Optional[str] = ...) -> None: ...

class ListSecretsReply(_message.Message):
    __slots__ = ("secrets",)
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    secrets: _containers.RepeatedCompositeFieldContainer[Secret]
    def __init__(self, secrets: _Optional[_Iterable[_Union[Secret, _Mapping]]] = ...) -> None: ...

class Secret(_message.Message):
    __slots__ = ("agent", "name", "version", "set_ms", "operator", "nodes", "behind", "escrow")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SET_MS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    ESCROW_FIELD_NUMBER: _ClassVar[int]
    agent: str
    name: str
    version: int
    set_ms: int
    operator: str
    nodes: _containers.RepeatedScalarFieldContainer[str]
    behind: _containers.RepeatedScalarFieldContainer[str]
    escrow: bytes
    def __init__(self, agent: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., set_ms: _Optional[int] = ..., operator: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ..., behind: _Optional[_Iterable[str]] = ..., escrow: _Optional[bytes] = ...) -> None: ...

class RemoveSecretRequest(_message.Message):
    __slots__ = ("agent", "name")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    agent: str
    name: str
    def __init__(self, agent: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class RemoveSecretReply(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, nodes: _Optional[_Iterable[str]] = ...) -> None: ...
