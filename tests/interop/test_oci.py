"""Bundles among OCI tools that nobody here wrote: the CNCF's registry, crane, the ORAS client in Go and in Python.

fleetctl ── push/pull ──> registry <── crane, oras
layout of fleetctl ── copy ──> registry, layout of oras ── pull/verify/import ──> fleetctl
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import trustme
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from oras.layout import Layout as OrasLayout

from fleet.errors import CATALOG, Code, ExitCode
from fleet.oci import INDEX_TYPE, digest_of
from orchestrator.cli.layout import Layout
from orchestrator.cli.main import main
from orchestrator.cli.reference import Reference
from orchestrator.cli.registry import Registry
from orchestrator.cli.sources import Access
from orchestrator.cli.upload import Content
from tests.fakes.ports import free_port
from tests.fakes.registry import LOGIN, PASSWORD, USER, Exchange, running
from tests.fakes.wait import wait_until
from tests.interop.programs import CRANE, ORAS, REGISTRY, go_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[2] / "components" / "context-agent"
COMPONENT = (SAMPLE / "context_agent.wasm").read_bytes()
WASM_CONFIG = "application/vnd.wasm.config.v0+json"
DELTA_TYPE = "application/vnd.example.delta.v1"

HTPASSWD = f"{USER}:$2b$04$eITWC63XNOBPhbNvEAVNxerGs4TA9TNRF6SpLyvTS42WOV5y70Xpq\n"
"""`PASSWORD` as `htpasswd -B` writes it; the registry takes bcrypt alone."""


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    """Build them before any test has a home of its own, without what was built before."""
    for package in (REGISTRY, CRANE, ORAS):
        go_program(package)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    ok("bundle", "build", SAMPLE, "--to", tmp_path / "built")
    return tmp_path / "built"


def ok(*arguments: str | Path) -> None:
    assert main(["-q", *map(str, arguments)]) == ExitCode.OK


def refused(code: Code, *arguments: str | Path) -> None:
    assert main(["-q", *map(str, arguments)]) == CATALOG[code].exit_code


def run(package: str, *arguments: str | Path, binary: bool = False) -> str:
    done = subprocess.run([go_program(package), *arguments], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return "" if binary else done.stdout.decode()


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[str]:
    """The registry of the CNCF, as a process; yields its address."""
    port = free_port()
    http = {"addr": f"127.0.0.1:{port}", **settings.pop("http", {})}
    storage = {"filesystem": {"rootdirectory": str(folder / "storage")}}
    document = {"version": "0.1", "log": {"level": "error"}, "storage": storage, "http": http, **settings}
    (folder / "registry.yml").write_text(yaml.safe_dump(document))
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with (folder / "registry.log").open("wb") as log:
        command = [go_program(REGISTRY), "serve", folder / "registry.yml"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            wait_until(lambda: process.poll() is not None or _listens(port))
            assert process.poll() is None, (folder / "registry.log").read_text()
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as address:
        yield address


def log_in(host: str, password: str = PASSWORD) -> None:
    folder = Path(os.environ["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    said = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": said}}}))


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "blobs").rglob("*") if file.is_file()}


# What fleetctl writes, read by others


def test_oras_py_reads_our_layout(built: Path) -> None:
    layout = OrasLayout(str(built), validate=True)
    assert len(layout.get_ordered_blobs("0.1.0")) == len(content(built))


def test_crane_and_oras_read_what_we_pushed(built: Path, registry: str) -> None:
    place = f"{registry}/team/context:0.1.0"
    ok("bundle", "push", built, "--to", f"oci://{place}", "--insecure-no-tls")
    index = Layout(built).index()
    assert run(CRANE, "digest", "--insecure", place).strip() == digest_of(index)
    assert run(CRANE, "manifest", "--insecure", place).encode() == index
    described = json.loads(run(ORAS, "manifest", "fetch", "--plain-http", "--descriptor", place))
    assert (described["digest"], described["mediaType"]) == (digest_of(index), INDEX_TYPE)
    run(ORAS, "copy", "--from-plain-http", place, "--to-oci-layout", "theirs:0.1.0")
    assert content(Path("theirs")) == content(built)
    ok("bundle", "inspect", "theirs")


def test_crane_and_oras_find_the_component(built: Path, registry: str) -> None:
    """The Wasm artifact of a bundle stands by itself: it is what the CNCF's layout says, whoever fetches it."""
    ok("bundle", "push", built, "--to", f"oci://{registry}/team/context:0.1.0", "--insecure-no-tls")
    wasm = json.loads(Layout(built).index())["manifests"][0]["digest"]
    place = f"{registry}/team/context@{wasm}"
    manifest = json.loads(run(CRANE, "manifest", "--insecure", place))
    assert manifest["config"]["mediaType"] == WASM_CONFIG
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/wasm"]
    config = json.loads(run(CRANE, "config", "--insecure", place))
    assert (config["architecture"], config["os"], config["layerDigests"]) == ("wasm", "wasip2", [digest_of(COMPONENT)])
    run(
        ORAS, "blob", "fetch", "--plain-http", "--output", "out.wasm", f"{registry}/team/context@{digest_of(COMPONENT)}"
    )
    assert Path("out.wasm").read_bytes() == COMPONENT


# What others write, read by fleetctl


def test_a_layout_that_oras_pushed_comes_back_unchanged(built: Path, registry: str) -> None:
    place = f"{registry}/team/context:0.1.0"
    run(ORAS, "copy", "--from-oci-layout", f"{built}:0.1.0", "--to-plain-http", place)
    ok("bundle", "pull", f"oci://{place}", "--insecure-no-tls", "--to", "pulled")
    assert content(Path("pulled")) == content(built)


def test_a_layout_that_crane_pulled_is_a_bundle(built: Path, registry: str) -> None:
    place = f"{registry}/team/context:0.1.0"
    ok("bundle", "push", built, "--to", f"oci://{place}", "--insecure-no-tls")
    run(CRANE, "pull", "--insecure", "--format=oci", place, "theirs")
    ok("bundle", "inspect", "theirs")


def test_an_artifact_that_oras_made_becomes_a_bundle(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("component.wasm").write_bytes(COMPONENT)
    said = {"architecture": "wasm", "os": "wasip2", "layerDigests": [digest_of(COMPONENT)], "author": "Ada"}
    Path("config.json").write_text(json.dumps(said))
    place = f"{registry}/others/thing:2.0.0"
    files = ("--config", f"config.json:{WASM_CONFIG}", "component.wasm:application/wasm")
    run(ORAS, "push", "--plain-http", "--annotation", "org.opencontainers.image.licenses=MIT", place, *files)
    capsys.readouterr()
    named = ("--name", "thing", "--version", "2.0.0", "--to", "thing")
    ok("-o", "json", "bundle", "import", f"oci://{place}", *named, "--insecure-no-tls")
    made = json.loads(capsys.readouterr().out)
    assert made["component"]["digest"] == digest_of(COMPONENT)
    assert made["annotations"]["org.opencontainers.image.licenses"] == "MIT"
    assert made["annotations"]["org.opencontainers.image.authors"] == "Ada"
    run(ORAS, "push", "--plain-http", place, *files, "config.json:application/json")  # a second layer
    refused(Code.BUNDLE_INVALID, "bundle", "import", f"oci://{place}", *named, "--insecure-no-tls")


def test_a_delta_beside_a_bundle_changes_nothing(built: Path, registry: str) -> None:
    """A referrer of the index (image-spec 1.1, `subject`) is found by those who look for it, and by nobody else."""
    place = f"{registry}/team/context:0.1.0"
    ok("bundle", "push", built, "--to", f"oci://{place}", "--insecure-no-tls")
    packer = zlib.compressobj(zdict=COMPONENT[:16_000])
    Path("delta").write_bytes(packer.compress(COMPONENT[:16_000]) + packer.flush())
    run(ORAS, "attach", "--plain-http", "--artifact-type", DELTA_TYPE, place, "delta:application/octet-stream")
    found = json.loads(run(ORAS, "discover", "--plain-http", "--format", "json", place))
    assert [entry["artifactType"] for entry in found["referrers"]] == [DELTA_TYPE]
    ok("bundle", "pull", f"oci://{place}", "--insecure-no-tls", "--to", "pulled")
    assert content(Path("pulled")) == content(built)
    # In a layout it lies beside the bundle, and is passed over there too.
    run(ORAS, "copy", "--recursive", "--from-plain-http", place, "--to-oci-layout", "theirs:0.1.0")
    assert len(content(Path("theirs"))) > len(content(built))
    ok("bundle", "inspect", "theirs")


# Large blobs


class _Line:
    """A line to a registry that breaks once, in the middle of what is sent over it; it only hands bytes on."""

    def __init__(self, target: str, breaks_after: int) -> None:
        host, _, port = target.partition(":")
        self._target = host, int(port)
        self._left = breaks_after
        self._lock = threading.Lock()
        self.broken = 0
        self._ends = [socket.create_server(("127.0.0.1", 0))]
        self.address = f"127.0.0.1:{self._ends[0].getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _cut(self._ends)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _start(self, what: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=what, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._ends[0].accept()
                far = socket.create_connection(self._target)
                self._ends += [near, far]
                self._start(self._pump, near, far, True)
                self._start(self._pump, far, near, False)

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    breaks = counted and not self.broken and len(data) > self._left
                    self._left -= len(data) if counted else 0
                    self.broken += breaks
                if breaks:
                    break
                sink.sendall(data)
        _cut((source, sink))


def _cut(ends: Iterable[socket.socket]) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("breaks_after", [50_000, 700_000, 1_400_000])
def test_a_large_blob_goes_in_pieces_over_a_line_that_breaks(registry: str, breaks_after: int) -> None:
    """What has arrived and where to go on is the registry's to say; the digest of all of it too."""
    data = random.Random(7).randbytes(1_500_000)
    with _Line(registry, breaks_after) as line:
        with Registry(Reference(line.address, "large", "1"), Access(plain=True), chunk=300_000) as client:
            assert client.push_blob(Content.of(data))
            assert not client.push_blob(Content.of(data))
        assert line.broken == 1
    with Registry(Reference(registry, "large", "1"), Access(plain=True)) as client:
        assert client.blob(digest_of(data), len(data)) == data
    run(CRANE, "blob", "--insecure", f"{registry}/large@{digest_of(data)}", binary=True)


def test_a_piece_out_of_place_is_what_the_registry_says_it_is(registry: str) -> None:
    """416, and where to go on: as distribution-spec 1.1 has it, and as `tests/fakes/registry.py` answers."""
    with Registry(Reference(registry, "large", "1"), Access(plain=True)) as client:
        octets = {"Content-Type": "application/octet-stream"}
        begun = client.step("POST", f"http://{registry}/v2/large/blobs/uploads/", b"", {})
        sent = client.step("PATCH", begun.place, bytes(1000), {**octets, "Content-Range": "0-999"})
        assert (sent.status, sent.headers["Range"]) == (202, "0-999")
        assert client.step("PATCH", sent.place, bytes(10), {**octets, "Content-Range": "5-14"}).status == 416
        asked = client.step("GET", sent.place, b"", {})
        assert (asked.status, asked.headers["Range"]) == (204, "0-999")


# Logging in


def test_a_login_over_tls(built: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path("ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path("server.pem")
    Path("htpasswd").write_text(HTPASSWD)
    files = {"certificate": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.pem")}
    auth = {"htpasswd": {"realm": "here", "path": str(tmp_path / "htpasswd")}}
    with serving(tmp_path, http={"tls": files}, auth=auth) as host:
        place = f"oci://{host}/team/context:0.1.0"
        trusted = ("--registry-ca", "ca.pem")
        refused(Code.UNAUTHENTICATED, "bundle", "push", built, "--to", place, *trusted)
        log_in(host, "wrong")
        refused(Code.UNAUTHENTICATED, "bundle", "push", built, "--to", place, *trusted)
        log_in(host)
        refused(Code.CERTIFICATE_INVALID, "bundle", "push", built, "--to", place)
        ok("bundle", "push", built, "--to", place, *trusted)
        ok("bundle", "pull", place, *trusted, "--to", "pulled")
        assert content(Path("pulled")) == content(built)


def test_a_login_by_tokens_of_one_scope_each(built: Path, tmp_path: Path) -> None:
    """As the large public registries have it: a token to read, another one to write (distribution, "Token auth")."""
    issuer = _Issuer(tmp_path)
    with running() as tokens:
        tokens.misbehave = issuer.answer
        settings = {
            "realm": f"{tokens.url}/token",
            "service": "registry",
            "issuer": "tests",
            "rootcertbundle": str(tmp_path / "issuer.pem"),
            "signingalgorithms": ["ES256"],
        }
        with serving(tmp_path, auth={"token": settings}) as host:
            # In clear a login may lead nowhere else, so the token server has to be the registry's own, over TLS.
            log_in(host)
            place = f"oci://{host}/team/context:0.1.0"
            refused(Code.PERMISSION_DENIED, "bundle", "push", built, "--to", place, "--insecure-no-tls")
            assert not tokens.seen
    authority = trustme.CA()
    authority.cert_pem.write_to_path("ca.pem")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path("server.pem")
    with running(_context(certificate)) as tokens:
        tokens.misbehave = issuer.answer
        settings["realm"] = f"{tokens.url}/token"
        files = {"certificate": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.pem")}
        with serving(tmp_path, http={"tls": files}, auth={"token": settings}) as host:
            log_in(host)
            place = f"oci://{host}/team/context:0.1.0"
            ok("bundle", "push", built, "--to", place, "--registry-ca", "ca.pem")
            ok("bundle", "pull", place, "--registry-ca", "ca.pem", "--to", "pulled")
            assert content(Path("pulled")) == content(built)
    assert {actions for _, actions in issuer.issued} == {("pull",), ("pull", "push")}
    shutil.rmtree("docker")


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class _Issuer:
    """Issues the tokens that the registry takes: JSON Web Tokens (RFC 7519) under a certificate that it trusts."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
        now = datetime.now(UTC)
        day = timedelta(days=1)
        builder = x509.CertificateBuilder(name, name, self._key.public_key(), 1, now - day, now + day)
        certificate = builder.sign(self._key, hashes.SHA256())
        (folder / "issuer.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
        self.issued: list[tuple[str, tuple[str, ...]]] = []

    def answer(self, exchange: Exchange) -> bool:
        if exchange.headers.get("Authorization") != LOGIN:
            return exchange.reply(401)
        scope = dict(pair.split("=", 1) for pair in exchange.path.partition("?")[2].split("&")).get("scope", "")
        kind, repository, actions = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",").split(":")
        self.issued.append((repository, tuple(actions.split(","))))
        now = int(time.time())
        access = [{"type": kind, "name": repository, "actions": actions.split(",")}]
        times = {"iat": now, "nbf": now - 5, "exp": now + 300}
        claims = {"iss": "tests", "sub": USER, "aud": "registry", "jti": "1", "access": access, **times}
        text = b".".join(
            _part(json.dumps(part)) for part in ({"typ": "JWT", "alg": "ES256", "x5c": self._chain}, claims)
        )
        r, s = decode_dss_signature(self._key.sign(text, ec.ECDSA(hashes.SHA256())))
        token = text + b"." + _part(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return exchange.reply(200, json.dumps({"token": token.decode()}).encode())


def _part(data: str | bytes) -> bytes:
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=")
