"""File, then environment, then flags; everything else is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import BOUNDS, Settings, load_settings
from edge_agent.inference import Inference, Provider
from edge_agent.runtime import VolumeFolder
from fleet.errors import Code, FleetError


def test_defaults_need_no_file(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {"PATH": "/bin"}, {}) == Settings(tmp_path)


def test_the_environment_beats_the_file_and_a_flag_beats_both(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("coalesce_ms = 1\nreport_interval_ms = 1000\nallow_dev_profile = true\n")
    environment = {"EDGE_AGENT_COALESCE_MS": "2", "EDGE_AGENT_REPORT_INTERVAL_MS": "2000"}
    settings = load_settings(tmp_path, environment, {"coalesce_ms": "3"})
    assert (settings.coalesce_ms, settings.report_interval_ms, settings.allow_dev_profile) == (3, 2_000, True)


@pytest.mark.parametrize(
    ("file", "environment", "flags", "place"),
    [
        ("unknown = 1", {}, {}, "agent.toml: unknown"),
        ("data_dir = '/'", {}, {}, "agent.toml: data_dir"),
        ("coalesce_ms = true", {}, {}, "agent.toml: coalesce_ms"),
        ("coalesce_ms = 1.5", {}, {}, "agent.toml: coalesce_ms"),
        ("allow_dev_profile = 1", {}, {}, "agent.toml: allow_dev_profile"),
        ("= ", {}, {}, "agent.toml"),
        ("volumes = 1", {}, {}, "agent.toml: volumes"),
        ("[volumes]\nmaps = 1", {}, {}, "agent.toml: volumes.maps"),
        ("[volumes.Maps]\npath = '/srv'", {}, {}, "agent.toml: volumes.Maps"),
        ("[volumes.maps]\nwritable = true", {}, {}, "agent.toml: volumes.maps.path"),
        ("[volumes.maps]\npath = 'srv'", {}, {}, "agent.toml: volumes.maps.path"),
        ("[volumes.maps]\npath = '/'", {}, {}, "agent.toml: volumes.maps.path"),
        ("[volumes.maps]\npath = '/srv'\nwritable = 1", {}, {}, "agent.toml: volumes.maps.writable"),
        ("[volumes.maps]\npath = '/srv'\nmode = 'rw'", {}, {}, "agent.toml: volumes.maps.mode"),
        ("", {}, {"volumes": "x"}, "--set volumes"),
        ("", {"EDGE_AGENT_TYPO": "1"}, {}, "EDGE_AGENT_TYPO"),
        ("", {}, {"coalesce_ms": "fast"}, "--set coalesce_ms"),
        ("", {}, {"coalesce_ms": "99999999"}, "--set coalesce_ms"),
        ("", {}, {"reconnect_initial_ms": "600000"}, "reconnect_initial_ms"),
        ("inference_gpu = 1", {}, {}, "agent.toml: inference_gpu"),
        ("inference_gpu = 'CUDA'", {}, {}, "agent.toml: inference_gpu"),
        ("", {"EDGE_AGENT_INFERENCE_TPU": "NPU"}, {}, "EDGE_AGENT_INFERENCE_TPU"),
        ("", {}, {"inference_memory_bytes": "1"}, "--set inference_memory_bytes"),
    ],
)
def test_what_is_not_valid_is_named(
    tmp_path: Path, file: str, environment: dict[str, str], flags: dict[str, str], place: str
) -> None:
    (tmp_path / "agent.toml").write_text(file)
    with pytest.raises(FleetError) as caught:
        load_settings(tmp_path, environment, flags)
    assert caught.value.code is Code.CONFIG_INVALID
    assert str(caught.value.detail["place"]).endswith(place)


def test_what_is_decided_about_models(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}, {}).inference == Inference()
    (tmp_path / "agent.toml").write_text('inference_threads = 2\ninference_gpu = ""\ninference_cpu_fallback = true\n')
    flags = {"inference_tpu": "OpenVINOExecutionProvider:device_type=NPU", "inference_memory_bytes": "50000000"}
    assert load_settings(tmp_path, {}, flags).inference == Inference(
        2, 50_000_000, (), (Provider("OpenVINOExecutionProvider", (("device_type", "NPU"),)),), cpu_fallback=True
    )


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("#" * 100_000)
    with pytest.raises(FleetError) as caught:
        load_settings(tmp_path, {}, {})
    assert caught.value.code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_every_default_is_within_its_bounds(name: str) -> None:
    low, high = BOUNDS[name]
    assert low <= getattr(Settings(Path("/")), name) <= high


def test_volumes_are_folders_beside_the_node(tmp_path: Path) -> None:
    text = "[volumes.maps]\npath = '/srv/maps'\n[volumes.drop]\npath = '/srv/drop'\nwritable = true\n"
    (tmp_path / "agent.toml").write_text(text)
    assert load_settings(tmp_path, {}, {}).volumes == {
        "maps": VolumeFolder(Path("/srv/maps")),
        "drop": VolumeFolder(Path("/srv/drop"), writable=True),
    }


@pytest.mark.parametrize("folder", ["", "/state", "/keys/below"])
def test_the_data_of_the_node_is_no_volume(tmp_path: Path, folder: str) -> None:
    (tmp_path / "agent.toml").write_text(f"[volumes.own]\npath = '{tmp_path}{folder}'\n")
    with pytest.raises(FleetError) as caught:
        load_settings(tmp_path, {}, {})
    assert caught.value.code is Code.CONFIG_INVALID
