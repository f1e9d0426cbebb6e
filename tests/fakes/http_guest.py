"""An agent with wasi:http to others, on loopback."""

from __future__ import annotations

from fleet.wit_types import Variant
from tests.fakes.agents import Node
from tests.fakes.http import Guest, Names, live, raw_server

OUTGOING = "wasi:http/outgoing-handler"
LOCAL = {"hosts": ["*"], "ports": ["*"], "methods": ["GET", "HEAD", "POST"], "networks": ["loopback"]}
DENIED = Variant("HTTP-request-denied")
PROHIBITED = Variant("destination-IP-prohibited")


def guest(node: Node, network: Names | None = None, seconds: float = 20.0, **rule: object) -> Guest:
    return Guest(live(node.agent({OUTGOING: [{**LOCAL, **rule}]}), seconds), network)


def fetch(node: Node, talk, path: str = "/", *, limits=None, options=None, **rule: object):
    with raw_server(talk) as server:
        context = node.agent({OUTGOING: [{**LOCAL, **rule}]}, **(limits or {}))
        agent = Guest(live(context))
        found = agent.fetch(agent.request(f"127.0.0.1:{server.port}", path), options and agent.options(**options))
        context.close()
        return found
