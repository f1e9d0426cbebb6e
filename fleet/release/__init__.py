"""The publisher's side of the release repository: signed metadata files, made and changed.

Owns: how files of a release come into being. Runs where role keys are (fleetctl on the machines of people who sign, and
the publisher), never in the coordinator. Verification is `fleet.trust`; whoever makes a release runs it over the result
before passing it on.

keys              who signs, with names, thresholds and lifetimes
metadata_files    one TUF file at a time; with `publishing` and `changes` the only door to python-tuf for signing
publishing        a whole release where all keys are at hand
changes           operations, and the unsigned metadata that they make
operations        how operations are written into a file
staging           a change that several people sign one after the other
difference        what a staged change changes, in words
"""

from __future__ import annotations

from fleet.release.changes import (
    AddDocument,
    ChangeKeys,
    EnterProduction,
    Operation,
    RemoveDocument,
    RemoveRole,
    Renew,
    draft,
)
from fleet.release.difference import Difference, Sign, differences
from fleet.release.inspection import RoleState, online_keys, role_states
from fleet.release.keys import (
    LIFETIMES,
    ONLINE_ROLES,
    ROOT_ROLE,
    SNAPSHOT_ROLE,
    TIMESTAMP_ROLE,
    TOP_LEVEL_ROLES,
    Lifetimes,
    NamedKey,
    RoleKeys,
    RoleSigner,
    format_named_key,
    parse_named_key,
)
from fleet.release.metadata_files import Files
from fleet.release.publishing import (
    add_target,
    countersign,
    new_release,
    publish,
    remove_target,
    renew,
    rotate_root,
)
from fleet.release.staging import (
    BEFORE_EXPIRY,
    MAX_STAGED,
    Requirement,
    StagedChange,
    completed,
    encode_staged,
    merge,
    parse_staged,
    rebase,
    sign_staged,
    stage,
)

__all__ = [
    "BEFORE_EXPIRY",
    "LIFETIMES",
    "MAX_STAGED",
    "ONLINE_ROLES",
    "ROOT_ROLE",
    "SNAPSHOT_ROLE",
    "TIMESTAMP_ROLE",
    "TOP_LEVEL_ROLES",
    "AddDocument",
    "ChangeKeys",
    "Difference",
    "EnterProduction",
    "Files",
    "Lifetimes",
    "NamedKey",
    "Operation",
    "RemoveDocument",
    "RemoveRole",
    "Renew",
    "Requirement",
    "RoleKeys",
    "RoleSigner",
    "RoleState",
    "Sign",
    "StagedChange",
    "add_target",
    "completed",
    "countersign",
    "differences",
    "draft",
    "encode_staged",
    "format_named_key",
    "merge",
    "new_release",
    "online_keys",
    "parse_named_key",
    "parse_staged",
    "publish",
    "rebase",
    "remove_target",
    "renew",
    "role_states",
    "rotate_root",
    "sign_staged",
    "stage",
]
