"""Guardrails: which people may approve which documents of authority, and what no document may say.

Owns: the one door to Cedar; reading a policy set, and asking it about a grant. The set is the target
`policy/guardrails.cedar`, which the policy role signs; a fleet that publishes none has `guardrails.cedar` beside this
module. It is asked by fleetctl before somebody signs, by whoever publishes, and by the coordinator on Publish. Nodes
never ask it: they check signatures, which no guardrail replaces.

Cedar leaves out a policy whose condition fails to evaluate, so that a broken `forbid` would permit. Here whatever Cedar
cannot evaluate is a refusal, and a set that could fail to evaluate is refused when it is loaded: it must fit the schema
`guardrails.cedarschema`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import cedarpy

from fleet.errors import Code, FleetError
from fleet.grants.networks import LOOPBACK
from fleet.release.inspection import role_states
from fleet.targets import GUARDRAILS_PATH, grant_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from fleet.grants import Grant
    from fleet.trust import Profile, Release

DEFAULT_PLACE = "the guardrails of this release"
"""Place of a refusal where the fleet publishes no guardrails."""

MAX_GUARDRAILS = 64 * 1024
"""Bytes of a policy set."""

OUTGOING, INCOMING = "wasi:http/outgoing-handler", "wasi:http/incoming-handler"
HELD, REVEALED, SENT = "fleet:secrets/store", "fleet:secrets/reveal", "fleet:secrets/http"
PREOPENS = "wasi:filesystem/preopens"

_APPROVE, _PUBLISH = "approve", "publish"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Who has to do with a grant, each by name, or by key id where the key's holder has no name.

    Attributes:
        profile: of the release that lists the grant.
        approvers: everybody whose signature is on it, whoever is about to sign included.
        code_signers: who signed a bundle that the grant applies to.
        publisher: who publishes; empty where nobody does yet: then the rules for publishing are not asked.
    """

    profile: Profile
    approvers: frozenset[str]
    code_signers: frozenset[str] = frozenset()
    publisher: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One guardrail that refuses.

    Attributes:
        id: its `@id`; `default-deny` when nothing permits, `evaluation` when it could not be asked.
        subject: whom or what it is about: a name, or the grant.
        reason: its `@reason`.
        remedy: its `@remedy`.
    """

    id: str
    subject: str
    reason: str
    remedy: str


class Guardrails:
    """A policy set that fits the schema. Made by `load_guardrails`.

    Args:
        text: the set.
        place: where it is from, for people.
    """

    def __init__(self, text: str, place: str) -> None:
        self.place = place
        self._annotations: dict[str, dict[str, str]] = {
            name: policy.get("annotations") or {}
            for name, policy in json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].items()
        }
        self._policies = cedarpy.PolicySet.from_str(text)
        self._schema = cedarpy.Schema.from_str(_resource("guardrails.cedarschema"))

    @property
    def ids(self) -> tuple[str, ...]:
        """The `@id` of every policy, in the order of the text."""
        return tuple(self._name(policy) for policy in self._annotations)

    def refusals(self, grant: Grant, circumstances: Circumstances) -> tuple[Refusal, ...]:
        """Return every guardrail that refuses the grant; none means that it passes.

        1. Each approver is asked for: may this person approve this grant?
        2. Whoever publishes is asked for once: may it be published with these approvals?
        3. What Cedar cannot evaluate refuses.
        """
        approvers = sorted(circumstances.approvers)
        about: dict[str, Any] = {
            "profile": str(circumstances.profile),
            "code_signers": [_person(name) for name in sorted(circumstances.code_signers)],
        }
        if grant.proposed_by:
            about["proposer"] = _person(grant.proposed_by)
        found = [refusal for name in approvers for refusal in self._ask(_APPROVE, name, name, grant, about)]
        if circumstances.publisher:
            approvals: dict[str, Any] = {
                "profile": str(circumstances.profile),
                "approvers": [_person(name) for name in approvers],
                "approvals": len(approvers),
            }
            subject = f"{grant.agent} revision {grant.revision}"
            known = {refusal.id for refusal in found}
            published = self._ask(_PUBLISH, circumstances.publisher, subject, grant, approvals)
            found += [refusal for refusal in published if refusal.id not in known]
        return tuple(found)

    def check(self, grant: Grant, circumstances: Circumstances) -> None:
        """Refuse a grant that a guardrail refuses.

        Raises:
            FleetError: GUARDRAIL_REFUSED naming the first guardrail by its `@id`, with its remedy.
        """
        refusals = self.refusals(grant, circumstances)
        if not refusals:
            return
        first = refusals[0]
        more = sorted({refusal.id for refusal in refusals} - {first.id})
        others = f" (and {', '.join(more)})" if more else ""
        raise FleetError(
            Code.GUARDRAIL_REFUSED,
            f"{first.id}{others} refuses {grant.agent} revision {grant.revision} for {first.subject}: {first.reason}",
            place=self.place,
            guardrail=first.id,
            agent=grant.agent,
            remedy=first.remedy,
        )

    def _ask(
        self, action: str, principal: str, subject: str, grant: Grant, context: Mapping[str, Any]
    ) -> list[Refusal]:
        resource = {"type": "Grant", "id": grant_path(grant.agent, grant.revision)}
        request = {
            "principal": {"type": "Person", "id": principal},
            "action": {"type": "Action", "id": action},
            "resource": resource,
            "context": dict(context),
        }
        entities = [{"uid": resource, "attrs": describe_grant(grant), "parents": []}]
        try:
            answer = cedarpy.is_authorized(request, self._policies, entities, self._schema)
        except ValueError as error:
            return [_unasked(subject, str(error))]
        if answer.diagnostics.errors:  # 3
            return [_unasked(subject, str(error)) for error in answer.diagnostics.errors]
        if answer.decision is cedarpy.Decision.Allow:
            return []
        if answer.decision is not cedarpy.Decision.Deny:
            return [_unasked(subject, "no decision")]
        reasons = list(answer.diagnostics.reasons)
        if not reasons:
            return [Refusal("default-deny", subject, "no guardrail permits it", "Permit it in the guardrails.")]
        return [self._refusal(policy, subject) for policy in reasons]

    def _name(self, policy: str) -> str:
        return self._annotations.get(policy, {}).get("id", policy)

    def _refusal(self, policy: str, subject: str) -> Refusal:
        annotations = self._annotations.get(policy, {})
        return Refusal(
            self._name(policy),
            subject,
            annotations.get("reason", "it forbids this"),
            annotations.get("remedy", "Change the grant, or have the policy role change the guardrails."),
        )


def load_guardrails(data: bytes, place: str = GUARDRAILS_PATH) -> Guardrails:
    """Read a policy set.

    1. Within the size of a policy set, and UTF-8.
    2. Cedar reads it; templates, which nothing here fills in, are refused.
    3. Every policy fits the schema, so that none can fail to evaluate for an attribute that is not there.
    4. Every policy has an `@id` of its own, which refusals are named by.

    Raises:
        FleetError: CONFIG_INVALID with the place; LIMIT_EXCEEDED for 1.
    """
    if len(data) > MAX_GUARDRAILS:  # 1
        raise FleetError(Code.LIMIT_EXCEEDED, f"{len(data)} bytes, the limit is {MAX_GUARDRAILS}", place=place)
    try:
        text = data.decode()
        policies = json.loads(cedarpy.policies_to_json_str(text))  # 2
    except ValueError as error:
        raise _invalid(f"not Cedar: {error}", place) from error
    if policies["templates"]:
        raise _invalid("templates are not used in guardrails", place)
    result = cedarpy.validate_policies(text, _resource("guardrails.cedarschema"))  # 3
    if not result.validation_passed:
        raise _invalid("; ".join(error.error for error in result.errors), place)
    names = [(policy.get("annotations") or {}).get("id") for policy in policies["staticPolicies"].values()]
    if None in names or len(set(names)) != len(names):  # 4
        raise _invalid("every policy needs an @id of its own", place)
    return Guardrails(text, place)


def default_guardrails() -> Guardrails:
    """The guardrails of a fleet that publishes none."""
    return load_guardrails(default_text().encode(), DEFAULT_PLACE)


def default_text() -> str:
    """Their text, to start one's own from."""
    return _resource("guardrails.cedar")


def people(release: Release) -> Mapping[str, str]:
    """Return key id -> name of its holder, or the key id itself where the release gives no name."""
    return {key.key_id: key.name or key.key_id for state in role_states(release) for key in state.keys}


def circumstances_of(release: Release, grant: Grant, approvers: Iterable[str], publisher: str = "") -> Circumstances:
    """Return who has to do with a grant, as a verified release says it.

    Args:
        release: lists the bundles.
        grant: the grant.
        approvers: key ids whose signatures are on it, or are about to be.
        publisher: who publishes; empty where nobody does yet.
    """
    names = people(release)
    selector = grant.bundle
    bundles = [
        target
        for target in release.targets("bundles/")
        if target.path.split("/")[2] == selector.name and (not selector.digests or target.digest in selector.digests)
    ]
    signers = {names.get(key, key) for target in bundles for key in target.approvers}
    return Circumstances(
        release.profile, frozenset(names.get(key, key) for key in approvers), frozenset(signers), publisher
    )


def describe_grant(grant: Grant) -> dict[str, Any]:
    """Return the attributes of a grant that the schema names."""
    hosts, networks = _words(grant, OUTGOING, "hosts"), _words(grant, OUTGOING, "networks")
    listens = _words(grant, INCOMING, "addresses")
    return {
        "agent": grant.agent,
        "application": grant.agent.partition("/")[0],
        "revision": grant.revision,
        "risk": str(grant.risk),
        "reason": grant.reason,
        "break_glass": grant.break_glass,
        "pinned": bool(grant.bundle.digests),
        "reviewed": grant.request is not None,
        "validity_hours": _hours(grant.not_after - grant.not_before),
        "max_stale_hours": -(-grant.lease.max_stale_ms // 3_600_000),
        "on_lapse": str(grant.lease.on_lapse),
        "node_labels": sorted(f"{key}={value}" for key, value in grant.node_labels.items()),
        "interfaces": sorted(grant.capabilities),
        "hosts": sorted(hosts),
        "networks": sorted(networks),
        "methods": sorted(_words(grant, OUTGOING, "methods")),
        "listens": sorted(listens),
        "volumes": sorted(_words(grant, PREOPENS, "volumes")),
        "held_secrets": sorted(_words(grant, HELD, "names") | _words(grant, SENT, "names")),
        "revealed_secrets": sorted(_words(grant, REVEALED, "names")),
        "egress": OUTGOING in grant.capabilities and networks != {LOOPBACK},
    }


def _words(grant: Grant, interface: str, constraint: str) -> set[str]:
    return {word for rule in grant.capabilities.get(interface, ()) for word in rule.words(constraint)}


def _hours(period: timedelta) -> int:
    return -(-int(period.total_seconds()) // 3_600)


def _person(name: str) -> dict[str, Any]:
    return {"__entity": {"type": "Person", "id": name}}


def _unasked(subject: str, why: str) -> Refusal:
    return Refusal("evaluation", subject, f"it could not be asked: {why}", "Correct the guardrails.")


def _invalid(message: str, place: str) -> FleetError:
    return FleetError(Code.CONFIG_INVALID, message, place=place)


def _resource(name: str) -> str:
    return files("orchestrator").joinpath(name).read_text(encoding="utf-8")
