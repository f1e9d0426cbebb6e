"""Revoked while it runs: real processes stop it within seconds, keep it stopped without a network, and say why."""

from __future__ import annotations

import json
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

from fleet.errors import ExitCode
from tests.system.harness import RealFleet, run, wait_for

if TYPE_CHECKING:
    from pathlib import Path

RESTLESS = {"name": "counter", "bundle": "restless-agent@0.1.0"}
SICKLY = {"name": "other", "bundle": "sickly-agent@0.1.0"}

edge_agent = partial(run, "edge_agent.agent")


def running(fleet: RealFleet) -> dict[str, Any]:
    return {row["agent"]: row["phase"] for row in fleet.agents()}


def signed_counters(fleet: RealFleet) -> dict[str, int]:
    """What the code role has noted beside each bundle."""
    files = (fleet.home / "trust" / "repository").glob("*.code-default.json")
    (newest,) = files
    targets = json.loads(newest.read_bytes())["signed"]["targets"]
    return {path: target["custom"]["release"] for path, target in targets.items()}


def test_what_is_revoked_stops_within_seconds_stays_stopped_and_cannot_be_deployed(
    fleet: RealFleet, tmp_path: Path
) -> None:
    fleet.join("n1")
    fleet.publish("restless-agent", "sickly-agent")
    fleet.approve("app/counter", "restless-agent@0.1.0")
    fleet.approve("app/other", "sickly-agent@0.1.0")
    manifest = str(fleet.manifest("app", RESTLESS, SICKLY))
    fleet.ctl("deploy", manifest)
    wait_for("both run", lambda: running(fleet) == {"app/counter": "running", "app/other": "running"})

    counters = signed_counters(fleet)
    assert counters == {"bundles/default/restless-agent/0.1.0.json": 1, "bundles/default/sickly-agent/0.1.0.json": 1}
    source = fleet.home / "bundles" / "sickly-agent"
    newer = fleet.ctl("bundle", "push", str(source), "--team", "nobody", expect=None)
    assert newer.returncode != ExitCode.OK  # there is no such team
    digests = {row["bundle"]: row["digest"] for row in fleet.ask("bundle", "list")}
    fleet.ctl("trust", "revoke", "bundle", digests["restless-agent@0.1.0"], "--reason", "the key leaked", "--yes")
    wait_for("it is stopped", lambda: running(fleet) == {"app/counter": "failed", "app/other": "running"}, 20)
    shown = fleet.ctl("agents", "app/counter", "-o", "json").stdout
    assert "REVOKED" in shown
    assert "the key leaked" in shown
    refused = fleet.ctl("deploy", manifest, expect=int(ExitCode.REFUSED))
    assert "REVOKED" in refused.stderr

    # Without a network the same holds, from the disk alone; and a folder brings news where no coordinator can.
    carried = tmp_path / "usb"
    fleet.ctl("trust", "export", str(carried))
    fleet.cut_power("n1")
    fleet.down()
    data = str(fleet.directory("n1"))
    offline = edge_agent("trust", "import", str(carried), "--data-dir", data)
    assert offline.returncode == 0, offline.stderr
    assert "is adopted; order" in offline.stdout
    spoiled = carried / "metadata" / "timestamp.json"
    spoiled.write_bytes(spoiled.read_bytes().replace(b'"version"', b'"Version"'))
    assert edge_agent("trust", "import", str(carried), "--data-dir", data).returncode == ExitCode.VERIFICATION_FAILED

    fleet.up()
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    wait_for("only the other one is back", lambda: running(fleet) == {"app/counter": "failed", "app/other": "running"})
    shutil.rmtree(carried)
    fleet.ctl("trust", "export", str(carried))
    online = edge_agent("trust", "import", str(carried), "--data-dir", data)  # the node runs: it is asked to
    assert online.returncode == 0, online.stderr
    assert "the folder has none for this node" in online.stdout
