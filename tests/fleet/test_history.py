"""Leaves, the rows that they give, and the questions that the rows answer, by both times."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import answers
from fleet.answers import DriftKind, Moment
from fleet.assignment import RECEIPT_TYPE, Receipt, sign_receipt
from fleet.errors import Code, FleetError
from fleet.history import ApprovedRow, History, Rows, approve, differences, receipt_of
from fleet.leaves import EventLeaf, SignedLeaf, event_leaf, read_leaf
from fleet.signing import sign_envelope
from fleet.v1 import control_pb2 as pb
from fleet.wire_audit import from_pb_rows, to_pb_rows
from tests.fakes.audited import START, AuditedFleet, agent_of, bundle_digest, grant, ms
from tests.fakes.publisher import key
from tests.fakes.refusals import code_of

ONE, TWO = grant("app/one"), grant("app/two")
NEWER = grant("app/one", 2, "{wasi:logging/logging: [], wasi:clocks/wall-clock: []}")
FIRST, SECOND, NEXT = agent_of("app/one", ONE), agent_of("app/two", TWO), agent_of("app/one", NEWER, 2)


def rows_of(fleet: AuditedFleet) -> Rows:
    history = History()
    for index, leaf in enumerate(fleet.leaves):
        history.apply(index, leaf)
    return history.rows()


@pytest.fixture
def fleet() -> AuditedFleet:
    """Minute 1: two grants. 2: n1 is ordered both, and confirms at 3. 10: revision 2, which n1 confirms at 12."""
    fleet = AuditedFleet()
    fleet.enrol("n1")
    fleet.publish(1, ONE, TWO)
    fleet.order(2, "n1", FIRST, SECOND)
    fleet.receive(3, "n1", FIRST, SECOND)
    fleet.publish(10, NEWER)
    fleet.order(11, "n1", NEXT, SECOND)
    fleet.receive(12, "n1", NEXT, SECOND)
    return fleet


def who(rows: Rows, at: float, known: float | None = None, **only: str) -> list[tuple[str, str, int, str]]:
    moment = Moment(ms(at)) if known is None else Moment(ms(at), ms(known))
    return [(item.agent, item.interface, item.revision, item.state) for item in answers.who(rows, moment, **only)]


def test_who_had_what_at_a_moment(fleet: AuditedFleet) -> None:
    rows = rows_of(fleet)
    logging, clock = "wasi:logging/logging", "wasi:clocks/wall-clock"
    assert who(rows, 1.5) == []
    assert who(rows, 2.5) == [("app/one", logging, 1, ""), ("app/two", logging, 1, "")]
    assert who(rows, 5) == [("app/one", logging, 1, "applied"), ("app/two", logging, 1, "applied")]
    assert who(rows, 11.5, agent="app/one") == [("app/one", clock, 2, ""), ("app/one", logging, 2, "")]
    assert who(rows, 20, interface=clock) == [("app/one", clock, 2, "applied")]
    assert who(rows, 20, node="n2") == []
    (first, *_) = answers.who(rows, Moment(ms(5)))
    assert (first.approvers, first.approved, first.since_ms, first.leaf) == (("k1",), True, ms(2), 2)
    assert first.bundle_digest == bundle_digest("1.0.0")


def test_a_receipt_that_came_late_changes_what_was_so_and_not_what_was_known() -> None:
    fleet = AuditedFleet()
    fleet.publish(1, ONE)
    fleet.order(2, "n1", FIRST)
    fleet.receive(60, "n1", FIRST, applied=3)  # the node was away from minute 3 to 60
    rows = rows_of(fleet)
    assert who(rows, 30)[0][3] == "applied"
    assert who(rows, 30, known=30)[0][3] == ""
    assert who(rows, 90, known=90)[0][3] == "applied"
    assert answers.drift(rows, Moment(ms(30))) == ()
    assert [item.kind for item in answers.drift(rows, Moment(ms(30), ms(30)))] == [DriftKind.UNCONFIRMED]
    incidents = answers.history(rows, "app/one")
    assert [(item.what, item.at_ms, item.known_ms) for item in incidents][-1] == ("applied", ms(3), ms(60))


def test_what_was_not_known_yet_cannot_be_asked_for(fleet: AuditedFleet) -> None:
    rows = rows_of(fleet)
    assert who(rows, 20, known=5) == who(rows, 5)
    assert who(rows, 20, known=0) == []


def test_what_changed_between_two_moments(fleet: AuditedFleet) -> None:
    rows = rows_of(fleet)
    changes = answers.diff(rows, Moment(ms(5)), Moment(ms(20)))
    assert [(c.before, c.after.interface if c.after else None) for c in changes] == [(None, "wasi:clocks/wall-clock")]
    back = answers.diff(rows, Moment(ms(20)), Moment(ms(5)))
    assert [(c.after, c.before.interface if c.before else None) for c in back] == [(None, "wasi:clocks/wall-clock")]
    assert answers.diff(rows, Moment(ms(5)), Moment(ms(6))) == ()
    wider = grant("app/one", 3, "{wasi:keyvalue/store: [{buckets: [a], ops: [get]}]}")
    narrow = grant("app/one", 4, "{wasi:keyvalue/store: [{buckets: [b], ops: [get]}]}")
    fleet.publish(30, wider, narrow)
    fleet.order(31, "n1", agent_of("app/one", wider, 3))
    fleet.order(41, "n1", agent_of("app/one", narrow, 4))
    (change,) = answers.diff(rows_of(fleet), Moment(ms(35)), Moment(ms(45)), node="n1", agent="app/one")
    assert change.before is not None
    assert change.after is not None
    assert change.before.constraints != change.after.constraints


def test_an_emergency_is_marked_wherever_it_is_answered() -> None:
    """The same authority by an emergency grant is another one: nobody breaks the glass unseen."""
    fleet = AuditedFleet()
    fleet.publish(1, ONE, same := grant("app/one", 2) + b"reason: pump 3 floods\n")
    fleet.order(2, "n1", FIRST)
    fleet.order(11, "n1", agent_of("app/one", same, 2))
    ordinary = rows_of(fleet)

    def emergency(path: str) -> str:
        return path.replace("default/app/one/2", "breakglass/app/one/2")

    rows = Rows(
        approved=tuple(replace(row, path=emergency(row.path)) for row in ordinary.approved),
        assigned=tuple(replace(row, grant_path=emergency(row.grant_path)) for row in ordinary.assigned),
        enforced=ordinary.enforced,
    )
    assert [held.break_glass for at in (5, 20) for held in answers.who(rows, Moment(ms(at)))] == [False, True]
    assert answers.diff(ordinary, Moment(ms(5)), Moment(ms(20))) == ()
    (change,) = answers.diff(rows, Moment(ms(5)), Moment(ms(20)))
    assert change.after is not None
    assert change.after.break_glass
    said = [(item.what, item.detail) for item in answers.history(rows, "app/one")]
    assert ("approved", f"BREAK-GLASS grant r2 by {'k1'}") in said
    assert ("ordered", "one@1.0.0 under BREAK-GLASS grant r2") in said
    assert [(a.break_glass, a.reason) for a in answers.approvers(rows)] == [(True, "pump 3 floods"), (False, "")]


def test_the_history_of_an_agent(fleet: AuditedFleet) -> None:
    fleet.publish(20, removed=("grants/default/app/one/1.yaml", "bundles/default/x/1.json"))
    fleet.order(21, "n1", SECOND)
    fleet.receive(22, "n1", SECOND)
    found = [(item.what, item.at_ms) for item in answers.history(rows_of(fleet), "app/one")]
    assert found == [
        ("approved", ms(1)),
        ("ordered", ms(2)),
        ("applied", ms(3)),
        ("approved", ms(10)),
        ("order ended", ms(11)),
        ("ordered", ms(11)),
        ("applied, ended", ms(12)),
        ("applied", ms(12)),
        ("approval ended", ms(20)),
        ("order ended", ms(21)),
        ("applied, ended", ms(22)),
    ]
    assert answers.history(rows_of(fleet), "app/none") == ()


def drift(fleet: AuditedFleet, at: float, **only: str) -> list[tuple[str, DriftKind, int]]:
    return [(i.agent, i.kind, i.since_ms) for i in answers.drift(rows_of(fleet), Moment(ms(at)), **only)]


def test_drift_is_told_with_its_kind_and_since_when(fleet: AuditedFleet) -> None:
    assert drift(fleet, 2.5) == [
        ("app/one", DriftKind.UNCONFIRMED, ms(2)),
        ("app/two", DriftKind.UNCONFIRMED, ms(2)),
    ]
    assert drift(fleet, 20) == []
    fleet.order(30, "n1", SECOND)  # app/one is ordered no more, and the node has not said so
    assert drift(fleet, 31) == [("app/one", DriftKind.STILL_RUNS, ms(30))]
    fleet.receive(32, "n1", SECOND)
    assert drift(fleet, 33) == []
    fleet.publish(40, removed=("grants/default/app/two/1.yaml",))
    assert drift(fleet, 41) == [("app/two", DriftKind.REVOKED, ms(40))]
    assert drift(fleet, 39) == []
    assert drift(fleet, 41, agent="app/one") == []
    fleet.order(50, "n1", SECOND)
    fleet.receive(51, "n1", SECOND, refusal="REVOKED")
    assert drift(fleet, 52) == [("app/two", DriftKind.REFUSED, ms(2))]


def test_a_grant_that_has_expired_is_drift_too() -> None:
    brief = grant("app/one", months=1)
    fleet = AuditedFleet()
    fleet.publish(1, brief)
    fleet.order(2, "n1", agent_of("app/one", brief))
    fleet.receive(3, "n1", agent_of("app/one", brief))
    month = 30 * 24 * 60
    assert drift(fleet, month - 1) == []
    assert drift(fleet, month + 1) == [("app/one", DriftKind.REVOKED, ms(month))]
    (held,) = answers.who(rows_of(fleet), Moment(ms(month + 1)))
    assert not held.approved


def test_what_runs_under_a_grant_that_the_log_never_showed_is_no_claim() -> None:
    fleet = AuditedFleet()
    fleet.order(2, "n1", FIRST)
    fleet.receive(3, "n1", FIRST)
    assert who(rows_of(fleet), 5) == []
    assert drift(fleet, 5) == []


def test_who_approved_what_with_which_keys(fleet: AuditedFleet) -> None:
    fleet.publish(30, NEWER, keys=("k1", "k2"))  # a second approver signs the same revision
    fleet.publish(40, TWO)  # listed again as it was: nothing begins and nothing ends
    found = answers.approvers(rows_of(fleet), agent="app/one")
    assert [(a.revision, a.approvers, a.from_ms, a.to_ms) for a in found] == [
        (1, ("k1",), ms(1), None),
        (2, ("k1",), ms(10), ms(30)),
        (2, ("k1", "k2"), ms(30), None),
    ]
    assert [a.agent for a in answers.approvers(rows_of(fleet), key="k2")] == ["app/one"]
    assert len(answers.approvers(rows_of(fleet))) == 4


def test_paths_of_no_revision_count_as_revision_zero() -> None:
    row = ApprovedRow("grants/t/a/b/x.yaml", "d", ("k",), ONE, 0, 0)
    assert answers.approvers(Rows(approved=(row,)))[0].revision == 0


def test_leaves_are_of_two_forms() -> None:
    envelope = sign_envelope("application/x", b"payload", [key("k")])
    assert read_leaf(envelope) == SignedLeaf("application/x", b"payload", envelope)
    event = read_leaf(event_leaf("a:b:c", START, "coordinator", text="x", number=3))
    assert isinstance(event, EventLeaf)
    assert (event.text("text"), event.number("number"), event.text("number"), event.number("text")) == ("x", 3, "", 0)


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"[]",
        b'{"schema":"other","kind":"a","at_ms":0,"actor":"x","facts":{}}',
        b'{"schema":"fleet.audit/v1","kind":"a","at_ms":0,"actor":"x","facts":[]}',
        b'{"schema":"fleet.audit/v1","kind":"a","at_ms":-1,"actor":"x","facts":{}}',
        b'{"schema":"fleet.audit/v1","kind":"a","at_ms":0,"actor":"x","facts":{},"more":1}',
        b'{"payloadType":"x","payload":"???","signatures":[]}',
        b'{"payloadType":"x","payload":"","signatures":[],"more":1}',
        event_leaf("node:receipt:received", START, "node/n1", envelope="{}"),
        event_leaf("node:receipt:received", START, "node/n1", envelope=sign_envelope("x", b"", [key("k")]).decode()),
        *(
            event_leaf("release:metadata:published", START, "user/a", **facts)
            for facts in (
                {"grants": []},
                {"removed": {}},
                {"grants": {"p": []}},
                {"grants": {"p": {"digest": 1, "approvers": [], "document": ""}}},
                {"grants": {"p": {"digest": "d", "approvers": [], "document": "?"}}},
            )
        ),
    ],
)
def test_a_leaf_of_neither_form_is_refused(leaf: bytes) -> None:
    assert code_of(History().apply, 0, leaf) is Code.AUDIT_INVALID


def test_receipts_of_the_first_releases_stand_alone(fleet: AuditedFleet) -> None:
    receipt = Receipt("demo", "n1", 1, 2, bundle_digest("order"), fleet.at(15), ())
    fleet.append(sign_receipt(receipt, key("bound-n1")))
    fleet.append(sign_envelope("application/other", b"", [key("k")]))  # says nothing about authority
    assert rows_of(fleet).enforced[-1].ended_known_ms == ms(12)  # the newest moment that the log shows
    leaf = read_leaf(fleet.leaves[3])
    assert isinstance(leaf, EventLeaf)
    assert receipt_of(leaf).node == "n1"
    assert RECEIPT_TYPE in leaf.text("envelope")


def test_rows_cross_the_wire_unchanged(fleet: AuditedFleet) -> None:
    fleet.publish(40, removed=("grants/default/app/two/1.yaml",))
    rows = rows_of(fleet)
    messages = [pb.AuditRow.FromString(m.SerializeToString()) for m in to_pb_rows(rows, 7)]
    assert from_pb_rows(messages) == (rows, 7)


def test_tampered_rows_are_counted(fleet: AuditedFleet) -> None:
    rows = rows_of(fleet)
    assert differences(rows, rows) == {}
    hidden = replace(rows, assigned=rows.assigned[1:])
    widened = replace(rows, enforced=(replace(rows.enforced[0], refusal="X"), *rows.enforced[1:]))
    assert differences(rows, hidden) == {"assigned": 1}
    assert differences(rows, widened) == {"enforced": 2}
    assert differences(rows, replace(rows, approved=())) == {"approved": len(rows.approved)}


def test_a_publication_ends_only_what_it_names() -> None:
    row = ApprovedRow("p", "d", ("k",), b"", 0, 1)
    assert approve([row], [], ["q"]) == ((), ())
    assert approve([row], [replace(row, leaf=9)], []) == ((), ())
    assert approve([row], [replace(row, digest="e")], []) == ((row,), (replace(row, digest="e"),))


STEPS = st.lists(st.tuples(st.sampled_from("por"), st.integers(0, 3), st.booleans()), max_size=12)


@given(STEPS)
def test_at_most_one_row_of_a_thing_is_open_and_rows_never_overlap(steps: list[tuple[str, int, bool]]) -> None:
    choices = ((), (FIRST,), (NEXT,), (FIRST, SECOND))
    fleet = AuditedFleet(generations={"n1": 1})
    for minute, (step, choice, refused) in enumerate(steps, start=1):
        if step == "p":
            fleet.publish(minute, *(ONE, NEWER, TWO)[:choice], removed=("grants/default/app/two/1.yaml",) * refused)
        elif step == "o":
            fleet.order(minute, "n1", *choices[choice])
        else:
            fleet.receive(minute, "n1", *choices[choice], refusal="X" if refused else "")
    rows = rows_of(fleet)
    for found in (
        [(r.path, r.from_ms, r.to_ms) for r in rows.approved],
        [(r.agent, r.from_ms, r.to_ms) for r in rows.assigned],
        [(r.agent, r.applied_ms, r.ended_ms) for r in rows.enforced],
    ):
        for name in {item[0] for item in found}:
            spans = sorted((start, end) for thing, start, end in found if thing == name)
            assert sum(end is None for _, end in spans) <= 1
            for (_, end), (later, _) in pairwise(spans):
                assert end is not None
                assert end <= later
    assert differences(rows, rows_of(fleet)) == {}


def test_a_grant_that_cannot_be_read_is_told() -> None:
    with pytest.raises(FleetError):
        answers.approvers(Rows(approved=(ApprovedRow("p", "d", ("k",), b"not a grant", 0, 0),)))
