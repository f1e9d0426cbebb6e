import subprocess
import sys

import pytest

from edge_agent.runner.invocation import evaluate, resolve_export
from fleet.errors import Code, FleetError
from fleet.wit_text import parse_signature
from fleet.wit_types import Ok

NOTHING = parse_signature("func()")
NAMES = ("run", "a:b/one@0.1.0#get", "a:b/two@0.1.0#get", "a:b/two@0.1.0#set", "a:b/plain#put", "a:b/two@0.1.0#run")
EXPORTS = dict.fromkeys(NAMES, NOTHING)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("run", "run"),
        ("set", "a:b/two@0.1.0#set"),
        ("put", "a:b/plain#put"),
        ("a:b/two#get", "a:b/two@0.1.0#get"),
        ("a:b/two@0.1.0#get", "a:b/two@0.1.0#get"),
    ],
)
def test_a_name_may_be_as_short_as_it_is_clear(name, full):
    assert resolve_export(EXPORTS, name) == full


@pytest.mark.parametrize("name", ["get", "absent", "a:b/two@0.2.0#get", "two#get", "", "#get"])
def test_an_unclear_or_unknown_name_is_refused(name):
    with pytest.raises(FleetError) as caught:
        resolve_export(EXPORTS, name)
    assert caught.value.code is Code.EXPORT_NOT_FOUND
    assert ("candidates" in caught.value.detail) == (name == "get")


class Adder:
    """An instance that adds, and remembers what it was asked."""

    def __init__(self):
        sums = parse_signature("func(a: u32, b: u32) -> result<u32, string>")
        self.exports = {"a:b/c@1.0.0#add": sums, "done": NOTHING}
        self.asked = []

    def call(self, function, *arguments, seconds):
        self.asked.append((function, arguments, seconds))
        return Ok(sum(arguments)) if arguments else None


def test_text_in_text_out():
    adder = Adder()
    assert evaluate(adder, "add(2, 3)", 0.5) == "ok(5)"
    assert adder.asked == [("a:b/c@1.0.0#add", (2, 3), 0.5)]
    assert evaluate(adder, "done()", 0.5) == ""


def test_json_in_json_out():
    adder = Adder()
    assert evaluate(adder, '{"function": "a:b/c#add", "arguments": [2, 3]}', 0.5) == '{"ok": 5}'
    assert evaluate(adder, '{"function": "done", "arguments": []}', 0.5) == "null"


@pytest.mark.parametrize("text", ['{"function": "add", "arguments": [2]}', "{", '{"function": "no", "arguments": []}'])
def test_a_malformed_json_call_never_reaches_the_guest(text):
    adder = Adder()
    with pytest.raises(FleetError) as caught:
        evaluate(adder, text, 0.5)
    assert caught.value.code in {Code.VALUE_INVALID, Code.EXPORT_NOT_FOUND}
    assert adder.asked == []


@pytest.mark.parametrize("text", ["add(2)", "add(2, 3", "add(-1, 2)", "add", "add(2, 3) x", ""])
def test_a_malformed_call_never_reaches_the_guest(text):
    adder = Adder()
    with pytest.raises(FleetError) as caught:
        evaluate(adder, text, 0.5)
    assert caught.value.code in {Code.WAVE_INVALID, Code.EXPORT_NOT_FOUND}
    assert adder.asked == []


@pytest.mark.parametrize("text", ["make()", '{"function": "make", "arguments": []}'])
@pytest.mark.parametrize("result", ["own<thing>", "result<option<own<thing>>, string>", "list<tuple<u8, own<thing>>>"])
def test_a_function_that_returns_a_resource_is_refused_before_it_runs(text, result):
    adder = Adder()
    adder.exports["a:b/c@1.0.0#make"] = parse_signature(f"func() -> {result}")
    with pytest.raises(FleetError) as caught:
        evaluate(adder, text, 0.5)
    assert caught.value.code is Code.VALUE_INVALID
    assert caught.value.detail["function"] == "a:b/c@1.0.0#make"
    assert result in str(caught.value)
    assert adder.asked == []


def test_a_process_without_guests_has_no_linear_memory():
    """In a process of its own: other tests have run guests in this one."""
    program = "from edge_agent.runner.memory_meter import linear_memories as found; print(found())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{}"
