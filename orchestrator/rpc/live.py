"""Calls under way, by caller, so that they can be ended at once.

Owns: the end of a call, whether its certificate expires or its caller is locked or revoked: a stream outlives its
handshake. Event-driven: nothing polls. Every method is called on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(eq=False, slots=True)
class _Call:
    limit: asyncio.Timeout
    reason: FleetError


class LiveCalls:
    """Every call that runs."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, set[_Call]] = defaultdict(set)

    @asynccontextmanager
    async def running(self, caller: str, seconds: float) -> AsyncIterator[None]:
        """Run a call until it is done, its caller's certificate has expired, or `end` ends it.

        Args:
            caller: `node/NAME` or `user/NAME`.
            seconds: how long the certificate is still valid.

        Raises:
            FleetError: CERTIFICATE_INVALID after `seconds`; whatever `end` was given.
        """
        expired = FleetError(Code.CERTIFICATE_INVALID, "the certificate expired meanwhile")
        call = _Call(asyncio.timeout(seconds), expired)
        try:
            async with call.limit:
                self._calls[caller].add(call)
                try:
                    yield
                finally:
                    self._forget(caller, call)
        except TimeoutError as error:
            if call.limit.expired():
                raise call.reason from error
            raise

    def end(self, caller: str, reason: FleetError) -> None:
        """End every call of a caller; each is told the reason."""
        now = asyncio.get_running_loop().time()
        for call in self._calls.get(caller, ()):
            call.reason = reason
            call.limit.reschedule(now)

    def end_all(self, kind: str, reason: FleetError) -> None:
        """End every call of everybody whose name begins with `kind` (`node/`, `user/`); each is told the reason."""
        for caller in [caller for caller in self._calls if caller.startswith(kind)]:
            self.end(caller, reason)

    def _forget(self, caller: str, call: _Call) -> None:
        self._calls[caller].discard(call)
        if not self._calls[caller]:
            del self._calls[caller]
