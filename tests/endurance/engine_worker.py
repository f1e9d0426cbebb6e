"""Takes specimens through this process's own engine: a process of its own, so that a crash is seen by whoever waits.

    python -m tests.endurance.engine_worker SEED FIRST COUNT PROGRESS_FILE

Prints how often each outcome came, as JSON. The number of the specimen in work is in the progress file: when the
process dies, that is the one that killed it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.runner.engine import Engine, Instance
from edge_agent.runner.instantiation import instantiate
from edge_agent.runner.invocation import evaluate
from edge_agent.runner.linking import link
from fleet.component import read_component
from fleet.errors import Code, FleetError
from fleet.grants import check_imports
from tests.endurance.grants import CAPABILITIES, GRANTED, INVOCATIONS, LIMITS
from tests.endurance.specimens import Specimens
from tests.fakes.agents import Node
from tests.fakes.components import ticking

if TYPE_CHECKING:
    from edge_agent.capabilities.base import AgentContext

CALL_S = 0.15
AGENT = "fuzz/specimen"


def examine(engine: Engine, component: bytes, context: AgentContext) -> str:
    """Take one specimen as far as it goes; says how it ended."""
    stage = "refused"
    try:
        check_imports(read_component(component).imports, GRANTED, (), AGENT, "specimen@0.1.0")
        loaded = engine.load(engine.compile(component))
        stage = "refused at its start"
        interfaces = link(loaded, context, GRANTED, ())
        with ExitStack() as held:
            instance = instantiate(lambda limits: Instance(loaded, interfaces, limits), GRANTED.limits)
            held.callback(instance.close)
            stage = "ran and ended"
            return call_all(instance)
    except FleetError as error:
        return f"{stage}: {error.detail.get('cause') or error.code}"


def call_all(instance: Instance) -> str:
    """Call what may be exported; a trap is the caller's to tell."""
    answered = False
    for invocation in INVOCATIONS:
        try:
            evaluate(instance, invocation, CALL_S)
            answered = True
        except FleetError as error:
            if error.code is Code.AGENT_TRAPPED:
                raise
    return "ran and answered" if answered else "ran"


def main() -> int:
    """Examine the specimens that the arguments name."""
    seed, first, count = map(int, sys.argv[1:4])
    progress = Path(sys.argv[4])
    specimens, engine = Specimens(seed), Engine()
    outcomes: Counter[str] = Counter()
    with ticking(engine), tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            progress.write_text(str(number))
            _, component = specimens.make(number)
            node = Node(Path(folder) / str(number))
            outcomes[examine(engine, component, context_of(node))] += 1
            node.close()
    sys.stdout.write(json.dumps(outcomes))
    return 0


def context_of(node: Node) -> AgentContext:
    """What the capabilities of a specimen work with."""
    return node.agent(CAPABILITIES, name=AGENT, **LIMITS)


if __name__ == "__main__":
    sys.exit(main())
