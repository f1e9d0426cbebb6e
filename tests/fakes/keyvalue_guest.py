"""An agent with wasi:keyvalue, as tests call it: both versions of the package by plain names."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.capabilities import keyvalue
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node, functions

DRAFT = "0.2.0-draft"
DRAFT2 = "0.2.0-draft2"
STORE_OPS = ["delete", "exists", "get", "list-keys", "set"]
DENIED = Err(Variant("access-denied"))


def full_grant(buckets: tuple[str, ...] = ("*",), **constraints: str) -> dict[str, list[dict[str, object]]]:
    return {
        f"wasi:keyvalue/{interface}": [{"buckets": list(buckets), "ops": ops, **constraints}]
        for interface, ops in {
            "store": STORE_OPS,
            "atomics": ["increment", "swap"],
            "batch": ["delete-many", "get-many", "set-many"],
        }.items()
    }


class Guest:
    """An agent's view of one version of the package: its functions by plain names."""

    def __init__(self, node: Node, version: str, capabilities: dict | None = None, **context: str) -> None:
        self.context = node.agent(full_grant() if capabilities is None else capabilities, **context)
        offered = keyvalue.interfaces(self.context)
        self.resources = {
            name: destructor
            for interface in offered
            if interface.name.endswith(f"@{version}")
            for name, destructor in interface.resources.items()
        }
        calls: dict[str, Callable] = {}
        for interface in ("store", "atomics", "batch"):
            calls |= functions(offered, f"wasi:keyvalue/{interface}@{version}")
        self.open = calls["open"]
        self.get = calls["[method]bucket.get"]
        self.set = calls["[method]bucket.set"]
        self.delete = calls["[method]bucket.delete"]
        self.exists = calls["[method]bucket.exists"]
        self.list_keys = calls["[method]bucket.list-keys"]
        self.increment = calls["increment"]
        self.get_many = calls["get-many"]
        self.set_many = calls["set-many"]
        self.delete_many = calls["delete-many"]
        self.cas_new = calls.get("[static]cas.new")
        self.cas_current = calls.get("[method]cas.current")
        self.swap = calls.get("swap")

    def bucket(self, name: str = "b") -> int:
        opened = self.open(name)
        assert isinstance(opened, Ok), opened
        return opened.value

    def all_keys(self, bucket: int) -> list[str]:
        keys: list[str] = []
        cursor = None
        while True:
            page = self.list_keys(bucket, cursor).value
            keys += page["keys"]
            cursor = page["cursor"]
            if cursor is None:
                return keys


def refused_with(answer: object, words: str) -> bool:
    return isinstance(answer, Err) and answer.value.case == "other" and words in answer.value.payload
