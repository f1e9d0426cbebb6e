"""Volumes: the folders of a node that agents may be given, as constraints.

Owns: the names of volumes and `Volumes`. A grant names a volume and never a path: where it lies is decided by the
node. `scratch/NAME` is the application's own folder in the node's state, made when first needed; `node/NAME` is a
folder that the node's operator has declared under that name. The agent sees each as `/scratch/NAME` or `/node/NAME`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.grants.constraints import Patterns

if TYPE_CHECKING:
    from fleet.grants.lattice import Authority

SCRATCH = "scratch/"
NODE = "node/"

_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
_NAMED = re.compile(_NAME)
_VOLUME = re.compile(rf"(?:{SCRATCH}|{NODE}){_NAME}")
_PATTERN = re.compile(rf"\*|(?:{SCRATCH}|{NODE})(?:{_NAME}|(?:{_NAME})?\*)")


def is_volume_name(text: str) -> bool:
    """Whether an operator may declare a volume under this name: letters, digits and hyphens, at most 63."""
    return _NAMED.fullmatch(text) is not None


def is_volume(text: str) -> bool:
    """Whether this names one volume: `scratch/NAME` or `node/NAME`."""
    return _VOLUME.fullmatch(text) is not None


PREOPENS = "wasi:filesystem/preopens"
"""The interface whose rules name volumes."""


def named_volumes(authority: Authority) -> frozenset[str]:
    """Return the volumes that an agent may read and that its rules name in full, not by a prefix."""
    rules = authority.rules_for(PREOPENS, later=("volume",), mode="read")
    return frozenset(word for rule in rules for word in rule.words("volumes") if is_volume(word))


@dataclass(frozen=True, slots=True)
class Volumes(Patterns):
    """Volumes by name, and prefixes of such names (`node/*`)."""

    @staticmethod
    def check(pattern: str) -> bool:
        """Whether documents may write this pattern."""
        return _PATTERN.fullmatch(pattern) is not None
