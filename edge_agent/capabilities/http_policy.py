"""What a request may say, and where it may go: decided before anything is sent.

Owns: reading a request line into a `Target`, the decision of the grant (`decide`), the check of addresses (`Permit`),
and `HttpError`, a failure with the error code that the guest is told. Pure: resolves nothing, connects to nothing.

A name is looked up only after the grant has allowed it, since a look-up is a message too. Every address that it stands
for must be in a granted network, and the connection is made to one of the addresses that were checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from fleet.grants.networks import Networks, host_text, is_port
from fleet.wit_types import Variant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.grants import Authority, Rule

OUTGOING = "wasi:http/outgoing-handler"

MAX_PATH = 8 * 1024
"""Characters of a path with its query (RFC 9112, section 3, asks for at least 8000)."""

MAX_AUTHORITY = 300
"""Characters of a host and a port."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_PATH = re.compile(r"/[!-\"$-~]*")
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_SEPARATORS = re.compile(rb"[/\\]")

_METHODS = ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")


class HttpError(Exception):
    """An exchange failed; `code` is the `error-code` for the guest."""

    def __init__(self, case: str, payload: object = None) -> None:
        super().__init__(case if payload is None else f"{case}: {payload}")
        self.code: Variant[object] = Variant(case, payload)


@dataclass(frozen=True, slots=True)
class Target:
    """What a request asks for, in the forms that are compared.

    Attributes:
        method: in capitals.
        scheme: `http` or `https`.
        host: as `fleet.grants.networks.host_text` gives it.
        path: path and query as they are sent.
    """

    method: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Value of the header `Host`: the port only where it is not the usual one (RFC 9110, section 4.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Permit:
    """The rules that allow a request; which of them hold in the end depends on the addresses.

    Attributes:
        max_rps: requests per second; None for no ceiling.
    """

    rules: tuple[Rule, ...]

    @property
    def max_rps(self) -> int | None:
        """The highest ceiling among the rules."""
        return _highest(self.rules, "max_rps")

    def narrowed(self, addresses: Iterable[str]) -> Permit:
        """Return the rules that allow every one of the addresses.

        Raises:
            HttpError: destination-IP-prohibited when there are none.
        """
        asked = tuple(addresses)
        rules = tuple(rule for rule in self.rules if all(_reaches(rule, address) for address in asked))
        if not rules or not asked:
            raise HttpError("destination-IP-prohibited")
        return Permit(rules)

    @property
    def max_request_bytes(self) -> int | None:
        """The highest ceiling among the rules."""
        return _highest(self.rules, "max_request_bytes")

    @property
    def max_response_bytes(self) -> int | None:
        """The highest ceiling among the rules."""
        return _highest(self.rules, "max_response_bytes")


def decide(authority: Authority, target: Target) -> Permit:
    """Ask the grant about everything but the addresses.

    Raises:
        HttpError: HTTP-request-denied.
    """
    rules = authority.rules_for(
        OUTGOING,
        later=("network",),
        host=target.host,
        method=target.method,
        scheme=target.scheme,
        port=str(target.port),
        path=target.path.partition("?")[0],
    )
    if not rules:
        raise HttpError("HTTP-request-denied")
    return Permit(rules)


def read_target(method: str, scheme: str | None, authority: str | None, path: str | None) -> Target:
    """Read what a guest has set on its request; no scheme is https, no path is `/`.

    Raises:
        HttpError: HTTP-request-method-invalid, HTTP-request-URI-invalid, HTTP-request-URI-too-long, HTTP-request-denied
            for a scheme or method that is never allowed.
    """
    chosen = "https" if scheme is None else scheme
    if chosen not in DEFAULT_PORTS or method in ("CONNECT", "TRACE"):
        raise HttpError("HTTP-request-denied")
    if not is_method(method):
        raise HttpError("HTTP-request-method-invalid")
    place = read_authority(authority or "")
    wanted = path or "/"
    if place is None or not is_path(wanted):
        raise HttpError("HTTP-request-URI-invalid" if len(wanted) <= MAX_PATH else "HTTP-request-URI-too-long")
    if _leaves_its_place(wanted.partition("?")[0]):
        raise HttpError("HTTP-request-URI-invalid")
    host, port = place
    return Target(method, chosen, host, DEFAULT_PORTS[chosen] if port is None else port, wanted)


def read_authority(text: str) -> tuple[str, int | None] | None:
    """Return host and port, or None for what is none: with user information, a port of 0, an odd form of an address."""
    match = _AUTHORITY.fullmatch(text) if len(text) <= MAX_AUTHORITY else None
    if match is None:
        return None
    host = host_text(match["v6"] or match["name"])
    if host is None or (match["v6"] is not None) != (":" in host):
        return None
    port = match["port"]
    if port is None:
        return host, None
    return (host, int(port)) if is_port(port) else None


def is_path(text: str) -> bool:
    """Whether this is a path with an optional query in visible ASCII, without a fragment."""
    return len(text) <= MAX_PATH and _PATH.fullmatch(text) is not None


def is_method(text: str) -> bool:
    """Whether this is a token (RFC 9110, section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def method_text(method: Variant[str]) -> str:
    """The method as it is sent."""
    return method.payload or "" if method.case == "other" else method.case.upper()


def method_variant(text: str) -> Variant[str]:
    """The method as a guest sees it."""
    return Variant(text.lower()) if text.isupper() and text.lower() in _METHODS else Variant("other", text)


def _leaves_its_place(path: str) -> bool:
    """Whether a path has a segment `.` or `..`, written out or encoded.

    A server resolves it, and the path that it then serves is not the one that the grant was asked about.
    """
    return any(segment in (b".", b"..") for segment in _SEPARATORS.split(unquote_to_bytes(path)))


def _reaches(rule: Rule, address: str) -> bool:
    networks = rule.constraints.get("networks")
    return isinstance(networks, Networks) and networks.allows(address)


def _highest(rules: Iterable[Rule], constraint: str) -> int | None:
    """Highest ceiling that one of the rules gives, None when one gives none."""
    ceilings = [rule.maximum(constraint) for rule in rules]
    known = [ceiling for ceiling in ceilings if ceiling is not None]
    return max(known) if known and len(known) == len(ceilings) else None
