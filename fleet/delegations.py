"""Who may sign what in a release: the rules of a fleet for delegations and keys, beyond those of TUF.

Owns: checks 8 and 9 of `fleet.trust.open_release`. What it judges has verified
signatures already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.signing import PublicKey
from fleet.targets import BREAK_GLASS_ROLE, paths_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.metadata import Root, Targets

_MIN_PRODUCTION_APPROVERS = 2


def check_delegations(targets: Targets) -> None:
    """Check that only the roles of a fleet are delegated to: terminating, and each with exactly its own paths.

    Raises:
        FleetError: TRUST_INVALID.
    """
    delegations = targets.delegations
    if delegations is None:
        return
    if delegations.roles is None:
        raise _invalid("succinct delegations are not used in a fleet")
    for name, role in delegations.roles.items():
        if not role.terminating:
            raise _invalid(f"the delegation to {name} is not terminating")
        if role.paths is None or tuple(role.paths) != paths_of(name):
            raise _invalid(f"the delegation to {name} is not a role of a fleet with its own paths")


def check_keys(root: Root, targets: Targets, *, production: bool) -> dict[str, frozenset[PublicKey]]:
    """Return the keys of every role: Ed25519 alone, each once within a role, none for both code and grants.

    Emergency grants take one approver, and so no key of theirs may be one of any other role: neither of those who sign
    what it is for, nor of those who bound it. Keys are told apart by their material, never by their ids.

    Args:
        root: keys of the top-level roles.
        targets: keys of the delegated roles.
        production: whether grants must take at least two approvers, those for emergencies excepted.

    Raises:
        FleetError: TRUST_INVALID.
    """
    delegations = targets.delegations
    delegated = delegations.roles or {} if delegations is not None else {}
    result: dict[str, frozenset[PublicKey]] = {}
    for parent, roles in ((root, root.roles), (targets, delegated)):
        for name, role in roles.items():
            result[name] = _role_keys(parent, name, role.keyids)
            few = role.threshold < _MIN_PRODUCTION_APPROVERS and name != BREAK_GLASS_ROLE
            if few and name.startswith("grants-") and production:
                raise _invalid(f"{name} takes fewer than {_MIN_PRODUCTION_APPROVERS} approvers")
    code = _union(result, "code-")
    grants = _union(result, "grants-")
    if not code.isdisjoint(grants):
        raise _invalid("a key may sign both code and grants")
    emergency = result.get(BREAK_GLASS_ROLE, frozenset())
    shared = sorted(
        role for role, keys in result.items() if role != BREAK_GLASS_ROLE and not keys.isdisjoint(emergency)
    )
    if shared:
        raise _invalid(f"a key of {BREAK_GLASS_ROLE} is also one of {', '.join(shared)}")
    return result


def _role_keys(parent: Root | Targets, name: str, key_ids: list[str]) -> frozenset[PublicKey]:
    keys: list[PublicKey] = []
    for key_id in key_ids:
        try:
            key = parent.get_key(key_id)
            if key.keytype != "ed25519":
                raise _invalid(f"{name} has a key that is not Ed25519")
            keys.append(PublicKey.from_hex(key.keyval["public"]))
        except (FleetError, ValueError) as error:
            raise _invalid(f"{name} has a key that is unknown or not Ed25519") from error
    if len(set(keys)) != len(keys):
        raise _invalid(f"{name} counts one key twice")
    return frozenset(keys)


def _union(role_keys: Mapping[str, frozenset[PublicKey]], prefix: str) -> frozenset[PublicKey]:
    return frozenset().union(*(keys for name, keys in role_keys.items() if name.startswith(prefix)))


def _invalid(message: str) -> FleetError:
    return FleetError(Code.TRUST_INVALID, message)
