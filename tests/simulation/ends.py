"""How processes of a simulated fleet end: as exceptions that no part of either program may hide for long."""

from __future__ import annotations

from tests.fakes.disk import PowerCutError


class CoordinatorCrashError(Exception):
    """The coordinator's process is gone."""


def is_end(error: BaseException | None) -> bool:
    """Whether an exception only says that the process ended."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_end(inner) for inner in error.exceptions)
    return isinstance(error, PowerCutError | CoordinatorCrashError)
