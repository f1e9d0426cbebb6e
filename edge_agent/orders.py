"""An order verified by the adopted release: a new one, or the one that the node has accepted before.

Owns: which keys and witnesses count for which of the two, and saying of an order whose keys count no more that one of
them was revoked. Never decides whether an order is taken in: that is `edge_agent.adoption`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from fleet.assignment import ASSIGNMENT_TYPE, open_assignment
from fleet.checkpoint import claimed, format_vkey, open_checkpoint, parse_proof, parse_vkey
from fleet.errors import Code, FleetError
from fleet.logs import keys_of
from fleet.revocations import Kind
from fleet.signing import PublicKey, verify_envelope
from fleet.witnesses import NO_WITNESSES

if TYPE_CHECKING:
    from datetime import datetime

    from edge_agent.identity import Identity
    from edge_agent.trust_store import Adopted
    from fleet.assignment import VerifiedAssignment
    from fleet.model import DesiredState
    from fleet.trust import FleetTrust
    from fleet.witnesses import WitnessPolicy


def open_new(desired: DesiredState, adopted: Adopted, identity: Identity, now: datetime) -> VerifiedAssignment:
    """Verify an order that came, also by its witnesses.

    Raises:
        FleetError: as `fleet.assignment.open_assignment`; REVOKED.
    """
    return _open(desired, adopted, adopted.fleet, identity, now, adopted.witnesses)


def open_kept(desired: DesiredState, adopted: Adopted, identity: Identity, accepted_at: datetime) -> VerifiedAssignment:
    """Verify the order in force again, as of when it was accepted: by its witnesses it was judged then.

    A log that the release has closed since still proves it, by a key that is not revoked: what runs goes on until the
    next log brings an order.

    Raises:
        FleetError: as `open_new`.
    """
    fleet = adopted.fleet
    with suppress(FleetError):  # what cannot be read is refused below
        origin = claimed(parse_proof(desired.proof).note).origin
        vkeys = keys_of(origin, fleet.log_vkeys, fleet.closed_logs)
        counting = (v for v in vkeys if not adopted.revocations.covers(Kind.LOG_KEY, parse_vkey(v).public.hex))
        fleet = replace(fleet, log_vkeys=tuple(counting))
    return _open(desired, adopted, fleet, identity, accepted_at, NO_WITNESSES)


def _open(
    desired: DesiredState,
    adopted: Adopted,
    fleet: FleetTrust,
    identity: Identity,
    now: datetime,
    witnesses: WitnessPolicy,
) -> VerifiedAssignment:
    adopted.check_log()
    try:
        return open_assignment(desired, fleet, node=identity.node, epoch=identity.epoch, now=now, witnesses=witnesses)
    except FleetError as error:
        if error.code is Code.SIGNATURE_INVALID:
            _check_signer(desired, adopted)
        if error.code is Code.PROOF_INVALID:
            _check_prover(desired, adopted)
        raise


def _check_signer(desired: DesiredState, adopted: Adopted) -> None:
    """Say of an order that no valid director signed whether a revoked one did.

    Raises:
        FleetError: REVOKED.
    """
    for kind, subject in adopted.revocations.entries:
        if kind is Kind.DIRECTOR_KEY:
            with suppress(FleetError):
                verify_envelope(desired.envelope, ASSIGNMENT_TYPE, [PublicKey.from_hex(subject)])
                break
    else:
        return
    adopted.revocations.check(kind, subject)


def _check_prover(desired: DesiredState, adopted: Adopted) -> None:
    """Say of an order that no valid key of the log proves whether a revoked one did.

    Raises:
        FleetError: REVOKED.
    """
    note = parse_proof(desired.proof).note
    origin = claimed(note).origin
    for kind, subject in adopted.revocations.entries:
        if kind is Kind.LOG_KEY:
            with suppress(FleetError):
                open_checkpoint(note, (format_vkey(origin, PublicKey.from_hex(subject)),))
                break
    else:
        return
    adopted.revocations.check(kind, subject)
