"""Where documents live in the release repository, and which role may sign them.

Owns: target paths and role names. A path names its owner, so a role that lists a path outside its own folder gains
nothing. Never verifies anything: that is `fleet.trust`.
"""

from __future__ import annotations

from fleet.errors import Code, FleetError
from fleet.names import is_agent_name, is_name
from fleet.semver import parse_version

DEFAULT_TEAM = "default"
"""Team of a fleet that has only one."""

BREAK_GLASS_TEAM = "breakglass"
"""Folder of emergency grants; no team may have this name."""

BREAK_GLASS_ROLE = f"grants-{BREAK_GLASS_TEAM}"
"""Role that signs emergency grants, for bundles of any team (`fleet.grants.break_glass`)."""

BREAK_GLASS_PATH = "policy/break-glass.yaml"
"""Target with the most that emergency grants may give, and for how long; absent: there are none."""

TRUST_PATH = "trust/fleet.json"
"""Target that names the director's keys, the log's key and the node CA."""

REVOCATIONS_PATH = "policy/revocations.json"
"""Target that lists what may not run any more (`fleet.revocations`)."""

CEILINGS_PATH = "policy/ceilings.yaml"
"""Target with the most that agents may have, by node labels (`fleet.grants.ceilings`); absent: no ceiling."""

GUARDRAILS_PATH = "policy/guardrails.cedar"
"""Target with the rules for people and documents of authority; absent: those that come with the release."""

TARGETS_ROLE = "targets"
"""Top-level role: delegations and everything below `trust/`."""

POLICY_ROLE = "policy"
"""Role for everything below `policy/`."""

WITNESS_POLICY_PATH = "policy/witness.policy"
"""Target that says which witnesses must have cosigned the audit log (c2sp.org/tlog-policy); absent: none."""

MAX_REVISION = 10**9
"""Greatest revision of a grant."""


def is_version(text: str) -> bool:
    """Whether `text` is a bundle's version: semver without build metadata (two builds would share one precedence)."""
    try:
        return str(parse_version(text, Code.BUNDLE_INVALID, "version")) == text
    except FleetError:
        return False


def code_role(team: str) -> str:
    """Role that signs the bundles of a team."""
    return f"code-{team}"


def grants_role(team: str) -> str:
    """Role that signs the grants of a team."""
    return f"grants-{team}"


def bundle_path(name: str, version: str, team: str = DEFAULT_TEAM) -> str:
    """Target path of a bundle's index."""
    if not (is_name(team) and is_name(name) and is_version(version)):
        raise ValueError(f"no target path for bundle {team}/{name}@{version}")
    return f"bundles/{team}/{name}/{version}.json"


def bundle_of(path: str) -> str:
    """`NAME@VERSION` that a bundle's target path names: `bundles/TEAM/NAME/VERSION.json`."""
    name, _, version = path.removesuffix(".json").rpartition("/")
    return f"{name.rpartition('/')[2]}@{version}"


def grant_path(agent: str, revision: int, team: str = DEFAULT_TEAM) -> str:
    """Target path of a grant; `agent` is `application/agent`."""
    if not (is_name(team) and is_agent_name(agent) and 1 <= revision <= MAX_REVISION):
        raise ValueError(f"no target path for grant {revision} of {agent} in {team}")
    return f"grants/{team}/{agent}/{revision}.yaml"


def team_of_grant(path: str) -> str:
    """Team that a grant's target path names; `BREAK_GLASS_TEAM` for an emergency grant."""
    return path.split("/")[1]


def agent_of_grant(path: str) -> str:
    """Agent that a grant's target path names: `application/agent`."""
    return "/".join(path.split("/")[2:4])


def revision_of_grant(path: str) -> int:
    """Revision that a grant's target path names; 0 for a name that is no number."""
    number = path.rpartition("/")[2].removesuffix(".yaml")
    return int(number) if number.isdecimal() else 0


def is_break_glass(path: str) -> bool:
    """Whether a target path is that of an emergency grant: no role but `BREAK_GLASS_ROLE` may sign it."""
    return path.startswith(f"grants/{BREAK_GLASS_TEAM}/")


def paths_of(role: str) -> tuple[str, ...] | None:
    """Path patterns that a delegation to `role` has, or None when `role` is no delegated role of a fleet."""
    kind, _, team = role.partition("-")
    if role == POLICY_ROLE:
        return ("policy/*",)
    if kind == "code" and is_name(team) and team != BREAK_GLASS_TEAM:
        return (f"bundles/{team}/*/*",)
    if kind == "grants" and is_name(team):
        return (f"grants/{team}/*/*/*",)
    return None


def role_of(path: str) -> str | None:
    """The one role that may sign `path`, or None when no role may."""
    folder, *rest = path.split("/")
    if "" in rest:
        return None
    match folder, rest:
        case "trust", [_]:
            return TARGETS_ROLE
        case "policy", [_]:
            return POLICY_ROLE
        case "bundles", [team, _, _] if is_name(team) and team != BREAK_GLASS_TEAM:
            return code_role(team)
        case "grants", [team, _, _, _] if is_name(team):
            return grants_role(team)
        case _:
            return None
