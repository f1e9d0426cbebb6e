"""The pipeline of examples/pipeline on a fleet of real processes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from tests.fakes.linked_guests import alerter
from tests.system.harness import ROOT, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.harness import RealFleet

PIPELINE = ROOT / "examples" / "pipeline"
TICK = [
    {"timer": {"every": "100ms", "function": "handle-data", "arguments": '{source: "t", value: 1.0, timestamp: 0}'}}
]


def bundle(fleet: RealFleet, name: str, version: str = "0.1.0", component: bytes | None = None) -> None:
    """Publish one bundle of the sample, as committed or with another version or component."""
    folder = fleet.home / "sources" / f"{name}-{version}"
    folder.mkdir(parents=True)
    text = (PIPELINE / name / "bundle.yaml").read_text().partition("build:")[0]
    (folder / "bundle.yaml").write_text(text.replace("version: 0.1.0", f"version: {version}"))
    if component is None:
        shutil.copy(PIPELINE / name / f"{name}.wasm", folder)
    else:
        (folder / f"{name}.wasm").write_bytes(component)
    fleet.ctl("bundle", "push", str(folder))


def manifest(fleet: RealFleet, scorer: str = "0.1.0", isolation: str = "store", **links: Any) -> Path:
    to_scorer = {"import": "example:pipeline/score", "agent": "scorer", "isolation": isolation}
    to_alerter = {"import": "example:pipeline/alert@0.1.0", "agent": "alerter"}
    return fleet.manifest(
        "pipeline",
        {"name": "ingest", "bundle": "ingest@0.1.0", "links": [to_scorer | links], "triggers": TICK},
        {"name": "scorer", "bundle": f"scorer@{scorer}", "links": [to_alerter]},
        {"name": "alerter", "bundle": "alerter@0.1.0"},
    )


def set_up(fleet: RealFleet) -> None:
    fleet.join("n1")
    bundle(fleet, "ingest")
    bundle(fleet, "scorer")
    bundle(fleet, "alerter", component=alerter())
    for name in ("ingest", "scorer", "alerter"):
        fleet.ctl("grant", "approve", "--yes", str(PIPELINE / "grants" / f"{name}.yaml"))


def agents(fleet: RealFleet) -> dict[str, dict[str, Any]]:
    return {agent["agent"]: agent for agent in fleet.agents("pipeline")}


def read(fleet: RealFleet, value: float) -> str:
    reading = f'{{source: "hall", value: {value}, timestamp: 0}}'
    return fleet.ctl("call", "pipeline/ingest", f"handle-data({reading})").stdout


def logged(fleet: RealFleet, agent: str, words: str) -> list[str]:
    lines = fleet.ctl("logs", agent, "--tail", "500").stdout.splitlines()
    return [line for line in lines if words in line]


def test_swapping_the_middle_is_one_deploy_and_touches_nothing_else(fleet: RealFleet) -> None:
    set_up(fleet)
    fleet.ctl("deploy", str(manifest(fleet)))
    for _ in range(8):
        assert "hall scored 0.000" in read(fleet, 20.0)
    assert "hall scored 0.000" not in read(fleet, 90.0)
    before = agents(fleet)
    bundle(fleet, "scorer", "0.2.0")
    fleet.ctl("deploy", str(manifest(fleet, "0.2.0")))
    after = agents(fleet)
    for name in ("pipeline/ingest", "pipeline/alerter"):
        assert after[name]["running_since"] == before[name]["running_since"]
        assert (after[name]["restarts"], after[name]["errors"]) == (0, 0)
    assert after["pipeline/scorer"]["bundle_digest"] != before["pipeline/scorer"]["bundle_digest"]
    assert "hall scored 0.000" in read(fleet, 90.0), "a new scorer knows no source"
    wait_for("more calls", lambda: agents(fleet)["pipeline/ingest"]["calls"] > after["pipeline/ingest"]["calls"])
    assert logged(fleet, "pipeline/ingest", "was not scored") == []


def test_fused_agents_run_as_one_and_come_apart_again(fleet: RealFleet) -> None:
    set_up(fleet)
    done = fleet.ctl("deploy", str(manifest(fleet, isolation="none")))
    assert "pipeline/scorer runs as a part of pipeline/ingest" in done.stdout + done.stderr
    assert agents(fleet).keys() == {"pipeline/ingest", "pipeline/alerter"}
    for _ in range(8):
        read(fleet, 20.0)
    assert "hall scored 0.000" not in read(fleet, 90.0)
    fleet.ctl("deploy", str(manifest(fleet)))
    assert agents(fleet).keys() == {"pipeline/ingest", "pipeline/scorer", "pipeline/alerter"}
    assert "hall scored 0.000" in read(fleet, 90.0)


def test_links_that_cannot_be_are_refused_with_place_and_remedy(fleet: RealFleet) -> None:
    set_up(fleet)
    circle = manifest(fleet, agent="ingest")
    done = fleet.ctl("plan", str(circle), expect=1)
    assert "ingest -> ingest" in done.stderr
    wrong = manifest(fleet, agent="alerter")
    done = fleet.ctl("plan", str(wrong), expect=6)
    assert "IMPORT_NOT_GRANTED" in done.stderr
    assert "pipeline/alerter" in done.stderr
    bundle(fleet, "scorer", "0.3.0", component=alerter())
    text = (
        manifest(fleet, "0.3.0")
        .read_text()
        .replace('"links": [{"import": "example:pipeline/alert@0.1.0", "agent": "alerter"}]', '"links": []')
    )
    file = fleet.home / "wrong.yaml"
    file.write_text(text)
    done = fleet.ctl("plan", str(file), expect=1)
    assert "LINK_INVALID" in done.stderr
    assert "example:pipeline/score" in done.stderr


def test_the_pipeline_runs_in_three_languages(fleet: RealFleet) -> None:
    fleet.join("n1")
    for name in ("ingest", "scorer", "alerter"):
        fleet.ctl("bundle", "push", str(PIPELINE / name))  # builds the one in JavaScript
        fleet.ctl("grant", "approve", "--yes", str(PIPELINE / "grants" / f"{name}.yaml"))
    fleet.ctl("deploy", str(PIPELINE / "fleet.yaml"))
    for _ in range(8):
        read(fleet, 20.0)
    read(fleet, 90.0)
    wait_for("the alert is logged", lambda: bool(logged(fleet, "pipeline/alerter", "hall is unusual")))
