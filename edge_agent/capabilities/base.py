"""What a capability is: plain callables with WIT signatures, and what they are given to work with.

Owns: `HostFunction`, `HostInterface`, `AgentContext`, `LogRecord`, `EndAgentError`, the resource `Table`, and the two
functions with which a capability declares its interfaces (`declare_types`, `declare_functions`) and binds them to
callables (`bind`). Never sees the engine: `edge_agent.runner.engine` links a `HostInterface` into a component, and
tests call the functions directly.

Rules for every capability:

- A refusal by the grant is an error value wherever the signature has room for one, never a trap.
- A guest that breaks a limit in a function without an error side ends with `FleetError(LIMIT_EXCEEDED)`.
- A function that waits does so by the context's `wait`, which ends with the call's deadline.
- Functions of one agent are called by that agent's thread only; what agents share must be safe between threads.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, ParamSpec, Protocol, TypeVar, cast

from edge_agent.capabilities.exchange import NO_EXCHANGE
from edge_agent.inference import Inference
from fleet.errors import Code, FleetError
from fleet.wit_text import parse_signature, parse_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edge_agent.capabilities.exchange import Exchange
    from edge_agent.held_secret import HeldSecret
    from edge_agent.runtime import ModelFile, VolumeFolder
    from fleet.grants import Authority
    from fleet.model import ExitCause
    from fleet.wit_types import FuncType, WitType, WitValue

P = ParamSpec("P")
T = TypeVar("T")

MAX_HANDLE = (1 << 32) - 1
"""Largest number of a resource: the engine keeps a host's number in 32 bits."""

_NO_RESOURCES: Mapping[str, Callable[[int], None]] = MappingProxyType({})
_NO_SECRETS: Mapping[str, HeldSecret] = MappingProxyType({})
_NO_VOLUMES: Mapping[str, VolumeFolder] = MappingProxyType({})
_NO_USES: Mapping[str, str] = MappingProxyType({})


class Later(Protocol):
    """An answer that the host does not have yet, while the guest goes on with other calls."""

    def left_ns(self) -> int | None:
        """Return nanoseconds until it is there, 0 when it is; None when `AgentContext.wake` will be called for it."""
        ...

    def result(self) -> WitValue:
        """Return the answer, once `left_ns` has said 0; raises what the function would have."""
        ...


@dataclass(frozen=True, slots=True)
class HostFunction:
    """One function that a component may import.

    Attributes:
        signature: its WIT type. Methods have `self` as their first parameter.
        call: takes one positional argument per parameter and returns the result, all as `fleet.wit_types` maps them.
            Whatever it raises ends the agent as a host error.
        confidential: arguments and result stay out of crash reports, which then cannot be replayed exactly.
        later: begins what `call` would wait for, with the same arguments, where the guest imports the function
            asynchronously and other calls of it can go on meanwhile; None when the answer must be waited for after all.
    """

    signature: FuncType
    call: Callable[..., WitValue]
    confidential: bool = False
    later: Callable[..., Later | None] | None = None


@dataclass(frozen=True, slots=True)
class HostInterface:
    """One interface that a component may import.

    Attributes:
        name: with its version, for example `wasi:keyvalue/store@0.2.0-draft2`.
        functions: by their name in the component model: `open`, `[method]bucket.get`, `[static]cas.new`,
            `[constructor]tensor`.
        resources: destructor of each resource that this interface defines, by name. It gets the number that a
            function returned as `own`, when the guest drops it or dies holding it. A function that takes `own` is
            handed the resource: the destructor does not run for it any more.
        uses: resources that signatures here name but another interface defines, by name; the value is that
            interface's name, and `#` and the resource's own name where the two names differ.
        confidential: all of its functions are.
    """

    name: str
    functions: Mapping[str, HostFunction]
    resources: Mapping[str, Callable[[int], None]] = field(default_factory=lambda: _NO_RESOURCES)
    uses: Mapping[str, str] = field(default_factory=lambda: _NO_USES)
    confidential: bool = False


class EndAgentError(Exception):
    """Raised by a host function to end the agent with a cause of its own: it exited, or its time is up."""

    def __init__(self, cause: ExitCause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line that an agent logged, cleaned and within its limits.

    Attributes:
        time_ns: nanoseconds since the Unix epoch by the agent's clock.
        level: `trace`, `debug`, `info`, `warn`, `error` or `critical`.
    """

    time_ns: int
    level: str
    context: str
    message: str


def _nobody_waits() -> None:
    """Wake nobody: for contexts whose capabilities have no threads."""


def _never_overdue() -> EndAgentError | None:
    """Let every call go on: for contexts without deadlines."""
    return None


class GuestClock(Protocol):
    """Time as a guest may see it; the standard library's `time` module is one."""

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since an unnamed moment; never goes back."""
        ...


class Releases:
    """What to call when an agent ends, the newest first; all of it, even if one call raises."""

    __slots__ = ("_stack",)

    def __init__(self) -> None:
        self._stack: ExitStack | None = None  # made when needed: it takes 800 bytes, and most agents are never called

    def callback(self, call: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call this when the agent ends."""
        if self._stack is None:
            self._stack = ExitStack()
        self._stack.callback(call, *args, **kwargs)

    def close(self) -> None:
        """Call everything, once."""
        if self._stack is not None:
            self._stack.close()


@dataclass(frozen=True, slots=True)
class AgentContext:
    """Everything that the capabilities of one agent may touch.

    Attributes:
        agent: `application/agent`.
        application: first part of the name.
        authority: effective authority.
        config: configuration of the assignment, whether granted or not.
        state_dir: directory of the application's own data; made when first needed.
        models: model name -> file with the digest that its bytes must have when they are used.
        log: takes each log line; called in the agent's thread.
        clock: what the guest sees as time.
        wait: returns after so many nanoseconds, or earlier once `wake` is called. Raises `EndAgentError` at the
            deadline of the running call, and as soon as the agent is told to stop.
        entropy: gives so many random bytes, fit for keys.
        overdue: why the running call must end now, None while it may go on; from any thread. For what cannot `wait`.
        inference: what the node's operator decided about models.
        wake: ends a `wait`, from any thread: what the guest may be waiting for has changed.
        exchange: what the agent shares with the node around its runner; nothing unless one is given.
        http_authorities: certificates of authorities that the node trusts beside the system's, where it serves HTTP.
        volumes: folders that the node's operator has declared for agents, by name; a grant names them `node/NAME`.
        secrets: in clear, by name; the authority says what may be done with each.
        releases: what to close when the agent ends; capabilities register there.
    """

    agent: str
    application: str
    authority: Authority
    config: Mapping[str, str]
    state_dir: Path
    models: Mapping[str, ModelFile]
    log: Callable[[LogRecord], None]
    clock: GuestClock
    wait: Callable[[int], None]
    entropy: Callable[[int], bytes]
    overdue: Callable[[], EndAgentError | None] = _never_overdue
    inference: Inference = field(default_factory=Inference)
    wake: Callable[[], None] = _nobody_waits
    exchange: Exchange = NO_EXCHANGE
    http_authorities: Path | None = None
    volumes: Mapping[str, VolumeFolder] = field(default_factory=lambda: _NO_VOLUMES)
    secrets: Mapping[str, HeldSecret] = field(default_factory=lambda: _NO_SECRETS)
    releases: Releases = field(default_factory=Releases)
    _shared: dict[object, object] = field(default_factory=dict, init=False, repr=False)

    def shared(self, make: Callable[[AgentContext], T]) -> T:
        """What several modules share for this agent: made from the context by the first that asks for it."""
        if make not in self._shared:
            self._shared[make] = make(self)
        return cast("T", self._shared[make])

    def close(self) -> None:
        """Release what the capabilities of this agent hold. The engine tells no destructor when a store goes away."""
        self.releases.close()


class Table(Generic[T]):
    """Objects that a guest holds by number, at most `max_entries` of them with at most `max_bytes` in sum.

    Args:
        what: plural noun for messages.
        max_entries: objects at a time.
        max_bytes: sum of the sizes given to `insert`.
    """

    def __init__(self, what: str, max_entries: int, max_bytes: int = 0) -> None:
        self._what = what
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: dict[int, tuple[T, int]] = {}
        self._bytes = 0
        self._last = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used_bytes(self) -> int:
        """Sum of the sizes of all objects."""
        return self._bytes

    def has_room(self, entries: int = 1, size: int = 0) -> bool:
        """Whether `entries` more objects of `size` bytes in sum fit."""
        return len(self._entries) + entries <= self._max_entries and self._bytes + size <= self._max_bytes

    def insert(self, entry: T, size: int = 0) -> int:
        """Keep `entry` and return its number.

        Raises:
            FleetError: LIMIT_EXCEEDED when the table has no room.
        """
        if not self.has_room(1, size):
            raise FleetError(
                Code.LIMIT_EXCEEDED,
                f"the agent holds {len(self._entries)} {self._what} with {self._bytes} bytes; "
                f"the limits are {self._max_entries} and {self._max_bytes} bytes",
            )
        number = self._last
        while (number := number % MAX_HANDLE + 1) in self._entries:
            pass
        self._last = number
        self._entries[number] = (entry, size)
        self._bytes += size
        return number

    def get(self, number: int) -> T:
        """The object behind `number`, which the engine has checked; an unknown one is a fault of the engine binding."""
        return self._entries[number][0]

    def take(self, number: int) -> T:
        """Remove and return the object behind `number`."""
        entry, size = self._entries.pop(number)
        self._bytes -= size
        return entry

    def drop(self, number: int) -> None:
        """Destructor: forget the object behind `number`."""
        self.take(number)


def declare_types(types: Mapping[str, str], known: Mapping[str, WitType] = MappingProxyType({})) -> dict[str, WitType]:
    """Read named types in WIT notation; each may use the ones before it and those in `known`."""
    declared = dict(known)
    for name, text in types.items():
        declared[name] = parse_type(text, declared)
    return declared


def declare_functions(types: Mapping[str, WitType], functions: Mapping[str, str]) -> dict[str, FuncType]:
    """Read the signatures of an interface's functions in WIT notation."""
    return {name: parse_signature(text, types) for name, text in functions.items()}


def bind(
    signatures: Mapping[str, FuncType],
    calls: Mapping[str, Callable[..., WitValue]],
    laters: Mapping[str, Callable[..., Later | None]] = MappingProxyType({}),
) -> dict[str, HostFunction]:
    """Join signatures and callables of the same names; `laters` has those of `HostFunction.later`.

    Raises:
        ValueError: one has a name that the other has not.
    """
    if signatures.keys() != calls.keys():
        raise ValueError(f"signatures and callables differ: {sorted(signatures.keys() ^ calls.keys())}")
    return {
        name: HostFunction(signature, calls[name], later=laters.get(name)) for name, signature in signatures.items()
    }
