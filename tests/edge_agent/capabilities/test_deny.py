"""Stand-ins refuse every call, by value where the signature allows it."""

from __future__ import annotations

import pytest

from edge_agent.capabilities.deny import DENIED_TEXT, deny_interface
from fleet.errors import Code, FleetError
from fleet.wit_text import parse_signature
from fleet.wit_types import Err, Variant


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ("result<u8, enum { access, bad }>", Err("access")),
        ("result<_, enum { unknown, not-permitted }>", Err("not-permitted")),
        ("result<_, variant { other(string), access-denied }>", Err(Variant("access-denied"))),
        ("result<string, variant { io, other(string) }>", Err(Variant("other", DENIED_TEXT))),
        ("result<u8, string>", Err(DENIED_TEXT)),
        ("result", Err(None)),
    ],
)
def test_refusal_by_value(result: str, answer: Err) -> None:
    interface = deny_interface("acme:x/y@1.0.0", {"f": parse_signature(f"func(a: u8) -> {result}")})
    assert interface.functions["f"].call(1) == answer


@pytest.mark.parametrize(
    "signature",
    ["func()", "func() -> u8", "func() -> result<_, u8>", "func() -> result<_, enum { busy }>", "func() -> own<thing>"],
)
def test_refusal_by_host_error(signature: str) -> None:
    interface = deny_interface("acme:x/y@1.0.0", {"f": parse_signature(signature)}, resources=["thing"])
    with pytest.raises(FleetError) as refused:
        interface.functions["f"].call()
    assert refused.value.code is Code.CALL_DENIED
    assert refused.value.detail["interface"] == "acme:x/y@1.0.0"
    assert set(interface.resources) == {"thing"}
