"""Whether a release is for this coordinator: nodes obey the director that it names, and believe its log.

Owns: `Identity` and its check against `trust/fleet.json`. A release for somebody else would leave every node with a
coordinator that it refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.targets import TRUST_PATH
from orchestrator.store.audit import log_size

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fleet.signing import PublicKey
    from fleet.trust import FleetTrust
    from orchestrator.audit import AuditLog


@dataclass(frozen=True, slots=True)
class Identity:
    """What `trust/fleet.json` must say for nodes to accept this coordinator."""

    fleet: str
    director_key: PublicKey
    log_vkey: str

    def check(self, trust: FleetTrust, log: AuditLog, connection: Connection) -> None:
        """Refuse the keys of another fleet, director or log.

        1. Fleet and director are these.
        2. The log is this one, under a key that it has; or it is closed, and this coordinator goes on under a new name
           as soon as it is started again.
        3. Of every closed log, what goes on is what the log here begins with.

        Raises:
            FleetError: TRUST_INVALID.
        """
        if trust.fleet != self.fleet or self.director_key not in trust.director_keys:  # 1
            raise _invalid("the release is for another coordinator")
        if self.log_vkey not in {*trust.log_vkeys, *(vkey for closed in trust.closed_logs for vkey in closed.vkeys)}:
            raise _invalid("the release is for another audit log")  # 2
        size = log_size(connection)
        for closed in trust.closed_logs:  # 3
            if closed.size > size or log.root(connection, closed.size) != closed.root:
                raise _invalid(f"the log here does not begin with {closed.size} leaves of {closed.origin}")


def _invalid(message: str) -> FleetError:
    return FleetError(Code.TRUST_INVALID, message, place=TRUST_PATH)
