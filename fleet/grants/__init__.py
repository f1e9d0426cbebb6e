"""Grants: which capabilities an agent may use, where and until when.

Owns: the vocabulary of capabilities, the lattice of authority, the grant document, and the checks that decide with
them. Start at `document` for what people sign, at `lattice` for what a host function asks, at `admission` for what a
node checks before it starts an agent. Enforcement belongs to `edge_agent.capabilities` and `edge_agent.runner`.
"""

from fleet.grants.admission import (
    ImportDecision,
    check_applies,
    check_ceilings,
    check_exports,
    check_holds,
    check_imports,
    check_team,
    effective,
)
from fleet.grants.break_glass import BreakGlass, check_break_glass, draft_break_glass, parse_break_glass
from fleet.grants.ceilings import Ceiling, Ceilings, OwnCeiling, hear_ceiling, parse_ceilings, tell_ceiling
from fleet.grants.comparison import diff_grants
from fleet.grants.document import BundleSelector, Grant, Lease, OnLapse, Risk, parse_ceiling, parse_grant
from fleet.grants.draft import extend_grant, name_proposer, propose_grant, render_grant
from fleet.grants.explanation import Source, Verdict, explain
from fleet.grants.lattice import Authority, AuthorityDiff, describe_rules, diff, fuse, meet, subset
from fleet.grants.limits import Limits
from fleet.grants.narrowing import Narrowing, decode_narrowing, parse_narrowing
from fleet.grants.requests import (
    Request,
    check_request,
    propose_command,
    request_digest,
    requested_interfaces,
    review_request,
)
from fleet.grants.rules import Rule, describe_rule
from fleet.grants.subscriptions import check_triggers
from fleet.grants.vocabulary import BASELINE, EXPORTS, VOCABULARY, find_specs, is_link

__all__ = [
    "BASELINE",
    "EXPORTS",
    "VOCABULARY",
    "Authority",
    "AuthorityDiff",
    "BreakGlass",
    "BundleSelector",
    "Ceiling",
    "Ceilings",
    "Grant",
    "ImportDecision",
    "Lease",
    "Limits",
    "Narrowing",
    "OnLapse",
    "OwnCeiling",
    "Request",
    "Risk",
    "Rule",
    "Source",
    "Verdict",
    "check_applies",
    "check_break_glass",
    "check_ceilings",
    "check_exports",
    "check_holds",
    "check_imports",
    "check_request",
    "check_team",
    "check_triggers",
    "decode_narrowing",
    "describe_rule",
    "describe_rules",
    "diff",
    "diff_grants",
    "draft_break_glass",
    "effective",
    "explain",
    "extend_grant",
    "find_specs",
    "fuse",
    "hear_ceiling",
    "is_link",
    "meet",
    "name_proposer",
    "parse_break_glass",
    "parse_ceiling",
    "parse_ceilings",
    "parse_grant",
    "parse_narrowing",
    "propose_command",
    "propose_grant",
    "render_grant",
    "request_digest",
    "requested_interfaces",
    "review_request",
    "subset",
    "tell_ceiling",
]
