from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_PENDING: _ClassVar[Phase]
    PHASE_ADMITTING: _ClassVar[Phase]
    PHASE_STARTING: _ClassVar[Phase]
    PHASE_RUNNING: _ClassVar[Phase]
    PHASE_STOPPING: _ClassVar[Phase]
    PHASE_BACKOFF: _ClassVar[Phase]
    PHASE_STOPPED: _ClassVar[Phase]
    PHASE_FAILED: _ClassVar[Phase]
PHASE_UNSPECIFIED: Phase
PHASE_PENDING: Phase
PHASE_ADMITTING: Phase
PHASE_STARTING: Phase
PHASE_RUNNING: Phase
PHASE_STOPPING: Phase
PHASE_BACKOFF: Phase
PHASE_STOPPED: Phase
PHASE_FAILED: Phase

class Exit(_message.Message):
    __slots__ = ("cause", "message", "at_ms")
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    cause: str
    message: str
    at_ms: int
    def __init__(self, cause: _Optional[str] = ..., message: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "remedy")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    remedy: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class Vitals(_message.Message):
    __slots__ = ("healthy", "ready", "reason", "dropped", "p50_us", "p99_us", "memory_peak_bytes", "queue", "host_calls")
    class HostCallsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    P50_US_FIELD_NUMBER: _ClassVar[int]
    P99_US_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    HOST_CALLS_FIELD_NUMBER: _ClassVar[int]
    healthy: bool
    ready: bool
    reason: str
    dropped: int
    p50_us: int
    p99_us: int
    memory_peak_bytes: int
    queue: int
    host_calls: _containers.ScalarMap[str, int]
    def __init__(self, healthy: _Optional[bool] = ..., ready: _Optional[bool] = ..., reason: _Optional[str] = ..., dropped: _Optional[int] = ..., p50_us: _Optional[int] = ..., p99_us: _Optional[int] = ..., memory_peak_bytes: _Optional[int] = ..., queue: _Optional[int] = ..., host_calls: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ObservedAgent(_message.Message):
    __slots__ = ("name", "phase", "bundle_digest", "grant_digest", "restarts", "last_exit", "next_attempt_at_ms", "calls", "errors", "memory_bytes", "last_output", "refusal", "running_since_ms", "vitals")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    LAST_EXIT_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAST_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RUNNING_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    VITALS_FIELD_NUMBER: _ClassVar[int]
    name: str
    phase: Phase
    bundle_digest: str
    grant_digest: str
    restarts: int
    last_exit: Exit
    next_attempt_at_ms: int
    calls: int
    errors: int
    memory_bytes: int
    last_output: str
    refusal: Refusal
    running_since_ms: int
    vitals: Vitals
    def __init__(self, name: _Optional[str] = ..., phase: _Optional[_Union[Phase, str]] = ..., bundle_digest: _Optional[str] = ..., grant_digest: _Optional[str] = ..., restarts: _Optional[int] = ..., last_exit: _Optional[_Union[Exit, _Mapping]] = ..., next_attempt_at_ms: _Optional[int] = ..., calls: _Optional[int] = ..., errors: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., last_output: _Optional[str] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., running_since_ms: _Optional[int] = ..., vitals: _Optional[_Union[Vitals, _Mapping]] = ...) -> None: ...

class ObservedState(_message.Message):
    __slots__ = ("generation", "digest", "at_ms", "agents", "trust_digest")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    TRUST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    generation: int
    digest: str
    at_ms: int
    agents: _containers.RepeatedCompositeFieldContainer[ObservedAgent]
    trust_digest: str
    def __init__(self, generation: _Optional[int] = ..., digest: _Optional[str] = ..., at_ms: _Optional[int] = ..., agents: _Optional[_Iterable[_Union[ObservedAgent, _Mapping]]] = ..., trust_digest: _Optional[str] = ...) -> None: ...

class DesiredState(_message.Message):
    __slots__ = ("assignment", "proof", "base", "consistency")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    assignment: bytes
    proof: bytes
    base: int
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, assignment: _Optional[bytes] = ..., proof: _Optional[bytes] = ..., base: _Optional[int] = ..., consistency: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("sequence", "at_ms", "node", "agent", "kind", "message", "detail")
    class DetailEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    at_ms: int
    node: str
    agent: str
    kind: str
    message: str
    detail: _containers.ScalarMap[str, str]
    def __init__(self, sequence: _Optional[int] = ..., at_ms: _Optional[int] = ..., node: _Optional[str] = ..., agent: _Optional[str] = ..., kind: _Optional[str] = ..., message: _Optional[str] = ..., detail: _Optional[_Mapping[str, str]] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("at_ms", "node", "agent", "level", "context", "message")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    node: str
    agent: str
    level: str
    context: str
    message: str
    def __init__(self, at_ms: _Optional[int] = ..., node: _Optional[str] = ..., agent: _Optional[str] = ..., level: _Optional[str] = ..., context: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Crash(_message.Message):
    __slots__ = ("id", "node", "agent", "cause", "message", "at_ms", "bundle_digest", "component_digest", "recorded", "complete")
    ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    id: str
    node: str
    agent: str
    cause: str
    message: str
    at_ms: int
    bundle_digest: str
    component_digest: str
    recorded: bool
    complete: bool
    def __init__(self, id: _Optional[str] = ..., node: _Optional[str] = ..., agent: _Optional[str] = ..., cause: _Optional[str] = ..., message: _Optional[str] = ..., at_ms: _Optional[int] = ..., bundle_digest: _Optional[str] = ..., component_digest: _Optional[str] = ..., recorded: _Optional[bool] = ..., complete: _Optional[bool] = ...) -> None: ...

class Blob(_message.Message):
    __slots__ = ("digest", "content")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    content: bytes
    def __init__(self, digest: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class NodeCeiling(_message.Message):
    __slots__ = ("digest", "document")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    document: bytes
    def __init__(self, digest: _Optional[str] = ..., document: _Optional[bytes] = ...) -> None: ...
