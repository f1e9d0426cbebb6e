"""Commands for keys: trust key, trust rotate, trust add-approver, trust remove-key, trust add-team.

Owns: which operations a wish of a person is. Private keys are made on this machine or stay where they are; only public
keys travel, one line each (`fleet.release.format_named_key`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.release import ChangeKeys, NamedKey, RoleState, format_named_key, parse_named_key, role_states
from fleet.targets import BREAK_GLASS_TEAM, DEFAULT_TEAM, code_role, grants_role
from orchestrator.cli.repeated import paths, words
from orchestrator.cli.trust import TrustDirectory
from orchestrator.cli.trust_authority import rotate_node_authority
from orchestrator.cli.trust_change import FILE, OFFLINE, YES, local_release, perform
from orchestrator.cli.trust_fleet import FLEET_KEYS, NODE_CA, Rotation, rotate_fleet_key
from orchestrator.files import read_named

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.release import Operation
    from fleet.trust import Release
    from orchestrator.cli.session import Session

MAX_PUBLIC = 4096
MIN_ID = 8
"""Characters of a key id that a person has to write at least."""

THRESHOLD = click.option("--threshold", type=click.IntRange(1, 16), help="Signatures that the role takes from now on.")


def read_public(file: Path) -> NamedKey:
    """Read a public key file.

    Raises:
        FleetError: CONFIG_INVALID.
    """
    return parse_named_key(read_named(file, MAX_PUBLIC).decode(errors="replace"), str(file))


def state_of(release: Release, role: str) -> RoleState:
    """Return one role of a release.

    Raises:
        FleetError: NOT_FOUND.
    """
    states = {state.role: state for state in role_states(release)}
    if role not in states:
        raise FleetError(
            Code.NOT_FOUND,
            f"there is no role {role}; known: {', '.join(states)}",
            remedy="See `fleetctl trust status`.",
        )
    return states[role]


def find_key(state: RoleState, word: str) -> NamedKey:
    """Return the key of a role by its holder's name or the start of its id.

    Raises:
        FleetError: NOT_FOUND, also when several match.
    """
    found = [key for key in state.keys if key.name == word or (len(word) >= MIN_ID and key.key_id.startswith(word))]
    if len(found) != 1:
        raise FleetError(
            Code.NOT_FOUND,
            f"{len(found)} keys of {state.role} are {word!r}",
            remedy=f"Name it by its id, at least {MIN_ID} characters: `fleetctl trust status -o json`.",
        )
    return found[0]


def free_name(directory: TrustDirectory, base: str) -> str:
    """Return a name for a new key that no key on this machine has."""
    taken = {key.name for key in directory.keys.named()}
    numbers = (number for number in range(2, len(taken) + 3) if f"{base}-{number}" not in taken)
    return f"{base}-{next(numbers)}"


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--passphrase", is_flag=True, help="Encrypt the file with a passphrase that is asked for.")
@click.option("--uri", metavar="URI", help="The key exists elsewhere: file2:PATH, hv:NAME/VERSION (HashiCorp Vault).")
@click.option("--public", "public_file", type=FILE, help="With --uri: the public key, as one line.")
@click.pass_obj
def key(session: Session, name: str, passphrase: bool, uri: str | None, public_file: Path | None) -> None:  # noqa: FBT001
    """Make a key, and print its public half.

    The private half stays in keys/ of the trust directory. Hand the printed line on to whoever changes the roles.
    """
    if not is_name(name):
        raise FleetError(Code.CONFIG_INVALID, f"{name!r} is not a name: lower-case words joined by hyphens")
    folder = TrustDirectory(session.trust_folder()).keys
    if (uri is None) != (public_file is None):
        raise click.UsageError("--uri and --public belong together")
    if uri is not None and public_file is not None:
        made = NamedKey(read_public(public_file).public, name)
        folder.register(made, uri)
    else:
        secret = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True) if passphrase else ""
        made = folder.make(name, secret)
    if session.output.machine:
        session.output.value(
            {"name": made.name, "public": made.public.hex, "key": made.key_id, "path": str(folder.path)}
        )
    else:
        session.output.text(format_named_key(made))
        session.output.note(f"The public half is in {folder.path / f'{name}.pub'} too; the private half stays here.")


@click.command()
@click.argument("roles", nargs=-1, required=True, metavar="ROLE...|director|log|node-ca|secrets")
@click.option("--add", "added", type=FILE, multiple=True, metavar="PUBLIC-KEY", help="A key that may sign from now on.")
@click.option("--remove", "removed", multiple=True, metavar="KEY", help="Name or id of a key that may not any more.")
@THRESHOLD
@click.option(
    "--finish", is_flag=True, help="For director, log and node-ca: withdraw all keys but the coordinator's newest."
)
@click.option("--force", is_flag=True, help="With --finish, for node-ca: also while nodes would be cut off.")
@OFFLINE
@YES
@click.pass_obj
def rotate(session: Session, /, roles: tuple[str, ...], **options: object) -> None:
    """Replace keys of a role, or of the fleet.

    With neither --add nor --remove, one key of the role that is on this machine is replaced by a new one made here. The
    root takes the signatures of its old and of its new keys. Several roles change at once: snapshot and timestamp
    together, so that nodes forget the versions that a thief of both made.

    Keys of the fleet (director, log, node-ca, secrets) are listed early and withdrawn later: old ones stay until
    --remove or --finish.
    """
    offline, yes = bool(options["offline"]), bool(options["yes"])
    added, removed = paths(options["added"]), words(options["removed"])
    if not FLEET_KEYS.isdisjoint(roles):
        if len(roles) > 1:
            raise click.UsageError("keys of the fleet are changed one kind at a time")
        if roles[0] == NODE_CA and not added and not removed:
            finish, force = bool(options["finish"]), bool(options["force"])
            rotate_node_authority(session, finish=finish, force=force, offline=offline, yes=yes)
            return
        rotation = Rotation(roles[0], added, removed, bool(options["finish"]))
        rotate_fleet_key(session, rotation, offline=offline, yes=yes)
        return
    directory = TrustDirectory(session.trust_folder())
    threshold = options["threshold"] if isinstance(options["threshold"], int) else None
    replaced: list[NamedKey] = []

    def change(state: RoleState) -> ChangeKeys:
        if added or removed:
            found = tuple(find_key(state, word).public for word in removed)
            return ChangeKeys(state.role, tuple(read_public(file) for file in added), found, threshold)
        old = _only_key_here(directory, state)
        replaced.append(old)
        new = directory.keys.make(free_name(directory, state.role))
        return ChangeKeys(state.role, (new,), (old.public,), threshold)

    def operations(release: Release) -> tuple[Operation, ...]:
        return tuple(change(state) for state in [state_of(release, role) for role in roles])

    perform(session, operations, f"rotate {', '.join(roles)}", offline=offline, yes=yes)
    _put_away(directory, replaced)


@click.command("add-approver")
@click.argument("public_key", type=FILE, metavar="PUBLIC-KEY")
@click.option("--team", default=DEFAULT_TEAM, show_default=True, help="Whose grants.")
@THRESHOLD
@OFFLINE
@YES
@click.pass_obj
def add_approver(session: Session, /, public_key: Path, team: str, threshold: int | None, **how: bool) -> None:
    """Let somebody approve the grants of a team."""
    approver = read_public(public_key)
    change = ChangeKeys(grants_role(team), (approver,), threshold=threshold)

    def operations(release: Release) -> tuple[Operation, ...]:
        state_of(release, grants_role(team))
        return (change,)

    perform(session, operations, f"{approver.name} approves for {team}", offline=how["offline"], yes=how["yes"])


@click.command("remove-key")
@click.argument("role")
@click.argument("word", metavar="KEY")
@THRESHOLD
@OFFLINE
@YES
@click.pass_obj
def remove_key(session: Session, /, role: str, word: str, threshold: int | None, **how: bool) -> None:
    """Take a key away from a role.

    KEY is the name of its holder or the start of its id.

    For a key that was lost or stolen, or whose holder left. What the remaining keys had not signed, they sign again.
    """

    def operations(release: Release) -> tuple[Operation, ...]:
        gone = find_key(state_of(release, role), word)
        return (ChangeKeys(role, remove=(gone.public,), threshold=threshold),)

    perform(session, operations, f"remove {word} from {role}", offline=how["offline"], yes=how["yes"])


@click.command("add-team")
@click.argument("team", metavar="NAME")
@click.option("--code", "code", type=FILE, multiple=True, required=True, metavar="PUBLIC-KEY", help="Signs bundles.")
@click.option(
    "--grants", "grants", type=FILE, multiple=True, required=True, metavar="PUBLIC-KEY", help="Approves grants."
)
@click.option("--threshold", type=click.IntRange(1, 16), help="Approvers that a grant takes; default 2, or 1 in dev.")
@OFFLINE
@YES
@click.pass_obj
def add_team(session: Session, /, team: str, **options: object) -> None:
    """Give a team roles of its own.

    One for bundles and one for grants, with different keys. No team can list anything of another one.
    """
    code, grants = ([read_public(file) for file in paths(options[name])] for name in ("code", "grants"))
    threshold = options["threshold"]

    def operations(release: Release) -> tuple[Operation, ...]:
        if code_role(team) in release.role_keys or grants_role(team) in release.role_keys:
            raise FleetError(Code.ALREADY_EXISTS, f"there is a team {team}")
        takes = threshold if isinstance(threshold, int) else min(2, len(grants))
        return (
            ChangeKeys(code_role(team), tuple(code), threshold=1),
            ChangeKeys(grants_role(team), tuple(grants), threshold=takes),
        )

    if not is_name(team) or team == BREAK_GLASS_TEAM:
        what = "the name of the emergency grants" if team == BREAK_GLASS_TEAM else "not a name"
        raise FleetError(Code.CONFIG_INVALID, f"{team!r} is {what}: expected lower-case words joined by hyphens")
    perform(session, operations, f"team {team}", offline=bool(options["offline"]), yes=bool(options["yes"]))


def _only_key_here(directory: TrustDirectory, state: RoleState) -> NamedKey:
    here = {signer.public for signer in directory.keys.signers()}
    found = [key for key in state.keys if key.public in here]
    if len(found) != 1:
        raise FleetError(
            Code.NOT_FOUND,
            f"{len(found)} keys of {state.role} are on this machine",
            role=state.role,
            remedy="Say which: --remove KEY and --add PUBLIC-KEY.",
        )
    return found[0]


def _put_away(directory: TrustDirectory, replaced: list[NamedKey]) -> None:
    """Move replaced private keys aside once the release at hand names them no more."""
    named = frozenset().union(*local_release(directory).role_keys.values())
    for key in replaced:
        if key.public in named:
            continue
        for stem in [k.name for k in directory.keys.named() if k.public == key.public]:
            for file in (directory.path / "keys").glob(f"{stem}.*"):
                withdrawn = directory.path / "keys" / "withdrawn"
                withdrawn.mkdir(mode=0o700, exist_ok=True)
                file.rename(withdrawn / file.name)
