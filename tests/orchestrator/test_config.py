"""Settings: file, then environment, then flags; strict."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import Code, FleetError
from orchestrator.config import Endpoint, Limits, load_settings

MINIMAL = 'fleet = "demo"\n[listen]\nsession = "127.0.0.1:7443"\nenrolment = "[::1]:7444"\n'


def write(folder: Path, text: str) -> Path:
    file = folder / "coordinator.toml"
    file.write_text(text)
    return file


def test_a_minimal_file_is_enough(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, MINIMAL), {}, {})
    assert settings.fleet == "demo"
    assert settings.files.data_dir == tmp_path
    assert settings.listen_enrolment == Endpoint("::1", 7444)
    assert str(settings.listen_enrolment) == "[::1]:7444"
    assert settings.advertise_session == settings.listen_session
    assert settings.limits == Limits()
    assert settings.collect_logs


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + '[advertise]\nsession = "c.example:1"\n[limits]\nreport_interval_ms = 1000\n')
    environment = {
        "FLEET_COORDINATOR_LISTEN_SESSION": "0.0.0.0:1",
        "FLEET_COORDINATOR_REPORT_INTERVAL_MS": "2000",
        "FLEET_COORDINATOR_LOGS_COLLECT": "false",
        "HOME": "ignored",
    }
    settings = load_settings(file, environment, {"listen_session": "0.0.0.0:2", "data_dir": "/srv/fleet"})
    assert settings.listen_session == Endpoint("0.0.0.0", 2)
    assert settings.advertise_session == Endpoint("c.example", 1)
    assert settings.limits.report_interval_ms == 2000
    assert not settings.collect_logs
    assert settings.files.root == Path("/srv/fleet/trust/root.json")


@pytest.mark.parametrize(
    ("text", "environment", "place"),
    [
        ("fleet = ", {}, "coordinator.toml"),
        (MINIMAL.replace("demo", "Not A Name"), {}, "fleet"),
        (MINIMAL + "[secret]\n", {}, "secret"),
        (MINIMAL.replace("7443", "70000"), {}, "listen.session"),
        (MINIMAL.replace("127.0.0.1:7443", "::1:7443"), {}, "listen.session"),
        (MINIMAL + "[limits]\nreport_interval_ms = 1\n", {}, "limits.report_interval_ms"),
        (MINIMAL, {"FLEET_COORDINATOR_TYPO": "1"}, "FLEET_COORDINATOR_TYPO"),
        (MINIMAL, {"FLEET_COORDINATOR_WRITE_DEADLINE_MS": "soon"}, "FLEET_COORDINATOR_WRITE_DEADLINE_MS"),
        (MINIMAL, {"FLEET_COORDINATOR_LOGS_COLLECT": "maybe"}, "FLEET_COORDINATOR_LOGS_COLLECT"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, environment: dict[str, str], place: str) -> None:
    with pytest.raises(FleetError) as caught:
        load_settings(write(tmp_path, text), environment, {})
    assert caught.value.code is Code.CONFIG_INVALID
    assert str(caught.value.detail["place"]).endswith(place)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError) as caught:
        load_settings(tmp_path / "none.toml", {}, {})
    assert caught.value.code is Code.CONFIG_INVALID
