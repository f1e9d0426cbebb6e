"""What this project installs is pinned: by version, and by a digest that the installing tool checks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {".venv", "node_modules", ".git", "build"}
PYTHON_LOCKS = sorted({ROOT / "requirements.lock", *ROOT.glob("orchestrator/building/templates/*/requirements.txt")})


def found(name: str) -> list[Path]:
    """Files of that name in the tree, without what was installed."""
    return sorted(path for path in ROOT.rglob(name) if not SKIPPED & set(path.relative_to(ROOT).parts))


@pytest.mark.parametrize("lock", PYTHON_LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_package_is_pinned_with_digests(lock: Path) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text().replace("\\\n", " "))
    packages = [entry for entry in entries if re.match(r"[A-Za-z0-9]", entry)]
    assert packages
    for package in packages:
        assert re.match(r"[A-Za-z0-9_.\[\]-]+==\S+", package), package
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", package), package


@pytest.mark.parametrize("lock", found("package-lock.json"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_npm_package_is_pinned_with_a_digest(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    assert len(packages) > 1
    for name, package in packages.items():
        assert not name or (package["version"] and package["integrity"].startswith("sha512-")), name


@pytest.mark.parametrize("module", found("go.mod"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_go_module_is_pinned_with_a_digest(module: Path) -> None:
    required = re.findall(r"^(?:require )?\s*([a-z0-9.-]+\.[a-z]+/\S+) (v\S+)", module.read_text(), re.MULTILINE)
    sums = module.with_name("go.sum").read_text() if required else ""
    for name, version in required:
        assert f"{name} {version} h1:" in sums, name
