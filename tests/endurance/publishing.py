"""Results of long runs as pages of docs/endurance, written when PUBLISH=1 asks for it."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGES = Path(__file__).resolve().parents[2] / "docs" / "endurance"


def publish(page: str, title: str, command: str, results: Mapping[str, object]) -> None:
    """Print a run's results, and write them as a page if they are to be published."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in results.items())
    machine = f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}"
    text = f"""# {title}

Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}; {machine}.

| what | result |
|---|---|
{rows}
"""
    sys.stdout.write(text)
    if os.environ.get("PUBLISH") == "1":
        PAGES.mkdir(parents=True, exist_ok=True)
        (PAGES / f"{page}.md").write_text(text)
