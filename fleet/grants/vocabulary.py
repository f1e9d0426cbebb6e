"""Which interfaces a grant can name, and with which constraints.

Owns: the vocabulary of this release: the interfaces that a node serves, and the one form of rule for all others, which
only agents can serve for each other (`LINK`). Any other interface or constraint is refused in documents, so that a
grant never promises a restriction that nothing enforces. Interface names carry no version.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.grants.networks import PUBLIC
from fleet.quantities import MAX_QUANTITY, format_duration, format_size, parse_duration, parse_size
from fleet.wit import is_interface

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.documents import Reader


class Kind(StrEnum):
    """Kinds of constraint: see `fleet.grants.constraints`."""

    LITERALS = "literals"
    PATTERNS = "patterns"
    HOSTS = "hosts"
    NETWORKS = "networks"
    PORTS = "ports"
    LISTENERS = "listeners"
    ADDRESSES = "addresses"
    VOLUMES = "volumes"
    MAXIMUM = "maximum"


class Unit(StrEnum):
    """What a number counts, and so how documents write it."""

    COUNT = "count"
    SIZE = "size"
    DURATION = "duration"

    def take(self, reader: Reader, key: str, minimum: int, maximum: int) -> int:
        """Read a quantity within bounds (inclusive): a whole number, or text with a unit.

        Raises:
            FleetError: the code of the document.
        """
        if self is Unit.COUNT:
            return reader.integer(key, minimum, maximum)
        parse = parse_size if self is Unit.SIZE else parse_duration
        value = parse(reader.text(key), reader.code, reader.at(key))
        if not minimum <= value <= maximum:
            reader.fail(key, f"{self.write(value)} is not between {self.write(minimum)} and {self.write(maximum)}")
        return value

    def write(self, value: int) -> str | int:
        """Write a quantity as documents do: a count as a number, the others as text with a unit."""
        if self is Unit.COUNT:
            return value
        return format_size(value) if self is Unit.SIZE else format_duration(value)


@dataclass(frozen=True, slots=True)
class ConstraintSpec:
    """One constraint that rules of an interface may have.

    Attributes:
        kind: how values are compared.
        request: keyword under which a call names its value; empty for a maximum, which is looked up instead.
        required: whether a rule without it would be an accident, and is refused.
        required_with: constraint and word of it that make this one required; empty for none.
        values: the words that literals are made of.
        default: what a rule without it has; for constraints whose absence would be wider than what is usual.
        unit: what a maximum counts.
    """

    kind: Kind
    request: str = ""
    required: bool = False
    values: frozenset[str] = frozenset()
    unit: Unit = Unit.COUNT
    default: frozenset[str] = frozenset()
    required_with: tuple[str, str] | tuple[()] = ()


def _literals(request: str, *values: str) -> ConstraintSpec:
    return ConstraintSpec(Kind.LITERALS, request, required=True, values=frozenset(values))


def _patterns(request: str) -> ConstraintSpec:
    return ConstraintSpec(Kind.PATTERNS, request, required=True)


def _maximum(unit: Unit) -> ConstraintSpec:
    return ConstraintSpec(Kind.MAXIMUM, unit=unit)


MAX_MAXIMUM = MAX_QUANTITY
"""Largest number that a maximum may name."""

_BUCKETS = _patterns("bucket")
_TOPICS = _patterns("topic")
_SECRETS = _patterns("name")
_SCHEMES = frozenset({"http", "https"})
# `max_bytes` bounds each bucket of the rule, whoever wrote to it; it needs the interface that writes.
_MAX_BYTES = _maximum(Unit.SIZE)

VOCABULARY: Mapping[str, Mapping[str, ConstraintSpec]] = {
    "wasi:logging/logging": {},
    "wasi:keyvalue/store": {
        "buckets": _BUCKETS,
        "ops": _literals("op", "get", "set", "delete", "exists", "list-keys"),
        "max_bytes": _MAX_BYTES,
    },
    "wasi:keyvalue/atomics": {
        "buckets": _BUCKETS,
        "ops": _literals("op", "increment", "swap"),
        "max_bytes": _MAX_BYTES,
    },
    "wasi:keyvalue/batch": {
        "buckets": _BUCKETS,
        "ops": _literals("op", "get-many", "set-many", "delete-many"),
        "max_bytes": _MAX_BYTES,
    },
    # Exported, not imported: which buckets the agent may be told changes of.
    "wasi:keyvalue/watcher": {"buckets": _BUCKETS},
    # What a request may say and where it may go; `networks` is asked of every address that a name stands for.
    "wasi:http/outgoing-handler": {
        "hosts": ConstraintSpec(Kind.HOSTS, "host", required=True),
        "methods": _literals("method", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"),
        "schemes": ConstraintSpec(Kind.LITERALS, "scheme", values=_SCHEMES),
        "ports": ConstraintSpec(Kind.PORTS, "port", required=True),
        "paths": ConstraintSpec(Kind.PATTERNS, "path"),
        "networks": ConstraintSpec(Kind.NETWORKS, "network", default=frozenset({PUBLIC})),
        "max_request_bytes": _maximum(Unit.SIZE),
        "max_response_bytes": _maximum(Unit.SIZE),
        "max_rps": _maximum(Unit.COUNT),
    },
    # An export: where the node listens for the agent.
    "wasi:http/incoming-handler": {
        "ports": ConstraintSpec(Kind.LISTENERS, "port", required=True),
        "addresses": ConstraintSpec(Kind.ADDRESSES, "address", default=frozenset({"127.0.0.1"})),
        "max_request_bytes": _maximum(Unit.SIZE),
        "max_rps": _maximum(Unit.COUNT),
    },
    # A model is named as the guest names it, or by digest; `devices` are the execution targets of wasi:nn.
    "wasi:nn/graph": {"models": _patterns("model"), "devices": _literals("device", "cpu", "gpu", "tpu")},
    # Tensors hold memory of the host, so they are granted although they reach nothing.
    "wasi:nn/tensor": {},
    "wasi:nn/inference": {"max_rps": _maximum(Unit.COUNT)},
    "wasi:messaging/producer": {"topics": _TOPICS, "max_bytes": _MAX_BYTES, "max_rps": _maximum(Unit.COUNT)},
    "wasi:messaging/request-reply": {"topics": _TOPICS, "max_bytes": _MAX_BYTES, "max_rps": _maximum(Unit.COUNT)},
    # Exported, not imported: which topics the agent may be given messages of.
    "wasi:messaging/incoming-handler": {"topics": _TOPICS},
    "fleet:sensors/reader": {"sources": _patterns("source"), "max_rps": _maximum(Unit.COUNT)},
    # Needed by every agent that is called with readings, whichever function takes them.
    "fleet:sensors/handler": {"sources": _patterns("source")},
    # Baseline too: without a grant an agent sees no directory. The maxima bound each volume, whoever wrote to it.
    "wasi:filesystem/preopens": {
        "volumes": ConstraintSpec(Kind.VOLUMES, "volume", required=True),
        "mode": _literals("mode", "read", "write"),
        "max_bytes": ConstraintSpec(Kind.MAXIMUM, unit=Unit.SIZE, required_with=("mode", "write")),
        "max_files": _maximum(Unit.COUNT),
    },
    "wasi:config/store": {"keys": _patterns("key")},
    # To hold a secret is to name it to the host; to reveal it is to be told its value.
    "fleet:secrets/store": {"names": _SECRETS},
    "fleet:secrets/reveal": {"names": _SECRETS},
    # To have a held secret sent as a header, to these hosts and no others; `wasi:http/outgoing-handler` is asked too.
    "fleet:secrets/http": {
        "names": _SECRETS,
        "hosts": ConstraintSpec(Kind.HOSTS, "host", required=True),
        "schemes": ConstraintSpec(Kind.LITERALS, "scheme", values=_SCHEMES, default=frozenset({"https"})),
    },
    "wasi:clocks/wall-clock": {},
    "wasi:clocks/system-clock": {},
    "wasi:random/random": {},
    "wasi:random/insecure": {},
    "wasi:random/insecure-seed": {},
}
"""Interface -> constraint name -> what it means."""

EXPORTS: frozenset[str] = frozenset(
    {
        "fleet:sensors/handler",
        "wasi:http/incoming-handler",
        "wasi:keyvalue/watcher",
        "wasi:messaging/incoming-handler",
    }
)
"""Interfaces of the vocabulary that an agent exports: its grant says whether and where a node serves them."""

BASELINE: frozenset[str] = frozenset(
    {
        "wasi:io/error",
        "wasi:io/poll",
        "wasi:io/streams",
        "wasi:clocks/monotonic-clock",
        "wasi:clocks/types",
        "wasi:cli/environment",
        "wasi:cli/exit",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:cli/stderr",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:cli/terminal-stdin",
        "wasi:cli/terminal-stdout",
        "wasi:cli/terminal-stderr",
        # C libraries, and so Python and Go, import files and sockets even where a program has none. A node shows them
        # no directory but those that a grant names, and opens no socket: the calls that would are answered with the
        # interface's own denial.
        "wasi:filesystem/preopens",
        "wasi:filesystem/types",
        "wasi:sockets/instance-network",
        "wasi:sockets/ip-name-lookup",
        "wasi:sockets/network",
        "wasi:sockets/tcp",
        "wasi:sockets/tcp-create-socket",
        "wasi:sockets/udp",
        "wasi:sockets/udp-create-socket",
        # Messages are memory of the host, which is bounded; a client of the bus is refused without one of the others.
        "wasi:messaging/types",
        # Requests and responses go nowhere without one of the two handlers, which are granted.
        "wasi:http/types",
        # No function of it makes an error; the only ones come out of interfaces that are granted.
        "wasi:nn/errors",
    }
)
"""Interfaces that every agent may import: as a node serves them they reach nothing.

The environment is empty, input is at its end, output is captured, and there are no files and no sockets. One of them,
`wasi:filesystem/preopens`, is in the vocabulary too: a grant gives it something to reach.
Language runtimes import most of them whether the agent uses them or not.
"""


RESERVED_NAMESPACES = frozenset({"wasi", "fleet"})
"""Namespaces of interfaces that only a node may serve."""

LINK: Mapping[str, ConstraintSpec] = {"agents": _patterns("agent")}
"""Constraints of an interface that another agent serves: which agents (`application/agent`) may answer the calls.

Links come with the assignment, which the coordinator signs; with this it can link an agent to none but these.
"""


def is_link(interface: str) -> bool:
    """Whether agents may serve an interface (named without its version) for each other: any that no node serves."""
    return (
        is_interface(interface)
        and "@" not in interface
        and interface.partition(":")[0] not in RESERVED_NAMESPACES
        and interface not in VOCABULARY
    )


def find_specs(interface: str) -> Mapping[str, ConstraintSpec] | None:
    """Return the constraints of an interface that a grant can name, None for any other."""
    specs = VOCABULARY.get(interface)
    return LINK if specs is None and is_link(interface) else specs


def specs_of(interface: str, code: Code, place: str) -> Mapping[str, ConstraintSpec]:
    """Return the constraints of an interface.

    Raises:
        FleetError: `code` at `place` for an interface that no grant can name.
    """
    specs = find_specs(interface)
    if specs is not None:
        return specs
    if interface in BASELINE:
        raise FleetError(code, f"{interface} needs no grant: every agent may import it", place=place)
    raise FleetError(code, f"{interface[:256]!r} is no interface that this release can grant", place=place)
