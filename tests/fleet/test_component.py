"""Reading imports and exports: against the engine's own view, and against arbitrary bytes."""

from contextlib import suppress
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import component as engine_component

from fleet import component as reader
from fleet.component import ComponentInfo, read_component
from fleet.errors import Code, FleetError
from tests.fakes.refusals import refusal

SAMPLES = sorted((Path(__file__).parents[2] / "components").glob("*-agent/*.wasm"))
PREAMBLE = b"\0asm\x0d\0\x01\0"

# Every kind of import and export, several sections, and things between them that have names of their own.
TEXTS = {
    "empty": "(component)",
    "interfaces": """(component
        (import "wasi:clocks/monotonic-clock@0.2.3" (instance (export "now" (func (result u64)))))
        (import "wasi:keyvalue/store@0.2.0-draft2" (instance
            (export "bucket" (type (sub resource)))
            (export "open" (func (param "identifier" string)))))
        (import "a:b/c" (instance)))""",
    "plain": """(component
        (import "run" (func (param "x" u32)))
        (import "thing" (type (sub resource)))
        (type $t u32)
        (import "number" (type (eq $t))))""",
    "module": '(component (import "code" (core module (import "env" "f" (func)) (export "g" (func)))))',
    "exports": """(component
        (core module $m (func (export "run") (result i32) i32.const 42))
        (core instance $i (instantiate $m))
        (func $run (result s32) (canon lift (core func $i "run")))
        (export "run" (func $run))
        (export "again" (func $run) (func (result s32)))
        (instance $api (export "run" (func $run)))
        (export "a:b/api@1.2.3" (instance $api))
        (export "code" (core module $m))
        (type $r (resource (rep i32)))
        (export "res" (type $r)))""",
    "ascribed": """(component
        (import "thing" (type $thing (sub resource)))
        (type $t (tuple u32 u32))
        (export $u "pair" (type $t))
        (export "pair-again" (type $u) (type (eq $u)))
        (export "other-thing" (type $thing) (type (eq $thing))))""",
    "nested": """(component
        (component $c
            (import "hidden-import" (func))
            (export "hidden-export" (func 0)))
        (core module (import "env" "hidden" (func)) (export "hidden" (func 0)))
        (import "seen" (func)))""",
}


def compile_text(text):
    return bytes(wasmtime.wat2wasm(text))


def assert_agrees(data):
    """Compare with the engine, which lists resource types among the imports and passes over other types.

    Raises:
        wasmtime.WasmtimeError: the engine refuses the component.
    """
    engine = wasmtime.Engine()
    kind = engine_component.Component(engine, data).type
    imports, exports = tuple(kind.imports(engine)), tuple(kind.exports(engine))
    info = read_component(data)
    assert info.exports == exports
    assert info.imports == tuple(name for name in imports if name not in info.type_imports)


@pytest.mark.parametrize("name", TEXTS)
def test_agrees_with_the_engine(name):
    data = compile_text(TEXTS[name])
    assert_agrees(data)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_agrees_with_the_engine_on_the_sample_agents(path):
    assert_agrees(path.read_bytes())


def test_exports_of_a_sample_agent_are_read():
    (path,) = (path for path in SAMPLES if path.stem == "context_agent")
    assert "syuthd:agent-mesh/sensor-handler" in read_component(path.read_bytes()).exports


def test_a_component_as_import_is_read_although_the_engine_refuses_it():
    data = compile_text('(component (import "inner" (component (import "hidden" (func)))) (import "run" (func)))')
    assert read_component(data).imports == ("inner", "run")


def test_nested_names_are_not_seen():
    assert read_component(compile_text(TEXTS["nested"])) == ComponentInfo(("seen",), ())


def section(number, body):
    return bytes([number, len(body)]) + body


def imports(*items):
    return PREAMBLE + section(10, bytes([len(items)]) + b"".join(items))


def test_types_are_apart_from_what_admission_decides_on():
    assert read_component(compile_text(TEXTS["plain"])) == ComponentInfo(("run",), (), ("thing", "number"))


def test_older_and_newer_forms_of_names():
    plain = b"\x00\x03a-b\x01\x00"
    older = b"\x01\x09a:b/c@1.0\x05\x00"
    # Name attributes as wasm-tools 1.262 writes them: what it implements, version suffix, external id.
    newer = b"\x02\x09a:b/d@0.2\x03" + b"\x00\x05x:y/z" + b"\x01\x03.12" + b"\x02\x02id" + b"\x05\x00"
    assert read_component(imports(plain, older, newer)).imports == ("a-b", "a:b/c@1.0", "a:b/d@0.2.12")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a WebAssembly binary"),
        (b"\0asm", "not a WebAssembly binary"),
        (b"MZ\0\0\0\0\0\0\0\0", "not a WebAssembly binary"),
        (b"\0asm\x01\0\0\0", "core module, not a component"),
        (b"\0asm\x0c\0\x01\0", "version 0c000100"),
        (PREAMBLE + b"\x0d\x00", "unknown section 13"),
        (PREAMBLE + b"\x00", "ends too early"),
        (PREAMBLE + b"\x00\x01", "ends after the binary"),
        (PREAMBLE + b"\x00\x80\x80\x80\x80\x10", "does not fit 32 bits"),
        (PREAMBLE + b"\x00\x80\x80\x80\x80\x80\x00", "does not fit 32 bits"),
        (imports(b"\x00\x01a\x01\x00", b"\x00\x01a\x01\x00"), "appears twice"),
        (imports(b"\x03\x01a\x01\x00"), "unknown name 0x03"),
        (imports(b"\x02\x01a\x04"), "an attribute twice"),
        (imports(b"\x02\x01a\x01\x03\x00\x01\x00"), "unknown name attribute 0x03"),
        (imports(b"\x00\x01\xff\x01\x00"), "not UTF-8"),
        (imports(b"\x00\x81\x08"), "a name of 1025 bytes"),
        (imports(b"\x00\x01a\x06\x00"), "unknown type of a name 0x06"),
        (imports(b"\x00\x01a\x03\x02"), "unknown type bound 0x02"),
        (imports(b"\x00\x01a\x02\x01\x7f"), "values cannot be"),
        (PREAMBLE + section(10, b"\x00\x00"), "bytes after the last name"),
        (PREAMBLE + section(11, b"\x01\x00\x01a\x06\x00\x00"), "unknown sort 0x06"),
        (PREAMBLE + section(11, b"\x01\x00\x01a\x01\x00\x02"), "unknown optional type 0x02"),
    ],
)
def test_what_is_no_component_is_refused(data, message):
    with pytest.raises(FleetError, match=message) as caught:
        read_component(data)
    assert caught.value.code is Code.COMPONENT_INVALID
    assert str(caught.value.detail["place"]).startswith("byte ")


def test_a_core_module_is_named_as_such():
    with pytest.raises(FleetError, match="this is a core module, not a component"):
        read_component(compile_text("(module)"))


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        ("MAX_COMPONENT", PREAMBLE + b"\x00\x01\x00"),
        ("MAX_SECTIONS", PREAMBLE + b"\x00\x01\x00" * 10),
        ("MAX_NAMES", imports(*(b"\x00\x01%c\x01\x00" % letter for letter in b"abcdefghijk"))),
    ],
)
def test_limits_hold(monkeypatch, limit, data):
    monkeypatch.setattr(reader, limit, 10)
    with pytest.raises(FleetError) as caught:
        read_component(data)
    assert caught.value.code is Code.LIMIT_EXCEEDED


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data):
    refusal(lambda: read_component(data))
    refusal(lambda: read_component(PREAMBLE + data))


COMPILED = [compile_text(text) for text in TEXTS.values()]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(COMPILED), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_mutations_raise_nothing_else(data, edits):
    mutated = bytearray(data)
    for at, value in edits:
        mutated[at % len(mutated)] = value
    error = refusal(lambda: read_component(bytes(mutated)))
    assert error is None or error.code in {Code.COMPONENT_INVALID, Code.LIMIT_EXCEEDED}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(COMPILED), st.integers(0, 10_000), st.integers(0, 255))
def test_what_the_engine_accepts_is_read_alike(data, at, value):
    """A component that the engine runs never shows other imports here: admission would decide about another one."""
    mutated = bytearray(data)
    mutated[at % len(mutated)] = value
    with suppress(wasmtime.WasmtimeError):
        assert_agrees(bytes(mutated))
