"""docs/limits.md says what the limits and exit causes are."""

import re
from pathlib import Path

from fleet.grants.limits import DEFAULT_LIMITS, LIMITS
from fleet.model import ExitCause, QueuePolicy

PAGE = (Path(__file__).parents[3] / "docs" / "limits.md").read_text()


def rows(heading):
    """First cells, and second ones, of the table whose first cell is headed so."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", table, re.MULTILINE))


def test_every_limit_has_a_row_with_its_default():
    defaults = DEFAULT_LIMITS.describe()
    assert rows("limit") == {spec.key: str(defaults.get(spec.key, "none")) for spec in LIMITS.values()}


def test_every_policy_and_every_cause_has_a_row():
    assert rows("value").keys() == set(QueuePolicy)
    assert rows("cause").keys() == set(ExitCause)
