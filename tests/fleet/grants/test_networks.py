"""Hosts and networks: what counts as which, and the laws of a lattice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.documents import dump_json
from fleet.errors import Code
from fleet.grants import VOCABULARY, Authority, check_exports, parse_grant, propose_grant
from fleet.grants.networks import Hosts, Networks, host_text, is_address, is_port, network_of
from tests.fakes.fleet import NOW
from tests.fakes.grant_strategies import HOSTS, NETWORKS
from tests.fakes.refusals import refusal

HANDLER = "wasi:http/incoming-handler"

hosts = st.frozensets(st.sampled_from(HOSTS), min_size=1, max_size=4).map(Hosts)
networks = st.frozensets(st.sampled_from(NETWORKS), min_size=1, max_size=4).map(Networks)
names = st.sampled_from(("a.b", "c.a.b", "d.c.a.b", "b", "x.b", "10.0.0.1"))
addresses = st.ip_addresses().map(str) | st.sampled_from(("8.8.8.8", "10.1.2.3", "127.0.0.1", "fd00::1", "8.8.1.1"))


@pytest.mark.parametrize(("kind", "values"), [(hosts, names), (networks, addresses)], ids=["hosts", "networks"])
def test_they_are_lattices(kind, values):
    @given(kind, kind, kind, values)
    def laws(a, b, c, value):
        both = a.meet(b)
        assert (both is not None and both.allows(value)) == (a.allows(value) and b.allows(value))
        assert a.within(a)
        if a.within(b):
            assert not a.allows(value) or b.allows(value)
            assert not b.within(c) or a.within(c)
        if both is not None:
            assert both.within(a)
            assert both.within(b)

    laws()


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("0:0::1", "::1"),
        ("::FFFF:10.0.0.1", "::ffff:a00:1"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("b\u00fccher.example", None),
        ("2130706433", None),
        ("0x7f000001", None),
        ("0x7f.1", None),
        ("127.1", None),
        ("0177.0.0.1", None),
        ("1.2.3.4.5", None),
        ("256.1.1.1", None),
        ("a..b", None),
        ("-a.b", None),
        ("a b", None),
        ("user@a", None),
        ("a/b", None),
        ("a\r\nb", None),
        ("fe80::1%eth0", None),
        ("1:2", None),
        ("", None),
        (".", None),
        ("a" * 64, None),
        (".".join(["a" * 50] * 6), None),
    ],
)
def test_hosts_have_one_form(text, host):
    assert host_text(text) == host


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", "public"),
        ("2a00:1450::1", "public"),
        ("10.255.0.1", "private"),
        ("172.31.255.255", "private"),
        ("172.32.0.0", "public"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:8.8.8.8", "public"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::808:808", "public"),
        ("0.0.0.0", None),
        ("::", None),
        ("::7f00:1", None),
        ("224.0.0.1", None),
        ("255.255.255.255", None),
        ("ff02::1", None),
        ("2002:7f00:1::", None),
        ("2001::1", None),
        ("2001:db8::1", None),
        ("fec0::1", None),
        ("192.0.2.1", None),
        ("198.18.0.1", None),
    ],
)
def test_addresses_have_one_kind_or_none(address, kind):
    assert network_of(address) == kind
    for word in ("public", "private", "loopback", "link-local"):
        assert Networks(frozenset({word})).allows(address) is (word == kind)


@given(st.ip_addresses())
def test_every_address_is_judged(address):
    assert network_of(str(address)) in (None, "public", "private", "loopback", "link-local")


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("*", True),
        ("example.org", True),
        ("*.example.org", True),
        ("10.0.0.1", True),
        ("::1", True),
        ("Example.org", False),
        ("example.org.", False),
        ("*example.org", False),
        ("*.*.org", False),
        ("exa*", False),
        ("*.0.0.1", False),
        ("*.::1", False),
        ("[::1]", False),
        ("0::1", False),
        ("127.1", False),
        ("", False),
        ("*.", False),
    ],
)
def test_patterns_of_hosts(pattern, allowed):
    assert Hosts.check(pattern) is allowed


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("public", True),
        ("10.0.0.0/8", True),
        ("10.1.2.3/32", True),
        ("8.8.8.0/24", True),
        ("fd00::/8", True),
        ("10.0.0.0/7", False),
        ("0.0.0.0/0", False),
        ("126.0.0.0/7", False),
        ("224.0.0.0/8", False),
        ("::/0", False),
        ("::ffff:10.0.0.0/104", False),
        ("10.0.0.1/8", False),
        ("10.0.0.1", False),
        ("internet", False),
    ],
)
def test_patterns_of_networks(pattern, allowed):
    assert Networks.check(pattern) is allowed


def test_ports_and_addresses():
    assert [
        text for text in ("1", "443", "65535", "0", "65536", "080", "+1", "1_0", "", "9" * 99) if is_port(text)
    ] == [
        "1",
        "443",
        "65535",
    ]
    assert [text for text in ("0.0.0.0", "::1", "0::1", "localhost", "1.2.3") if is_address(text)] == ["0.0.0.0", "::1"]


def decoded(*rules, interface="wasi:http/outgoing-handler"):
    document = {"schema": "fleet.authority/v1", "capabilities": {interface: list(rules)}, "limits": {}}
    return Authority.decode(dump_json(document))


def test_a_rule_without_networks_is_for_public_ones():
    authority = decoded({"hosts": ["*"], "methods": ["GET"], "ports": ["*"]})
    ask = {"host": "a", "method": "GET", "port": "443"}
    assert authority.allows("wasi:http/outgoing-handler", **ask, network="8.8.8.8")
    assert not authority.allows("wasi:http/outgoing-handler", **ask, network="10.0.0.1")
    assert not authority.allows("wasi:http/outgoing-handler", **ask)
    assert len(authority.rules_for("wasi:http/outgoing-handler", later=("network",), **ask)) == 1
    assert (
        authority.rules_for("wasi:http/outgoing-handler", later=("network",), host="a", method="PUT", port="443") == ()
    )
    assert Authority.decode(authority.encode()) == authority


@pytest.mark.parametrize(
    ("interface", "change", "place"),
    [
        ("wasi:http/outgoing-handler", {"hosts": ["EXAMPLE.org"]}, "hosts[0]"),
        ("wasi:http/outgoing-handler", {"networks": ["10.0.0.0/7"]}, "networks[0]"),
        ("wasi:http/outgoing-handler", {"ports": ["0"]}, "ports[0]"),
        ("wasi:http/incoming-handler", {"ports": ["*"]}, "ports[0]"),
        ("wasi:http/outgoing-handler", {"methods": ["CONNECT"]}, "methods[0]"),
        ("wasi:http/incoming-handler", {"ports": ["80", "http"]}, "ports[1]"),
        ("wasi:http/incoming-handler", {"ports": ["80"], "addresses": ["localhost"]}, "addresses[0]"),
        ("wasi:http/incoming-handler", {"addresses": ["::1"]}, "ports"),
    ],
)
def test_other_values_are_refused(interface, change, place):
    base = {"hosts": ["a.b"], "methods": ["GET"], "ports": ["443"]} if interface == "wasi:http/outgoing-handler" else {}
    error = refusal(lambda: decoded({**base, **change}, interface=interface))
    assert error.code is Code.GRANT_INVALID
    assert str(error.detail["place"]).endswith(f"{interface}[0].{place}")


def test_what_a_node_serves_must_be_granted():
    exports = ("wasi:http/incoming-handler@0.2.4", "syuthd:agent-mesh/sensor-handler", "run")
    error = refusal(lambda: check_exports(exports, Authority({}), "app/web", "web@0.1.0"))
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert error.remedy == "fleetctl grant propose app/web --bundle web@0.1.0 --add wasi:http/incoming-handler"
    granted = decoded({"ports": ["8080"]}, interface="wasi:http/incoming-handler")
    assert check_exports(exports, granted, "app/web", "web@0.1.0") == (exports[0],)
    assert check_exports(exports[1:], Authority({}), "app/web", "web@0.1.0") == ()


def test_a_draft_asks_for_as_little_as_there_is():
    handlers = ("wasi:http/outgoing-handler", "wasi:http/incoming-handler")
    facts = {"agent": "app/web", "bundle_name": "web", "bundle_version": "1.0.0", "models": (), "revision": 1}
    draft = propose_grant((*handlers, "wasi:http/types@0.2.12"), now=NOW, **facts)
    authority = parse_grant(draft, "draft").authority
    assert not authority.allows(
        handlers[0], host="example.org", method="GET", scheme="https", port="443", path="/", network="8.8.8.8"
    )
    assert authority.maximum(handlers[1], "max_request_bytes", port="8080", address="127.0.0.1")
    assert all(set(VOCABULARY[name]) >= set(authority.capabilities[name][0].constraints) for name in handlers)
    assert b"host.invalid" in draft
    assert b"types" not in draft


def test_the_words_of_a_rule_are_told_to_whoever_opens_ports():
    (rule,) = decoded({"ports": ["8080", "80"], "max_rps": 1}, interface=HANDLER).capabilities[HANDLER]
    assert rule.words("ports") == ("80", "8080")
    assert rule.words("addresses") == ("127.0.0.1",)
    assert rule.words("max_rps") == rule.words("nothing") == ()
