"""Uploads in pieces: to a real server that caps, forgets and hangs up, and against every order of faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from orchestrator.cli.layout import Layout, write_layout
from orchestrator.cli.reference import Reference
from orchestrator.cli.registry import Registry
from orchestrator.cli.sources import Access
from orchestrator.cli.upload import GREATEST_CHUNK, LEAST_CHUNK, MAX_FRUITLESS, Answer, Content, Upload
from tests.fakes.refusals import code_of
from tests.fakes.registry import Exchange, FakeRegistry, running

DATA = bytes(range(251)) * 1400
"""Some 340 KiB: six of the smallest pieces."""

DIGEST = digest_of(DATA)


@pytest.fixture(autouse=True)
def _no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with running() as found:
        yield found


def registry(server: FakeRegistry, chunk: int = LEAST_CHUNK) -> Registry:
    return Registry(Reference(server.host, "any", "1.0.0"), Access(plain=True), chunk=chunk)


def pushed(server: FakeRegistry, chunk: int = LEAST_CHUNK) -> list[str]:
    """Push, see that it arrived as it is, and return the methods that it took after the first look."""
    with registry(server, chunk) as client:
        assert client.push_blob(Content.of(DATA))
    assert server.store["blobs", DIGEST] == DATA
    return [method for method, path, _ in server.seen if "/any/" in path][1:]


def test_what_fits_into_one_request_goes_in_one(server: FakeRegistry) -> None:
    assert pushed(server, len(DATA)) == ["POST", "PUT"]


def test_what_is_larger_goes_in_pieces_of_which_one_is_in_memory(server: FakeRegistry) -> None:
    lengths: list[int] = []

    def read(offset: int, length: int) -> bytes:
        lengths.append(length)
        return DATA[offset : offset + length]

    with registry(server, 100_000) as client:
        assert client.push_blob(Content(DIGEST, len(DATA), read))
    assert server.store["blobs", DIGEST] == DATA
    assert lengths == [100_000, 100_000, 100_000, len(DATA) - 300_000]


def test_a_cap_on_bodies_makes_pieces_smaller(server: FakeRegistry) -> None:
    server.cap = 100_000
    methods = pushed(server, 1 << 20)
    assert methods[:2] == ["POST", "PUT"]
    assert methods.count("PATCH") == 4 + 1, "of 87,850 bytes; one was refused"


def test_a_cap_below_the_smallest_piece_is_told(server: FakeRegistry) -> None:
    server.cap = 1_000
    with registry(server, 1 << 20) as client:
        assert code_of(client.push_blob, Content.of(DATA)) is Code.LIMIT_EXCEEDED
    assert len(server.seen) < 20


def first(server: FakeRegistry, method: str, number: int, *, after: bool = False, status: int = 0) -> None:
    """Spoil the n-th request of a method: hang up instead of an answer, or answer something else."""
    found: list[Exchange] = []

    def misbehave(exchange: Exchange) -> bool:
        if exchange.command != method or len(found) >= number:
            return False
        found.append(exchange)
        if len(found) < number:
            return False
        if after:
            exchange.reply = lambda *_, **__: True  # type: ignore[method-assign] # it does the work, and says nothing
            exchange.close_connection = True
            return False
        exchange.close_connection = True
        return exchange.reply(status) if status else True

    server.misbehave = misbehave


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize("after", [False, True])
def test_a_lost_connection_costs_one_piece_at_most(server: FakeRegistry, number: int, after: bool) -> None:
    first(server, "PATCH", number, after=after)
    methods = pushed(server)
    assert methods.count("GET") == 1
    assert methods.count("PATCH") == 6 + (not after)


@pytest.mark.parametrize("status", [416, 500, 502, 503, 504])
def test_after_a_fault_it_asks_where_it_is(server: FakeRegistry, status: int) -> None:
    first(server, "PATCH", 2, status=status)
    assert pushed(server).count("GET") == 1


def test_an_upload_that_the_registry_forgot_begins_anew(server: FakeRegistry) -> None:
    def forget(exchange: Exchange) -> bool:
        if exchange.command == "PATCH" and "upload0" in exchange.path and server.uploads["upload0"]:
            del server.uploads["upload0"]
        return False

    server.misbehave = forget
    assert pushed(server).count("POST") == 2


def test_the_end_may_get_lost(server: FakeRegistry) -> None:
    first(server, "PUT", 1, after=True)
    assert pushed(server)[-3:] == ["PUT", "GET", "HEAD"]


@pytest.mark.parametrize("status", [204, 400, 403])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_what_is_refused_for_good_is_told_at_once(server: FakeRegistry, method: str, status: int) -> None:
    server.misbehave = lambda exchange: exchange.command == method and exchange.reply(status)
    with registry(server) as client:
        code = code_of(client.push_blob, Content.of(DATA))
    assert code is (Code.UNAUTHENTICATED if status == 403 else Code.UNAVAILABLE)
    assert [found for found, *_ in server.seen].count(method) == 1


def test_a_registry_that_never_gets_further_is_given_up(server: FakeRegistry) -> None:
    server.misbehave = lambda exchange: exchange.command == "PATCH" and exchange.reply(416)
    with registry(server) as client:
        assert code_of(client.push_blob, Content.of(DATA)) is Code.UNAVAILABLE
    assert [method for method, *_ in server.seen].count("PATCH") == MAX_FRUITLESS


def test_a_registry_that_forgets_again_and_again_is_given_up(server: FakeRegistry) -> None:
    def forget(exchange: Exchange) -> bool:
        if exchange.command == "PATCH":
            server.uploads = {name: data for name, data in server.uploads.items() if len(data) < 2 * LEAST_CHUNK}
        return False

    server.misbehave = forget
    with registry(server) as client:
        assert code_of(client.push_blob, Content.of(DATA)) is Code.UNAVAILABLE


@pytest.mark.parametrize("claim", ["0-99999999", "bytes 0-10", "5-10", "0-", "0-" + "9" * 16])
def test_a_registry_that_has_what_was_never_sent_is_refused(server: FakeRegistry, claim: str) -> None:
    server.misbehave = lambda exchange: exchange.command == "PATCH" and exchange.reply(202, Range=claim)
    with registry(server) as client:
        assert code_of(client.push_blob, Content.of(DATA)) is Code.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("wanted", "pieces"), [("100000", 4), (str(LEAST_CHUNK), 6), ("0", 6), ("9", 6), (str(len(DATA)), 0)]
)
def test_the_registry_may_want_larger_pieces(server: FakeRegistry, wanted: str, pieces: int) -> None:
    server.wants = {"OCI_Chunk_Min_Length": wanted}
    assert pushed(server).count("PATCH") == pieces


@pytest.mark.parametrize("wanted", [str(GREATEST_CHUNK + 1), "-1", "many", "9" * 40])
def test_it_may_not_want_any_size(server: FakeRegistry, wanted: str) -> None:
    server.wants = {"OCI_Chunk_Min_Length": wanted}
    with registry(server) as client:
        assert code_of(client.push_blob, Content.of(DATA)) is Code.PERMISSION_DENIED


def test_no_piece_goes_elsewhere(server: FakeRegistry) -> None:
    with running() as elsewhere:
        place = f"{elsewhere.url}/v2/any/blobs/uploads/1"
        server.misbehave = lambda exchange: exchange.command == "PATCH" and exchange.reply(202, Location=place)
        with registry(server) as client:
            assert code_of(client.push_blob, Content.of(DATA)) is Code.PERMISSION_DENIED
        assert not elsewhere.seen


# From a file


def test_a_file_is_read_in_pieces_and_compared_first(tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", b"{}", [(DIGEST, DATA)], "1.0.0")
    layout = Layout(tmp_path / "layout")
    content = layout.content(DIGEST, len(DATA))
    assert b"".join(content.read(at, 1) for at in range(5)) == DATA[:5]
    for size in (len(DATA) - 1, len(DATA) + 1):
        assert code_of(layout.content, DIGEST, size) is Code.DIGEST_MISMATCH
    file = tmp_path / "layout" / "blobs" / "sha256" / DIGEST.removeprefix("sha256:")
    file.write_bytes(DATA[:-1])
    assert code_of(content.read, len(DATA) - 10, 10) is Code.DIGEST_MISMATCH
    file.write_bytes(DATA[:-1] + b"!")
    assert code_of(layout.content, DIGEST, len(DATA)) is Code.DIGEST_MISMATCH
    file.unlink()
    assert code_of(layout.content, DIGEST, len(DATA)) is Code.BUNDLE_INVALID
    assert code_of(layout.content, "sha256:no", 1) is Code.BUNDLE_INVALID


# Every order of faults


class Fault(Enum):
    """What may happen to one request of an upload."""

    NONE = auto()
    LOST_REQUEST = auto()
    LOST_ANSWER = auto()
    TOO_LARGE = auto()
    OUT_OF_PLACE = auto()
    FORGOTTEN = auto()
    HALF = auto()


class Memory:
    """A registry that keeps its promises, behind a line that breaks in a given order."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        self.upload: bytes | None = None
        self.kept = b""

    def has(self, digest: str) -> bool:
        return digest_of(self.kept) == digest

    def refuse(self, status: int) -> FleetError:
        return FleetError(Code.LIMIT_EXCEEDED if status == 413 else Code.UNAVAILABLE, str(status))

    def step(self, method: str, url: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        fault = self.faults.pop(0) if self.faults and method != "POST" else Fault.NONE
        if fault is Fault.FORGOTTEN:
            self.upload = None
        if fault is Fault.HALF and self.upload is not None and method == "PATCH" and self._fits(headers):
            self.upload += data[: len(data) // 2]
        if fault in {Fault.LOST_REQUEST, Fault.HALF}:
            raise FleetError(Code.UNAVAILABLE, "lost")
        if fault is Fault.TOO_LARGE:
            return Answer(413, url, {})
        if fault is Fault.OUT_OF_PLACE:
            return Answer(416, url, {})
        answer = self._serve(method, url, data, headers)
        if fault is Fault.LOST_ANSWER:
            raise FleetError(Code.UNAVAILABLE, "lost")
        return answer

    def _fits(self, headers: Mapping[str, str]) -> bool:
        return int(headers["Content-Range"].partition("-")[0]) == len(self.upload or b"")

    def _serve(self, method: str, url: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        if method == "POST":
            self.upload = b""
            return Answer(202, url, {})
        if self.upload is None:
            return Answer(404, url, {})
        if method == "PATCH":
            if not self._fits(headers):
                return Answer(416, url, {})
            self.upload += data
            return Answer(202, url, {"Range": f"0-{len(self.upload) - 1}"})
        if method == "GET":
            return Answer(204, url, {"Range": f"0-{max(len(self.upload) - 1, 0)}"})
        if digest_of(self.upload + data) != url.partition("digest=")[2].replace("%3A", ":"):
            return Answer(400, url, {})
        self.kept, self.upload = self.upload + data, None
        return Answer(201, url, {})


@given(st.lists(st.sampled_from(Fault), max_size=30), st.sampled_from([1, 3, 6]))
def test_whatever_breaks_all_of_it_arrives_or_the_fault_is_told(faults: list[Fault], pieces: int) -> None:
    door = Memory(faults)
    code = code_of(Upload(door, "http://registry/v2/any/blobs/uploads/", Content.of(DATA), len(DATA) // pieces).run)
    assert code in {None, Code.UNAVAILABLE, Code.LIMIT_EXCEEDED}
    if code is None:
        assert door.kept == DATA
