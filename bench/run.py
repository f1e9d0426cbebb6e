"""Run every benchmark in a fixed order and write bench/RESULTS.md: `make bench`.

    python -m bench.run [--only NAME]

Each benchmark is a process of its own with a bound on its time; together they take about eight minutes. `--only` runs
one of them, shows its part of the page and leaves the file alone. Exits with 1 when a benchmark did not finish; the
page then says so. The figures mean most on a machine that does nothing else: the page tells the load before and after.

How to read the page: the aims come first, each judged by its worst row; then one table per topic. A ratio compares our
median with that of a named reference in the same run.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.measure import Row, parse
from bench.page import TOPICS, Result, Surroundings, Topic, render, section

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "bench" / "RESULTS.md"

CLEAN_UP_S = 60.0
"""A benchmark that is interrupted has this long to end its own processes."""


def run(topic: Topic) -> Result:
    """Run one benchmark and collect its rows."""
    command = [sys.executable, "-m", topic.module, *topic.arguments]
    # Its chatter goes to a file: a pipe that nobody empties would stop it.
    with tempfile.TemporaryFile("w+") as noise:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=noise, text=True)
        fault = ""
        try:
            output, _ = process.communicate(timeout=topic.limit_s)
        except subprocess.TimeoutExpired:
            fault = f"it was given up after {topic.limit_s:.0f} s"
            process.send_signal(signal.SIGINT)  # so that it ends the fleet it may have started
            try:
                output, _ = process.communicate(timeout=CLEAN_UP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
        if process.returncode and not fault:
            fault = f"it ended with exit code {process.returncode}"
        if fault:
            noise.seek(0)
            sys.stderr.write(noise.read())
    return collected(output, fault)


def collected(output: str, fault: str = "") -> Result:
    """What a benchmark printed."""
    printed = [parse(line) for line in output.splitlines()]
    rows = tuple(line for line in printed if isinstance(line, Row))
    return Result(rows, fault, tuple(line for line in printed if isinstance(line, str)))


def filesystem(path: Path) -> str:
    """Kind of filesystem that `path` lies on."""
    mounts = [m for m in psutil.disk_partitions(all=True) if path.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def processor() -> str:
    """Model of the processor as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def facts() -> dict[str, str]:
    """What the figures depend on; no name of a machine and no path."""
    packages = ("wasmtime", "onnxruntime", "numpy", "grpcio")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / (1 << 30):.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "scratch files on": filesystem(Path(tempfile.gettempdir()).resolve()),
        "Python": platform.python_version(),
        **{name: version(name) for name in packages},
        "SQLite": sqlite3.sqlite_version,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the benchmarks and write bench/RESULTS.md.")
    parser.add_argument("--only", choices=[topic.name for topic in TOPICS], help="run one and show it; write nothing")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    results = {}
    for topic in TOPICS:
        if options.only in (None, topic.name):
            sys.stderr.write(f"{topic.title} ...\n")
            results[topic.name] = run(topic)
    if options.only:
        (chosen,) = (topic for topic in TOPICS if topic.name == options.only)
        print(section(chosen, results[chosen.name]))
    else:
        surroundings = Surroundings(facts(), os.cpu_count() or 1, load_before, os.getloadavg()[0])
        PAGE.write_text(render(results, surroundings))
        sys.stderr.write(f"written to {PAGE.relative_to(ROOT)}\n")
    return 1 if any(result.fault for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
