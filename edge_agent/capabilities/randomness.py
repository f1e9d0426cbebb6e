"""`wasi:random` 0.2 and 0.3: random bytes for keys, and others for hash tables.

Owns: how much a guest may ask for at once. All three interfaces give the same: bytes of the context's `entropy`. The
text allows the insecure ones to be better than they promise, and a second generator would be one more thing to get
wrong. Each of them needs a grant, since an agent without chance can be run again with the same result. (The module is
not called `random`, so that nobody confuses it with the standard library.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, bind, declare_functions
from fleet.errors import Code, FleetError
from fleet.wit import parse_interface

if TYPE_CHECKING:
    from edge_agent.capabilities.base import AgentContext

RANDOM = "wasi:random/random@0.2.12"
INSECURE = "wasi:random/insecure@0.2.12"
INSECURE_SEED = "wasi:random/insecure-seed@0.2.12"
RANDOM_3 = "wasi:random/random@0.3.0"
INSECURE_3 = "wasi:random/insecure@0.3.0"
INSECURE_SEED_3 = "wasi:random/insecure-seed@0.3.0"

MAX_BYTES = 64 * 1024
"""Bytes of one call."""

_RANDOM_SIGNATURES = declare_functions(
    {}, {"get-random-bytes": "func(len: u64) -> list<u8>", "get-random-u64": "func() -> u64"}
)
_INSECURE_SIGNATURES = declare_functions(
    {}, {"get-insecure-random-bytes": "func(len: u64) -> list<u8>", "get-insecure-random-u64": "func() -> u64"}
)
_SEED_SIGNATURES = declare_functions({}, {"insecure-seed": "func() -> tuple<u64, u64>"})
_RANDOM_3_SIGNATURES = declare_functions(
    {}, {"get-random-bytes": "func(max-len: u64) -> list<u8>", "get-random-u64": "func() -> u64"}
)
_INSECURE_3_SIGNATURES = declare_functions(
    {}, {"get-insecure-random-bytes": "func(max-len: u64) -> list<u8>", "get-insecure-random-u64": "func() -> u64"}
)
_SEED_3_SIGNATURES = declare_functions({}, {"get-insecure-seed": "func() -> tuple<u64, u64>"})


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """The interfaces of both versions for one agent.

    No function has an error side: without a grant a call ends the agent.
    """
    random, insecure, seed = (_Source(context, name) for name in (RANDOM, INSECURE, INSECURE_SEED))
    return (
        HostInterface(
            RANDOM, bind(_RANDOM_SIGNATURES, {"get-random-bytes": random.bytes, "get-random-u64": random.number})
        ),
        HostInterface(
            INSECURE,
            bind(
                _INSECURE_SIGNATURES,
                {"get-insecure-random-bytes": insecure.bytes, "get-insecure-random-u64": insecure.number},
            ),
        ),
        HostInterface(INSECURE_SEED, bind(_SEED_SIGNATURES, {"insecure-seed": seed.pair})),
        HostInterface(
            RANDOM_3,
            bind(_RANDOM_3_SIGNATURES, {"get-random-bytes": random.some_bytes, "get-random-u64": random.number}),
        ),
        HostInterface(
            INSECURE_3,
            bind(
                _INSECURE_3_SIGNATURES,
                {"get-insecure-random-bytes": insecure.some_bytes, "get-insecure-random-u64": insecure.number},
            ),
        ),
        HostInterface(INSECURE_SEED_3, bind(_SEED_3_SIGNATURES, {"get-insecure-seed": seed.pair})),
    )


class _Source:
    def __init__(self, context: AgentContext, interface: str) -> None:
        self._entropy = context.entropy
        self._interface = interface
        self._granted = context.authority.allows(parse_interface(interface).unversioned)

    def some_bytes(self, most: int) -> bytes:
        """Up to so many random bytes."""
        return self.bytes(min(most, MAX_BYTES))

    def bytes(self, count: int) -> bytes:
        """So many random bytes."""
        if not self._granted:
            raise FleetError(Code.CALL_DENIED, "the grant does not include random numbers", interface=self._interface)
        if count > MAX_BYTES:
            raise FleetError(Code.LIMIT_EXCEEDED, f"one call gives {MAX_BYTES} random bytes, not {count}")
        return self._entropy(count)

    def number(self) -> int:
        """A random u64."""
        return int.from_bytes(self.bytes(8), "little")

    def pair(self) -> tuple[int, int]:
        """Two random u64."""
        return self.number(), self.number()
