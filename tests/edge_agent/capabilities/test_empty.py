"""Files and sockets with nothing behind them."""

from __future__ import annotations

import pytest

from edge_agent.capabilities import empty
from edge_agent.capabilities.base import HostInterface, declare_functions, declare_types
from fleet.errors import Code, FleetError
from fleet.grants import BASELINE, VOCABULARY
from fleet.wit_types import Err, OwnType
from tests.fakes.agents import Node

KNOWN = {name: OwnType(name) for name in ("network", "tcp-socket", "descriptor", "error", "resolve-address-stream")}
TYPES = declare_types(
    {
        "network-error": "enum { unknown, access-denied, not-supported }",
        "file-error": "enum { access, would-block, not-permitted }",
    },
    KNOWN,
)


def offered(node: Node, name: str, functions: dict[str, str], resources: tuple[str, ...] = ()) -> HostInterface:
    return empty.empty_interface(node.agent({}), name, declare_functions(TYPES, functions), resources, {})


@pytest.mark.parametrize(
    ("name", "signature", "arguments", "answer"),
    [
        ("create-tcp-socket", "func(family: u8) -> result<tcp-socket, network-error>", (1,), Err("access-denied")),
        (
            "resolve-addresses",
            "func(network: borrow<network>, name: string) -> result<resolve-address-stream, network-error>",
            (1, "a"),
            Err("access-denied"),
        ),
        ("get-directories", "func() -> list<tuple<descriptor, string>>", (), []),
        ("filesystem-error-code", "func(err: borrow<error>) -> option<file-error>", (1,), None),
        (
            "[method]descriptor.open-at",
            "func(self: borrow<descriptor>, path: string) -> result<descriptor, file-error>",
            (1, "/"),
            Err("not-permitted"),
        ),
    ],
)
def test_answers(node: Node, name: str, signature: str, arguments: tuple, answer: object) -> None:
    interface = offered(node, "wasi:any/thing@0.2.9", {name: signature})
    assert interface.functions[name].call(*arguments) == answer


def test_a_function_without_an_answer_ends_the_agent(node: Node) -> None:
    interface = offered(
        node, "wasi:sockets/tcp@0.2.9", {"[method]tcp-socket.is-listening": "func(self: borrow<tcp-socket>) -> bool"}
    )
    with pytest.raises(FleetError) as refused:
        interface.functions["[method]tcp-socket.is-listening"].call(1)
    assert refused.value.code is Code.CALL_DENIED


def test_networks_are_counted_until_they_are_dropped(node: Node) -> None:
    context = node.agent({})
    get = empty.empty_interface(
        context,
        "wasi:sockets/instance-network@0.2.9",
        declare_functions(TYPES, {"instance-network": "func() -> network"}),
        (),
        {"network": "wasi:sockets/network@0.2.9"},
    )
    network = empty.empty_interface(context, "wasi:sockets/network@0.2.9", {}, ("network",), {})
    handles = [get.functions["instance-network"].call() for _ in range(empty.MAX_NETWORKS)]
    assert len(set(handles)) == empty.MAX_NETWORKS
    with pytest.raises(FleetError) as refused:
        get.functions["instance-network"].call()
    assert refused.value.code is Code.LIMIT_EXCEEDED
    network.resources["network"](handles[0])
    get.functions["instance-network"].call()


def test_they_need_no_grant_and_only_directories_can_have_one() -> None:
    assert empty.EMPTY <= BASELINE
    assert empty.EMPTY & VOCABULARY.keys() == {"wasi:filesystem/preopens"}
