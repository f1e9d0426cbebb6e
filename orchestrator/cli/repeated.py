"""The values of options that may be given several times, as click hands them over among all others."""

from __future__ import annotations

from pathlib import Path


def words(value: object) -> tuple[str, ...]:
    """Return the texts."""
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, tuple) else ()


def paths(value: object) -> tuple[Path, ...]:
    """Return the paths."""
    return tuple(path for path in value if isinstance(path, Path)) if isinstance(value, tuple) else ()
