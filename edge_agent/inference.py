"""Where a node lets models run, and with how much of it.

Owns: `Inference`, what an operator decides about `wasi:nn`; its form in settings and in messages to runners; and the
choice of an execution provider for a device. Pure: which providers ONNX Runtime has is told to it, and whether one of
them works on this machine is for `edge_agent.capabilities.nn_session` to find out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

MAX_THREADS = 64
"""Threads of one inference."""

MOST_DEFAULT_THREADS = 4
"""Threads of one inference where nobody has decided: agents are many, and the node has other work."""

MIN_MEMORY = 16 * 1024 * 1024
DEFAULT_MEMORY = 1024 * 1024 * 1024

_PROVIDER = re.compile(r"[A-Za-z0-9]{1,64}ExecutionProvider")
_OPTION = re.compile(r"[A-Za-z0-9_]{1,64}=[^,;:=\s]{1,256}")


class Device(StrEnum):
    """Execution targets of `wasi:nn`, as grants name them."""

    CPU = "cpu"
    GPU = "gpu"
    TPU = "tpu"


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider of ONNX Runtime with the options that it is given.

    Attributes:
        name: as `onnxruntime.get_available_providers()` has it.
        options: name -> value, as the provider documents them.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """The provider as settings write it."""
        return ":".join((self.name, *(f"{name}={value}" for name, value in self.options)))


CPU_PROVIDER = Provider("CPUExecutionProvider")


def parse_providers(text: str) -> tuple[Provider, ...]:
    """Read `NAME[:OPTION=VALUE...]`, several separated by commas, the preferred one first.

    Raises:
        FleetError: CONFIG_INVALID.
    """
    return tuple(_provider(part.strip()) for part in text.split(",")) if text.strip() else ()


def _provider(text: str) -> Provider:
    name, *options = text.split(":")
    if not _PROVIDER.fullmatch(name):
        raise FleetError(Code.CONFIG_INVALID, f"{name!r} is not the name of an execution provider")
    for option in options:
        if not _OPTION.fullmatch(option):
            raise FleetError(Code.CONFIG_INVALID, f"{option!r} is not OPTION=VALUE")
    pairs = [(key, value) for key, _, value in (option.partition("=") for option in options)]
    if len(dict(pairs)) != len(pairs):
        raise FleetError(Code.CONFIG_INVALID, f"{name} has one option twice")
    return Provider(name, tuple(pairs))


GPU_PROVIDERS = "CUDAExecutionProvider,MIGraphXExecutionProvider,OpenVINOExecutionProvider:device_type=GPU"
TPU_PROVIDERS = "OpenVINOExecutionProvider:device_type=NPU,QNNExecutionProvider,VitisAIExecutionProvider"


@dataclass(frozen=True, slots=True)
class Inference:
    """What an operator decides about inference on a node.

    Attributes:
        threads: of one inference; 0 for half of the processors, at most `MOST_DEFAULT_THREADS`.
        memory_bytes: what ONNX Runtime may hold in one runner: weights, what it computes with, and outputs.
        gpu: providers that serve the device `gpu`, the preferred one first.
        tpu: likewise `tpu`.
        cpu_fallback: whether a model whose granted device is not there may run on the processor.
    """

    threads: int = 0
    memory_bytes: int = DEFAULT_MEMORY
    gpu: tuple[Provider, ...] = field(default_factory=lambda: parse_providers(GPU_PROVIDERS))
    tpu: tuple[Provider, ...] = field(default_factory=lambda: parse_providers(TPU_PROVIDERS))
    cpu_fallback: bool = False

    def providers(self, device: Device) -> tuple[Provider, ...]:
        """Providers that serve a device, whether this node has them or not."""
        return {Device.CPU: (CPU_PROVIDER,), Device.GPU: self.gpu, Device.TPU: self.tpu}[device]

    def threads_on(self, processors: int) -> int:
        """Threads of one inference on a machine with so many processors."""
        return self.threads or max(1, min(MOST_DEFAULT_THREADS, processors // 2))

    def encode(self) -> dict[str, str]:
        """Write it for a message to a runner."""
        return {
            "threads": str(self.threads),
            "memory_bytes": str(self.memory_bytes),
            "gpu": ",".join(map(str, self.gpu)),
            "tpu": ",".join(map(str, self.tpu)),
            "cpu_fallback": str(self.cpu_fallback).lower(),
        }

    @classmethod
    def decode(cls, text: Mapping[str, str]) -> Inference:
        """Read what `encode` wrote; an empty mapping is the default.

        Raises:
            FleetError: MESSAGE_INVALID.
        """
        if not text:
            return cls()
        try:
            inference = cls(
                int(text["threads"]),
                int(text["memory_bytes"]),
                parse_providers(text["gpu"]),
                parse_providers(text["tpu"]),
                text["cpu_fallback"] == "true",
            )
        except (KeyError, ValueError, FleetError) as error:
            raise FleetError(Code.MESSAGE_INVALID, "not what a node decides about inference") from error
        if inference.encode() != text:
            raise FleetError(Code.MESSAGE_INVALID, "not in the one form of what a node decides about inference")
        return inference


@dataclass(frozen=True, slots=True)
class Placement:
    """One way to run a model.

    Attributes:
        device: where it runs.
        provider: what runs it.
        instead_of: the device that was asked for, where the model runs on the processor because that is not there.
    """

    device: Device
    provider: Provider
    instead_of: Device | None = None


def placements(asked: Iterable[Device], available: Collection[str], inference: Inference) -> tuple[Placement, ...]:
    """Ways to run a model, best first; each is to be tried, since a provider may be there without its device.

    Args:
        asked: devices that the model may run on, the preferred one first.
        available: names of the providers that ONNX Runtime has here.
        inference: what the node's operator decided.
    """
    devices = tuple(asked)
    found = [
        Placement(device, provider)
        for device in devices
        for provider in inference.providers(device)
        if provider.name in available
    ]
    if inference.cpu_fallback and devices and Device.CPU not in devices:
        found.append(Placement(Device.CPU, CPU_PROVIDER, instead_of=devices[0]))
    return tuple(found)


def unavailable(asked: Iterable[Device], available: Iterable[str], faults: Iterable[str] = ()) -> FleetError:
    """The error for a model that can run on none of the devices it may run on; `faults` says what was tried."""
    wanted, there = " or ".join(asked), ", ".join(available)
    tried = "".join(f"; {fault}" for fault in faults)
    return FleetError(
        Code.DEVICE_UNAVAILABLE, f"this node has no {wanted} for the model: ONNX Runtime has {there}{tried}"
    )
