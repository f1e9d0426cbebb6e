"""Hosts and networks of the Internet, as constraints.

Owns: `Hosts`, names of servers, and their `Ports`; `Networks`, where the addresses behind those names may lie; and
`network_of`, which says what kind of network an address belongs to. Pure: resolves nothing.

The kinds are disjoint: `loopback` is the node itself, `link-local` its cable (cloud metadata services are there),
`private` the site it stands in, `public` the Internet. An address of no kind can never be granted: unspecified,
multicast, documentation, benchmarking, and tunnels that hide another address (RFC 6890 and the IANA registries of
special-purpose addresses).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from fleet.grants.constraints import Patterns

PUBLIC = "public"
PRIVATE = "private"
LOOPBACK = "loopback"
LINK_LOCAL = "link-local"
KINDS = (PUBLIC, PRIVATE, LOOPBACK, LINK_LOCAL)
"""Every word that a rule may name networks by."""

MAX_HOST = 253
"""Characters of a name (RFC 1035, section 2.3.4)."""

Network = IPv4Network | IPv6Network

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_NAMED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(text), kind)
    for kind, texts in {
        LOOPBACK: ("127.0.0.0/8", "::1/128"),
        LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
        PRIVATE: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    }.items()
    for text in texts
)
_NOWHERE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast and reserved
        "2001::/23",  # Teredo among others
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def host_text(text: str) -> str | None:
    """Return a host as this project compares it, or None for what is no host.

    Names are in lower case without a dot at their end, internationalised ones in their ASCII form; addresses as
    `ipaddress` writes them, without brackets. Addresses in the forms of old resolvers (`127.1`, `0x7f.0.0.1`,
    `2130706433`) are none: they would be checked as one thing and connected to as another.
    """
    name = text.lower().removesuffix(".")
    if ":" in name:
        try:
            return str(IPv6Address(name)) if "%" not in name else None
        except ValueError:
            return None
    if len(name) > MAX_HOST or _NAME.fullmatch(name) is None:
        return None
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            return None
    return name


def network_of(text: str) -> str | None:
    """Return the kind of network that an address lies in, None for one that nobody may be granted.

    An IPv4 address inside an IPv6 one (mapped, or translated by NAT64) counts as the IPv4 address.
    """
    return _kind(_network(str(_inner(ip_address(text)))))


def is_port(text: str) -> bool:
    """Whether this is the number of a port, without leading zeros."""
    return text.isascii() and text.isdigit() and text[0] != "0" and int(text[:6]) < 1 << 16


def is_address(text: str) -> bool:
    """Whether this is an IP address in its usual form."""
    try:
        return str(ip_address(text)) == text
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Hosts(Patterns):
    """Names and addresses of servers; `*.example.org` is every name below `example.org`, `*` every host."""

    @staticmethod
    def covers(pattern: str, value: str) -> bool:
        """Whether everything that `value`, a host or a pattern, stands for is covered."""
        return pattern in ("*", value) or (pattern.startswith("*.") and value.endswith(pattern[1:]))

    @staticmethod
    def check(pattern: str) -> bool:
        """Whether documents may write this pattern: in lower case, addresses in their usual form."""
        if pattern == "*":
            return True
        name = pattern.removeprefix("*.")
        wild = name != pattern
        return host_text(name) == name and not (wild and (":" in name or _NUMBER.fullmatch(name.rpartition(".")[2])))


@dataclass(frozen=True, slots=True)
class Ports(Patterns):
    """Ports of servers, by number; `*` is every one."""

    @staticmethod
    def covers(pattern: str, value: str) -> bool:
        """Whether `value`, a port or the pattern for all of them, is covered."""
        return pattern in ("*", value)

    @staticmethod
    def check(pattern: str) -> bool:
        """Whether documents may write this pattern."""
        return pattern == "*" or is_port(pattern)


@dataclass(frozen=True, slots=True)
class Networks(Patterns):
    """Kinds of network, and blocks of addresses that lie within one kind (`192.168.7.0/24`)."""

    @staticmethod
    def covers(pattern: str, value: str) -> bool:
        """Whether all addresses of `value`, an address, a block or a kind, are covered."""
        if pattern == value:
            return True
        if value in KINDS:
            return False
        block = _network(value)
        if pattern in KINDS:
            return _kind(block) == pattern
        return _within(block, _network(pattern))

    @staticmethod
    def check(pattern: str) -> bool:
        """Whether documents may write this: a kind, or a block in its usual form that lies within one kind."""
        if pattern in KINDS:
            return True
        try:
            block = ip_network(pattern)
        except ValueError:
            return False
        return str(block) == pattern and _kind(block) is not None


def _network(text: str) -> Network:
    """Return a block; an IPv4 address inside an IPv6 one is the IPv4 address."""
    return ip_network(text if "/" in text else str(_inner(ip_address(text))))


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _kind(block: Network) -> str | None:
    """Return the kind that all of a block belongs to, None when there is no such."""
    for known, kind in _NAMED:
        if _within(block, known):
            return kind
    if any(block.overlaps(known) for known in (*_NOWHERE, *(known for known, _ in _NAMED))):
        return None
    if isinstance(block, IPv6Network) and not block.subnet_of(_GLOBAL_UNICAST):
        return None
    return PUBLIC


def _within(block: Network, other: Network) -> bool:
    if isinstance(block, IPv4Network):
        return isinstance(other, IPv4Network) and block.subnet_of(other)
    return isinstance(other, IPv6Network) and block.subnet_of(other)
