"""`wasi:keyvalue` in both published versions: buckets of an application, kept on the node's own disk.

Owns: what the functions of `store`, `atomics` and `batch` mean, who may call them, and the limits on keys, values and
batches. Never touches SQLite: `keyvalue_store.py` does.

`0.2.0-draft` and `0.2.0-draft2` differ in signatures: the cursor of `list-keys` is a number or a text, `increment`
works on u64 or s64, and only draft2 has compare-and-swap. Both work on the same buckets.

- A bucket that no rule of the grant names is `no-such-store`; an operation that its rules leave out is
  `access-denied`. A grant without the interface denies everything.
- `list-keys` goes through the keys by code point, `PAGE_KEYS` at a time, and shows each key that exists all the while
  exactly once. draft2's cursor is the last key of the page; draft's is a number that the bucket handle remembers for
  its last `MAX_CURSORS` pages, so it means nothing to another handle.
- `max_bytes` of a rule bounds each bucket that it names, whoever wrote to it; the limit `keyvalue` bounds what the
  agent has written to all buckets. What an agent overwrites counts for it from then on.
- A batch is one transaction: more than the interface promises.
- `increment` keeps decimal text and refuses to leave the range of its type.
- Every change tells the application's agents that export `watcher`, once it is on disk and at most once: each key that
  was stored, and each that was there and removed, in the order of the call. An agent is not told of its own changes.
  What a watcher's queue has no room for is counted there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, Table, bind
from edge_agent.capabilities.keyvalue_store import KeyValueFile, Quota, Register, SharedFile
from edge_agent.capabilities.keyvalue_wit import ATOMICS, BATCH, EDITION_DRAFT, EDITION_DRAFT2, STORE
from edge_agent.capabilities.results import Answering, RefusedError
from fleet.errors import Code, FleetError
from fleet.wit_types import INTEGER_RANGES, Err, Ok, Primitive, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.capabilities.keyvalue_wit import Edition
    from fleet.wit_types import WitValue

VERSIONS = (EDITION_DRAFT.version, EDITION_DRAFT2.version)
"""Published versions of the package."""

FILE_NAME = "keyvalue.db"
"""Name of the file in the application's state directory."""

MAX_KEY_BYTES = 1024
"""UTF-8 bytes of a key."""

MAX_VALUE_BYTES = 2 * 1024 * 1024
"""Bytes of a value; below what the engine can carry in one list, so that too long a value is an error value."""

MAX_BATCH_KEYS = 1000
"""Keys of one batch."""

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Bytes of all values of one batch, read or written."""

MAX_BUCKETS = 1024
"""Bucket handles of one agent."""

MAX_SWAPS = 256
"""Compare-and-swap handles of one agent."""

MAX_SWAP_BYTES = 8 * 1024 * 1024
"""Bytes of the values that an agent's compare-and-swap handles remember."""

MAX_CURSORS = 16
"""Numeric cursors that a bucket handle remembers."""

PAGE_KEYS = 256
"""Keys of one page."""

_ACCESS_DENIED: Variant[str] = Variant("access-denied")
_NO_SUCH_STORE: Variant[str] = Variant("no-such-store")


@dataclass(slots=True)
class _Bucket:
    """An open bucket.

    Attributes:
        quotas: the operations that the agent may do here, each with the quota that its rules set.
        cursors: last key of recent pages, by the number given out for it.
        pages: numbers given out.
    """

    file: KeyValueFile
    name: str
    quotas: Mapping[str, Quota]
    cursors: dict[int, str] = field(default_factory=dict)
    pages: int = 0


@dataclass(frozen=True, slots=True)
class _Swap:
    """A compare-and-swap in progress: what it saw."""

    bucket: _Bucket
    key: str
    found: Register | None


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """Interfaces of both versions for one agent. The file is opened with the first bucket."""
    packages = context.shared(_packages).values()
    return tuple(interface for package in packages for interface in package.interfaces())


def bucket_for(context: AgentContext, version: str, bucket: str) -> int:
    """Make the bucket that a watcher of that version is given; the guest may do with it what it may with an open one.

    Raises:
        FleetError: LIMIT_EXCEEDED when the agent holds too many buckets; what opening the file raises.
    """
    return context.shared(_packages)[version].lend(bucket)


def _packages(context: AgentContext) -> dict[str, _Package]:
    file = SharedFile(context.state_dir / FILE_NAME, context.agent, lambda: context.clock.time_ns() // 1_000_000)
    context.releases.callback(file.close)
    return {edition.version: _Package(context, file, edition) for edition in (EDITION_DRAFT, EDITION_DRAFT2)}


class _Package:
    """One version of the package for one agent, with the handles that its guest holds."""

    def __init__(self, context: AgentContext, file: SharedFile, edition: Edition) -> None:
        self._authority = context.authority
        self._changed = context.exchange.changed
        self._file = file
        self._edition = edition
        self._buckets: Table[_Bucket] = Table("buckets", MAX_BUCKETS)
        self._swaps: Table[_Swap] = Table("compare-and-swap handles", MAX_SWAPS, MAX_SWAP_BYTES)

    def interfaces(self) -> tuple[HostInterface, ...]:
        store = self._edition.name(STORE)
        swap_calls: dict[str, Callable[..., WitValue]] = {
            "[static]cas.new": _answering(self._begin_swap),
            "[method]cas.current": _answering(self._current),
            "swap": self._swap,
        }
        with_swap = "swap" in self._edition.atomics
        return (
            HostInterface(
                store,
                bind(
                    self._edition.store,
                    {
                        "open": _answering(self._open),
                        "[method]bucket.get": _answering(self._get),
                        "[method]bucket.set": _answering(self._set),
                        "[method]bucket.delete": _answering(self._delete),
                        "[method]bucket.exists": _answering(self._exists),
                        "[method]bucket.list-keys": _answering(self._list_keys),
                    },
                ),
                resources={"bucket": self._buckets.drop},
            ),
            HostInterface(
                self._edition.name(ATOMICS),
                bind(
                    self._edition.atomics,
                    {"increment": _answering(self._increment), **(swap_calls if with_swap else {})},
                ),
                resources={"cas": self._swaps.drop} if with_swap else {},
                uses={"bucket": store},
            ),
            HostInterface(
                self._edition.name(BATCH),
                bind(
                    self._edition.batch,
                    {
                        "get-many": _answering(self._get_many),
                        "set-many": _answering(self._set_many),
                        "delete-many": _answering(self._delete_many),
                    },
                ),
                uses={"bucket": store},
            ),
        )

    # store

    def _open(self, identifier: str) -> int:
        if not self._authority.capabilities.get(STORE):
            raise RefusedError(_ACCESS_DENIED)
        quotas = self._quotas(identifier) if len(identifier.encode()) <= MAX_KEY_BYTES else {}
        if not quotas:
            raise RefusedError(_NO_SUCH_STORE)
        if not self._buckets.has_room():
            raise RefusedError(
                _other(f"the agent has {MAX_BUCKETS} open buckets; drop handles that are no longer used")
            )
        return self._buckets.insert(_Bucket(self._file.open(), identifier, quotas))

    def lend(self, bucket: str) -> int:
        """Open a bucket for a watcher, whatever the agent may do with it."""
        return self._buckets.insert(_Bucket(self._file.open(), bucket, self._quotas(bucket)))

    def _quotas(self, bucket: str) -> dict[str, Quota]:
        """Operations that some rule allows on the bucket. Asked once per handle: authority never changes under way."""
        agent_bytes = self._authority.limits.keyvalue_bytes
        quotas = {}
        for interface in (STORE, ATOMICS, BATCH):
            for operation in self._authority.choices(interface, "ops", bucket=bucket):
                most = self._authority.maximum(interface, "max_bytes", bucket=bucket, op=operation)
                quotas[operation] = Quota(most, agent_bytes)
        return quotas

    def _get(self, handle: int, key: str) -> bytes | None:
        bucket, _ = self._bucket(handle, "get")
        found = bucket.file.read(bucket.name, _checked_key(key))
        return None if found is None else found.value

    def _set(self, handle: int, key: str, value: bytes) -> None:
        bucket, quota = self._bucket(handle, "set")
        bucket.file.write(bucket.name, ((_checked_key(key), _checked_value(value)),), quota)
        self._changed(bucket.name, key, value)

    def _delete(self, handle: int, key: str) -> None:
        bucket, _ = self._bucket(handle, "delete")
        for removed in bucket.file.remove(bucket.name, (_checked_key(key),)):
            self._changed(bucket.name, removed, None)

    def _exists(self, handle: int, key: str) -> bool:
        bucket, _ = self._bucket(handle, "exists")
        return bucket.file.size(bucket.name, _checked_key(key)) is not None

    def _list_keys(self, handle: int, cursor: int | str | None) -> dict[str, WitValue]:
        bucket, _ = self._bucket(handle, "list-keys")
        after: str | None
        if isinstance(cursor, int):
            after = bucket.cursors.get(cursor)
            if after is None:
                raise RefusedError(_other("the cursor is unknown or too old; list from the beginning"))
        else:
            after = cursor if cursor is None else _checked_key(cursor)
        keys = bucket.file.keys(bucket.name, after, PAGE_KEYS + 1)
        if len(keys) <= PAGE_KEYS:
            return {"keys": keys, "cursor": None}
        page = keys[:PAGE_KEYS]
        return {"keys": page, "cursor": self._cursor(bucket, page[-1])}

    def _cursor(self, bucket: _Bucket, last: str) -> int | str:
        if self._edition.cursor is Primitive.STRING:
            return last
        bucket.pages += 1
        bucket.cursors[bucket.pages] = last
        bucket.cursors.pop(bucket.pages - MAX_CURSORS, None)
        return bucket.pages

    # atomics

    def _increment(self, handle: int, key: str, delta: int) -> int:
        bucket, quota = self._bucket(handle, "increment")
        lowest, highest = INTEGER_RANGES[self._edition.number]

        def change(number: int) -> int:
            if not lowest <= number + delta <= highest:
                raise FleetError(Code.VALUE_INVALID, f"the sum is no {self._edition.number}")
            return number + delta

        number = bucket.file.increment(bucket.name, _checked_key(key), change, quota)
        self._changed(bucket.name, key, str(number).encode())
        return number

    def _begin_swap(self, handle: int, key: str) -> int:
        bucket, _ = self._bucket(handle, "swap")
        return self._insert_swap(_Swap(bucket, key, bucket.file.read(bucket.name, _checked_key(key))))

    def _insert_swap(self, swap: _Swap) -> int:
        size = 0 if swap.found is None else len(swap.found.value)
        if not self._swaps.has_room(1, size):
            raise RefusedError(_other("the agent has too many compare-and-swap handles; drop those no longer used"))
        return self._swaps.insert(swap, size)

    def _current(self, handle: int) -> bytes | None:
        found = self._swaps.get(handle).found
        return None if found is None else found.value

    def _swap(self, handle: int, value: bytes) -> Ok[None] | Err[Variant[WitValue]]:
        swap = self._swaps.take(handle)
        bucket = swap.bucket
        expected = None if swap.found is None else swap.found.version

        def attempt() -> int | None:
            if bucket.file.swap(bucket.name, swap.key, expected, _checked_value(value), bucket.quotas["swap"]):
                self._changed(bucket.name, swap.key, value)
                return None
            return self._insert_swap(_Swap(bucket, swap.key, bucket.file.read(bucket.name, swap.key)))

        match _answering(attempt)():
            case Err(error):
                return Err(Variant("store-error", error))
            case Ok(None):
                return Ok(None)
            case Ok(newer):
                return Err(Variant("cas-failed", newer))

    # batch

    def _get_many(self, handle: int, keys: Sequence[str]) -> list[tuple[str, bytes] | None]:
        bucket, _ = self._bucket(handle, "get-many")
        _check_batch(len(keys), 0)
        pairs: list[tuple[str, bytes] | None] = []
        size = 0
        for key in keys:
            found = bucket.file.read(bucket.name, _checked_key(key))
            size += 0 if found is None else len(found.value)
            _check_batch(len(keys), size)
            pairs.append(None if found is None else (key, found.value))
        return pairs

    def _set_many(self, handle: int, pairs: Sequence[tuple[str, bytes]]) -> None:
        bucket, quota = self._bucket(handle, "set-many")
        _check_batch(len(pairs), sum(len(value) for _, value in pairs))
        checked = [(_checked_key(key), _checked_value(value)) for key, value in pairs]
        bucket.file.write(bucket.name, checked, quota)
        for key, value in checked:
            self._changed(bucket.name, key, value)

    def _delete_many(self, handle: int, keys: Sequence[str]) -> None:
        bucket, _ = self._bucket(handle, "delete-many")
        _check_batch(len(keys), 0)
        for removed in bucket.file.remove(bucket.name, [_checked_key(key) for key in keys]):
            self._changed(bucket.name, removed, None)

    def _bucket(self, handle: int, operation: str) -> tuple[_Bucket, Quota]:
        bucket = self._buckets.get(handle)
        quota = bucket.quotas.get(operation)
        if quota is None:
            raise RefusedError(_ACCESS_DENIED)
        return bucket, quota


def _other(text: str) -> Variant[str]:
    return Variant("other", text)


_answering = Answering(lambda error: _other(error.private))


def _checked_key(key: str) -> str:
    # A key of n characters has at least n bytes: no need to encode a huge one.
    if len(key) > MAX_KEY_BYTES or len(key.encode()) > MAX_KEY_BYTES:
        raise FleetError(Code.LIMIT_EXCEEDED, f"a key may have {MAX_KEY_BYTES} bytes")
    return key


def _checked_value(value: bytes) -> bytes:
    if len(value) > MAX_VALUE_BYTES:
        raise FleetError(Code.LIMIT_EXCEEDED, f"a value may have {MAX_VALUE_BYTES} bytes, this one has {len(value)}")
    return value


def _check_batch(keys: int, size: int) -> None:
    if keys > MAX_BATCH_KEYS or size > MAX_BATCH_BYTES:
        raise FleetError(
            Code.LIMIT_EXCEEDED, f"a batch may have {MAX_BATCH_KEYS} keys and {MAX_BATCH_BYTES} bytes of values"
        )
