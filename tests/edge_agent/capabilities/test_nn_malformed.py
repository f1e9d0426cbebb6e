"""Models that are no models: refused with a code and the digest of the file, whatever their bytes are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.capabilities.nn_session import Session
from edge_agent.inference import CPU_PROVIDER, Device, Inference, Placement
from fleet.errors import Code, FleetError
from tests.fakes.onnx_models import ElementType, one_operator
from tests.fakes.refusals import refusal

CONTEXT_MODEL = Path(__file__).parents[3] / "components/context-agent/model/context.onnx"
SMALL = one_operator("Add", ElementType.FP32, ["n", 2], inputs=("a", "b"))
DIGEST = "sha256:" + "a" * 64

EDITS = st.lists(
    st.tuples(
        st.integers(0, 10_000),  # place
        st.integers(0, 3),  # bytes that go
        st.binary(max_size=3),  # bytes that come
    ),
    min_size=1,
    max_size=3,
)


def edited(model: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, gone, new in edits:
        at = place % (len(model) + 1)
        model = model[:at] + new + model[at + gone :]
    return model


def load(model: bytes) -> Session:
    return Session(model, DIGEST, Placement(Device.CPU, CPU_PROVIDER), Inference(), lambda: None)


def check(model: bytes) -> None:
    error = refusal(lambda: load(model))
    if error is not None:
        assert (error.code, error.detail["place"]) == (Code.MODEL_INVALID, DIGEST)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    check(data)


@given(st.sampled_from([SMALL, CONTEXT_MODEL.read_bytes()]), EDITS)
@example(SMALL, [(SMALL.index(b"Add"), 1, b"\xdd")])  # the fault's own message is then no text
@example(SMALL, [(SMALL.rindex(b"y"), 1, b"\xc2")])
def test_edited_models_raise_nothing_else(model: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    check(edited(model, edits))


def test_a_refused_model_is_quiet_and_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FleetError) as caught:
        load(SMALL.replace(b"Add", b"\xdddd"))
    assert caught.value.code is Code.MODEL_INVALID
    assert caught.value.detail["place"] == DIGEST
    assert capfd.readouterr() == ("", "")


def test_a_type_that_wasi_nn_lacks_is_named() -> None:
    with pytest.raises(FleetError, match="'x' is a tensor\\(bool\\)") as caught:
        load(one_operator("Identity", ElementType.BOOL, [1]))
    assert (caught.value.code, caught.value.detail["place"]) == (Code.MODEL_INVALID, DIGEST)
