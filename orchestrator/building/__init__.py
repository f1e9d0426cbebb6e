"""Makes components from source: scaffolds of new agents, and the pinned tools that build them.

Owns: the templates that `fleetctl bundle new` copies, what is run to build each language, and where the tools for it
are kept. It talks to no coordinator and signs nothing; what it makes is packed by `fleet.bundle` like any component.

A project is a folder with `bundle.yaml`, `wit/`, its source, and a lock file that names the tools of its language with
their digests. Tools that come from a package registry are installed into a cache directory under the digest of that
lock; compilers that a machine has for its own sake (Rust, Go, Node.js) are only looked for.
"""

from __future__ import annotations

from orchestrator.building.languages import build_component
from orchestrator.building.scaffold import scaffold

__all__ = ["build_component", "scaffold"]
