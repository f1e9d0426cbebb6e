"""What a bundle asks for, so that a grant can name exactly what its approvers reviewed.

Owns: `Request`, the set of interfaces that a component imports or exports and that only a grant gives, its digest, and
the check that a newer bundle asks for nothing new. A grant is approved for one bundle and a range of its versions; with
a request in it, a later version in the range keeps the grant only while it asks for what was reviewed, or for less.
Pure: the supervisor recomputes the request from the component's own bytes, never from what a bundle says of itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.grants.vocabulary import BASELINE, EXPORTS, VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Iterable

REQUEST_SCHEMA = "fleet.request/v1"

MAX_REQUESTED = 256
"""Interfaces of one request."""


@dataclass(frozen=True, slots=True)
class Request:
    """The reviewed request of a grant.

    Attributes:
        digest: of the set, as `request_digest` makes it.
        interfaces: the set itself, sorted; None when the grant gives the digest alone, which then admits nothing but
            exactly that set.
    """

    digest: str
    interfaces: tuple[str, ...] | None = None


def requested_interfaces(imports: Iterable[str], exports: Iterable[str]) -> tuple[str, ...]:
    """Return what a component asks for: unversioned, sorted, each once.

    Imports that every agent may have whatever its grant says (`BASELINE`) are no request, unless a grant can give them
    something to reach. Of the exports those count that a node serves. An optional import counts like any other: with a
    grant it is linked.
    """
    imported = {name.partition("@")[0] for name in imports}
    served = {name.partition("@")[0] for name in exports} & EXPORTS
    return tuple(sorted({name for name in imported if name not in BASELINE or name in VOCABULARY} | served))


def request_digest(interfaces: Iterable[str]) -> str:
    """Return "sha256:" and hex of a request; the order of the interfaces and doubles do not matter."""
    data = dump_json({"schema": REQUEST_SCHEMA, "interfaces": sorted(set(interfaces))})
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def review_request(interfaces: Iterable[str]) -> Request:
    """Return the request that a grant for this set names."""
    names = tuple(sorted(set(interfaces)))
    return Request(request_digest(names), names)


def propose_command(agent: str, bundle: str, interfaces: Iterable[str] = ()) -> str:
    """Return the command that drafts the next revision of a grant: what every refusal for lack of one names.

    Args:
        agent: `application/agent`.
        bundle: `name@version`.
        interfaces: what the draft shall name beside what the grant in force does.
    """
    additions = "".join(f" --add {interface}" for interface in interfaces)
    return f"fleetctl grant propose {agent} --bundle {bundle}{additions}"


def check_request(
    request: Request | None, imports: Iterable[str], exports: Iterable[str], agent: str, bundle: str
) -> None:
    """Check that a component asks for nothing that the approvers of its grant did not review.

    1. A grant without a request admits whatever its version range and its rules do.
    2. Exactly the reviewed set passes, by its digest.
    3. A part of the reviewed set passes where the grant names the set.
    4. Anything else needs a new revision.

    Args:
        request: of the verified grant.
        imports: top-level imports of the component (`fleet.component.read_component`).
        exports: its top-level exports.
        agent: `application/agent`.
        bundle: `name@version`, for the remedy.

    Raises:
        FleetError: GRANT_NOT_APPLICABLE with condition `request_sha256`, naming what is new where that is known.
    """
    if request is None:  # 1
        return
    asked = requested_interfaces(imports, exports)
    if request_digest(asked) == request.digest:  # 2
        return
    if request.interfaces is None:
        what = f"asks for {', '.join(asked) or 'nothing'}, which is not the request that was reviewed"
    else:
        new = [name for name in asked if name not in request.interfaces]
        if not new:  # 3
            return
        what = f"asks for {', '.join(new)}, which nobody reviewed"
    command = propose_command(agent, bundle)  # 4
    raise FleetError(
        Code.GRANT_NOT_APPLICABLE,
        f"{bundle} {what}; run: {command}",
        agent=agent,
        condition="request_sha256",
        remedy=f"Review and approve a new revision: {command}",
    )
