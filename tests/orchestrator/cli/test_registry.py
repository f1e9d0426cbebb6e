"""Towards registries that keep their word, that are broken, and that are hostile; each a real server."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code
from fleet.oci import ARTIFACT_TYPE, MAX_INDEX, digest_of
from orchestrator.cli import registry as client
from orchestrator.cli.reference import Reference, parse_reference
from orchestrator.cli.registry import Registry
from orchestrator.cli.sources import Access, open_component
from orchestrator.cli.upload import Content
from tests.fakes.refusals import code_of
from tests.fakes.registry import LOGIN, Exchange, FakeRegistry, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = b"some content " * 1000
DIGEST = digest_of(DATA)
CONTENT = Content.of(DATA)
PLAIN = Access(plain=True)


@pytest.fixture(autouse=True)
def _no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def log_in(host: str, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir(exist_ok=True)
    said = {"auths": {host: {"auth": LOGIN.removeprefix("Basic ")}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(said))


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with running() as found:
        yield found


@pytest.fixture
def registry(server: FakeRegistry) -> Iterator[Registry]:
    with Registry(Reference(server.host, "any", "1.0.0"), PLAIN) as found:
        yield found


# References


@pytest.mark.parametrize(
    ("text", "host", "repository", "name"),
    [
        ("oci://ghcr.io/acme/agents/context:1.4.0", "ghcr.io", "acme/agents/context", "1.4.0"),
        ("oci://localhost:5000/a:b", "localhost:5000", "a", "b"),
        (f"oci://10.0.0.1/a-b__c.d@{DIGEST}", "10.0.0.1", "a-b__c.d", DIGEST),
    ],
)
def test_a_reference_names_host_repository_and_content(text: str, host: str, repository: str, name: str) -> None:
    found = parse_reference(text)
    assert (found.host, found.repository, found.name) == (host, repository, name)
    assert found.is_digest == name.startswith("sha256:")
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oci://",
        "oci://host",
        "oci://host/repository",  # would be a moving tag
        "oci://host/Repository:1",
        "oci://host/../secret:1",
        "oci://host/a//b:1",
        "oci://host/a:1@" + DIGEST,
        "oci://user:password@host/a:1",
        "oci://host:port/a:1",
        "oci://host/a:-1",
        "oci://host/a@sha256:AB",
        "https://host/a:1",
        "oci://host/a:1\n",
        "oci://host/a:" + "x" * 129,
        "oci://host/" + "a/" * 600 + "a:1",
        "oci://host/" + "a" * 251 + ":1",
        "oci://-host/a:1",
        "oci://host-/a:1",
        "oci://ho..st/a:1",
        "oci://ho\u017ft/a:1",
        "oci://host/a_-b:1",
        "oci://host/a___b:1",
        "oci://host/-a:1",
        "oci://host/a/:1",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    assert code_of(parse_reference, text) is Code.CONFIG_INVALID


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("docker.io/acme/context:1", "docker.io/acme/context:1"),
        ("docker.io/context:1", "docker.io/library/context:1"),
        ("index.docker.io/context:1", "docker.io/library/context:1"),
        ("index.docker.io/acme/context:1", "docker.io/acme/context:1"),
        ("registry-1.docker.io/acme/a/b:1", "docker.io/acme/a/b:1"),
        ("Docker.IO/context:1", "docker.io/library/context:1"),
        (f"docker.io/library/context@{DIGEST}", f"docker.io/library/context@{DIGEST}"),
    ],
)
def test_docker_hub_has_several_names(text: str, shown: str) -> None:
    found = parse_reference(f"oci://{text}")
    assert str(found) == f"oci://{shown}"
    assert (found.endpoint, found.login) == ("registry-1.docker.io", "https://index.docker.io/v1/")
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize(
    "host", ["docker.io:5000", "docker.io.example.org", "mydocker.io", "quay.io", "localhost:5000"]
)
def test_no_other_registry_is_docker_hub(host: str) -> None:
    found = parse_reference(f"oci://{host}/context:1")
    assert (found.host, found.endpoint, found.login, found.repository) == (host, host, host, "context")


def test_the_longest_name_of_a_repository() -> None:
    assert parse_reference("oci://host/" + "a" * 250 + ":1").repository == "a" * 250


@given(st.text(max_size=40))
def test_no_text_is_read_as_another_place_than_it_names(text: str) -> None:
    for candidate in (text, f"oci://{text}", f"oci://host/{text}"):
        if code_of(parse_reference, candidate) is None:
            assert str(parse_reference(candidate)) == candidate


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.8.0.1:5000", True), ("ghcr.io", False), ("10.0.0.1", False), ("localhost.io", False)],
)
def test_only_this_machine_is_loopback(host: str, here: bool) -> None:
    assert Reference(host, "a", "b").is_loopback is here


# Registries that keep their word


def test_content_comes_back_as_it_went(registry: Registry, server: FakeRegistry) -> None:
    assert registry.push_blob(CONTENT)
    assert not registry.push_blob(CONTENT)
    registry.push_manifest(b"{}", ARTIFACT_TYPE, "1.0.0")
    assert (registry.blob(DIGEST, len(DATA)), registry.document()) == (DATA, b"{}")
    assert registry.manifest(digest_of(b"{}"), 2) == b"{}"
    assert [method for method, *_ in server.seen].count("PUT") == 2


@pytest.mark.parametrize("challenge", ['Basic realm="here"', 'Bearer realm="{url}/token",service="s",scope="{scope}"'])
def test_people_are_logged_in_as_docker_has_them(
    server: FakeRegistry, registry: Registry, tmp_path: Path, challenge: str
) -> None:
    server.challenge = challenge
    log_in(server.host, tmp_path)
    server.put("blobs", b"read first, with a token that may not write")
    assert registry.blob(*server.put("blobs", b"older").values()) == b"older"  # type: ignore[arg-type]
    assert registry.push_blob(CONTENT)
    assert registry.blob(DIGEST, len(DATA)) == DATA


@pytest.mark.parametrize("challenge", ['Basic realm="here"', 'Bearer realm="{url}/token",service="s",scope="{scope}"'])
def test_who_is_not_known_is_told_to_log_in(server: FakeRegistry, registry: Registry, challenge: str) -> None:
    server.challenge = challenge
    assert code_of(registry.document) is Code.UNAUTHENTICATED
    assert code_of(registry.push_blob, CONTENT) is Code.UNAUTHENTICATED
    assert not [path for _, path, said in server.seen if LOGIN in said]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, Code.UNAUTHENTICATED),
        (404, Code.NOT_FOUND),
        (413, Code.LIMIT_EXCEEDED),
        (429, Code.UNAVAILABLE),
        (500, Code.UNAVAILABLE),
        (204, Code.UNAVAILABLE),
    ],
)
def test_a_refusal_is_told_at_once(server: FakeRegistry, registry: Registry, status: int, code: Code) -> None:
    server.misbehave = lambda exchange: exchange.path != "/v2/" and exchange.reply(status)
    assert code_of(registry.document) is code
    assert code_of(registry.push_manifest, b"{}", ARTIFACT_TYPE, "1.0.0") is code
    assert code_of(registry.push_blob, CONTENT) is code
    assert len(server.seen) < 12  # nothing is tried for minutes


def test_nobody_there_is_told_at_once(server: FakeRegistry) -> None:
    server.server_close()
    with Registry(Reference(server.host, "any", "1.0.0"), PLAIN) as registry:
        assert code_of(registry.document) is Code.UNAVAILABLE


# Broken and hostile ones


def always(body: bytes, **headers: str) -> Callable[[Exchange], bool]:
    return lambda exchange: "/any/" in exchange.path and exchange.reply(200, body, **headers)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (DATA[:-1] + b"!", Code.DIGEST_MISMATCH),
        (DATA[:-1], Code.DIGEST_MISMATCH),
        (b"", Code.DIGEST_MISMATCH),
        (DATA + b"!", Code.LIMIT_EXCEEDED),
    ],
)
def test_other_bytes_are_refused(server: FakeRegistry, registry: Registry, body: bytes, code: Code) -> None:
    server.misbehave = always(body)
    assert code_of(registry.blob, DIGEST, len(DATA)) is code
    assert code_of(registry.manifest, DIGEST, len(DATA)) is code


def test_the_size_that_was_announced_is_the_size(server: FakeRegistry, registry: Registry) -> None:
    server.put("blobs", DATA)
    assert code_of(registry.blob, DIGEST, len(DATA) + 1) is Code.DIGEST_MISMATCH


def test_bytes_are_not_unpacked(server: FakeRegistry, registry: Registry) -> None:
    server.misbehave = always(DATA, Content_Encoding="gzip")
    assert registry.blob(DIGEST, len(DATA)) == DATA


def test_a_digest_names_its_content_and_no_other(server: FakeRegistry) -> None:
    server.misbehave = always(b"{}")
    with Registry(Reference(server.host, "any", DIGEST), PLAIN) as registry:
        assert code_of(registry.document) is Code.DIGEST_MISMATCH


def test_an_endless_answer_ends(server: FakeRegistry, registry: Registry) -> None:
    server.misbehave = lambda exchange: "/any/" in exchange.path and exchange.flood()
    assert code_of(registry.blob, DIGEST, len(DATA)) is Code.LIMIT_EXCEEDED
    assert code_of(registry.document) is Code.LIMIT_EXCEEDED
    assert code_of(registry.push_manifest, b"{}", ARTIFACT_TYPE, "1.0.0") is Code.UNAVAILABLE  # 200 is not "created"
    assert server.flooded < 64 * 1024 * 1024


def test_a_huge_manifest_is_refused(server: FakeRegistry, registry: Registry) -> None:
    server.put("manifests", b" " * (MAX_INDEX + 1), "1.0.0")
    assert code_of(registry.document) is Code.LIMIT_EXCEEDED


def test_a_slow_answer_ends(server: FakeRegistry) -> None:
    server.put("blobs", DATA)
    now = iter(range(0, 10_000, 61))  # a minute passes between any two looks at the clock
    with Registry(Reference(server.host, "any", "1.0.0"), PLAIN, clock=lambda: float(next(now))) as registry:
        assert code_of(registry.blob, DIGEST, len(DATA)) is Code.UNAVAILABLE


def test_an_answer_that_breaks_off_is_refused(server: FakeRegistry, registry: Registry) -> None:
    def hang_up(exchange: Exchange) -> bool:
        exchange.close_connection = True
        return "/any/" in exchange.path and exchange.reply(200, DATA[:100], Content_Length=str(len(DATA)))

    server.misbehave = hang_up
    assert code_of(registry.blob, DIGEST, len(DATA)) in {Code.UNAVAILABLE, Code.DIGEST_MISMATCH}


def test_nothing_in_clear_leads_elsewhere(server: FakeRegistry, registry: Registry, tmp_path: Path) -> None:
    log_in(server.host, tmp_path)
    with running() as elsewhere:
        elsewhere.put("blobs", DATA)
        target = f"{elsewhere.url}/v2/any/blobs/{DIGEST}"
        server.misbehave = lambda exchange: "/any/" in exchange.path and exchange.reply(307, Location=target)
        assert code_of(registry.blob, DIGEST, len(DATA)) is Code.PERMISSION_DENIED
        server.misbehave = lambda exchange: exchange.command == "POST" and exchange.reply(202, Location=target)
        assert code_of(registry.push_blob, CONTENT) is Code.PERMISSION_DENIED
        server.misbehave = lambda _: False
        server.challenge = f'Bearer realm="{elsewhere.url}/token",service="s"'
        assert code_of(registry.document) is Code.PERMISSION_DENIED
        assert not elsewhere.seen


def test_redirects_end(server: FakeRegistry, registry: Registry) -> None:
    server.misbehave = lambda exchange: "/any/" in exchange.path and exchange.reply(302, Location=exchange.path)
    assert code_of(registry.document) is Code.LIMIT_EXCEEDED
    assert len(server.seen) == client.MAX_REDIRECTS + 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"[]", Code.UNAUTHENTICATED),
        (b"{}", Code.UNAUTHENTICATED),
        (b"no JSON", Code.UNAVAILABLE),
        (b'{"token": "' + b"x" * client.MAX_ANSWER + b'"}', Code.LIMIT_EXCEEDED),
    ],
)
def test_a_strange_login_is_refused(
    server: FakeRegistry, registry: Registry, tmp_path: Path, answer: bytes, code: Code
) -> None:
    server.challenge = 'Bearer realm="{url}/token",service="s"'
    log_in(server.host, tmp_path)
    server.misbehave = lambda exchange: exchange.path.startswith("/token") and exchange.reply(200, answer)
    assert code_of(registry.document) is code


@pytest.mark.parametrize("challenge", ["Bearer", "Bearer scope=all", "Negotiate", "Bearer realm=\x7f"])
def test_a_strange_challenge_is_refused(server: FakeRegistry, registry: Registry, challenge: str) -> None:
    server.challenge = challenge
    assert code_of(registry.document) is Code.UNAUTHENTICATED


def test_credentials_go_in_clear_to_this_machine_only(
    server: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.challenge = 'Basic realm="here"'
    log_in(server.host, tmp_path)
    monkeypatch.setattr(Reference, "is_loopback", property(lambda _: False))
    with Registry(Reference(server.host, "any", "1.0.0"), PLAIN) as registry:
        assert code_of(registry.document) is Code.UNAUTHENTICATED
    assert not [said for *_, said in server.seen if LOGIN in said]


@pytest.mark.parametrize("layers", [0, 2])
def test_an_artifact_of_others_has_one_layer(server: FakeRegistry, layers: int) -> None:
    layer = {"mediaType": "application/wasm", **server.put("blobs", DATA)}
    config = {"mediaType": "application/vnd.wasm.config.v0+json", **server.put("blobs", b"{}")}
    manifest = {"schemaVersion": 2, "mediaType": ARTIFACT_TYPE, "config": config, "layers": [layer] * layers}
    server.put_document(manifest, "1.0.0")
    assert code_of(open_component, f"oci://{server.host}/any:1.0.0", PLAIN) is Code.BUNDLE_INVALID


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[FakeRegistry]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with running(context) as found:
        yield found


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Access:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return Access(authorities=tmp_path / "ca.pem")


def test_a_certificate_is_checked(secure: FakeRegistry, trusted: Access) -> None:
    secure.put("blobs", DATA)
    reference = Reference(secure.host, "any", "1.0.0")
    with Registry(reference, trusted) as registry:
        assert registry.blob(DIGEST, len(DATA)) == DATA
    with Registry(reference, Access()) as registry:
        assert code_of(registry.blob, DIGEST, len(DATA)) is Code.CERTIFICATE_INVALID
    with Registry(reference, PLAIN) as registry:
        assert code_of(registry.blob, DIGEST, len(DATA)) is Code.UNAVAILABLE


def test_content_may_lie_elsewhere_and_credentials_do_not_follow(
    secure: FakeRegistry, trusted: Access, tmp_path: Path, authority: trustme.CA
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    secure.challenge = 'Basic realm="here"'
    log_in(secure.host, tmp_path)
    with running(context) as storage, running() as clear:
        storage.put("blobs", DATA)
        for target, code in ((f"https://localhost:{storage.server_port}", None), (clear.url, Code.PERMISSION_DENIED)):
            place = f"{target}/v2/any/blobs/{DIGEST}"
            secure.misbehave = lambda exchange, place=place: (  # type: ignore[misc]
                "/any/" in exchange.path and LOGIN in str(exchange.headers) and exchange.reply(307, Location=place)
            )
            with Registry(Reference(secure.host, "any", "1.0.0"), trusted) as registry:
                assert code_of(registry.blob, DIGEST, len(DATA)) is code
        assert [said for *_, said in storage.seen] == [""]
        # What is pushed goes nowhere else, encrypted or not.
        elsewhere = f"https://localhost:{storage.server_port}/v2/any/blobs/uploads/1"
        secure.misbehave = lambda exchange: (
            exchange.command == "POST" and LOGIN in str(exchange.headers) and exchange.reply(202, Location=elsewhere)
        )
        with Registry(Reference(secure.host, "any", "1.0.0"), trusted) as registry:
            assert code_of(registry.push_blob, CONTENT) is Code.PERMISSION_DENIED
        assert len(storage.seen) == 1
        assert not clear.seen
