"""Bundles that move: into folders, through registries, and out of what others built."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.documents import dump_json
from fleet.errors import CATALOG, Code, ExitCode
from fleet.oci import ARTIFACT_TYPE, INDEX_TYPE, digest_of
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations
from fleet.targets import REVOCATIONS_PATH, bundle_path
from orchestrator.cli.layout import Layout, write_layout
from orchestrator.cli.main import main
from orchestrator.cli.sources import open_layout
from tests.fakes.publisher import Publisher
from tests.fakes.refusals import code_of
from tests.fakes.registry import FakeRegistry, running
from tests.fakes.teams import team_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE = Path(__file__).parents[3] / "components" / "context-agent"
COMPONENT = (SAMPLE / "context_agent.wasm").read_bytes()
CORE_MODULE = b"\0asm\x01\0\0\0"
SAID = {"org.opencontainers.image.licenses": "Apache-2.0", "org.opencontainers.image.source": "https://example.org/x"}


@pytest.fixture(autouse=True)
def _no_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "bundle"
    assert main(["-q", "bundle", "build", str(SAMPLE), "--to", str(folder)]) == ExitCode.OK
    return folder


class Ctl:
    """fleetctl, and what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def ok(self, *arguments: str | Path) -> dict[str, Any]:
        assert main(["-q", "-o", "json", *map(str, arguments)]) == ExitCode.OK
        answer: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return answer

    def refused(self, code: Code, *arguments: str | Path) -> str:
        assert main(["-q", *map(str, arguments)]) == CATALOG[code].exit_code
        error = self._capsys.readouterr().err
        assert code in error
        return error


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Ctl:
    return Ctl(capsys)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# Registries


def test_a_bundle_goes_through_a_registry_unchanged(ctl: Ctl, server: FakeRegistry, built: Path) -> None:
    place = f"oci://{server.host}/team/context:0.1.0"
    sent = ctl.ok("bundle", "push", built, "--to", place, "--insecure-no-tls")
    assert sent["reference"] == place
    assert server.store["manifests", "0.1.0"] == Layout(built).index()
    puts = [path for method, path, _ in server.seen if method == "PUT"]
    assert puts[-1].endswith("/manifests/0.1.0")  # the index comes last: what it names is there by then
    came = ctl.ok("bundle", "pull", place, "--insecure-no-tls", "--to", "pulled")
    assert {**came, "reference": place} == {**sent, "path": "pulled"}
    assert content(Path("pulled")) == content(built)
    by_digest = f"oci://{server.host}/team/context@{sent['digest']}"
    assert ctl.ok("bundle", "inspect", by_digest, "--insecure-no-tls")["bundle"] == "context-agent@0.1.0"
    assert "under a tag" in ctl.refused(
        Code.CONFIG_INVALID, "bundle", "push", built, "--to", by_digest, "--insecure-no-tls"
    )


def test_a_bundle_is_built_and_pushed_in_one_step(ctl: Ctl, server: FakeRegistry, built: Path) -> None:
    place = f"oci://{server.host}/team/context:0.1.0"
    ctl.ok("bundle", "push", SAMPLE, "--to", place, "--insecure-no-tls")
    assert server.store["manifests", "0.1.0"] == Layout(built).index()


def test_what_two_bundles_share_is_sent_once(ctl: Ctl, server: FakeRegistry, built: Path, tmp_path: Path) -> None:
    """A newer version with the same component and the same model is its documents only."""
    folder = tmp_path / "next"
    shutil.copytree(SAMPLE, folder)
    text = (folder / "bundle.yaml").read_text().replace("version: 0.1.0", "version: 0.2.0")
    (folder / "bundle.yaml").write_text(text)
    place = f"oci://{server.host}/team/context"
    ctl.ok("bundle", "push", built, "--to", f"{place}:0.1.0", "--insecure-no-tls")
    server.seen.clear()
    ctl.ok("bundle", "push", folder, "--to", f"{place}:0.2.0", "--insecure-no-tls")
    uploads = [path for method, path, _ in server.seen if method == "PUT" and "/blobs/" in path]
    assert len(uploads) == 1  # the fleet manifest, which holds the version


def test_a_changed_blob_is_never_written(ctl: Ctl, server: FakeRegistry, built: Path) -> None:
    place = f"oci://{server.host}/team/context:0.1.0"
    ctl.ok("bundle", "push", built, "--to", place, "--insecure-no-tls")
    server.store["blobs", digest_of(COMPONENT)] = COMPONENT[:-1] + b"!"
    ctl.refused(Code.DIGEST_MISMATCH, "bundle", "pull", place, "--insecure-no-tls", "--to", "pulled")
    assert not list(Path().glob("*pulled*"))


def test_what_is_no_bundle_is_not_pulled(ctl: Ctl, server: FakeRegistry) -> None:
    place = artifact(server)
    assert "bundle" in ctl.refused(Code.BUNDLE_INVALID, "bundle", "pull", place, "--insecure-no-tls")


# Folders


@pytest.mark.parametrize("command", ["build", "import"])
def test_no_other_folder_is_ever_replaced(ctl: Ctl, tmp_path: Path, command: str) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    source = [SAMPLE] if command == "build" else [SAMPLE / "context_agent.wasm", "--name", "x", "--version", "1.0.0"]
    ctl.refused(Code.ALREADY_EXISTS, "bundle", command, *source, "--to", "precious")
    assert (tmp_path / "precious" / "file").read_text() == "mine"
    assert not list(tmp_path.glob(".precious*"))


def test_a_layout_is_replaced_by_a_complete_one_only(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    shutil.copytree(built, folder)
    before = content(folder)

    def breaks_off() -> Iterator[tuple[str, bytes]]:
        yield digest_of(b"one"), b"one"
        raise OSError

    with pytest.raises(OSError):
        write_layout(folder, b"{}", breaks_off(), "1.0.0")
    assert content(folder) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_lies_beside_a_bundle_is_passed_over(built: Path, tmp_path: Path) -> None:
    """A delta, a signature or a list of parts may come to be there: it names the bundle, and is not asked."""
    folder = tmp_path / "layout"
    shutil.copytree(built, folder)
    delta = dump_json(
        {
            "schemaVersion": 2,
            "mediaType": ARTIFACT_TYPE,
            "artifactType": "application/vnd.fleet.delta.v1",
            "subject": {"mediaType": INDEX_TYPE, "digest": digest_of(Layout(built).index()), "size": 1},
        }
    )
    (folder / "blobs" / "sha256" / digest_of(delta).removeprefix("sha256:")).write_bytes(delta)
    top = json.loads((folder / "index.json").read_bytes())
    entry = {"mediaType": ARTIFACT_TYPE, "artifactType": "application/vnd.fleet.delta.v1", "size": len(delta)}
    top["manifests"].insert(0, {**entry, "digest": digest_of(delta)})
    (folder / "index.json").write_bytes(dump_json({**top, "annotations": {"made": "elsewhere"}}))
    assert open_layout(folder).bundle == open_layout(built).bundle


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"manifests": []}, Code.BUNDLE_INVALID),
        ({"schemaVersion": 1}, Code.BUNDLE_INVALID),
        ({"manifests": [{"mediaType": INDEX_TYPE, "digest": "../../etc/passwd", "size": 10}]}, Code.BUNDLE_INVALID),
        ({"manifests": [{"mediaType": INDEX_TYPE, "digest": "sha256:" + "0" * 64, "size": 9}]}, Code.BUNDLE_INVALID),
        ({"more": "x" * 70_000}, Code.LIMIT_EXCEEDED),
    ],
)
def test_a_damaged_layout_is_refused(built: Path, tmp_path: Path, change: dict[str, object], code: Code) -> None:
    shutil.copytree(built, tmp_path / "layout")
    file = tmp_path / "layout" / "index.json"
    file.write_bytes(dump_json({**json.loads(file.read_bytes()), **change}))
    assert code_of(open_layout, tmp_path / "layout") is code
    file.unlink()
    assert code_of(open_layout, tmp_path / "layout") is Code.BUNDLE_INVALID


def test_a_file_that_grows_while_it_is_read_is_refused(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "layout")
    name = digest_of(COMPONENT)
    with (tmp_path / "layout" / "blobs" / "sha256" / name.removeprefix("sha256:")).open("ab") as file:
        file.write(b"!")
    assert code_of(open_layout(tmp_path / "layout").check) is Code.LIMIT_EXCEEDED


def test_a_changed_blob_is_never_returned(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "layout")
    file = tmp_path / "layout" / "blobs" / "sha256" / digest_of(COMPONENT).removeprefix("sha256:")
    for changed, code in ((COMPONENT[:-1] + b"!", Code.DIGEST_MISMATCH), (COMPONENT[:-1], Code.DIGEST_MISMATCH)):
        file.write_bytes(changed)
        assert code_of(Layout(tmp_path / "layout").read, digest_of(COMPONENT), len(COMPONENT)) is code


def test_whoever_lies_about_a_blob_is_not_believed(built: Path) -> None:
    """As a captured coordinator could, from which a published bundle is pulled."""
    opened = open_layout(built)
    for lie in (lambda data: data[:-1] + b"!", lambda data: data[:-1]):
        lying = replace(opened, read=lambda digest, size, lie=lie: lie(opened.read(digest, size)))
        assert code_of(lying.check) is Code.DIGEST_MISMATCH


# Import


def artifact(server: FakeRegistry, component: bytes = COMPONENT, *, nested: bool = False, **config: object) -> str:
    """A Wasm artifact as `wkg oci push` leaves it."""
    said = {
        "created": "2026-05-01T10:00:00Z",
        "author": "Ada",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [digest_of(component)],
        "component": {"imports": [], "exports": [], "target": None},
        **config,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": ARTIFACT_TYPE,
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            **server.put("blobs", dump_json(said)),
        },
        "layers": [{"mediaType": "application/wasm", **server.put("blobs", component)}],
        "annotations": SAID,
    }
    described = {"mediaType": ARTIFACT_TYPE, **server.put_document(manifest, "2.0.0")}
    if nested:
        server.put_document({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [described]}, "2.0.0")
    return f"oci://{server.host}/others/thing:2.0.0"


NAMED = ("--name", "thing", "--version", "1.0.0", "--to", "thing")


def test_a_component_becomes_a_bundle(ctl: Ctl) -> None:
    made = ctl.ok("bundle", "import", SAMPLE / "context_agent.wasm", *NAMED)
    assert made["bundle"] == "thing@1.0.0"
    assert made["component"] == {"digest": digest_of(COMPONENT), "size": len(COMPONENT)}
    assert (made["models"], made["annotations"], made["world"]) == ([], {}, "root:component/root")
    assert "wasi:keyvalue/store@0.2.0-draft2" in made["imports"]


@pytest.mark.parametrize("nested", [False, True])
def test_an_artifact_of_others_becomes_a_bundle(ctl: Ctl, server: FakeRegistry, nested: bool) -> None:
    place = artifact(server, nested=nested)
    made = ctl.ok("bundle", "import", place, *NAMED, "--world", "acme:things/thing", "--insecure-no-tls")
    assert made["component"]["digest"] == digest_of(COMPONENT)
    assert made["annotations"] == {**SAID, "org.opencontainers.image.authors": "Ada"}
    assert made["world"] == "acme:things/thing"
    # What the config says of imports is not believed: it says there are none.
    assert "wasi:keyvalue/store@0.2.0-draft2" in made["imports"]
    shown = ctl.ok("bundle", "inspect", place, "--insecure-no-tls")
    assert (shown["imports"], shown["annotations"]) == (made["imports"], made["annotations"])
    assert ctl.ok("bundle", "inspect", "thing")["annotations"] == made["annotations"]


def test_a_layout_of_others_becomes_a_bundle(ctl: Ctl, server: FakeRegistry, tmp_path: Path) -> None:
    artifact(server)
    blobs = tmp_path / "theirs" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for (_, name), data in server.store.items():
        if name.startswith("sha256:"):
            (blobs / name.removeprefix("sha256:")).write_bytes(data)
    (tmp_path / "theirs" / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    manifest = server.store["manifests", "2.0.0"]
    entry = {"mediaType": ARTIFACT_TYPE, "digest": digest_of(manifest), "size": len(manifest)}
    (tmp_path / "theirs" / "index.json").write_bytes(dump_json({"schemaVersion": 2, "manifests": [entry]}))
    made = ctl.ok("bundle", "import", "theirs", *NAMED)
    assert made["component"]["digest"] == digest_of(COMPONENT)
    assert ctl.ok("bundle", "inspect", "theirs")["annotations"] == made["annotations"]
    (blobs / digest_of(COMPONENT).removeprefix("sha256:")).write_bytes(COMPONENT[:-1] + b"!")
    ctl.refused(Code.DIGEST_MISMATCH, "bundle", "import", "theirs", *NAMED)


def test_a_core_module_is_refused_with_the_way_out(ctl: Ctl, server: FakeRegistry, tmp_path: Path) -> None:
    (tmp_path / "core.wasm").write_bytes(CORE_MODULE)
    for source in (["core.wasm"], [artifact(server, CORE_MODULE), "--insecure-no-tls"]):
        assert "wasm-tools component new" in ctl.refused(Code.COMPONENT_INVALID, "bundle", "import", *source, *NAMED)
    place = artifact(server, CORE_MODULE, os="wasip1")
    ctl.refused(Code.COMPONENT_INVALID, "bundle", "import", place, "--insecure-no-tls", *NAMED)
    assert not Path("thing").exists()


def test_a_bundle_is_not_imported_again(ctl: Ctl, server: FakeRegistry, built: Path) -> None:
    place = f"oci://{server.host}/team/context:0.1.0"
    ctl.ok("bundle", "push", built, "--to", place, "--insecure-no-tls")
    for source in ([built], [place, "--insecure-no-tls"]):
        assert "fleetctl bundle push" in ctl.refused(Code.BUNDLE_INVALID, "bundle", "import", *source, *NAMED)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nothing.wasm", *NAMED), Code.COMPONENT_INVALID),
        ((".", *NAMED), Code.COMPONENT_INVALID),
        ((str(SAMPLE / "context_agent.wasm"), "--name", "thing", "--version", "1"), Code.CONFIG_INVALID),
        (("oci://nowhere", *NAMED), Code.CONFIG_INVALID),
    ],
)
def test_what_cannot_be_imported_is_named(ctl: Ctl, arguments: tuple[str, ...], code: Code) -> None:
    ctl.refused(code, "bundle", "import", *arguments)


# Verify, with nothing but a folder of trust


def publish(folder: Path, index: bytes, **counters: object) -> Publisher:
    publisher = Publisher(keys=team_keys(), now=datetime.now(UTC))
    publisher.add(bundle_path("context-agent", "0.1.0"), index, counters)
    write_trust(publisher, folder)
    return publisher


def write_trust(publisher: Publisher, folder: Path) -> None:
    publisher.publish()
    shutil.rmtree(folder, ignore_errors=True)
    files = {f"repository/{name}": data for name, data in publisher.files.items()} | {"root.json": publisher.root}
    for name, data in (files | {f"documents/{path}": data for path, data in publisher.documents.items()}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_a_bundle_is_verified_offline_with_any_trust_directory(ctl: Ctl, built: Path, tmp_path: Path) -> None:
    index = Layout(built).index()
    publisher = publish(tmp_path / "trust", index, release=1)
    verified = ctl.ok("bundle", "verify", built, "--trust", "trust")
    assert (verified["role"], verified["digest"]) == ("code-default", digest_of(index))
    ctl.ok("bundle", "import", SAMPLE / "context_agent.wasm", "--name", "context-agent", "--version", "0.1.0")
    ctl.refused(Code.DIGEST_MISMATCH, "bundle", "verify", "context-agent-0.1.0.bundle", "--trust", "trust")
    ctl.ok("bundle", "import", SAMPLE / "context_agent.wasm", *NAMED)
    ctl.refused(Code.TARGET_UNSIGNED, "bundle", "verify", "thing", "--trust", "trust")

    subject = verified["models"][0]["digest"]
    revocation = Revocation(Kind.MODEL, subject, "poisoned", datetime.now(UTC))
    publisher.add(REVOCATIONS_PATH, encode_revocations(Revocations().extended([revocation])))
    write_trust(publisher, tmp_path / "trust")
    assert "poisoned" in ctl.refused(Code.REVOKED, "bundle", "verify", built, "--trust", "trust")
    (tmp_path / "trust" / "documents" / REVOCATIONS_PATH).unlink()  # nobody gains by hiding the list
    ctl.refused(Code.NOT_FOUND, "bundle", "verify", built, "--trust", "trust")


def test_a_bundle_below_the_floor_is_told_so(ctl: Ctl, built: Path, tmp_path: Path) -> None:
    publisher = publish(tmp_path / "trust", Layout(built).index(), release=1)
    publisher.add(bundle_path("context-agent", "0.2.0"), b"{}", {"release": 2, "min_release": 2})
    write_trust(publisher, tmp_path / "trust")
    ctl.refused(Code.RELEASE_TOO_OLD, "bundle", "verify", built, "--trust", "trust")
