from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LoginRequest(_message.Message):
    __slots__ = ("hello", "proof")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    hello: LoginHello
    proof: LoginProof
    def __init__(self, hello: _Optional[_Union[LoginHello, _Mapping]] = ..., proof: _Optional[_Union[LoginProof, _Mapping]] = ...) -> None: ...

class LoginHello(_message.Message):
    __slots__ = ("token_id", "operator")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    operator: str
    def __init__(self, token_id: _Optional[str] = ..., operator: _Optional[str] = ...) -> None: ...

class LoginProof(_message.Message):
    __slots__ = ("csr", "mac", "signature", "sequence")
    CSR_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    mac: bytes
    signature: bytes
    sequence: int
    def __init__(self, csr: _Optional[bytes] = ..., mac: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., sequence: _Optional[int] = ...) -> None: ...

class LoginReply(_message.Message):
    __slots__ = ("challenge", "issued")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    challenge: Challenge
    issued: LoggedIn
    def __init__(self, challenge: _Optional[_Union[Challenge, _Mapping]] = ..., issued: _Optional[_Union[LoggedIn, _Mapping]] = ...) -> None: ...

class LoggedIn(_message.Message):
    __slots__ = ("operator", "fleet", "certificate", "ca_certificates", "session_address", "roles", "team", "sequence")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    SESSION_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    operator: str
    fleet: str
    certificate: bytes
    ca_certificates: bytes
    session_address: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    team: str
    sequence: int
    def __init__(self, operator: _Optional[str] = ..., fleet: _Optional[str] = ..., certificate: _Optional[bytes] = ..., ca_certificates: _Optional[bytes] = ..., session_address: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., team: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class EnrollRequest(_message.Message):
    __slots__ = ("hello", "proof")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    hello: EnrollHello
    proof: EnrollProof
    def __init__(self, hello: _Optional[_Union[EnrollHello, _Mapping]] = ..., proof: _Optional[_Union[EnrollProof, _Mapping]] = ...) -> None: ...

class EnrollHello(_message.Message):
    __slots__ = ("token_id",)
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    def __init__(self, token_id: _Optional[str] = ...) -> None: ...

class EnrollProof(_message.Message):
    __slots__ = ("mac", "bound_key", "csr", "agent_version", "statement")
    MAC_FIELD_NUMBER: _ClassVar[int]
    BOUND_KEY_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    mac: bytes
    bound_key: bytes
    csr: bytes
    agent_version: str
    statement: bytes
    def __init__(self, mac: _Optional[bytes] = ..., bound_key: _Optional[bytes] = ..., csr: _Optional[bytes] = ..., agent_version: _Optional[str] = ..., statement: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("hello", "proof")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    hello: RenewHello
    proof: RenewProof
    def __init__(self, hello: _Optional[_Union[RenewHello, _Mapping]] = ..., proof: _Optional[_Union[RenewProof, _Mapping]] = ...) -> None: ...

class RenewHello(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class RenewProof(_message.Message):
    __slots__ = ("epoch", "sequence", "signature", "csr")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    sequence: int
    signature: bytes
    csr: bytes
    def __init__(self, epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., signature: _Optional[bytes] = ..., csr: _Optional[bytes] = ...) -> None: ...

class EnrollReply(_message.Message):
    __slots__ = ("challenge", "issued")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    challenge: Challenge
    issued: Issued
    def __init__(self, challenge: _Optional[_Union[Challenge, _Mapping]] = ..., issued: _Optional[_Union[Issued, _Mapping]] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class Issued(_message.Message):
    __slots__ = ("node", "fleet", "epoch", "sequence", "certificate", "ca_certificates", "session_address", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    SESSION_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    node: str
    fleet: str
    epoch: int
    sequence: int
    certificate: bytes
    ca_certificates: bytes
    session_address: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, node: _Optional[str] = ..., fleet: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., certificate: _Optional[bytes] = ..., ca_certificates: _Optional[bytes] = ..., session_address: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...
