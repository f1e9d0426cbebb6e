"""From a component that speaks HTTP to an answer on its port: proposed, narrowed, approved, deployed, asked."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from fleet.errors import ExitCode
from tests.fakes.ports import free_port
from tests.system.harness import RealFleet, wait_for

pytestmark = pytest.mark.system

WEB = {"name": "web", "bundle": "http-agent@0.1.0"}


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_an_agent_is_served_on_the_port_that_its_grant_names(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("http-agent")
    manifest = str(fleet.manifest("site", WEB))
    refused = fleet.ctl("deploy", manifest, expect=ExitCode.REFUSED).stderr
    assert "fleetctl grant propose site/web" in refused

    draft = fleet.home / "draft.yaml"
    fleet.ctl("grant", "propose", "site/web", "--bundle", "http-agent@0.1.0", "--file", str(draft))
    text = draft.read_text()
    assert 'hosts: ["host.invalid"]' in text
    assert "wasi:http/types" not in text
    port = free_port()
    draft.write_text(text.replace('ports: ["8080"]', f'ports: ["{port}"]').replace("[public]", "[loopback]"))
    shown = fleet.ctl("grant", "approve", "--yes", str(draft)).stdout
    assert f"wasi:http/incoming-handler: ports={port} addresses=127.0.0.1" in shown

    assert fleet.ask("deploy", manifest)["state"] == "succeeded"
    assert get(port, "/") == (200, "hello")
    assert get(port, "/fetch?http://127.0.0.1/") == (502, "HTTP-request-denied")
    assert get(port, "/trap")[0] == 502
    wait_for("the agent is served again", lambda: _answers(port))
    explained = fleet.ctl("grant", "explain", "site/web").stdout
    assert "host.invalid" in explained
    assert str(port) in explained

    other = {"name": "other", "bundle": "http-agent@0.1.0"}
    draft.write_text(draft.read_text().replace("site/web", "twin/other"))
    fleet.ctl("grant", "approve", "--yes", str(draft))
    failed = fleet.ctl("deploy", str(fleet.manifest("twin", other)), expect=ExitCode.ROLLOUT_FAILED)
    assert "PORT_UNAVAILABLE" in failed.stdout + failed.stderr
    assert get(port, "/") == (200, "hello")


def _answers(port: int) -> bool:
    try:
        return get(port, "/") == (200, "hello")
    except OSError:
        return False
