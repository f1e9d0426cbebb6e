"""A registry over real HTTP on this machine, which keeps what it is sent and can be told to misbehave.

It speaks as much of the OCI distribution-spec as pushing and pulling needs, and both ways to log in. That it speaks it
rightly is not its own word: the suite `tests/interop` runs the same client against the CNCF's registry.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from fleet.documents import dump_json
from fleet.oci import INDEX_TYPE, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USER, PASSWORD = "ada", "correct horse"
LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Exchange(BaseHTTPRequestHandler):
    """One request; a registry's `misbehave` may answer it first, with `reply`."""

    server: FakeRegistry
    protocol_version = "HTTP/1.1"

    def reply(self, status: int, body: bytes = b"", **headers: str) -> bool:
        """Answer; True, so that a misbehaviour may end with it."""
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def flood(self, piece: bytes = bytes(65536)) -> bool:
        """Answer with no end, until the other side has had enough."""
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            while True:
                self.wfile.write(piece)
                self.server.flooded += len(piece)
        return True

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        registry = self.server
        registry.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
        if registry.misbehave(self):
            return
        url = urlsplit(self.path)
        if url.path == "/token":
            self._token(parse_qs(url.query).get("scope", [""])[0])
        elif not self._allowed():
            kind = "pull" if self.command in {"GET", "HEAD"} else "pull,push"
            self.reply(
                401, WWW_Authenticate=registry.challenge.format(url=registry.url, scope=f"repository:any:{kind}")
            )
        else:
            self._serve(url.path, parse_qs(url.query))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - the names of the base class

    def _token(self, scope: str) -> None:
        if self.headers.get("Authorization") == LOGIN:
            self.reply(200, json.dumps({"token": scope}).encode())
        else:
            self.reply(401)

    def _allowed(self) -> bool:
        said, challenge = self.headers.get("Authorization", ""), self.server.challenge
        if not challenge:
            return True
        if challenge.startswith("Basic"):
            return said == LOGIN
        return (self.command in {"GET", "HEAD"} and ":pull" in said) or ":pull,push" in said

    def _serve(self, path: str, query: dict[str, list[str]]) -> None:
        store, kind, name = self.server.store, *path.rpartition("/")[::2]
        if path == "/v2/":
            self.reply(200)
        elif "/blobs/uploads/" in path:
            self._upload(path, query)
        elif self.command == "PUT":
            store["manifests", name] = store["manifests", digest_of(self.body)] = self.body
            self.reply(201)
        elif (found := store.get((kind.rpartition("/")[2], name))) is None:
            self.reply(404)
        else:
            self.reply(200, found, Content_Type=INDEX_TYPE)

    def _upload(self, path: str, query: dict[str, list[str]]) -> None:
        """Distribution-spec 1.1, "Pushing blobs"; a body above the cap is refused as a proxy does."""
        registry = self.server
        if len(self.body) > registry.cap:
            self.reply(413)
        elif self.command == "POST":
            name = f"upload{registry.begun}"
            registry.uploads[name], registry.begun = b"", registry.begun + 1
            self.reply(202, Location=f"{path}{name}?state=1", **registry.wants)
        elif (so_far := registry.uploads.get(name := path.rpartition("/")[2])) is None:
            self.reply(404)
        elif self.command == "GET":
            self.reply(204, Location=f"{path}?state=2", Range=f"0-{max(len(so_far) - 1, 0)}")
        elif self.command == "PATCH":
            first, _, last = self.headers["Content-Range"].partition("-")
            if int(first) != len(so_far) or int(last) - int(first) + 1 != len(self.body):
                self.reply(416)
                return
            registry.uploads[name] += self.body
            self.reply(202, Location=f"{path}?state=3", Range=f"0-{last}")
        elif digest_of(so_far + self.body) != query["digest"][0]:
            self.reply(400)
        else:
            del registry.uploads[name]
            registry.store["blobs", query["digest"][0]] = so_far + self.body
            self.reply(201)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class FakeRegistry(ThreadingHTTPServer):
    """One registry; `store` is by ("blobs" or "manifests", digest or tag).

    `cap` is the largest body that it takes, `wants` what else it says when an upload begins.
    """

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.scheme = "http"
        if context is not None:
            self.scheme = "https"
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.store: dict[tuple[str, str], bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.begun = 0
        self.cap = 1 << 40
        self.wants: dict[str, str] = {}
        self.seen: list[tuple[str, str, str]] = []
        self.challenge = ""
        self.flooded = 0
        self.misbehave: Callable[[Exchange], bool] = lambda _: False

    @property
    def host(self) -> str:
        """Address, as in a reference."""
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{self.host}"

    def put(self, kind: str, data: bytes, name: str | None = None) -> dict[str, object]:
        """Keep something, and return its digest and size as a descriptor has them."""
        self.store[kind, digest_of(data)] = data
        self.store[kind, name or digest_of(data)] = data
        return {"digest": digest_of(data), "size": len(data)}

    def put_document(self, document: object, name: str | None = None) -> dict[str, object]:
        """Keep a manifest or an index."""
        return self.put("manifests", dump_json(document), name)

    def handle_error(self, *_: object) -> None:
        """Somebody hung up: that is what many tests are about."""


@contextmanager
def running(context: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    """Serve until the block ends."""
    with FakeRegistry(context) as registry:
        thread = threading.Thread(target=registry.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield registry
        finally:
            registry.shutdown()
            thread.join()
