"""What an operator decides about models, and the choice of a provider for a device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.inference import (
    CPU_PROVIDER,
    GPU_PROVIDERS,
    MOST_DEFAULT_THREADS,
    TPU_PROVIDERS,
    Device,
    Inference,
    Placement,
    Provider,
    parse_providers,
    placements,
    unavailable,
)
from fleet.errors import Code
from tests.fakes.refusals import refusal

CPU, GPU, TPU = Device.CPU, Device.GPU, Device.TPU
HERE = ("AzureExecutionProvider", "CPUExecutionProvider")
CUDA = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
OPENVINO = ("OpenVINOExecutionProvider", "CPUExecutionProvider")
TENSORRT = Inference(gpu=parse_providers("TensorrtExecutionProvider:trt_fp16_enable=True,CUDAExecutionProvider"))
FALLBACK = Inference(cpu_fallback=True)

CHOICES = [
    # devices, providers that are there, settings -> what is tried, in this order
    ((CPU,), HERE, Inference(), ["cpu CPUExecutionProvider"]),
    ((GPU,), HERE, Inference(), []),
    ((GPU, CPU), HERE, Inference(), ["cpu CPUExecutionProvider"]),
    ((GPU,), HERE, FALLBACK, ["cpu CPUExecutionProvider for gpu"]),
    ((TPU,), HERE, FALLBACK, ["cpu CPUExecutionProvider for tpu"]),
    ((GPU, CPU), HERE, FALLBACK, ["cpu CPUExecutionProvider"]),
    ((), HERE, FALLBACK, []),
    ((GPU,), CUDA, Inference(), ["gpu CUDAExecutionProvider"]),
    ((GPU, CPU), CUDA, Inference(), ["gpu CUDAExecutionProvider", "cpu CPUExecutionProvider"]),
    ((CPU,), CUDA, Inference(), ["cpu CPUExecutionProvider"]),
    ((GPU,), CUDA, FALLBACK, ["gpu CUDAExecutionProvider", "cpu CPUExecutionProvider for gpu"]),
    ((TPU,), CUDA, Inference(), []),
    (
        (GPU,),
        CUDA,
        TENSORRT,
        ["gpu TensorrtExecutionProvider:trt_fp16_enable=True", "gpu CUDAExecutionProvider"],
    ),
    ((GPU,), OPENVINO, Inference(), ["gpu OpenVINOExecutionProvider:device_type=GPU"]),
    ((TPU,), OPENVINO, Inference(), ["tpu OpenVINOExecutionProvider:device_type=NPU"]),
    ((GPU,), CUDA, Inference(gpu=()), []),
]


@pytest.mark.parametrize(("devices", "there", "settings", "expected"), CHOICES)
def test_choice(devices: tuple[Device, ...], there: tuple[str, ...], settings: Inference, expected: list[str]) -> None:
    assert [written(placement) for placement in placements(devices, there, settings)] == expected


def written(placement: Placement) -> str:
    instead = "" if placement.instead_of is None else f" for {placement.instead_of}"
    return f"{placement.device} {placement.provider}{instead}"


def test_a_missing_device_is_reported_with_what_is_there() -> None:
    error = unavailable((GPU, TPU), HERE, ["CUDAExecutionProvider does not work on this machine"])
    assert error.code is Code.DEVICE_UNAVAILABLE
    assert error.private == (
        "this node has no gpu or tpu for the model: ONNX Runtime has AzureExecutionProvider, CPUExecutionProvider; "
        "CUDAExecutionProvider does not work on this machine"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (" ", ()),
        ("CPUExecutionProvider", (CPU_PROVIDER,)),
        (
            "CUDAExecutionProvider:device_id=1:gpu_mem_limit=100, CPUExecutionProvider",
            (Provider("CUDAExecutionProvider", (("device_id", "1"), ("gpu_mem_limit", "100"))), CPU_PROVIDER),
        ),
    ],
)
def test_providers_as_text(text: str, expected: tuple[Provider, ...]) -> None:
    assert parse_providers(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "CUDA",
        "CUDAExecutionProvider,",
        "CUDAExecutionProvider:",
        "CUDAExecutionProvider:device_id",
        "CUDAExecutionProvider:device_id=",
        "CUDAExecutionProvider:a=1:a=2",
        "CUDAExecutionProvider:a=b c",
        "../libExecutionProvider",
        "ExecutionProvider",
    ],
)
def test_text_that_names_no_providers(text: str) -> None:
    error = refusal(lambda: parse_providers(text))
    assert error is not None
    assert error.code is Code.CONFIG_INVALID


def test_the_defaults_can_be_read() -> None:
    assert Inference().gpu == parse_providers(GPU_PROVIDERS)
    assert Inference().tpu == parse_providers(TPU_PROVIDERS)


@pytest.mark.parametrize(("set_to", "processors", "threads"), [(0, 1, 1), (0, 2, 1), (0, 6, 3), (7, 1, 7)])
def test_threads(set_to: int, processors: int, threads: int) -> None:
    assert Inference(threads=set_to).threads_on(processors) == threads
    assert Inference().threads_on(256) == MOST_DEFAULT_THREADS


SETTINGS = st.builds(
    Inference,
    threads=st.integers(0, 64),
    memory_bytes=st.integers(0, 2**40),
    gpu=st.sampled_from([(), *(parse_providers(text) for text in (GPU_PROVIDERS, TPU_PROVIDERS))]),
    tpu=st.sampled_from([(), (Provider("QNNExecutionProvider", (("a", "b"), ("c", "d"))),)]),
    cpu_fallback=st.booleans(),
)


@given(SETTINGS)
def test_a_message_says_all_of_it(settings: Inference) -> None:
    assert Inference.decode(settings.encode()) == settings


@pytest.mark.parametrize(
    "change", [{"threads": "x"}, {"threads": "01"}, {"cpu_fallback": "yes"}, {"gpu": "?"}, {"more": ""}]
)
def test_messages_that_say_something_else(change: dict[str, str]) -> None:
    for wrong in (Inference().encode() | change, {"threads": "1"}):
        error = refusal(lambda wrong=wrong: Inference.decode(wrong))
        assert error is not None
        assert error.code is Code.MESSAGE_INVALID
    assert Inference.decode({}) == Inference()
