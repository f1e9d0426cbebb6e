"""Settings of the `edge-agent` program: file, then environment, then flags.

Owns the names, units, defaults and bounds of everything that an operator may set on a node. Loaded once by
`edge_agent.agent` and passed down; nothing else reads a file or the environment for settings.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edge_agent.disk import read_bounded
from edge_agent.inference import (
    DEFAULT_MEMORY,
    GPU_PROVIDERS,
    MAX_THREADS,
    MIN_MEMORY,
    TPU_PROVIDERS,
    Inference,
    parse_providers,
)
from edge_agent.runtime import VolumeFolder
from fleet.documents import Reader
from fleet.errors import Code, FleetError
from fleet.grants.volumes import is_volume_name

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX = "EDGE_AGENT_"
"""`report_interval_ms` is `EDGE_AGENT_REPORT_INTERVAL_MS` in the environment."""

MAX_FILE = 64 * 1024

_TCTI = re.compile(r"(device|tabrmd|swtpm|mssim)(:[!-~]{1,200})?")
"""Kinds of chips and of ways to them; never a command, which the kind `cmd` would run."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may decide on a node.

    Attributes:
        data_dir: folder of everything the node keeps; readable by its user only.
        allow_dev_profile: whether a release of the development profile is trusted. Leave it off in production.
        report_interval_ms: time between full reports until the coordinator names its own.
        coalesce_ms: how long changes gather before they are reported together.
        reconnect_initial_ms: upper bound of the first delay before connecting again; doubles per failure.
        reconnect_cap_ms: upper bound of that bound.
        fetch_timeout_ms: limit of one request for a blob or for trust metadata without progress.
        trust_refresh_ms: time between looks at the release while connected; the leases of grants count from the last.
        max_blob_bytes: largest component or model that is fetched.
        log_lines_per_agent: lines of each agent's log that are kept for `fleetctl logs`.
        max_concurrent_admissions: admissions, and so compilations, at once.
        telemetry_poll_ms: shortest period of a telemetry trigger; faster ones are slowed down to it.
        volumes: folders of the node that agents may be granted as `node/NAME`, by name; only in the file, as
            `[volumes.NAME]` with `path` and, where agents may also write, `writable = true`.
        tpm: security chip that holds the node's keys, as tpm2-tools name it (`device:/dev/tpmrm0`); empty: files do.
        inference_threads: of one inference; 0 for half of the processors, at most 4.
        inference_memory_bytes: what ONNX Runtime may hold in the runner of an application.
        inference_gpu: execution providers that serve the device `gpu`, as `edge_agent.inference` reads them.
        inference_tpu: likewise for `tpu`.
        inference_cpu_fallback: whether a model whose granted device is not there may run on the processor.
    """

    data_dir: Path
    allow_dev_profile: bool = False
    report_interval_ms: int = 5_000
    coalesce_ms: int = 200
    reconnect_initial_ms: int = 1_000
    reconnect_cap_ms: int = 60_000
    fetch_timeout_ms: int = 30_000
    trust_refresh_ms: int = 3_600_000
    max_blob_bytes: int = 2 * 1024**3
    log_lines_per_agent: int = 500
    max_concurrent_admissions: int = 2
    telemetry_poll_ms: int = 100
    volumes: Mapping[str, VolumeFolder] = field(default_factory=lambda: MappingProxyType({}))
    tpm: str = ""
    inference_threads: int = 0
    inference_memory_bytes: int = DEFAULT_MEMORY
    inference_gpu: str = GPU_PROVIDERS
    inference_tpu: str = TPU_PROVIDERS
    inference_cpu_fallback: bool = False

    @property
    def inference(self) -> Inference:
        """What these settings say about models."""
        return Inference(
            self.inference_threads,
            self.inference_memory_bytes,
            parse_providers(self.inference_gpu),
            parse_providers(self.inference_tpu),
            self.inference_cpu_fallback,
        )


BOUNDS: Mapping[str, tuple[int, int]] = {
    "report_interval_ms": (100, 3_600_000),
    "coalesce_ms": (0, 60_000),
    "reconnect_initial_ms": (10, 600_000),
    "reconnect_cap_ms": (10, 3_600_000),
    "fetch_timeout_ms": (100, 3_600_000),
    "trust_refresh_ms": (1_000, 7 * 24 * 3_600_000),
    "max_blob_bytes": (1, 2**40),
    "log_lines_per_agent": (1, 100_000),
    "max_concurrent_admissions": (1, 64),
    "telemetry_poll_ms": (1, 3_600_000),
    "inference_threads": (0, MAX_THREADS),
    "inference_memory_bytes": (MIN_MEMORY, 2**40),
}
"""Setting -> smallest and largest value."""


def load_settings(data_dir: Path, environment: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Combine defaults, `DATA_DIR/agent.toml` when there is one, environment and flags, in this order.

    Args:
        data_dir: where the node keeps everything; never taken from the file that it holds.
        environment: the process environment.
        flags: setting -> text, from the command line.

    Raises:
        FleetError: CONFIG_INVALID with the place of an unknown name or a value out of bounds.
    """
    settings = Settings(data_dir)
    known = {setting.name for setting in fields(Settings)} - {"data_dir", "volumes"}
    path = data_dir / "agent.toml"
    for name, value in _read(path).items():
        if name == "volumes":
            settings = replace(settings, volumes=_volumes(value, data_dir, f"{path}: {name}"))
            continue
        settings = _set(settings, known, name, value, f"{path}: {name}")
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            settings = _set(settings, known, name, _parse(text), variable)
    for name, text in flags.items():
        settings = _set(settings, known, name, _parse(text), f"--set {name}")
    if settings.reconnect_initial_ms > settings.reconnect_cap_ms:
        raise FleetError(Code.CONFIG_INVALID, "the first delay is above the cap", place="reconnect_initial_ms")
    return settings


def _read(path: Path) -> dict[str, object]:
    try:
        data = read_bounded(path, MAX_FILE)
    except FileNotFoundError:
        return {}
    try:
        return tomllib.loads(data.decode())
    except ValueError as error:
        raise FleetError(Code.CONFIG_INVALID, f"not valid TOML: {error}", place=str(path)) from error


def _volumes(value: object, data_dir: Path, place: str) -> Mapping[str, VolumeFolder]:
    """Read the volumes of the file. No folder may hold the node's own data, or lie in it."""
    if not isinstance(value, dict):
        raise FleetError(Code.CONFIG_INVALID, "expected tables [volumes.NAME]", place=place)
    volumes: dict[str, VolumeFolder] = {}
    for name, entry in value.items():
        where = f"{place}.{name}"
        if not is_volume_name(name):
            raise FleetError(Code.CONFIG_INVALID, "a name has lower-case letters, digits and hyphens", place=where)
        with Reader(entry, Code.CONFIG_INVALID, where) as reader:
            folder = Path(reader.text("path"))
            writable = reader.flag("writable", default=False)
            if not folder.is_absolute():
                reader.fail("path", "expected an absolute path")
            real, own = folder.resolve(), data_dir.resolve()
            if real.is_relative_to(own) or own.is_relative_to(real):
                reader.fail("path", "the folder holds the node's own data, or lies in it")
        volumes[name] = VolumeFolder(folder, writable)
    return MappingProxyType(volumes)


def _parse(text: str) -> object:
    """Read a flag or variable as TOML would: true, false or a number; anything else stays text."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isascii() and text.isdigit() else text


def _set(settings: Settings, known: set[str], name: str, value: object, place: str) -> Settings:
    if name not in known:
        raise FleetError(Code.CONFIG_INVALID, f"unknown setting {name!r}", place=place)
    if isinstance(getattr(settings, name), bool):
        if not isinstance(value, bool):
            raise FleetError(Code.CONFIG_INVALID, "expected true or false", place=place)
        return _replaced(settings, name, value)
    if isinstance(getattr(settings, name), str):
        return _replaced(settings, name, _tcti(value, place) if name == "tpm" else _providers(value, place))
    if isinstance(value, bool) or not isinstance(value, int):
        raise FleetError(Code.CONFIG_INVALID, "expected a whole number", place=place)
    low, high = BOUNDS[name]
    if not low <= value <= high:
        raise FleetError(Code.CONFIG_INVALID, f"{value} is not between {low} and {high}", place=place)
    return _replaced(settings, name, value)


def _tcti(value: object, place: str) -> str:
    """How to reach a security chip (TCTI, as tpm2-tools take it); empty for none."""
    if not isinstance(value, str) or (value and _TCTI.fullmatch(value) is None):
        raise FleetError(Code.CONFIG_INVALID, 'expected for example "device:/dev/tpmrm0"', place=place)
    return value


def _providers(value: object, place: str) -> str:
    """The text of the settings that are one: execution providers."""
    if not isinstance(value, str):
        raise FleetError(Code.CONFIG_INVALID, "expected text", place=place)
    try:
        parse_providers(value)
    except FleetError as error:
        raise FleetError(error.code, error.private, place=place) from error
    return value


def _replaced(settings: Settings, name: str, value: bool | int | str) -> Settings:  # noqa: FBT001 - a setting's value
    change: dict[str, Any] = {name: value}
    return replace(settings, **change)
