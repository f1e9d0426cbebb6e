"""Building: missing and failing tools, the cache of tools, and what a recipe does with the project's folder.

The tools here are stand-ins on the PATH or small packages made for the test; the real ones are run by `make languages`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import pytest

from fleet.bundle import Language, parse_bundle_manifest
from fleet.errors import Code, FleetError
from orchestrator.building import build_component, languages, rust, scaffold, tools
from orchestrator.building.tools import Tools
from orchestrator.cli.main import main


class Noted(list):
    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def made(tmp_path, noted) -> Tools:
    return Tools(noted, tmp_path / "cache")


def project(tmp_path: Path, language: Language) -> Path:
    folder = tmp_path / "agent"
    scaffold("agent", language, folder)
    return folder


def build(folder: Path, made: Tools) -> Path:
    return build_component(folder, parse_bundle_manifest((folder / "bundle.yaml").read_bytes(), "bundle.yaml"), made)


def wheel(folder: Path, name: str, code: str) -> Path:
    """A package that pip installs without any index, and a lock that names it with its digest."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/__init__.py", code)
        archive.writestr(f"{name}/__main__.py", f"import {name}; {name}.main()")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    lock = folder / "requirements.txt"
    lock.write_text(f"{name} @ {file.as_uri()} --hash=sha256:{digest}\n")
    return lock


@pytest.mark.parametrize(
    ("language", "tool", "remedy"),
    [
        (Language.GO, "go", "https://go.dev/dl/"),
        (Language.JAVASCRIPT, "node", "apt-get install nodejs npm"),
        (Language.QUICKJS, "node", "apt-get install nodejs npm"),
        (Language.RUST, "rust", "rustup target add wasm32-unknown-unknown"),
    ],
)
def test_a_missing_tool_is_named_with_what_installs_it(tmp_path, monkeypatch, made, language, tool, remedy) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rust, "DEBIAN_RUSTC", tmp_path / "rustc")
    folder = project(tmp_path, language)
    with pytest.raises(FleetError) as caught:
        build(folder, made)
    assert (caught.value.code, caught.value.detail["tool"]) == (Code.TOOL_MISSING, tool)
    assert remedy in caught.value.remedy
    assert not list(folder.glob(".build-*"))


def test_fleetctl_reports_a_missing_tool(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = project(tmp_path, Language.GO)
    for command in ("build", "push"):
        assert main(["bundle", command, str(folder)]) == 1
        error = capsys.readouterr().err
        assert "TOOL_MISSING" in error
        assert "https://go.dev/dl/" in error


def test_a_failing_step_shows_what_the_tool_said(tmp_path, made, noted) -> None:
    code = "import sys; print('x' * 20_000); print('line 3: no such thing', file=sys.stderr); sys.exit(7)"
    with pytest.raises(FleetError) as caught:
        made.run([sys.executable, "-c", code], tmp_path)
    assert caught.value.code is Code.BUILD_FAILED
    assert "ended with 7" in caught.value.private
    (said,) = noted
    assert said.endswith("line 3: no such thing")
    assert len(said) <= tools.MAX_OUTPUT


def test_a_step_that_hangs_is_ended(tmp_path, monkeypatch, made) -> None:
    monkeypatch.setattr(tools, "STEP_TIMEOUT_S", 0.2)
    with pytest.raises(FleetError) as caught:
        made.run([sys.executable, "-c", "import threading; threading.Event().wait()"], tmp_path)
    assert caught.value.code is Code.BUILD_FAILED


def test_packages_are_installed_once_and_run_from_the_cache(tmp_path, made, noted) -> None:
    lock = wheel(tmp_path / "one", "fleettesttool", "import sys\ndef main(): print('made', *sys.argv[1:])\n")
    for _ in range(2):
        locked = made.python(lock)
        assert made.run(locked.module("fleettesttool", "a", "b"), tmp_path) == "made a b\n"
        assert made.run(locked.function("fleettesttool", "main", "c"), tmp_path) == "made c\n"
    assert len(noted) == 1
    assert [path.name.startswith("tools-python-") for path in made.cache.iterdir()] == [True]
    other = wheel(tmp_path / "two", "fleettesttool", "def main(): print('newer')\n")
    assert made.run(made.python(other).module("fleettesttool"), tmp_path) == "newer\n"


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path, made, noted) -> None:
    lock = wheel(tmp_path / "one", "fleettesttool", "def main(): pass\n")
    lock.write_text(lock.read_text().rpartition(":")[0] + ":" + "0" * 64 + "\n")
    with pytest.raises(FleetError) as caught:
        made.python(lock)
    assert caught.value.code is Code.BUILD_FAILED
    assert "hash" in noted[-1].lower()
    assert list(made.cache.iterdir()) == []


def test_a_lock_that_cannot_be_read_is_a_fault_of_the_project(tmp_path, monkeypatch, made) -> None:
    with pytest.raises(FleetError) as caught:
        made.python(tmp_path / "requirements.txt")
    assert caught.value.code is Code.BUNDLE_INVALID
    (tmp_path / "requirements.txt").write_text("# " + "long" * 10)
    monkeypatch.setattr(tools, "MAX_LOCK", 10)
    with pytest.raises(FleetError) as caught:
        made.python(tmp_path / "requirements.txt")
    assert caught.value.code is Code.LIMIT_EXCEEDED


def test_a_built_component_replaces_the_last_one_as_a_whole(tmp_path, monkeypatch, made) -> None:
    folder = project(tmp_path, Language.C)
    target = folder / "agent.wasm"
    target.write_bytes(b"the last one")

    def fail(*_: object) -> Path:
        raise FleetError(Code.BUILD_FAILED, "no")

    monkeypatch.setitem(recipes := dict(languages.RECIPES), Language.C, fail)
    monkeypatch.setattr(languages, "RECIPES", recipes)
    with pytest.raises(FleetError):
        build(folder, made)
    assert target.read_bytes() == b"the last one"

    def succeed(found: languages.Project, _: Tools) -> Path:
        assert (found.world, found.wit) == ("agent", folder / "wit")
        (found.scratch / "out.wasm").write_bytes(b"a new one")
        return found.scratch / "out.wasm"

    recipes[Language.C] = succeed
    assert build(folder, made) == target
    assert target.read_bytes() == b"a new one"
    assert not list(folder.glob(".build-*"))


def test_a_manifest_without_a_language_builds_nothing(tmp_path, made) -> None:
    folder = project(tmp_path, Language.C)
    manifest = folder / "bundle.yaml"
    manifest.write_text(manifest.read_text().partition("build:")[0])
    with pytest.raises(FleetError) as caught:
        build(folder, made)
    assert caught.value.code is Code.BUNDLE_INVALID


@pytest.mark.parametrize("count", [0, 2])
def test_a_crate_makes_exactly_one_module(tmp_path, count: int) -> None:
    built = {"reason": "compiler-artifact", "manifest_path": str(tmp_path / "Cargo.toml"), "filenames": ["a.wasm"]}
    messages = [{"reason": "build-finished"}, *[built] * count]
    with pytest.raises(FleetError) as caught:
        languages._cargo_artefact("".join(json.dumps(message) + "\n" for message in messages), tmp_path)
    assert caught.value.code is Code.BUILD_FAILED
