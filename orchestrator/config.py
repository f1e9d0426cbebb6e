"""Settings of the coordinator: file, then environment, then flags; validated once, then passed down.

Owns: the format of coordinator.toml, the variables `FLEET_COORDINATOR_*` and the layout of the data directory. Nothing
else reads the environment or knows a file's name. Units are in the names.

    fleet = "dev"                              # name of the fleet, as in trust/fleet.json
    data_dir = "."                             # relative to this file

    [listen]
    session = "127.0.0.1:7443"                 # NodeService and ControlService, mutual TLS
    enrolment = "127.0.0.1:7444"               # EnrolmentService, server TLS only

    [advertise]                                # optional; what nodes are told; defaults to `listen`
    session = "coordinator.example:7443"
    enrolment = "coordinator.example:7444"

    [limits]                                   # optional, all whole numbers
    report_interval_ms = 5000
    write_deadline_ms = 10000
    messages_per_second = 50
    assignment_lifetime_s = 2592000
    fetches_per_node = 4
    fetches = 64
    enrolments_per_minute = 120

    [logs]
    collect = true                             # keep the newest lines of every node in memory
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.documents import Reader, Value
from fleet.errors import Code, FleetError
from fleet.names import is_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIX = "FLEET_COORDINATOR_"

_VARIABLES = {
    "FLEET": ("fleet",),
    "DATA_DIR": ("data_dir",),
    "LISTEN_SESSION": ("listen", "session"),
    "LISTEN_ENROLMENT": ("listen", "enrolment"),
    "ADVERTISE_SESSION": ("advertise", "session"),
    "ADVERTISE_ENROLMENT": ("advertise", "enrolment"),
    "REPORT_INTERVAL_MS": ("limits", "report_interval_ms"),
    "WRITE_DEADLINE_MS": ("limits", "write_deadline_ms"),
    "MESSAGES_PER_SECOND": ("limits", "messages_per_second"),
    "ASSIGNMENT_LIFETIME_S": ("limits", "assignment_lifetime_s"),
    "FETCHES_PER_NODE": ("limits", "fetches_per_node"),
    "FETCHES": ("limits", "fetches"),
    "ENROLMENTS_PER_MINUTE": ("limits", "enrolments_per_minute"),
    "LOGS_COLLECT": ("logs", "collect"),
}
_MAX_PORT = 65535
_MAX_CONFIG = 64 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host name or address and a port; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may cost.

    Attributes:
        report_interval_ms: how often a node reports when nothing changes.
        write_deadline_ms: how long one message to a node may take before its session is cut off.
        messages_per_second: messages that one session may send on average; four times as many at once. Answers that
            somebody waits for do not count.
        assignment_lifetime_s: how long an assignment may be adopted; signed anew before a third of it is left.
        fetches_per_node: blobs that one node may fetch at once; the next one is refused.
        fetches: blobs that are sent at once to all nodes; the next one waits.
        enrolments_per_minute: enrolments and renewals that may begin from one address; many sites share one.
    """

    report_interval_ms: int = 5_000
    write_deadline_ms: int = 10_000
    messages_per_second: int = 50
    assignment_lifetime_s: int = 30 * 86_400
    fetches_per_node: int = 4
    fetches: int = 64
    enrolments_per_minute: int = 120


@dataclass(frozen=True, slots=True)
class Files:
    """The data directory, as `fleetctl init` makes it."""

    data_dir: Path

    @property
    def root(self) -> Path:
        """Pinned TUF root."""
        return self.data_dir / "trust" / "root.json"

    @property
    def director_key(self) -> Path:
        """Ed25519 key that signs assignments, PKCS #8 PEM."""
        return self.data_dir / "keys" / "director.pem"

    @property
    def log_key(self) -> Path:
        """Ed25519 key that signs checkpoints, PKCS #8 PEM."""
        return self.data_dir / "keys" / "log.pem"

    @property
    def former_log_key(self) -> Path:
        """The log's key before that, while it changes; may be absent: then one key signs checkpoints."""
        return self.data_dir / "keys" / "log.old.pem"

    @property
    def log_name(self) -> Path:
        """Name of the log, one line; absent for the first log of a fleet."""
        return self.data_dir / "keys" / "log.name"

    @property
    def node_authority_key(self) -> Path:
        """P-256 key of the node authority, PKCS #8 PEM."""
        return self.data_dir / "keys" / "node-ca.pem"

    @property
    def node_authority(self) -> Path:
        """Certificate of the node authority; it also signs the session port's certificate."""
        return self.data_dir / "keys" / "node-ca.crt"

    @property
    def next_node_authority_key(self) -> Path:
        """Key of the node authority's successor; there during a rotation only."""
        return self.data_dir / "keys" / "node-ca.next.pem"

    @property
    def next_node_authority(self) -> Path:
        """Certificate of the node authority's successor; there during a rotation only."""
        return self.data_dir / "keys" / "node-ca.next.crt"

    @property
    def operator_authority(self) -> Path:
        """Certificate of the operator authority; its key is not here."""
        return self.data_dir / "keys" / "operator-ca.crt"

    @property
    def login_authority_key(self) -> Path:
        """P-256 key of the authority that signs operators when they log in; may be absent: then nobody logs in."""
        return self.data_dir / "keys" / "login-ca.pem"

    @property
    def login_authority(self) -> Path:
        """Certificate of the login authority, signed by the operator authority."""
        return self.data_dir / "keys" / "login-ca.crt"

    @property
    def server_key(self) -> Path:
        """Key of the session port."""
        return self.data_dir / "tls" / "server.pem"

    @property
    def server_certificate(self) -> Path:
        """Certificate of the session port."""
        return self.data_dir / "tls" / "server.crt"

    @property
    def enrolment_key(self) -> Path:
        """Key of the enrolment port; join tokens pin it."""
        return self.data_dir / "tls" / "enrolment.pem"

    @property
    def enrolment_certificate(self) -> Path:
        """Self-signed certificate of the enrolment port."""
        return self.data_dir / "tls" / "enrolment.crt"

    @property
    def blobs(self) -> Path:
        """Folder of the content-addressed blobs."""
        return self.data_dir / "blobs"

    @property
    def database(self) -> Path:
        """Folder of control.db and telemetry.db."""
        return self.data_dir / "db"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the coordinator is told from outside.

    Attributes:
        advertise_session: address of the session port as nodes reach it.
        advertise_enrolment: address of the enrolment port as operators hand it out.
        collect_logs: whether nodes always send log lines, or only while somebody follows them.
    """

    fleet: str
    files: Files
    listen_session: Endpoint
    listen_enrolment: Endpoint
    advertise_session: Endpoint
    advertise_enrolment: Endpoint
    limits: Limits = field(default_factory=Limits)
    collect_logs: bool = True


def load_settings(file: Path, environment: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Read coordinator.toml and what overrides it.

    Args:
        file: the file; a relative `data_dir` in it is relative to its folder.
        environment: variables; only `FLEET_COORDINATOR_*` are read, and an unknown one is refused.
        flags: values from the command line by variable name without the prefix, in lower case (`listen_session`).

    Raises:
        FleetError: CONFIG_INVALID with the place.
    """
    try:
        with file.open("rb") as handle:
            text = handle.read(_MAX_CONFIG + 1)
        if len(text) > _MAX_CONFIG:
            raise FleetError(Code.CONFIG_INVALID, f"more than {_MAX_CONFIG} bytes", place=str(file))
        tree: dict[str, Value] = tomllib.loads(text.decode())
    except OSError as error:
        raise FleetError(Code.CONFIG_INVALID, f"cannot read it: {error.strerror}", place=str(file)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FleetError(Code.CONFIG_INVALID, f"not valid TOML: {error}", place=str(file)) from error
    overrides = {name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)}
    overrides |= {name.upper(): value for name, value in flags.items()}
    for name, value in overrides.items():
        _override(tree, name, value)
    with Reader(tree, Code.CONFIG_INVALID, str(file)) as top:
        return _settings(top, file.resolve().parent)


def _override(tree: dict[str, Value], name: str, value: str) -> None:
    path = _VARIABLES.get(name)
    if path is None:
        raise FleetError(Code.CONFIG_INVALID, f"unknown setting {PREFIX}{name}", place=PREFIX + name)
    for key in path[:-1]:
        section = tree.setdefault(key, {})
        if not isinstance(section, dict):
            raise FleetError(Code.CONFIG_INVALID, f"{key} is not a table", place=key)
        tree = section
    parsed: Value = value
    if path[0] == "limits":
        if not value.isdecimal():
            raise FleetError(Code.CONFIG_INVALID, "expected a whole number", place=PREFIX + name)
        parsed = int(value)
    elif path[0] == "logs":
        if value not in {"true", "false"}:
            raise FleetError(Code.CONFIG_INVALID, "expected true or false", place=PREFIX + name)
        parsed = value == "true"
    tree[path[-1]] = parsed


def _settings(top: Reader, folder: Path) -> Settings:
    fleet = top.text("fleet")
    if not is_name(fleet):
        top.fail("fleet", "not a name")
    data_dir = folder / top.text("data_dir", ".")
    listen = top.section("listen", lambda r: (_endpoint(r, "session"), _endpoint(r, "enrolment")))
    advertise = listen
    if top.has("advertise"):
        advertise = top.section(
            "advertise", lambda r: (_endpoint(r, "session", listen[0]), _endpoint(r, "enrolment", listen[1]))
        )
    return Settings(
        fleet=fleet,
        files=Files(data_dir),
        listen_session=listen[0],
        listen_enrolment=listen[1],
        advertise_session=advertise[0],
        advertise_enrolment=advertise[1],
        limits=top.section("limits", _limits) if top.has("limits") else Limits(),
        collect_logs=top.section("logs", lambda r: r.flag("collect", default=True)) if top.has("logs") else True,
    )


def _limits(reader: Reader) -> Limits:
    usual = Limits()
    return Limits(
        report_interval_ms=reader.integer("report_interval_ms", 200, 3_600_000, usual.report_interval_ms),
        write_deadline_ms=reader.integer("write_deadline_ms", 100, 600_000, usual.write_deadline_ms),
        messages_per_second=reader.integer("messages_per_second", 1, 10_000, usual.messages_per_second),
        assignment_lifetime_s=reader.integer("assignment_lifetime_s", 60, 366 * 86_400, usual.assignment_lifetime_s),
        fetches_per_node=reader.integer("fetches_per_node", 1, 1_000, usual.fetches_per_node),
        fetches=reader.integer("fetches", 1, 10_000, usual.fetches),
        enrolments_per_minute=reader.integer("enrolments_per_minute", 1, 100_000, usual.enrolments_per_minute),
    )


def _endpoint(reader: Reader, key: str, default: Endpoint | None = None) -> Endpoint:
    if default is not None and not reader.has(key):
        return default
    text = reader.text(key)
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or (":" in bare) != host.startswith("[") or not port.isdecimal() or int(port) > _MAX_PORT:
        reader.fail(key, f"{text!r} is not host:port")
    return Endpoint(bare, int(port))
