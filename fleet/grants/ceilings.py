"""Ceilings: the most that agents may have, whatever their grants say.

Owns: the fleet's ceilings, target `policy/ceilings.yaml` of schema `fleet.ceilings/v1`, which the policy role signs,
and which of them hold on a node. A node's own ceiling is one document of `fleet.ceiling/v1` (`fleet.grants.document`).
Both can only take authority away: a node gives an agent what its grant and every ceiling allow (`lattice.meet`).

Empty means deny. A fleet that publishes no such target has no ceiling; one that does allows nothing on a node that
none of its ceilings is for, and on any other node what all of those do that are for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.documents import Reader, load_yaml
from fleet.errors import Code, FleetError
from fleet.grants.document import parse_node_labels, parse_optional_limits
from fleet.grants.lattice import Authority
from fleet.grants.limits import HIGHEST_LIMITS
from fleet.grants.rules import parse_capabilities
from fleet.names import is_digest, is_name
from fleet.oci import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.documents import Value

CEILINGS_SCHEMA = "fleet.ceilings/v1"

MAX_CEILINGS = 64
"""Ceilings of one fleet."""

MAX_TOLD = 16 * 1024
"""Bytes of a node's own ceiling that it tells its coordinator; of a larger one it tells the digest."""

NOTHING = Authority({})
"""What a node may give that none of the fleet's ceilings is for."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """One ceiling.

    Attributes:
        place: where it is written, for people: the document, and which of its entries.
        labels: pairs that a node must all have for the ceiling to hold there; none means every node.
        authority: the most that an agent may have.
    """

    place: str
    labels: Mapping[str, str]
    authority: Authority

    def holds_on(self, labels: Mapping[str, str]) -> bool:
        """Whether it is for a node with these labels."""
        return self.labels.items() <= labels.items()


@dataclass(frozen=True, slots=True)
class Ceilings:
    """All of a fleet's ceilings."""

    ceilings: tuple[Ceiling, ...]
    document: str

    def on(self, labels: Mapping[str, str]) -> tuple[Ceiling, ...]:
        """Return those that hold on a node: at least one, since a node that none is for may give nothing.

        Args:
            labels: from the node's own disk, never the coordinator's view of them.
        """
        found = tuple(ceiling for ceiling in self.ceilings if ceiling.holds_on(labels))
        return found or (Ceiling(f"{self.document}: no ceiling is for this node", {}, NOTHING),)


@dataclass(frozen=True, slots=True)
class OwnCeiling:
    """What a node says of the `ceiling.yaml` that its owner placed there. Made by `tell_ceiling` and `hear_ceiling`.

    It is for people who ask why a call is denied: the node obeys its own file, whatever becomes of what it said.

    Attributes:
        digest: `sha256:...` of the file; empty where there is none.
        document: the file; empty where there is none, and where it is larger than `MAX_TOLD`.
    """

    digest: str = ""
    document: bytes = b""


def tell_ceiling(document: bytes | None) -> OwnCeiling:
    """Return what a node says of its own ceiling; None: it has none."""
    if document is None:
        return OwnCeiling()
    return OwnCeiling(digest_of(document), document if len(document) <= MAX_TOLD else b"")


def hear_ceiling(digest: str, document: bytes) -> OwnCeiling:
    """Take in what a node said.

    1. The digest is one, or empty.
    2. The document is no larger than `MAX_TOLD`, and is what the digest names. Whether it can be read is not asked.

    Raises:
        FleetError: MESSAGE_INVALID.
    """
    known = is_digest(digest) if digest else not document  # 1
    fits = len(document) <= MAX_TOLD and (not document or digest_of(document) == digest)  # 2
    if not known or not fits:
        raise FleetError(Code.MESSAGE_INVALID, "not what a node may say of its ceiling", place="ceiling")
    return OwnCeiling(digest, document)


def parse_ceilings(data: bytes, name: str) -> Ceilings:
    """Read the fleet's ceilings.

    1. Strict YAML of this schema, within the size of a document; no key that is not known.
    2. At most `MAX_CEILINGS`, each with a name of its own.
    3. Each like the capabilities and limits of a grant, for nodes by label. An interface that is absent is not
       allowed; a limit that is absent restricts nothing.

    Args:
        data: the signed bytes.
        name: file name or target path, for error places.

    Raises:
        FleetError: GRANT_INVALID with the place; LIMIT_EXCEEDED when too large.
    """
    with Reader(load_yaml(data, Code.GRANT_INVALID, name), Code.GRANT_INVALID, name) as reader:  # 1
        if reader.text("schema") != CEILINGS_SCHEMA:
            reader.fail("schema", f"expected {CEILINGS_SCHEMA}")
        if not reader.has("ceilings"):
            # Written out even when it is empty: an empty list allows no agent anything anywhere.
            reader.fail("ceilings", "expected a list; `ceilings: []` allows nothing")
        ceilings = tuple(_parse(value, place) for value, place in reader.items("ceilings", MAX_CEILINGS))
        names = [ceiling.place for ceiling in ceilings]
        for i, place in enumerate(names):
            if place in names[:i]:
                reader.fail(f"ceilings[{i}].name", "two ceilings have this name")  # 2
    return Ceilings(
        tuple(Ceiling(f"{name}: {ceiling.place}", ceiling.labels, ceiling.authority) for ceiling in ceilings), name
    )


def _parse(value: Value, place: str) -> Ceiling:
    with Reader(value, Code.GRANT_INVALID, place) as reader:
        name = reader.text("name")
        if not is_name(name):
            raise FleetError(reader.code, f"{name[:64]!r} is not a name such as line-3", place=reader.at("name"))
        labels = reader.section("nodes", parse_node_labels) if reader.has("nodes") else {}
        capabilities = reader.section("caps", parse_capabilities)  # 3
        return Ceiling(name, labels, Authority(capabilities, parse_optional_limits(reader, HIGHEST_LIMITS)))
