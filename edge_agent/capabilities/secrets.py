"""`fleet:secrets`: secrets that an operator sealed for this agent on this node.

Owns: what its three interfaces mean and who may call them. `store` lets a guest hold a secret, `reveal` tells it the
value, `http` has the host send the value in a header that the guest never sees. Each has rules of its own in the grant,
so that an agent may hold what it is never told.

- A name outside the grant is `not-granted`, whether or not the node has such a secret.
- What `reveal` returns stays out of crash reports; an attached secret is part of no value that crosses to the guest.
- An attached secret goes to the hosts that `fleet:secrets/http` names and to no other: a request to anywhere else is
  refused whole (`wasi_http`). A server that is sent a secret can send it back, so name servers that do not.
- Secrets are overwritten when the agent ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, Table, bind, declare_functions, declare_types
from edge_agent.capabilities.http_fields import Fields, FieldsError
from edge_agent.capabilities.http_types import AttachedSecret, HttpHandles
from edge_agent.capabilities.http_wit import TYPES
from fleet.sealing import SecretKind
from fleet.wit_types import Err, Ok, OwnType, Variant

if TYPE_CHECKING:
    from edge_agent.capabilities.base import AgentContext
    from edge_agent.held_secret import HeldSecret
    from fleet.wit_types import WitValue

STORE, REVEAL, HTTP = (f"fleet:secrets/{name}" for name in ("store", "reveal", "http"))
VERSION = "@0.1.0"

MAX_HELD = 64
"""Secrets that a guest may hold at a time."""

_TYPES = declare_types(
    {
        "error": "variant { not-granted, not-found, unfit(string) }",
        "secret-value": "variant { text(string), bytes(list<u8>) }",
    },
    {"secret": OwnType("secret"), "outgoing-request": OwnType("outgoing-request")},
)
_STORE = declare_functions(_TYPES, {"get": "func(name: string) -> result<secret, error>"})
_REVEAL = declare_functions(_TYPES, {"reveal": "func(secret: borrow<secret>) -> result<secret-value, error>"})
_HTTP = declare_functions(
    _TYPES,
    {
        "attach": "func(request: borrow<outgoing-request>, header: string, prefix: string, secret: borrow<secret>)"
        " -> result<_, error>",
    },
)
_USES = {"secret": f"{STORE}{VERSION}"}

Failed = Err[Variant[str | None]]


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """The three interfaces for one agent."""
    secrets = context.shared(_Secrets)
    return (
        HostInterface(f"{STORE}{VERSION}", bind(_STORE, {"get": secrets.get}), resources={"secret": secrets.held.drop}),
        HostInterface(f"{REVEAL}{VERSION}", bind(_REVEAL, {"reveal": secrets.reveal}), uses=_USES, confidential=True),
        HostInterface(
            f"{HTTP}{VERSION}", bind(_HTTP, {"attach": secrets.attach}), uses=_USES | {"outgoing-request": TYPES}
        ),
    )


@dataclass(frozen=True, slots=True)
class _Held:
    name: str
    secret: HeldSecret


class _Secrets:
    def __init__(self, context: AgentContext) -> None:
        self.held: Table[_Held] = Table("secrets", MAX_HELD)
        self._context = context
        context.releases.callback(self._wipe)

    def get(self, name: str) -> Ok[int] | Failed:
        """Hold a secret."""
        if not self._context.authority.allows(STORE, name=name):
            return Err(Variant("not-granted"))
        secret = self._context.secrets.get(name)
        if secret is None:
            return Err(Variant("not-found"))
        return Ok(self.held.insert(_Held(name, secret)))

    def reveal(self, handle: int) -> Ok[WitValue] | Failed:
        """Tell the value."""
        held = self.held.get(handle)
        if not self._context.authority.allows(REVEAL, name=held.name):
            return Err(Variant("not-granted"))
        if held.secret.kind is SecretKind.TEXT:
            return Ok(Variant("text", held.secret.text()))
        return Ok(Variant("bytes", bytes(held.secret.data)))

    def attach(self, request: int, header: str, prefix: str, handle: int) -> Ok[None] | Failed:
        """Have the value sent as a header; whether to this host is asked when it is sent."""
        held = self.held.get(handle)
        message = self._context.shared(HttpHandles).requests_out.get(request)
        if not self._context.authority.rules_for(HTTP, later=("host", "scheme"), name=held.name):
            return Err(Variant("not-granted"))
        try:
            Fields.of([(header, prefix.encode() + bytes(held.secret.data))])
        except FieldsError as error:
            return Err(Variant("unfit", f"no such header can be sent: {error}"))
        if header.lower() == "content-length":
            return Err(Variant("unfit", "it says how long the body is"))
        if message.headers.get(header) or any(known.header.lower() == header.lower() for known in message.secrets):
            return Err(Variant("unfit", "the request has this header already"))
        message.secrets.append(AttachedSecret(held.name, header, prefix.encode(), held.secret.data))
        return Ok(None)

    def _wipe(self) -> None:
        for secret in self._context.secrets.values():
            secret.wipe()
