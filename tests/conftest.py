"""Settings of every test: no example is failed for being slow, since machines are shared and noisy."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

# On top of the profile in force: where CI is set, Hypothesis repeats the same examples every time.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of every collection of garbage: tests of leaks ask for hundreds."""
    gc.collect()
    gc.freeze()
