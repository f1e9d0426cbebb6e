"""How much memory tiny agents cost: proportional set size of the supervisor's whole process tree.

The tree is this process, the zygote and one runner. Prints one JSON row per number of agents, and what one agent more
costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

import psutil

from bench.runtime import open_host, tiny_agent


def tree_kib() -> float:
    """Proportional set size of this process and everything below it, in KiB."""
    this = psutil.Process()
    return sum(process.memory_full_info().pss for process in (this, *this.children(recursive=True))) / 1024


async def measure(numbers: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = await open_host(Path(folder))
        try:
            first = tiny_agent(Path(folder), "app/tiny-0")
            await host.prepare(first.component, first.component_digest)
            await asyncio.sleep(1)  # the compile worker has ended
            running = 0
            sizes: dict[int, float] = {}
            for number in numbers:
                while running < number:
                    agent = tiny_agent(Path(folder), f"app/tiny-{running}")
                    await host.start(agent)
                    await host.call(agent.name, "count()")
                    running += 1
                sizes[number] = tree_kib()
                row = {"name": f"process tree with {number} agents", "median": round(sizes[number]), "unit": "KiB PSS"}
                print(json.dumps(row), flush=True)
            if len(numbers) > 1:
                last, before = numbers[-1], numbers[-2]
                each = (sizes[last] - sizes[before]) / (last - before)
                print(json.dumps({"name": "one agent more", "median": round(each, 1), "unit": "KiB PSS"}), flush=True)
        finally:
            await host.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=[0, 10, 100])
    asyncio.run(measure(sorted(parser.parse_args().agents)))
