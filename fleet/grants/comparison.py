"""What changes between two revisions of a grant, for the person who approves the newer one.

Owns: the comparison of everything but the authority itself, which `fleet.grants.lattice.diff` compares. A change that
cannot be shown to narrow counts as widening: an approver may be warned for nothing, never the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.grants.document import Lease, OnLapse, Risk, format_instant
from fleet.grants.lattice import AuthorityDiff, diff
from fleet.quantities import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.grants.document import Grant
    from fleet.grants.requests import Request

_FREEDOM = {OnLapse.STOP: 0, OnLapse.DROP: 1, OnLapse.CONTINUE: 2}
_CARE = {Risk.LOW: 0, Risk.STANDARD: 1, Risk.HIGH: 2}
"""How much care a risk asks of the approvers: less care counts as widening."""


def diff_grants(old: Grant | None, new: Grant) -> AuthorityDiff:
    """Compare two revisions: capabilities, limits, and where, for what and how long they hold.

    Args:
        old: the revision in force, or None when the agent has no grant yet.
        new: the revision to approve.
    """
    authority = diff(None if old is None else old.authority, new.authority)
    if old is None:
        return authority
    widened: list[str] = []
    narrowed: list[str] = []
    for line, narrower in _scope_changes(old, new):
        (narrowed if narrower else widened).append(line)
    return AuthorityDiff((*authority.widened, *widened), (*authority.narrowed, *narrowed))


def _scope_changes(old: Grant, new: Grant) -> list[tuple[str, bool]]:
    """Return (line, whether it only narrows) for each change of scope."""
    a, b = old.bundle, new.bundle
    pinned = bool(b.digests) and (not a.digests or set(b.digests) < set(a.digests))
    labels, others = old.node_labels.items(), new.node_labels.items()
    changes = [
        ("agent", old.agent, new.agent, False),
        ("bundle.name", a.name, b.name, False),
        ("bundle.versions", a.versions.text, b.versions.text, False),
        ("bundle.role", a.role or "its own team", b.role or "its own team", False),
        ("bundle.sha256", _words(sorted(a.digests)), _words(sorted(b.digests)), pinned),
        ("nodes.labels", _labels(old.node_labels), _labels(new.node_labels), labels < others),
        (
            "validity.not_before",
            format_instant(old.not_before),
            format_instant(new.not_before),
            new.not_before > old.not_before,
        ),
        (
            "validity.not_after",
            format_instant(old.not_after),
            format_instant(new.not_after),
            new.not_after < old.not_after,
        ),
        ("lease", _lease(old.lease), _lease(new.lease), _stricter(old.lease, new.lease)),
        ("request", _request(old.request), _request(new.request), _asks_less(old.request, new.request)),
        ("risk", str(old.risk), str(new.risk), _CARE[new.risk] > _CARE[old.risk]),
        ("break_glass", _word(old.break_glass), _word(new.break_glass), old.break_glass),
    ]
    return [(f"{what}: {was} -> {now}", narrower) for what, was, now, narrower in changes if was != now]


def _stricter(old: Lease, new: Lease) -> bool:
    if new.max_stale_ms > old.max_stale_ms or _FREEDOM[new.on_lapse] > _FREEDOM[old.on_lapse]:
        return False
    return new.on_lapse is not OnLapse.DROP or old.on_lapse is not OnLapse.DROP or set(new.drop) >= set(old.drop)


def _asks_less(old: Request | None, new: Request | None) -> bool:
    """Whether the new request admits no bundle that the old one would not."""
    if old is None or new is None or old.digest == new.digest:
        return old is None or (new is not None and (new.interfaces is None or old.interfaces is not None))
    return old.interfaces is not None and new.interfaces is not None and set(new.interfaces) <= set(old.interfaces)


def _request(request: Request | None) -> str:
    if request is None:
        return "any"
    return request.digest if request.interfaces is None else f"{','.join(request.interfaces) or 'nothing'} or less"


def _word(value: bool) -> str:  # noqa: FBT001 - the value of a flag in a document
    return "true" if value else "false"


def _lease(lease: Lease) -> str:
    action = f"drop {_words(sorted(lease.drop))}" if lease.on_lapse is OnLapse.DROP else str(lease.on_lapse)
    return f"{format_duration(lease.max_stale_ms)} then {action}"


def _labels(labels: Mapping[str, str]) -> str:
    return _words([f"{key}={value}" for key, value in sorted(labels.items())])


def _words(words: list[str]) -> str:
    return ",".join(words) or "any"
