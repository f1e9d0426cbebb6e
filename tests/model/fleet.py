"""The people, the thief and the nodes of the model, and what happens to them.

Everything happens in virtual time over the real code of a node. `ModelFleet` offers the actions: those of honest people
are in `people`, those of the thief in `thief`, what befalls machines here; its `story` tells them again in words, so
that a failure reads as what happened.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.model.thief import Thief
from tests.model.world import CLONE


class ModelFleet(Thief):
    """The fleet, with everybody in it."""

    def set_clock(self, node: str, days: int) -> None:
        """Set a node's clock apart from the true time."""
        self.tell(f"the clock of {node} is {days:+} days off")
        self.machine(node).clock.skew = timedelta(days=days)
        self.machine(node).misled = True

    def wait(self, days: float) -> None:
        """Let time pass for everybody; what was due meanwhile happens at its end, as on machines that slept."""
        self.tell(f"{days:g} days pass")
        self.loop.jump(days * 86_400)

    def restart(self, node: str) -> None:
        """Cut a node's power and switch it on again."""
        self.tell(f"{node} loses its power and comes back")
        machine = self.machine(node)
        machine.cut_power()
        machine.start()
        self.laws.forget(
            machine
        )  # what was adopted a moment ago may not have been synced; that is another test's concern

    def clear_evidence(self, node: str) -> None:
        """A person looked at what a node holds against the log, and removes it."""
        self.tell(f"the evidence of {node} is removed")
        self.machine(node).clear_evidence()

    def keep_image(self, node: str) -> None:
        """Somebody copies a node's disk."""
        self.tell(f"somebody copies the disk of {node}")
        self.machine(node).keep_image()

    def restore(self, node: str, number: int) -> None:
        """Somebody puts an old copy of its disk into a node; with it comes back who it was."""
        machine = self.machine(node)
        if machine.images:
            self.tell(f"somebody restores copy {number % len(machine.images)} of the disk of {node}")
            machine.restore(number % len(machine.images))
            self.laws.forget(machine)

    def join_again(self, node: str, *, wiped: bool) -> None:
        """A node is reset and joins under its name again, on its own disk or an empty one; what it was is over."""
        self.tell(f"{node} joins again{' on an empty disk' if wiped else ''}")
        machine = self.nodes[node]
        self.epochs[node] = self.epochs.get(node, 1) + 1
        machine.join_again(replace(machine.identity, epoch=self.epochs[node]), self.pinned if wiped else None)
        self.laws.forget(machine)

    def clone(self, node: str) -> None:
        """Somebody starts a copy of a node on another machine."""
        self.tell(f"somebody makes a clone of {node}")
        original, before = self.nodes[node], self.nodes.get(CLONE)
        if before is not None and before.running:
            before.kill()
        self.nodes[CLONE] = self._machine(CLONE, original.identity, original)
        self.laws.forget(self.nodes[CLONE])
        self.laws.copied(original, self.nodes[CLONE])
