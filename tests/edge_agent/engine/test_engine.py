"""Compiling, loading and refusing components; and that nothing leaks."""

from __future__ import annotations

import ctypes
import gc
import resource
import subprocess
import sys

import psutil
import pytest
import wasmtime
from wasmtime.component import Component as StockComponent

from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits
from edge_agent.runner.engine.slots import slots
from edge_agent.runner.engine.types import read_types
from fleet.errors import Code, FleetError
from fleet.wit_text import parse_type
from fleet.wit_types import FuncType, Ok, Variant, WitValue
from tests.fakes.components import ECHO_INTERFACE, echo, wasm

ENGINE = Engine()


@pytest.mark.parametrize("data", [b"", b"(component)", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0junk"])
def test_what_is_no_component_is_refused(data: bytes) -> None:
    with pytest.raises(FleetError) as caught:
        ENGINE.compile(data)
    assert caught.value.code is Code.COMPONENT_INVALID


ASYNC = [
    '(component (import "f" (func async)))',
    '(component (import "f" (func (param "s" (stream u8)))))',
    '(component (import "f" (func (result (future)))))',
    '(component (import "a:b/c" (instance (export "f" (func (result (stream u8)))))))',
]


@pytest.mark.parametrize("text", ASYNC)
def test_streams_futures_and_async_functions_are_refused(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        ENGINE.compile(wasm(text))
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED


@pytest.mark.parametrize("text", [*ASYNC, '(component (import "m" (core module)))'])
def test_types_that_cannot_cross_are_refused_by_the_binding_too(text: str) -> None:
    """Even on an engine that allows them, so that no setting can bring the crash back."""
    engine = wasmtime.Engine()
    component = StockComponent(engine, wasm(text))
    pointers = [ctypes.cast(thing.ptr(), ctypes.c_void_p).value or 0 for thing in (engine, component)]
    with pytest.raises(FleetError) as caught:
        read_types(*pointers)
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED


def test_types_that_share_parts_are_refused_before_they_fill_the_memory() -> None:
    doubled = "".join(f"(type $t{at} (tuple $t{at - 1} $t{at - 1}))" for at in range(1, 17))
    text = f'(component (type $t0 (tuple u8 u8)) {doubled} (import "f" (func (param "p" $t16))))'
    with pytest.raises(FleetError) as caught:
        ENGINE.load(ENGINE.compile(wasm(text)))
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED


def test_code_of_another_configuration_does_not_load() -> None:
    counting = Engine(fuel=True)
    compiled = ENGINE.compile(wasm("(component)"))
    assert ENGINE.fingerprint != counting.fingerprint
    with pytest.raises(FleetError) as caught:
        counting.load(compiled)
    assert caught.value.code is Code.COMPONENT_INVALID


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    script = "from edge_agent.runner.engine import Engine; print(Engine().fingerprint)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ENGINE.fingerprint == Engine().fingerprint


KIND = parse_type(
    "record { a: option<string>, b: result<list<u8>, string>, c: variant { x(string), y },"
    " d: list<string>, e: tuple<u8, f64>, f: flags { p, q } }"
)
VALUE = {"a": "a" * 50, "b": Ok(b"b" * 50), "c": Variant("x", "c" * 50), "d": ["d"] * 4, "e": (1, 2.0), "f": {"p"}}


def _rss() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _mappings() -> int:
    gc.collect()
    return len(psutil.Process().memory_maps(grouped=False))


class _Mallinfo(ctypes.Structure):
    _fields_ = [(f"word{number}", ctypes.c_size_t) for number in range(10)]  # malloc.h, struct mallinfo2


def _allocated() -> int:
    """Bytes that malloc has given out in this process (mallinfo2(3)): exact, unlike resident memory."""
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo
    info = mallinfo2()
    return int(info.word7 + info.word4)  # uordblks: in use; hblkhd: mapped for single blocks


def _instance() -> Instance:
    function = HostFunction(FuncType((("v", KIND),), KIND), lambda value: value)
    component = ENGINE.load(ENGINE.compile(echo(KIND)))
    return Instance(component, [HostInterface(ECHO_INTERFACE, {"echo": function})], Limits())


def test_calls_leak_nothing() -> None:
    """The smallest leak known of the stock bindings is 48 bytes per value; each call here moves about 60 values."""
    instance = _instance()
    calls = 10_000

    def run(times: int) -> WitValue:
        for _ in range(times):
            result = instance.call("echo", VALUE)
        return result

    run(2000)
    before = _allocated()
    assert run(calls) == VALUE
    assert (_allocated() - before) / calls < 8


def test_instances_and_components_leak_nothing() -> None:
    def run(times: int) -> None:
        for _ in range(times):
            _instance().close()

    run(10)
    before, maps, live = _rss(), _mappings(), len(slots)
    run(50)
    assert (_rss() - before) / 50 < 49_152  # what is compiled takes much more; `make hammer` looks closer
    # Malloc maps and unmaps for other tests' garbage, so some come and go; an instance has two, a component more.
    assert (_mappings() - maps) / 50 < 0.5
    assert len(slots) == live


def test_an_instance_costs_little_memory() -> None:
    component = ENGINE.load(ENGINE.compile(wasm("(component)")))
    run = [Instance(component, [], Limits()) for _ in range(50)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run += [Instance(component, [], Limits()) for _ in range(500)]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    for instance in run:
        instance.close()
    assert grown / 500 < 32, "KiB for each"
