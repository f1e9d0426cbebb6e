from fleet.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeMessage(_message.Message):
    __slots__ = ("hello", "observed", "receipt", "events", "logs", "result", "witness", "cosigned")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    observed: _model_pb2.ObservedState
    receipt: bytes
    events: EventBatch
    logs: LogBatch
    result: CommandResult
    witness: Witness
    cosigned: Cosigned
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., observed: _Optional[_Union[_model_pb2.ObservedState, _Mapping]] = ..., receipt: _Optional[bytes] = ..., events: _Optional[_Union[EventBatch, _Mapping]] = ..., logs: _Optional[_Union[LogBatch, _Mapping]] = ..., result: _Optional[_Union[CommandResult, _Mapping]] = ..., witness: _Optional[_Union[Witness, _Mapping]] = ..., cosigned: _Optional[_Union[Cosigned, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("boot_id", "agent_version", "architecture", "accepted_generation", "accepted_digest", "observed", "root_version", "release_version", "seen_size", "sealing_key", "ceiling")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    ROOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEALING_KEY_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    agent_version: str
    architecture: str
    accepted_generation: int
    accepted_digest: str
    observed: _model_pb2.ObservedState
    root_version: int
    release_version: int
    seen_size: int
    sealing_key: bytes
    ceiling: _model_pb2.NodeCeiling
    def __init__(self, boot_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., architecture: _Optional[str] = ..., accepted_generation: _Optional[int] = ..., accepted_digest: _Optional[str] = ..., observed: _Optional[_Union[_model_pb2.ObservedState, _Mapping]] = ..., root_version: _Optional[int] = ..., release_version: _Optional[int] = ..., seen_size: _Optional[int] = ..., sealing_key: _Optional[bytes] = ..., ceiling: _Optional[_Union[_model_pb2.NodeCeiling, _Mapping]] = ...) -> None: ...

class Witness(_message.Message):
    __slots__ = ("certificate", "seen_size")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SEEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    seen_size: int
    def __init__(self, certificate: _Optional[bytes] = ..., seen_size: _Optional[int] = ...) -> None: ...

class Cosigned(_message.Message):
    __slots__ = ("size", "line", "seen_size", "error_code")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    SEEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    size: int
    line: str
    seen_size: int
    error_code: str
    def __init__(self, size: _Optional[int] = ..., line: _Optional[str] = ..., seen_size: _Optional[int] = ..., error_code: _Optional[str] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_model_pb2.Event]
    def __init__(self, events: _Optional[_Iterable[_Union[_model_pb2.Event, _Mapping]]] = ...) -> None: ...

class LogBatch(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[_model_pb2.LogLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[_model_pb2.LogLine, _Mapping]]] = ...) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("id", "output", "error_code", "error_message", "error_remedy", "delivered", "crashes", "document")
    ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_REMEDY_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    output: str
    error_code: str
    error_message: str
    error_remedy: str
    delivered: int
    crashes: _containers.RepeatedCompositeFieldContainer[_model_pb2.Crash]
    document: bytes
    def __init__(self, id: _Optional[str] = ..., output: _Optional[str] = ..., error_code: _Optional[str] = ..., error_message: _Optional[str] = ..., error_remedy: _Optional[str] = ..., delivered: _Optional[int] = ..., crashes: _Optional[_Iterable[_Union[_model_pb2.Crash, _Mapping]]] = ..., document: _Optional[bytes] = ...) -> None: ...

class CoordinatorMessage(_message.Message):
    __slots__ = ("welcome", "desired", "command", "go_away", "logs", "checkpoint", "secrets", "release")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    desired: _model_pb2.DesiredState
    command: Command
    go_away: GoAway
    logs: LogSubscription
    checkpoint: CheckpointOffer
    secrets: SealedSecrets
    release: ReleaseNews
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., desired: _Optional[_Union[_model_pb2.DesiredState, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., logs: _Optional[_Union[LogSubscription, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointOffer, _Mapping]] = ..., secrets: _Optional[_Union[SealedSecrets, _Mapping]] = ..., release: _Optional[_Union[ReleaseNews, _Mapping]] = ...) -> None: ...

class ReleaseNews(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckpointOffer(_message.Message):
    __slots__ = ("note", "old_size", "consistency")
    NOTE_FIELD_NUMBER: _ClassVar[int]
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    note: bytes
    old_size: int
    consistency: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, note: _Optional[bytes] = ..., old_size: _Optional[int] = ..., consistency: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SealedSecrets(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, envelopes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("report_interval_ms", "now_ms")
    REPORT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    report_interval_ms: int
    now_ms: int
    def __init__(self, report_interval_ms: _Optional[int] = ..., now_ms: _Optional[int] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("retry_after_ms", "reason")
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    retry_after_ms: int
    reason: str
    def __init__(self, retry_after_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class LogSubscription(_message.Message):
    __slots__ = ("enabled",)
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    def __init__(self, enabled: _Optional[bool] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "deadline_ms", "call", "send", "crashes")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    id: str
    deadline_ms: int
    call: Call
    send: Send
    crashes: FindCrashes
    def __init__(self, id: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., call: _Optional[_Union[Call, _Mapping]] = ..., send: _Optional[_Union[Send, _Mapping]] = ..., crashes: _Optional[_Union[FindCrashes, _Mapping]] = ...) -> None: ...

class FindCrashes(_message.Message):
    __slots__ = ("agent", "id")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    agent: str
    id: str
    def __init__(self, agent: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("agent", "invocation")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    agent: str
    invocation: str
    def __init__(self, agent: _Optional[str] = ..., invocation: _Optional[str] = ...) -> None: ...

class Send(_message.Message):
    __slots__ = ("topic", "payloads")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    payloads: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, topic: _Optional[str] = ..., payloads: _Optional[_Iterable[str]] = ...) -> None: ...

class FetchBlobRequest(_message.Message):
    __slots__ = ("digest", "offset")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    digest: str
    offset: int
    def __init__(self, digest: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("data", "total")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    total: int
    def __init__(self, data: _Optional[bytes] = ..., total: _Optional[int] = ...) -> None: ...

class FetchTrustRequest(_message.Message):
    __slots__ = ("known_root_version",)
    KNOWN_ROOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    known_root_version: int
    def __init__(self, known_root_version: _Optional[int] = ...) -> None: ...

class TrustMetadata(_message.Message):
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
