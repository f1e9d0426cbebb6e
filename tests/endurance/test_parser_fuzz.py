"""Parsers of bytes from outside: whatever comes, it is taken or refused with a `FleetError`, and soon.

The default run edits the seeds a little, the same way every time. `make fuzz-parsers` has a coverage-guided fuzzer try
the same inputs every time, and `make fuzz-parsers SECONDS_EACH=60 PUBLISH=1` lets it loose with chance, and writes the
page docs/endurance/parser-fuzz.md.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from orchestrator.building.tools import Tools
from tests.endurance.parsers.parser import Parser, holds
from tests.endurance.parsers.targets import PARSERS
from tests.endurance.publishing import publish

HERE = Path(__file__).parent
EDITS = 60
RUNS = 5_000
SPICE = (
    b"\0",
    b"\xff",
    b"\n",
    b"\n\n",
    b"{",
    b"}",
    b"[",
    b'"',
    b"-",
    b"9" * 30,
    b"&a",
    b"*a",
    b"!!python/object",
    b": ",
)

parsers = pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)


def edited(seed: bytes, random: Random) -> bytes:
    """The seed with some of its bytes removed, repeated, exchanged, or with something sharp put in."""
    data = bytearray(seed)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.randint(1, 8))
        replacement = random.choice(
            (b"", bytes(data[at:end]) * 3, bytes([random.randrange(256)]), random.choice(SPICE))
        )
        data[at:end] = replacement
    return bytes(data)


@parsers
def test_a_seed_is_taken_and_what_is_edited_is_taken_or_refused(parser: Parser) -> None:
    assert all(holds(parser, seed) for seed in parser.seeds)
    random = Random(1)
    for _ in range(EDITS):
        holds(parser, edited(random.choice(parser.seeds), random)[: parser.longest])


@pytest.mark.slow
def test_a_guided_fuzzer_finds_nothing_else(tmp_path: Path) -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the fuzzer has wheels for Linux on x86_64 only; the edits of the default run are tried anywhere")
    seconds = int(os.environ.get("SECONDS_EACH") or 0)
    runs = 0 if seconds else RUNS
    lock = HERE / "parsers" / "requirements.txt"
    fuzzer = Tools(lambda text: sys.stderr.write(f"{text}\n")).python(lock)
    results: dict[str, object] = {"bound for each parser": f"{seconds} s" if seconds else f"{runs:,} inputs"}
    faults = {}
    for name in PARSERS:
        corpus = tmp_path / re.sub(r"[^a-z]", "-", name.lower())
        corpus.mkdir()
        command = fuzzer.function("tests.endurance.parsers.worker", "main", name, str(runs), str(seconds), corpus)
        done = subprocess.run(
            [str(part) for part in command],
            cwd=HERE.parents[1],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + 300,
            check=False,
        )
        found = re.findall(r"stat::number_of_executed_units: (\d+)", done.stderr)
        covered = re.findall(r"cov: (\d+)", done.stderr)
        if done.returncode != 0 or not found or not covered:
            faults[name] = done.stdout[-2000:] + done.stderr[-4000:]
            continue
        kept = sum(1 for _ in corpus.iterdir())
        results[name] = f"{int(found[0]):,} inputs, {covered[0]} to {covered[-1]} edges covered, {kept} kept"
    assert not faults, "\n".join(f"{name}: {text}" for name, text in faults.items())
    publish(
        "parser-fuzz",
        "Fuzzing of the parsers",
        f"make fuzz-parsers SECONDS_EACH={seconds}" if seconds else "make fuzz-parsers",
        results,
    )
