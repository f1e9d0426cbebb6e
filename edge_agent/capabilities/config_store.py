"""`wasi:config`: the settings of an agent's assignment, as far as its grant shows them.

Owns: which keys a guest sees. Never writes a setting. The two published versions differ in name only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, bind, declare_functions, declare_types
from fleet.wit_types import Err, Ok, Variant

if TYPE_CHECKING:
    from edge_agent.capabilities.base import AgentContext

INTERFACES = ("wasi:config/store@0.2.0-draft", "wasi:config/store@0.2.0-rc.1")

_SIGNATURES = declare_functions(
    declare_types({"error": "variant { upstream(string), io(string) }"}),
    {
        "get": "func(key: string) -> result<option<string>, error>",
        "get-all": "func() -> result<list<tuple<string, string>>, error>",
    },
)


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """Both versions for one agent."""
    settings = _Settings(context)
    functions = bind(_SIGNATURES, {"get": settings.get, "get-all": settings.get_all})
    return tuple(HostInterface(name, functions) for name in INTERFACES)


class _Settings:
    def __init__(self, context: AgentContext) -> None:
        self._authority = context.authority
        self._visible = {key: value for key, value in sorted(context.config.items()) if self._allows(key)}

    def get(self, key: str) -> Ok[str | None] | Err[Variant[str]]:
        """The setting under `key`. A key outside the grant is an error, so that its author sees why it is not there."""
        if not self._allows(key):
            return Err(Variant("upstream", "the grant does not include this key"))
        return Ok(self._visible.get(key))

    def get_all(self) -> Ok[list[tuple[str, str]]] | Err[Variant[str]]:
        """Settings that the grant includes, by key."""
        return Ok(list(self._visible.items()))

    def _allows(self, key: str) -> bool:
        return self._authority.allows("wasi:config/store", key=key)
