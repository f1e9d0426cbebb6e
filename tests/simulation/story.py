"""Stories about a fleet: commands a person can read, with what they lead to written below each.

A line that begins with `$` is a command, what follows is its output, a line that begins with `#` is for the reader:

    $ seed 7                        first of all, if at all
    $ add node n1 site=oslo         join a node and switch it on
    $ release climate 1 [crashing]  publish a version, with how its agent behaves when it is not good
    $ deploy climate 1 [waves 1, 100%]
    $ cancel d1
    $ remove climate                deploy the application without agents
    $ withdraw climate              withdraw the grant of the application's agent; `approve` publishes it again
    $ cut power n1 [at write 7]     at once, or at the n-th write to its disk from now
    $ kill n1                       end its process
    $ start n1 | start coordinator
    $ crash coordinator [at step 7] at the n-th beginning or end of a transaction from now
    $ cut n1 | heal n1 | mute n1 | reset n1 | replay n1 | slow n1
    $ skew n1 -3s                   set the node's clock
    $ heal                          end every fault
    $ trap n1                       every agent of the node ends by itself, once
    $ tick 30s
    $ show
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fleet.model import Phase
from orchestrator.director import decode_agents
from orchestrator.store.deployments import StoredDeployment
from tests.simulation.fleet import GOOD, SimulatedFleet
from tests.simulation.node import SimulatedNode

SEED = 2026
LINES = ("cut", "heal", "mute", "reset", "replay", "slow")


def told(script: str) -> str:
    """Run the commands of a script and return the script with its present output."""
    lines: list[str] = []
    first = script.partition("\n")[0].split()
    has_seed = first[:2] == ["$", "seed"]
    teller = _Teller(SimulatedFleet(int(first[2]) if has_seed else SEED))
    try:
        for line in script.splitlines():
            if line.startswith("$ seed "):
                lines.append(line)
            elif line.startswith("$ "):
                lines += [line, *teller.do(line.removeprefix("$ "))]
            elif line.startswith("#") or (not line and lines and lines[-1]):
                lines.append(line)
    finally:
        teller.fleet.close()
    return "\n".join(lines).rstrip("\n") + "\n"


class _Teller:
    def __init__(self, fleet: SimulatedFleet) -> None:
        self.fleet = fleet

    def do(self, command: str) -> list[str]:
        """Carry one command out and return what there is to say."""
        words = command.split()
        fleet = self.fleet
        match words:
            case ["add", "node", name, *labels]:
                fleet.add_node(name, dict(label.split("=", 1) for label in labels))
            case ["release", application, number, *behaviour]:
                fleet.release(application, number, *(behaviour or [GOOD]))
            case ["deploy", application, number, "waves", *waves]:
                return [fleet.deploy(application, number, " ".join(waves))]
            case ["deploy", application, number]:
                return [fleet.deploy(application, number)]
            case ["remove", application]:
                return [fleet.deploy(application, "")]
            case ["withdraw" | "approve" as verb, application]:
                getattr(fleet, verb)(application)
            case ["cut", "power", name]:
                fleet.cut_power(name)
            case ["cut", "power", name, "at", "write", number]:
                fleet.cut_power(name, int(number))
            case ["crash", "coordinator"]:
                fleet.crash()
            case ["crash", "coordinator", "at", "step", number]:
                fleet.crash(int(number))
            case ["heal"]:
                fleet.heal()
            case ["cancel", label]:
                return [fleet.cancel(fleet.deployments[int(label.removeprefix("d")) - 1])]
            case ["skew", name, seconds]:
                fleet.skew(name, int(seconds.removesuffix("s")))
            case ["kill", name]:
                fleet.kill(name)
            case ["start", "coordinator"]:
                fleet.start_coordinator()
            case ["start" | "trap" as verb, name]:
                getattr(fleet, verb)(name)
            case [fault, name] if fault in LINES:
                fleet.line(name, fault)
            case ["tick", duration]:
                fleet.tick(float(duration.removesuffix("s")))
            case ["show"]:
                return list(self._show())
            case _:
                raise ValueError(f"no such command: {command}")
        fleet.check()
        return []

    def _show(self) -> Iterator[str]:
        fleet = self.fleet
        services = fleet.coordinator.services
        online = services.inventory.online() if services is not None else frozenset()
        yield f"  coordinator {'up' if services is not None else 'down'}"
        for stored in reversed(fleet.laws.deployments()):
            yield f"  {self._deployment(stored)}"
        for name, node in fleet.nodes.items():
            yield f"  {name} {self._node(node, is_online=name in online)}"

    def _deployment(self, stored: StoredDeployment) -> str:
        what = sorted(
            {self.fleet.laws.version(a.bundle.digest) for n in stored.nodes for a in decode_agents(n.planned)}
        )
        waves = "; ".join(
            f"{wave.state}: {' '.join(node.node for node in stored.nodes_of(wave.number))}" for wave in stored.waves
        )
        reason = f" ({stored.head.reason})" if stored.head.reason else ""
        name = f"{self.fleet.label(stored.head.id)} {stored.head.application} {' '.join(what) or 'nothing'}"
        return f"{name} {stored.head.state}{reason}" + (f" [{waves}]" if waves else "")

    def _node(self, node: SimulatedNode, *, is_online: bool) -> str:
        if not node.running:
            return "off"
        observed = node.supervisor.observed()
        version: Callable[[str], str] = self.fleet.laws.version
        agents = [
            f"{agent.name.partition('/')[0]} {version(agent.bundle_digest)} {agent.phase}"
            + (f" ({agent.refusal.code})" if agent.refusal is not None and agent.phase is Phase.FAILED else "")
            for agent in observed.agents
        ]
        state = "online" if is_online else "offline"
        return f"{state}, generation {observed.generation}: {', '.join(agents) or 'nothing'}"
