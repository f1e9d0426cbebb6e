"""Any order of deploys, faults and repairs: the laws hold after every step, and everything converges in the end.

Hypothesis chooses the actions and makes a failing run short; the story of the run, with its seed, is printed with the
failure. The default run is small, `make simulation EXAMPLES=5000` a longer one; both are the same every time. `make
hunt` is not.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.simulation.fleet import BEHAVIOURS, SimulatedFleet

NODES = ("n1", "n2", "n3", "n4")
APPLICATIONS = ("climate", "lights")
MOST_VERSIONS = 4
CONVERGENCE_S = 600
"""Virtual time in which everything must be well after the last fault: three waves at their deadline, then a rollback,
each with reconnects and restarts at the caps of their back-off."""

PAUSES_S = (0, 0.02, 0.2, 1, 3)
"""Time that passes between two actions."""

applications = st.sampled_from(APPLICATIONS)
nodes = st.sampled_from(NODES)


class Fleet(RuleBasedStateMachine):
    """Four nodes, two applications."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.fleet = SimulatedFleet(seed)
        for name in NODES:
            self.fleet.add_node(name, {"site": "oslo"})
        for application in APPLICATIONS:
            self.fleet.release(application, "1")
        self.fleet.tick(3)

    @property
    def serving(self) -> bool:
        return self.fleet.coordinator.running

    # What people do

    @precondition(lambda self: self.serving)
    @rule(application=applications, behaviour=st.sampled_from(BEHAVIOURS))
    def release(self, application: str, behaviour: str) -> None:
        count = sum(known == application for known, _ in self.fleet.versions)
        if count < MOST_VERSIONS:
            self.fleet.release(application, str(count + 1), behaviour)

    @precondition(lambda self: self.serving)
    @rule(application=applications, newest=st.integers(0, 2), waves=st.sampled_from(("1, 100%", "2, 3, 100%", "100%")))
    def deploy(self, application: str, newest: int, waves: str) -> None:
        numbers = [number for known, number in self.fleet.versions if known == application]
        self.fleet.deploy(application, numbers[-1 - newest % len(numbers)], waves)

    @precondition(lambda self: self.serving)
    @rule(application=applications)
    def remove(self, application: str) -> None:
        self.fleet.deploy(application, "")

    @precondition(lambda self: self.serving and self.fleet.deployments)
    @rule()
    def cancel(self) -> None:
        self.fleet.cancel(self.fleet.deployments[-1])

    @precondition(lambda self: self.serving)
    @rule(application=applications)
    def withdraw_or_approve(self, application: str) -> None:
        if self.fleet.approved(application):
            self.fleet.withdraw(application)
        else:
            self.fleet.approve(application)

    # What happens

    @rule(seconds=st.sampled_from((0.05, 1, 15, 60)))
    def tick(self, seconds: float) -> None:
        self.fleet.tick(seconds)

    @rule(node=nodes, write=st.integers(0, 25))
    def cut_power(self, node: str, write: int) -> None:
        if self.fleet.nodes[node].running:
            self.fleet.cut_power(node, write)

    @rule(node=nodes)
    def kill(self, node: str) -> None:
        if self.fleet.nodes[node].running:
            self.fleet.kill(node)

    @rule(node=nodes)
    def start(self, node: str) -> None:
        if not self.fleet.nodes[node].running:
            self.fleet.start(node)

    @rule(node=nodes, fault=st.sampled_from(("cut", "heal", "mute", "replay", "reset", "slow")))
    def disturb(self, node: str, fault: str) -> None:
        self.fleet.line(node, fault)

    @rule(node=nodes, seconds=st.sampled_from((-20_000, -3, 3, 20_000)))
    def skew(self, node: str, seconds: int) -> None:
        self.fleet.skew(node, seconds)

    @rule(node=nodes)
    def trap(self, node: str) -> None:
        if self.fleet.nodes[node].running:
            self.fleet.trap(node)

    @precondition(lambda self: self.serving)
    @rule(step=st.integers(0, 80))
    def crash(self, step: int) -> None:
        self.fleet.crash(step)

    @precondition(lambda self: not self.serving)
    @rule()
    def start_coordinator(self) -> None:
        self.fleet.start_coordinator()

    # What must hold

    @invariant()
    def laws(self) -> None:
        if hasattr(self, "fleet"):
            self.fleet.check()
            self.fleet.tick(self.fleet.random.choice(PAUSES_S))

    def teardown(self) -> None:
        if not hasattr(self, "fleet"):
            return
        try:
            self.converge()
        finally:
            note("\n".join(self.fleet.story))
            self.fleet.close()

    def converge(self) -> None:
        """End every fault and wait, within bounds, until nothing is left to do."""
        self.fleet.heal()
        for _ in range(CONVERGENCE_S // 10):
            self.fleet.tick(10)
            if not self.fleet.laws.converged():
                break
        left = self.fleet.laws.converged()
        assert not left, f"no convergence within {CONVERGENCE_S} s: {left}"
        self.fleet.laws.ended_deployments_hold()


def search(examples: int, steps: int, *, repeatable: bool) -> None:
    run_state_machine_as_test(
        Fleet,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=repeatable,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_laws_hold_whatever_happens() -> None:
    search(10, 25, repeatable=True)


@pytest.mark.slow
def test_the_laws_hold_for_much_longer() -> None:
    search(int(os.environ.get("SIMULATION_EXAMPLES", "300")), 60, repeatable="HUNT" not in os.environ)
