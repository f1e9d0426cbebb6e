from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.crash import (
    ID,
    MAX_LOG_LINES,
    MAX_REPORT,
    CrashLine,
    CrashReport,
    Frame,
    GuestCall,
    HostCall,
    Recording,
    decode_recording,
    decode_report,
    encode_recording,
    encode_report,
    is_note,
    read_frames,
)
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from tests.fakes.crash import CALL, REPORT

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
NUMBER = st.integers(0, (1 << 63) - 1)
HOST_CALLS = st.builds(HostCall, TEXT, st.tuples(TEXT), TEXT, TEXT, TEXT)
GUEST_CALLS = st.builds(
    GuestCall, TEXT, st.tuples(TEXT, TEXT), st.lists(HOST_CALLS, max_size=3).map(tuple), st.integers(0, 9)
)
RECORDINGS = st.builds(
    Recording, GUEST_CALLS, st.lists(GUEST_CALLS, max_size=3).map(tuple), st.integers(0, 9), st.booleans()
)
REPORTS = st.builds(
    CrashReport,
    node=TEXT,
    agent=TEXT,
    generation=NUMBER,
    bundle=TEXT,
    grant=TEXT,
    component=TEXT,
    authority=TEXT,
    engine=TEXT,
    cause=st.sampled_from(ExitCause),
    message=TEXT,
    at_ms=NUMBER,
    backtrace=TEXT,
    invocation=TEXT,
    log=st.lists(st.builds(CrashLine, NUMBER, TEXT, TEXT, TEXT), max_size=3).map(tuple),
    recording=st.none() | RECORDINGS,
)

BACKTRACE = """error while executing at wasm backtrace:
    0:   0x1695 - agent.wasm!agent::give_up::h0123456789abcdef
    1:   0x16ff - <unknown>!<wasm function 13>
    2: m!handle

Caused by:
    wasm trap: wasm `unreachable` instruction executed
"""


@given(REPORTS)
def test_a_report_is_read_as_it_was_written(report: CrashReport) -> None:
    assert decode_report(encode_report(report), "file") == report
    assert ID.match(report.id)


@given(RECORDINGS)
def test_a_recording_is_read_as_it_was_written(recording: Recording) -> None:
    assert decode_recording(encode_recording(recording)) == recording


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(encode_report(REPORT)) | fields).encode()


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [
        (b"[]", Code.CRASH_INVALID, "file"),
        (b"{", Code.CRASH_INVALID, "file:1:2"),
        (changed(schema="fleet.crash/v2"), Code.CRASH_INVALID, "file: schema"),
        (changed(more=1), Code.CRASH_INVALID, "file: more"),
        (changed(cause="bored"), Code.CRASH_INVALID, "file: cause"),
        (changed(generation=-1), Code.CRASH_INVALID, "file: generation"),
        (changed(log=[1]), Code.CRASH_INVALID, "file: log[0]"),
        (changed(log=[{}] * (MAX_LOG_LINES + 1)), Code.CRASH_INVALID, "file: log"),
        (changed(message="another"), Code.DIGEST_MISMATCH, "file"),
        (changed(id="0" * 16), Code.DIGEST_MISMATCH, "file"),
        (changed(message="x" * MAX_REPORT), Code.LIMIT_EXCEEDED, "file"),
    ],
)
def test_what_is_no_report_is_refused(data: bytes, code: Code, place: str) -> None:
    with pytest.raises(FleetError) as caught:
        decode_report(data, "file")
    assert (caught.value.code, caught.value.detail["place"]) == (code, place)


def test_a_report_that_is_too_large_loses_its_recording_first_then_its_log() -> None:
    text = "x" * (MAX_REPORT // 2)
    large = Recording(GuestCall("", (text, text)))
    line = CrashLine(1, "info", "", text)
    assert decode_report(encode_report(replace(REPORT, recording=large)), "file") == replace(REPORT, recording=None)
    bare = replace(REPORT, recording=None)
    assert decode_report(encode_report(replace(REPORT, log=(line, line))), "file") == bare
    with pytest.raises(FleetError) as caught:
        encode_report(replace(REPORT, message=text, backtrace=text))
    assert caught.value.code is Code.LIMIT_EXCEEDED


def test_several_calls_may_have_been_in_flight() -> None:
    several = replace(REPORT, recording=Recording(GuestCall(""), (CALL, CALL), overlapping=True, in_flight=2))
    assert decode_report(encode_report(several), "file") == several
    alone = Recording(GuestCall(""), (CALL,))
    assert b"in_flight" not in encode_recording(alone)
    assert decode_recording(encode_recording(alone)).in_flight == 1


@pytest.mark.parametrize(
    ("recording", "complete"),
    [
        (Recording(GuestCall("")), True),
        (Recording(GuestCall(""), (CALL,)), True),
        (Recording(GuestCall(""), (CALL,), lost=1), False),
        (Recording(GuestCall(""), (CALL,), overlapping=True), False),
        (Recording(GuestCall("", lost=1), (CALL,)), False),
        (Recording(GuestCall(""), (replace(CALL, lost=2),)), False),
        (Recording(GuestCall(""), (replace(CALL, arguments=("<9 bytes>",)),)), False),
        (Recording(GuestCall(""), (replace(CALL, host_calls=(HostCall("f", (), "<confidential>"),)),)), False),
        (Recording(GuestCall(""), (replace(CALL, host_calls=(HostCall("f", ("<9 bytes>",), "1"),)),)), True),
    ],
)
def test_a_recording_is_complete_when_it_tells_all_that_the_guest_was_told(
    recording: Recording, complete: bool
) -> None:
    assert recording.complete is complete


def test_the_last_call_is_the_one_in_which_the_guest_ended() -> None:
    assert Recording(GuestCall("")).last == GuestCall("")
    assert Recording(GuestCall(""), (GuestCall("a"), CALL)).last == CALL


def test_a_note_is_no_value() -> None:
    assert is_note("<confidential>")
    assert not is_note('"<confidential>"')


def test_frames_are_read_from_the_engines_text() -> None:
    assert read_frames(BACKTRACE) == (
        Frame("agent.wasm", "agent::give_up", "1695"),
        Frame("", "<wasm function 13>", "16ff"),
        Frame("m", "handle", ""),
    )
    assert read_frames("") == ()


def test_a_summary_says_what_can_be_replayed() -> None:
    whole, part, none = (
        replace(REPORT, recording=recording).summary
        for recording in (REPORT.recording, Recording(GuestCall(""), (CALL,), lost=1), None)
    )
    assert (whole.id, whole.cause, whole.message) == (REPORT.id, "unreachable", "unreachable")
    assert [(s.recorded, s.complete) for s in (whole, part, none)] == [(True, True), (True, False), (False, False)]
