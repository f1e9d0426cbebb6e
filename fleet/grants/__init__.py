"""Grants: which capabilities an agent may use, where and until when.

Owns: the vocabulary of capabilities, the lattice of authority, the grant document, and the checks that decide with
them. Start at `document` for what people sign, at `lattice` for what a host function asks, at `admission` for what a
node checks before it starts an agent. Enforcement belongs to `edge_agent.capabilities` and `edge_agent.runner`.
"""

from fleet.grants.admission import ImportDecision, check_applies, check_exports, check_holds, check_imports, effective
from fleet.grants.comparison import diff_grants
from fleet.grants.document import BundleSelector, Grant, Lease, OnLapse, Risk, parse_ceiling, parse_grant
from fleet.grants.draft import extend_grant, propose_grant, render_grant
from fleet.grants.lattice import Authority, AuthorityDiff, describe_rules, diff, fuse, meet, subset
from fleet.grants.limits import Limits
from fleet.grants.requests import Request, check_request, request_digest, requested_interfaces, review_request
from fleet.grants.rules import Rule, describe_rule
from fleet.grants.subscriptions import check_triggers
from fleet.grants.vocabulary import BASELINE, EXPORTS, VOCABULARY, find_specs, is_link

__all__ = [
    "BASELINE",
    "EXPORTS",
    "VOCABULARY",
    "Authority",
    "AuthorityDiff",
    "BundleSelector",
    "Grant",
    "ImportDecision",
    "Lease",
    "Limits",
    "OnLapse",
    "Request",
    "Risk",
    "Rule",
    "check_applies",
    "check_exports",
    "check_holds",
    "check_imports",
    "check_request",
    "check_triggers",
    "describe_rule",
    "describe_rules",
    "diff",
    "diff_grants",
    "effective",
    "extend_grant",
    "find_specs",
    "fuse",
    "is_link",
    "meet",
    "parse_ceiling",
    "parse_grant",
    "propose_grant",
    "render_grant",
    "request_digest",
    "requested_interfaces",
    "review_request",
    "subset",
]
