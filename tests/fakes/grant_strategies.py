"""Hypothesis strategies for grants: few words, so that rules overlap often."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from fleet.documents import is_plain
from fleet.errors import Code
from fleet.grants import VOCABULARY, Authority, BundleSelector, Grant, Lease, Limits, OnLapse, Risk, Rule
from fleet.grants.constraints import Constraint, Literals, Maximum, Patterns
from fleet.grants.limits import LIMITS, OPTIONAL
from fleet.grants.networks import Hosts, Networks, Ports
from fleet.grants.requests import Request, request_digest
from fleet.grants.rules import normal
from fleet.grants.vocabulary import LINK, ConstraintSpec, Kind
from fleet.grants.volumes import Volumes
from fleet.semver import parse_range

SPECS = {**VOCABULARY, "acme:pipeline/score": LINK}
"""Constraints of every interface of a node, and of one that only agents serve."""

WORDS = ("a", "ab", "abc", "b", "ba", "c*c")
HOSTS = ("*", "*.a.b", "*.b", "a.b", "c.a.b", "10.0.0.1")
NETWORKS = ("public", "private", "loopback", "10.0.0.0/8", "10.1.0.0/16", "8.8.0.0/16", "8.8.8.8/32", "fd00::/8")
VOLUMES = ("*", "scratch/*", "scratch/a*", "scratch/a", "scratch/ab", "node/*", "node/a")
_ASKED = {
    Kind.HOSTS: ("a.b", "c.a.b", "d.c.a.b", "b", "10.0.0.1"),
    Kind.NETWORKS: ("8.8.8.8", "8.8.9.9", "1.1.1.1", "10.0.0.1", "10.1.0.1", "127.0.0.1", "::1", "fd00::1", "0.0.0.0"),
    Kind.PORTS: ("80", "443", "8080"),
    Kind.LISTENERS: ("80", "443", "8080"),
    Kind.ADDRESSES: ("127.0.0.1", "::1"),
    Kind.VOLUMES: ("scratch/a", "scratch/ab", "node/a"),
}
"""Values that requests name where a constraint has no words of its own."""

PATTERNS = ("a", "ab", "abc", "b", "ba", "*", "a*", "ab*", "abc*", "b*", "c*")


def constraints(spec: ConstraintSpec) -> st.SearchStrategy[Constraint]:
    if spec.kind is Kind.MAXIMUM:
        return st.integers(0, 5).map(Maximum)
    if spec.kind is Kind.PATTERNS:
        return st.frozensets(st.sampled_from(PATTERNS), min_size=1, max_size=3).map(Patterns)
    if spec.kind is Kind.HOSTS:
        return st.frozensets(st.sampled_from(HOSTS), min_size=1, max_size=3).map(Hosts)
    if spec.kind is Kind.NETWORKS:
        return st.frozensets(st.sampled_from(NETWORKS), min_size=1, max_size=3).map(Networks)
    if spec.kind is Kind.PORTS:
        return st.frozensets(st.sampled_from(("*", "80", "443")), min_size=1, max_size=2).map(Ports)
    if spec.kind is Kind.VOLUMES:
        return st.frozensets(st.sampled_from(VOLUMES), min_size=1, max_size=3).map(Volumes)
    return st.frozensets(st.sampled_from(_words(spec)), min_size=1).map(Literals)


def _words(spec: ConstraintSpec) -> list[str]:
    """What a request may say where the constraint is one of this kind."""
    return sorted(spec.values) or list(_ASKED.get(spec.kind, WORDS))


def rules(interface: str) -> st.SearchStrategy[Rule]:
    """Rules as a document may hold them: what is required is there."""
    specs = SPECS[interface]
    return st.fixed_dictionaries(
        {name: constraints(spec) for name, spec in specs.items() if _is_there(spec)},
        optional={name: constraints(spec) for name, spec in specs.items() if not _is_there(spec)},
    ).map(Rule)


def _is_there(spec: ConstraintSpec) -> bool:
    return spec.required or bool(spec.default) or bool(spec.required_with)


def capabilities(*, empty: bool = True) -> st.SearchStrategy[dict[str, tuple[Rule, ...]]]:
    def of(interface: str) -> st.SearchStrategy[tuple[Rule, ...]]:
        if not SPECS[interface]:
            return st.just((Rule({}),))
        return st.lists(rules(interface), min_size=0 if empty else 1, max_size=3).map(tuple)

    names = (
        "wasi:logging/logging",
        "wasi:keyvalue/store",
        "wasi:nn/graph",
        "wasi:nn/inference",
        "wasi:config/store",
        "wasi:filesystem/preopens",
        "acme:pipeline/score",
    )
    return st.fixed_dictionaries({}, optional={name: of(name) for name in names})


def limits() -> st.SearchStrategy[Limits]:
    values = {field: st.sampled_from((spec.minimum, spec.minimum + 1, spec.maximum)) for field, spec in LIMITS.items()}
    return st.builds(Limits, **{**values, **{field: st.none() | values[field] for field in OPTIONAL}})


def authorities() -> st.SearchStrategy[Authority]:
    return st.builds(Authority, capabilities(), limits())


def questions() -> st.SearchStrategy[tuple[Authority, Authority, str, dict[str, str]]]:
    """Two authorities over one and the same interface, and a full request to it: dense where `authorities` is broad."""

    def of(interface: str) -> st.SearchStrategy[tuple[Authority, Authority, str, dict[str, str]]]:
        some = st.lists(rules(interface), min_size=1, max_size=2)
        authority = some.map(lambda found: Authority({interface: tuple(found)}))
        request = st.fixed_dictionaries(
            {spec.request: st.sampled_from(_words(spec)) for spec in SPECS[interface].values() if spec.request}
        )
        return st.tuples(authority, authority, st.just(interface), request)

    return st.sampled_from(sorted(name for name, specs in SPECS.items() if specs)).flatmap(of)


def requests() -> st.SearchStrategy[tuple[str, dict[str, str]]]:
    """An interface and what a call names; sometimes a keyword is left out."""

    def of(interface: str) -> st.SearchStrategy[tuple[str, dict[str, str]]]:
        choices = {spec.request: st.sampled_from(_words(spec)) for spec in SPECS[interface].values() if spec.request}
        full = st.fixed_dictionaries(choices)
        return st.tuples(st.just(interface), full | st.fixed_dictionaries({}, optional=choices))

    return st.sampled_from(sorted(SPECS)).flatmap(of)


def reviews() -> st.SearchStrategy[Request | None]:
    """What approvers may have seen a bundle ask for."""
    sets = st.lists(st.sampled_from(sorted(VOCABULARY)[:4]), max_size=3, unique=True).map(sorted)
    named = sets.map(lambda found: Request(request_digest(found), tuple(found)))
    return st.none() | named | named.map(lambda request: Request(request.digest))


def grants() -> st.SearchStrategy[Grant]:
    """Grants that a document can say."""
    instants = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
    digests = st.lists(st.sampled_from([f"sha256:{digit * 64}" for digit in "0af"]), max_size=3, unique=True)
    label = st.sampled_from(("oslo", "no", "1.5", "line-3", 'a"b', "null"))
    text = st.text(st.characters(exclude_categories=("C", "Z")), max_size=20).filter(is_plain)

    @st.composite
    def build(draw: st.DrawFn) -> Grant:
        caps = {name: normal(rules) for name, rules in draw(capabilities(empty=False)).items()}
        start = draw(instants)
        pins = tuple(draw(digests))
        lapse = draw(st.sampled_from(OnLapse)) if caps else OnLapse.STOP
        drop = tuple(sorted(caps))[:2] if lapse is OnLapse.DROP else ()
        broken = draw(st.booleans())
        longest = 24 * 3600 if broken else 10**8
        return Grant(
            agent=draw(st.sampled_from(("climate/context", "a/b", "on/off", "x1/y-2"))),
            revision=draw(st.integers(1, 99)),
            bundle=BundleSelector(
                "b",
                parse_range(draw(st.sampled_from((">=1.4,<2", "=0.1.0", ">1"))), Code.INTERNAL, ""),
                pins,
                "code-vision" if broken else draw(st.sampled_from(("", "code-vision"))),
            ),
            node_labels=draw(st.dictionaries(st.sampled_from(("site", "zone", "a.b/c", "on")), label, max_size=3)),
            not_before=start,
            not_after=start + timedelta(seconds=draw(st.integers(1, longest))),
            lease=Lease(draw(st.integers(0, 10**9)), lapse, drop),
            risk=draw(st.sampled_from(Risk if pins else (Risk.LOW, Risk.STANDARD))),
            capabilities=caps,
            limits=draw(limits()),
            reason=draw(text) or "why",
            request=draw(reviews()),
            break_glass=broken,
            proposed_by=draw(st.sampled_from(("", "alice", "on"))),
        )

    return build()
