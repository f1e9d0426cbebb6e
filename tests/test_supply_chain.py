"""What is installed is exactly what was looked at: each package of each lock by its hash, and the bill says no more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sbom.generate import check, described, locked

ROOT = Path(__file__).parents[1]
PYTHON_LOCKS = [
    "requirements.lock",
    "sbom/requirements.txt",
    *(str(path.relative_to(ROOT)) for path in ROOT.glob("orchestrator/building/templates/*/requirements.txt")),
]
NODE_LOCKS = [
    str(path.relative_to(ROOT))
    for folder in ("orchestrator/building/templates", "tests/interop", "tests/languages")
    for path in ROOT.glob(f"{folder}/**/package-lock.json")
    if "node_modules" not in path.parts
]


def entries(text: str) -> list[str]:
    """Requirements of a lock, each with its continuation lines."""
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return lines.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("lock", PYTHON_LOCKS)
def test_every_locked_python_package_is_pinned_by_hash(lock: str) -> None:
    found = entries((ROOT / lock).read_text())
    assert found
    for entry in found:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+( ;.*?)?\s+--hash=sha256:[0-9a-f]{64}", entry), entry
        assert "://" not in entry  # nothing beside a package index
    assert len(locked((ROOT / lock).read_text())) == len(found)


@pytest.mark.parametrize("lock", NODE_LOCKS)
def test_every_locked_node_package_is_pinned_by_hash(lock: str) -> None:
    packages = json.loads((ROOT / lock).read_text())["packages"]
    for name, package in packages.items():
        assert not name or package["integrity"].startswith("sha512-"), name


def test_an_entry_without_a_hash_is_seen() -> None:
    assert entries("a==1 \\\n    --hash=sha256:00\n# b\nc==2\n") == ["a==1      --hash=sha256:00", "c==2"]


def test_setup_demands_the_hashes() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("$(VENV)/.installed:")[2].partition("\n\n")[0]
    installs = [line for line in recipe.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes -r requirements.lock" in installs[0]
    assert "--no-deps --no-build-isolation --editable ." in installs[1]  # this project, and nothing for it


def test_nothing_is_installed_that_the_project_does_not_name_or_need() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    reasons = re.findall(r"^    # +(?:via )?(\S+)", lock, re.MULTILINE)
    assert {"edge-fleet-orchestrator"} <= set(reasons)
    assert set(reasons) - {"edge-fleet-orchestrator", "via"} <= locked(lock).keys()


def test_the_bill_is_that_of_the_lock_or_there_is_none() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    def bill(packages: dict[str, str]) -> str:
        return json.dumps({"components": [{"name": name, "version": at} for name, at in packages.items()]})

    right = locked(lock)
    assert check(bill({**right, "edge-fleet-orchestrator": "0.1.0"}), lock) == len(right)
    for wrong in ({**right, "left-pad": "1.0"}, {**right, "tuf": "0.1"}, dict(list(right.items())[1:])):
        with pytest.raises(ValueError, match=r"requirements\.lock"):
            check(bill(wrong), lock)


def test_names_are_compared_as_the_index_normalises_them() -> None:
    sbom = json.dumps({"components": [{"name": "Typing_Extensions", "version": "1"}, {"name": "a.b", "version": "2"}]})
    assert described(sbom) == {"typing-extensions": "1", "a-b": "2"}
