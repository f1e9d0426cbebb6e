"""Which bound key the holder of a join token chose: the numbers are those of `check_join`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.documents import dump_json
from fleet.errors import Code
from fleet.joining import JOIN_TYPE, MAX_STATEMENT, check_join, sign_join
from fleet.sealing import SEALING_KEY_TYPE
from fleet.signing import encode_base64, sign_envelope
from tests.fakes.publisher import key
from tests.fakes.refusals import code_of

TOKEN, NODE = key("token"), key("n1").public.raw
SAID = sign_join(NODE, TOKEN)
VALID = {"schema": "fleet.join/v1", "bound_key": encode_base64(NODE)}


def envelope(payload: object, payload_type: str = JOIN_TYPE) -> bytes:
    return sign_envelope(payload_type, dump_json(payload), [TOKEN])  # type: ignore[arg-type] # wrong ones are the point


def test_the_holder_of_a_token_names_a_key() -> None:
    check_join(SAID, bound_key=NODE, key=TOKEN.public)
    check_join(envelope(VALID), bound_key=NODE, key=TOKEN.public)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(SAID + b" " * MAX_STATEMENT, id="1-too-large"),
        pytest.param(sign_join(NODE, key("thief")), id="2-another-key"),
        pytest.param(envelope(VALID, SEALING_KEY_TYPE), id="2-another-type"),
        pytest.param(b"", id="2-nothing"),
        pytest.param(envelope([]), id="3-no-mapping"),
        pytest.param(envelope(VALID | {"schema": "fleet.join/v2"}), id="3-schema"),
        pytest.param(envelope(VALID | {"more": 1}), id="3-unknown-key"),
        pytest.param(envelope(VALID | {"bound_key": "?"}), id="3-no-base64"),
        pytest.param(sign_join(key("thief").public.raw, TOKEN), id="4-another-machine"),
    ],
)
def test_what_is_refused(statement: bytes) -> None:
    assert code_of(lambda: check_join(statement, bound_key=NODE, key=TOKEN.public)) is Code.TOKEN_INVALID


@given(st.binary(max_size=200))
def test_nothing_else_passes(noise: bytes) -> None:
    assert code_of(lambda: check_join(noise, bound_key=NODE, key=TOKEN.public)) is Code.TOKEN_INVALID
