"""The results page, made from given rows: every topic of the project's benchmarks, every aim, and what failed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from bench.languages import Measured, missing_languages
from bench.measure import Row, emit, emit_note, median
from bench.page import AIMS, TOPICS, Result, Surroundings, Topic, render, section
from bench.run import collected, run
from fleet.bundle import Language

QUIET = Surroundings({"date": "2026-11-22", "SQLite": "3.1"}, 2, 0.1, 1.5)

GOOD = {
    "start": Result((Row("context-agent, store to first call", "us", 40.0, 180.0),)),
    "calls": Result(
        (
            Row("nop", "us", 2.0, 4.0),
            Row("string of 11 -> string", "us", 2.0, 14.0),
            Row("record of 4 -> record", "us", 6.0, 60.0),
            Row("1 KiB bytes in", "us", 20.0, 600.0),
            Row("1 MiB bytes in", "us", 9_000.0, 360_000.0),
        )
    ),
    "throughput": Result(
        (
            Row("1 agent", "calls/s", 2_000.0, 10_000.0),
            Row("list<u8> to the guest, 1 MiB a call", "MiB/s", 500.0, 5_000.0),
        )
    ),
    "composition": Result((Row("call to another agent, isolation: store", "us", 20.0, 0.02),)),
    "limits": Result((Row("primes below 1,000,000, epochs", "us", 15_000.0, 12_000.0),)),
    "restart": Result((Row("restart after trap", "ms", 4.0), Row("restart after runner kill", "ms", 16.0))),
    "deploy": Result((Row("3 nodes, new configuration", "s", 1.5, 0.8),)),
    "memory": Result((Row("100 agents: sum", "MiB", 99.5),)),
    "idle": Result((Row("the runner with one agent", "MiB", 90.0), Row("1,000 agents more", "MiB", 60.0))),
    "languages": Result((Row("python: start", "ms", 21.0),), notes=("Not measured: go.",)),
    "trust": Result((Row("publish", "us", 500.0, 60.0), Row("10,000 orders encoded and signed", "s", 1.0, 0.4))),
    "keyvalue": Result(
        (
            Row("get 100B", "us", 6.0, 4.0),
            Row("set 1MiB", "us", 2100.0, 2000.0),
            Row("set 1MiB, by a guest", "us", 2200.0, 2000.0),
        )
    ),
    "grants": Result((Row("decision asked before: key-value bucket, allowed", "us", 1.4, 0.3),)),
    "audit": Result((Row("append 1,000 leaves, committed", "ms", 90.0, 0.5),)),
    "nn": Result((Row("matmul", "ms", 4.1, 4.0), Row("matmul, by a guest", "ms", 4.3, 4.0))),
}


def verdicts(results: dict[str, Result]) -> list[str]:
    return [aim.line(results)[2] for aim in AIMS]


def page(results: dict[str, Result]) -> str:
    return render(results, QUIET)


def test_every_topic_of_the_issue_is_on_the_page_and_can_be_run() -> None:
    assert {topic.name for topic in TOPICS} == GOOD.keys()
    assert len(TOPICS) == len(GOOD)
    for topic in TOPICS:
        assert find_spec(topic.module) is not None
        assert f"\n## {topic.title}\n" in page(GOOD)


def test_every_row_is_shown_with_its_reference_and_ratio() -> None:
    text = page(GOOD)
    assert "| 1 MiB bytes in | 9.00 ms | 360 ms | 40.00 |" in text  # how many times faster
    assert "| set 1MiB | 2.10 ms | 2.00 ms | 1.05 |" in text  # what it costs on top
    assert "| restart after trap | 4.00 ms |" in text
    assert "| 100 agents: sum | 99.5 MiB |" in text
    assert "| 1 agent | 2,000 calls/s | 10,000 calls/s | 0.20 |" in text
    for result in GOOD.values():
        assert all(f"| {row.name} |" in text for row in result.rows)


def test_surroundings_are_on_the_page_and_a_busy_machine_is_told() -> None:
    assert "| SQLite | 3.1 |" in page(GOOD)
    assert "| load average before and after | 0.10, 1.50 |" in page(GOOD)
    busy = render(GOOD, Surroundings({}, 2, 1.1, 1.5))
    assert "Other work kept the machine busy" in busy
    assert "Other work" not in page(GOOD)


def test_aims_that_are_reached_are_met() -> None:
    assert set(verdicts(GOOD)) == {"met"}
    assert "under 50 us | 40 us (context-agent, store to first call) | met |" in page(GOOD)


@pytest.mark.parametrize(
    ("aim", "topic", "row"),
    [
        (0, "start", Row("context-agent, store to first call", "us", 51.0, 20.0)),
        (1, "calls", Row("string of 11 -> string", "us", 3.0, 14.0)),
        (1, "calls", Row("1 KiB bytes out", "us", 3.0, 14.0)),
        (2, "calls", Row("string of 9 -> string", "us", 11.0, 90.0)),
        (3, "calls", Row("1 MiB bytes out", "us", 10_001.0, 900_000.0)),
        (4, "keyvalue", Row("set 1MiB", "us", 2500.0, 2000.0)),
        (5, "keyvalue", Row("set 1MiB, by a guest", "us", 2500.0, 2000.0)),
        (6, "nn", Row("matmul", "ms", 2.5, 2.0)),
        (7, "nn", Row("matmul, by a guest", "ms", 2.5, 2.0)),
        (8, "idle", Row("1,000 agents more", "MiB", 65.0)),
        (9, "restart", Row("restart after trap", "ms", 10.1)),
        (10, "grants", Row("decision asked before: message topic", "us", 5.1, 0.3)),
    ],
)
def test_the_worst_row_decides_an_aim(aim: int, topic: str, row: Row) -> None:
    results = GOOD | {topic: Result((*GOOD[topic].rows, row))}
    assert [number for number, verdict in enumerate(verdicts(results)) if verdict == "not met"] == [aim]
    assert f"({row.name})" in AIMS[aim].line(results)[1]


def test_rows_that_no_aim_names_decide_nothing() -> None:
    short = Row("get 100B", "us", 10.0, 4.0)
    other = Row("nop", "us", 4.0, 4.0)
    results = GOOD | {
        "keyvalue": Result((*GOOD["keyvalue"].rows, short)),
        "calls": Result((*GOOD["calls"].rows, other)),
    }
    assert set(verdicts(results)) == {"met"}


def test_what_was_not_measured_meets_no_aim() -> None:
    results = {name: result for name, result in GOOD.items() if name != "nn"}
    assert [aim.line(results)[1:] for aim in AIMS[6:8]] == [("not measured", "not met")] * 2
    partial = GOOD | {"nn": Result(GOOD["nn"].rows, "it ended with exit code 1")}
    assert verdicts(partial) == verdicts(results)


def test_a_benchmark_that_failed_says_so_beside_the_rows_it_gave() -> None:
    (topic,) = (topic for topic in TOPICS if topic.name == "deploy")
    text = section(topic, Result(GOOD["deploy"].rows, "it was given up after 240 s"))
    assert "3 nodes, new configuration" in text
    assert text.endswith("**Not complete:** it was given up after 240 s.")
    assert "**Not complete:** it was not run." in section(topic, Result())


def test_notes_stand_below_the_table() -> None:
    (topic,) = (topic for topic in TOPICS if topic.name == "languages")
    assert section(topic, GOOD["languages"]).endswith("| python: start | 21.0 ms |\n\nNot measured: go.")


def test_what_a_benchmark_prints_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    emit(Row("x", "us", 1.5, 3.0))
    emit_note("Read this.")
    emit(Row("y", "MiB", 2.0))
    printed = capsys.readouterr().out
    assert collected(printed) == Result((Row("x", "us", 1.5, 3.0), Row("y", "MiB", 2.0)), "", ("Read this.",))
    assert collected("", "it failed") == Result((), "it failed")


def test_languages_that_are_not_built_are_named() -> None:
    assert missing_languages(list(Language)) == ""
    without = [language for language in Language if language not in {Language.GO, Language.C}]
    assert missing_languages(without).startswith("Not measured, as not built on this machine: c, go. `make languages`")


def test_a_language_has_a_row_for_each_figure() -> None:
    measured = Measured(3 << 20, 1 << 20, 1.5, 0.02, 0.005, 0.001)
    assert [(row.name, row.median, row.unit) for row in measured.rows("go")] == [
        ("go: size", 3.0, "MiB"),
        ("go: compile and start", 1.5, "s"),
        ("go: start", 20.0, "ms"),
        ("go: first call", 5.0, "ms"),
        ("go: call", 1.0, "ms"),
    ]
    assert measured.cells() == ("3.1 MB", "1.0 MB", "1.5 s", "20.0 ms", "1.0 ms")


def test_a_benchmark_that_cannot_run_is_a_fault_and_no_row(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(Topic("absent", "bench.absent", "Absent", "")) == Result((), "it ended with exit code 1")
    assert "bench.absent" in capfd.readouterr().err


def test_a_row_is_the_median_of_its_measurements() -> None:
    assert median("x", "us", [3.0, 1.0, 9.0], [4.0, 2.0]) == Row("x", "us", 3.0, 3.0)
    assert median("x", "us", [1.0]).reference is None
