"""Links: an import of one agent that an export of another agent of the same application answers.

Owns: how links are written in documents, the graph they make (no cycle, so that no call can wait for itself), which
import and which export a link means, and whether the two have the same types. Pure. Whether an agent may call another
one is its grant's question (`fleet.grants`); carrying the calls, and fusing components, is the runner's.

Versions are compared as `fleet.wit.compatible` says. Types are compared by structure: names of types carry no meaning,
names and order of fields, cases and flags do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.documents import Reader
from fleet.errors import Code, FleetError
from fleet.model import Isolation, Link
from fleet.wit import compatible, is_interface, parse_interface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fleet.documents import Value
    from fleet.model import AssignedAgent
    from fleet.wit_types import FuncType

MAX_LINKS = 32
"""Links of one agent."""

MAX_FUSED = 16
"""Agents that are fused into one."""


def decode_link(value: Value, code: Code, place: str, is_valid_agent: Callable[[str], bool]) -> Link:
    """Read a link.

    Raises:
        FleetError: `code` with the place.
    """
    with Reader(value, code, place) as reader:
        interface, agent = reader.text("import"), reader.text("agent")
        isolation = reader.text("isolation", Isolation.STORE)
        if not is_interface(interface):
            reader.fail("import", f"{interface[:64]!r} is not an interface such as acme:pipeline/score@0.1.0")
        if not is_valid_agent(agent):
            reader.fail("agent", f"{agent[:64]!r} is not the name of an agent")
        if isolation not in set(Isolation):
            reader.fail("isolation", f"{isolation[:64]!r} is not one of {', '.join(Isolation)}")
        return Link(interface, agent, Isolation(isolation))


def encode_link(link: Link) -> dict[str, str]:
    """Write a link as `decode_link` reads it."""
    return {"import": link.interface, "agent": link.agent, "isolation": str(link.isolation)}


def check_graph(agents: Mapping[str, Sequence[Link]], code: Code, place: Callable[[str, int], str]) -> None:
    """Check the links of one application against each other.

    1. No import is linked twice.  2. Every link names an agent of the application.  3. No agent calls itself, on
    whatever path.

    Args:
        agents: the links of every agent, by its name.
        code: code of the document.
        place: where the link of an agent with a number stands in the document.

    Raises:
        FleetError: `code` with the place; a cycle is shown as the path `a -> b -> a`.
    """
    for name, links in agents.items():
        for i, link in enumerate(links):
            earlier = next((other for other in links[:i] if _same_import(other.interface, link.interface)), None)
            if earlier is not None:  # 1
                message = f"{link.interface} is linked twice, to {earlier.agent} and to {link.agent}"
                raise FleetError(code, message, place=f"{place(name, i)}.import")
            if link.agent not in agents:  # 2
                message = f"no agent {link.agent} in this application; it has {', '.join(sorted(agents))}"
                raise FleetError(code, message, place=f"{place(name, i)}.agent")
    path = find_cycle({name: [link.agent for link in links] for name, links in agents.items()})
    if path:  # 3
        i = next(i for i, link in enumerate(agents[path[0]]) if link.agent == path[1])
        raise FleetError(
            code,
            f"the links form a circle: {' -> '.join(path)}",
            place=f"{place(path[0], i)}.agent",
            remedy="Take one link of the circle away: an agent that waits for an answer cannot give one.",
        )


def _same_import(one: str, other: str) -> bool:
    """Whether two texts mean one import: equal, or equal but for a version that one of them leaves out."""
    first, second = parse_interface(one), parse_interface(other)
    return first.unversioned == second.unversioned and (
        first.version is None or second.version is None or first.version == second.version
    )


def find_cycle(edges: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the path of a cycle, its first node again at the end; empty when there is none.

    Deterministic: the same graph gives the same path. Nodes that are only named as ends of edges have none themselves.
    """
    finished: set[str] = set()
    for start in sorted(edges):
        path: list[str] = [start] if start not in finished else []
        branches = [iter(sorted(edges[start]))]
        while path:
            following = next(branches[-1], None)
            if following is None:
                finished.add(path.pop())
                branches.pop()
            elif following in path:
                return (*path[path.index(following) :], following)
            elif following not in finished:
                path.append(following)
                branches.append(iter(sorted(edges.get(following, ()))))
    return ()


def fused_names(agent: str, links: Mapping[str, Sequence[Link]]) -> tuple[str, ...]:
    """Names of the agents that are parts of `agent`: those that links without isolation reach, sorted.

    Args:
        agent: the agent that the parts are fused into.
        links: the links of every agent; without a cycle.
    """
    found: set[str] = set()
    waiting = [agent]
    while waiting:
        for link in links[waiting.pop()]:
            if link.isolation is Isolation.NONE and link.agent not in found:
                found.add(link.agent)
                waiting.append(link.agent)
    return tuple(sorted(found))


def runs_alone(agent: str, links: Mapping[str, Sequence[Link]], *, triggered: bool) -> bool:
    """Whether an agent runs by itself, and not only as a part of others.

    It does unless others fuse it and nobody needs it beside that: no trigger, and no link that keeps it apart.
    """
    towards = [link for others in links.values() for link in others if link.agent == agent]
    return triggered or not towards or any(link.isolation is Isolation.STORE for link in towards)


def linked_imports(links: Iterable[Link], imports: Sequence[str], agent: str) -> dict[str, Link]:
    """Find the import that each link means.

    Args:
        links: the links of one agent.
        imports: what its component imports, with versions.
        agent: for the error.

    Returns:
        Import, as the component names it, to link.

    Raises:
        FleetError: LINK_INVALID when a link means no import, or more than one.
    """
    found: dict[str, Link] = {}
    for link in links:
        meant = [name for name in imports if name == link.interface or name.partition("@")[0] == link.interface]
        if len(meant) != 1:
            known = ", ".join(name for name in imports if not name.startswith("wasi:")) or "none"
            raise FleetError(
                Code.LINK_INVALID,
                f"{agent} imports both {' and '.join(meant)}; the link must name the version"
                if meant
                else f"{agent} does not import {link.interface}, which fleet.yaml links to {link.agent}",
                agent=agent,
                imports=link.interface,
                remedy=f"Name one of the component's imports in `links` ({known}).",
            )
        found[meant[0]] = link
    return found


def answering_export(imported: str, exports: Iterable[str], agent: str, target: str) -> str:
    """Find the export of `target` that answers an import of `agent`.

    Raises:
        FleetError: LINK_INVALID when there is none of a compatible version.
    """
    required = parse_interface(imported)
    offered = [name for name in exports if is_interface(name)]
    same = [name for name in offered if parse_interface(name).unversioned == required.unversioned]
    fitting = [name for name in same if compatible(required, parse_interface(name))]
    if not fitting:
        have = f"exports {', '.join(same)}" if same else f"does not export {required.unversioned}"
        raise FleetError(
            Code.LINK_INVALID,
            f"{agent} imports {imported}, and {target} {have}",
            agent=agent,
            imports=imported,
            remedy=f"Link it to an agent that exports a compatible version (it has {', '.join(offered) or 'none'}).",
        )
    return imported if imported in fitting else fitting[0]


def first_difference(imported: Mapping[str, FuncType], exported: Mapping[str, FuncType]) -> str:
    """Say where an export cannot answer an import; empty when it can.

    The export may have more functions. Parameter names carry no meaning for a call, but a difference is told by them.
    """
    for name, wanted in imported.items():
        have = exported.get(name)
        if have is None:
            return f"function {name} is not exported"
        if len(wanted.params) != len(have.params):
            return f"function {name} is imported as {wanted} and exported as {have}"
        for (label, mine), (_, theirs) in zip(wanted.params, have.params, strict=True):
            if mine != theirs:
                return f"parameter {label} of {name} is imported as {mine} and exported as {theirs}"
        if wanted.result != have.result:
            return f"the result of {name} is imported as {wanted.result} and exported as {have.result}"
    return ""


def check_types(
    imported: Mapping[str, FuncType], exported: Mapping[str, FuncType], *, interface: str, agent: str, target: str
) -> None:
    """Check that the functions of an export answer those of an import.

    Raises:
        FleetError: LINK_INVALID naming both agents and the first difference.
    """
    difference = first_difference(imported, exported)
    if difference:
        raise FleetError(
            Code.LINK_INVALID,
            f"{agent} and {target} do not agree on {interface}: {difference}",
            agent=agent,
            imports=interface,
            remedy="Build both against one version of the interface; a change of types needs a new version of it.",
        )


def outer_links(agent: AssignedAgent) -> tuple[Link, ...]:
    """The links of an agent and its parts that lead out of it.

    Raises:
        FleetError: LINK_INVALID when two parts link one import to different agents: fused, they import it once.
    """
    targets: dict[str, Link] = {}
    for link in (link for part in agent.parts for link in part.links if link.isolation is Isolation.STORE):
        known = targets.setdefault(link.interface, link)
        if known.agent != link.agent:
            raise FleetError(
                Code.LINK_INVALID,
                f"parts of {agent.name} link {link.interface} to {known.agent} and to {link.agent}",
                agent=agent.name,
                imports=link.interface,
                remedy="Link both to one agent, or keep one part apart with `isolation: store`.",
            )
    return tuple(targets.values())


def check_assigned(agents: Iterable[AssignedAgent]) -> None:
    """Check the links of everything that one node is ordered to run.

    1. Links stay inside the application.  2. What is fused into an agent is exactly what its links without isolation
    reach, each once.  3. Calls between agents, and parts of an agent, form no circle.

    Raises:
        FleetError: ASSIGNMENT_INVALID.
    """
    calls: dict[str, list[str]] = {}
    for agent in agents:
        links = {part.name: part.links for part in agent.parts}
        inside = [(name, link.agent) for name, others in links.items() for link in others if link.isolation == "none"]
        outside = [link.agent for others in links.values() for link in others if link.isolation == "store"]
        targets = {*outside, *(target for _, target in inside)}
        if any(target.partition("/")[0] != agent.application for target in targets):  # 1
            raise _unfit(agent.name, "its links leave the application")
        parts = {name: [target for source, target in inside if source == name] for name in links}
        known = all(target in links for _, target in inside)
        if len(links) != 1 + len(agent.fused) or not known or find_cycle(parts):  # 2, 3
            raise _unfit(agent.name, "its parts do not fit its links")
        if fused_names(agent.name, links) != tuple(sorted(links.keys() - {agent.name})):  # 2
            raise _unfit(agent.name, "it has parts that no link reaches")
        calls[agent.name] = outside
    path = find_cycle(calls)
    if path:  # 3
        raise _unfit(path[0], f"the links form a circle: {' -> '.join(path)}")


def _unfit(agent: str, message: str) -> FleetError:
    return FleetError(Code.ASSIGNMENT_INVALID, message, place=agent)
