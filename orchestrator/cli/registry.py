"""OCI registries: the bytes of artifacts to and from them (OCI distribution-spec 1.1), through oras-py.

Owns: what oras-py leaves open towards a registry that is broken or hostile: every answer has a limit,
a deadline and a slowest rate; every byte of content is checked against its digest; nothing goes in clear to anybody but
a registry for which that was asked; an upload goes to no other host. oras-py does the rest: the login of the registry
(bearer tokens, basic), from the credentials that `docker login` keeps (`config.json`, credential helpers). Nothing that
comes from a registry is trusted: a bundle is worth something once it is signed. The one door to oras-py and requests.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin, urlsplit

import oras.auth
import oras.container
import oras.logger
import oras.provider
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from fleet.errors import Code, FleetError
from fleet.oci import ARTIFACT_TYPE, INDEX_TYPE, MAX_INDEX, digest_of
from orchestrator.cli.upload import CHUNK, Answer, Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.cli.reference import Reference
    from orchestrator.cli.sources import Access
    from orchestrator.cli.upload import Content

MAX_ANSWER = 256 * 1024
"""Bytes of an answer that is no content: a login, an error, a redirect."""

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""Longest silence in the middle of an answer."""

GRACE_S = 60.0
SLOWEST = 16 * 1024
"""Bytes per second that an answer must reach on average, once `GRACE_S` is over."""

MAX_REDIRECTS = 5

_CHUNK = 256 * 1024


class Registry:
    """One repository of one registry. Use it as a context manager: it keeps connections.

    Args:
        reference: what is pulled from it, or the tag that is pushed.
        access: how it is reached.
        clock: seconds, never going back.
        chunk: bytes of one request of an upload, unless the registry wants another size.
    """

    def __init__(
        self, reference: Reference, access: Access, clock: Callable[[], float] = time.monotonic, chunk: int = CHUNK
    ) -> None:
        self.reference = reference
        self._chunk = chunk
        self._access = access
        self._scheme = "http" if access.plain else "https"
        transport = _Transport(reference.endpoint if access.plain else "", clock)
        self._session = requests.Session()
        self._session.trust_env = False  # no ~/.netrc, which would win over the registry's own credentials
        self._session.max_redirects = MAX_REDIRECTS
        self._session.headers["Accept-Encoding"] = "identity"
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, transport)
        self._client: oras.provider.Registry | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def document(self) -> bytes:
        """Return the index or the manifest that the reference names.

        Raises:
            FleetError: NOT_FOUND; DIGEST_MISMATCH when the reference is a digest and this is something else;
                LIMIT_EXCEEDED, UNAUTHENTICATED, UNAVAILABLE, PERMISSION_DENIED, as all methods.
        """
        accept = {"Accept": f"{INDEX_TYPE}, {ARTIFACT_TYPE}"}
        data = self._get(f"manifests/{self.reference.name}", MAX_INDEX, accept)
        if self.reference.is_digest:
            _check(data, self.reference.name)
        return data

    def manifest(self, digest: str, size: int) -> bytes:
        """Return a manifest of a known size; DIGEST_MISMATCH for other bytes."""
        return self._content(f"manifests/{digest}", digest, size)

    def blob(self, digest: str, size: int) -> bytes:
        """Return a blob of a known size; DIGEST_MISMATCH for other bytes."""
        return self._content(f"blobs/{digest}", digest, size)

    def push_blob(self, content: Content) -> bool:
        """Upload a blob unless it is there; returns whether it was sent."""
        if self.has(content.digest):
            return False
        Upload(self, self._url("blobs/uploads/"), content, self._chunk).run()
        return True

    def has(self, digest: str) -> bool:
        """Whether the registry has a blob."""
        return self._status("HEAD", self._url(f"blobs/{digest}")) == HTTPStatus.OK

    def step(self, method: str, url: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        """Take one step of an upload.

        Raises:
            FleetError: PERMISSION_DENIED when the next one would go elsewhere; UNAVAILABLE, UNAUTHENTICATED.
        """
        with closing(self._ask(method, url, data, headers)) as answer:
            target = urlsplit(urljoin(url, answer.headers.get("Location", "")))
            if (target.scheme, target.netloc) != (self._scheme, self.reference.endpoint):
                raise FleetError(
                    Code.PERMISSION_DENIED,
                    f"{self.reference.host} wants the upload to go to {target.netloc[:100]!r}",
                    place=str(self.reference),
                    remedy="Push to the registry that keeps the content.",
                )
            return Answer(answer.status_code, target.geturl(), answer.headers)

    def push_manifest(self, data: bytes, media_type: str, name: str) -> None:
        """Upload a manifest or an index under a tag or under its digest."""
        url = self._url(f"manifests/{name}")
        with closing(self._ask("PUT", url, data, {"Content-Type": media_type})) as answer:
            self._expect(answer, HTTPStatus.CREATED)

    def _url(self, path: str) -> str:
        return f"{self._scheme}://{self.reference.endpoint}/v2/{self.reference.repository}/{path}"

    def _content(self, path: str, digest: str, size: int) -> bytes:
        data = self._get(path, size, {"Accept": f"{ARTIFACT_TYPE}, */*"})
        if len(data) != size:
            raise FleetError(Code.DIGEST_MISMATCH, f"{len(data)} bytes instead of {size}", place=digest)
        return _check(data, digest)

    def _get(self, path: str, limit: int, headers: Mapping[str, str]) -> bytes:
        with closing(self._ask("GET", self._url(path), headers=headers)) as answer:
            self._expect(answer, HTTPStatus.OK)
            answer.raw.limit = limit  # of this answer alone: not of a login or a redirect before it
            return b"".join(answer.iter_content(_CHUNK))

    def _status(self, method: str, url: str) -> int:
        with closing(self._ask(method, url)) as answer:
            return answer.status_code

    def _ask(
        self, method: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Ask once, logging in when the registry wants it."""
        client = self._client or self._connect()
        # Without oras-py's own repetitions: they sleep for minutes, whatever the fault was.
        ask = inspect.unwrap(oras.provider.Registry.do_request)
        with _Faults(self.reference):
            answer: requests.Response = ask(client, url, method, data=data, headers=dict(headers or {}), stream=True)
            if answer.status_code == HTTPStatus.UNAUTHORIZED and getattr(client.auth, "token", None):
                answer.close()
                client.auth.token = None  # it was for another scope: reading, and this writes
                answer = ask(client, url, method, data=data, headers=dict(headers or {}), stream=True)
        return answer

    def _connect(self) -> oras.provider.Registry:
        """Find out how the registry wants people to log in, and load what there is of credentials."""
        access, host = self._access, self.reference.endpoint
        verify = str(access.authorities) if access.authorities else True
        with _Faults(self.reference):
            url = f"{self._scheme}://{host}/v2/"
            with closing(self._session.get(url, verify=verify, stream=True)) as answer:
                challenge = answer.headers.get("WWW-Authenticate", "")
            kind = "basic" if challenge.lower().startswith("basic") else "token"
            client = oras.provider.Registry(host, insecure=access.plain, tls_verify=verify, auth_backend=kind)
            oras.logger.logger.set_level(logging.CRITICAL)  # what there is to say is in the error
            client.session = client.auth.session = self._session
            if not access.plain or self.reference.is_loopback:
                container = oras.container.Container("any/repository")
                container.registry = self.reference.login
                client.auth.load_configs(container, configs=_docker_configs())
        self._client = client
        return client

    def _expect(self, answer: requests.Response, status: int) -> None:
        if answer.status_code != status:
            raise self.refuse(answer.status_code)

    def refuse(self, status: int) -> FleetError:
        """Make the error of an answer that nobody wants."""
        place, host = str(self.reference), self.reference.host
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return _unauthenticated(self.reference)
        if status == HTTPStatus.NOT_FOUND:
            return FleetError(Code.NOT_FOUND, f"{host} has no such thing", place=place, remedy="Check the reference.")
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return FleetError(Code.LIMIT_EXCEEDED, f"{host} takes no blob of this size", place=place)
        return FleetError(
            Code.UNAVAILABLE, f"{host} answered {status}", place=place, remedy="Ask who runs the registry."
        )


class _Transport(HTTPAdapter):
    """Every request of a session, redirects and logins among them, comes through here.

    Args:
        plain_host: the one host that may be asked in clear; empty: none.
        clock: seconds.
    """

    def __init__(self, plain_host: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self._plain_host = plain_host
        self._clock = clock

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002, ARG002 - the interface of requests
        timeout: object = None,  # noqa: ARG002 - oras-py sets none
        verify: bool | str = True,  # noqa: FBT001, FBT002 - the interface of requests
        cert: object = None,  # noqa: ARG002 - registries know people by their login
        proxies: object = None,  # noqa: ARG002 - the session does not look at the environment, this does
    ) -> requests.Response:
        url = urlsplit(request.url or "")
        if url.scheme != "https" and url.netloc != self._plain_host:
            raise FleetError(
                Code.PERMISSION_DENIED,
                f"the registry leads to {url.scheme}://{url.netloc[:100]}, which is not encrypted",
                remedy="Use a registry with TLS; one without is reached with --insecure-no-tls, and leads nowhere.",
            )
        answer = super().send(
            request,
            stream=True,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            verify=verify,
            proxies=requests.utils.get_environ_proxies(request.url or ""),
        )
        answer.raw = _Body(answer.raw, self._clock)
        if not answer.ok:
            _ = answer.content  # what oras-py asks again for is never read otherwise, and keeps its connection
        return answer


class _Body:
    """The body of an answer, up to its limit and no slower than it may be; what requests reads instead of urllib3's."""

    def __init__(self, raw: urllib3.HTTPResponse, clock: Callable[[], float]) -> None:
        self.limit = MAX_ANSWER
        self._raw = raw
        self._clock = clock
        self._started = clock()
        self._received = 0

    def read(self, size: int = _CHUNK) -> bytes:
        """Return what has come, at most `size` bytes; nothing at the end."""
        try:
            data = self._raw.read1(min(size, self.limit + 1 - self._received))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise FleetError(Code.UNAVAILABLE, f"the registry's answer broke off: {type(error).__name__}") from error
        self._received += len(data)
        if self._received > self.limit:
            self.close()
            raise FleetError(Code.LIMIT_EXCEEDED, f"the registry sends more than {self.limit} bytes")
        late = self._clock() - self._started - GRACE_S
        if late > self._received / SLOWEST:
            self.close()
            raise FleetError(Code.UNAVAILABLE, f"the registry sends less than {SLOWEST} bytes per second")
        return data

    def close(self) -> None:
        """Give the connection up."""
        self._raw.close()

    def release_conn(self) -> None:
        """Give the connection back for the next request."""
        self._raw.release_conn()


class _Faults:
    """Turns what requests and oras-py raise into this project's errors."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        place = str(self._reference)
        if isinstance(error, requests.exceptions.SSLError):
            raise FleetError(
                Code.CERTIFICATE_INVALID,
                f"no TLS with {self._reference.host}",
                place=place,
                remedy="Name the file of its authority with --registry-ca; one without TLS needs --insecure-no-tls.",
            ) from error
        if isinstance(error, requests.exceptions.TooManyRedirects):
            raise FleetError(Code.LIMIT_EXCEEDED, f"more than {MAX_REDIRECTS} redirects", place=place) from error
        if isinstance(error, requests.RequestException):
            raise FleetError(
                Code.UNAVAILABLE,
                f"{self._reference.host} cannot be asked: {type(error).__name__}",
                place=place,
                remedy="Check host and port; a registry without TLS is reached with --insecure-no-tls.",
            ) from error
        if isinstance(error, AttributeError | KeyError | TypeError | ValueError):
            # oras-py, at a login that it cannot follow, with an answer it does not expect, or without credentials
            raise _unauthenticated(self._reference) from error


def _unauthenticated(reference: Reference) -> FleetError:
    return FleetError(
        Code.UNAUTHENTICATED,
        f"{reference.host} wants another login",
        place=str(reference),
        remedy=f"Log in with `docker login {reference.host}`, or `oras login`; fleetctl reads the same config.json.",
    )


def _check(data: bytes, digest: str) -> bytes:
    if digest_of(data) != digest:
        raise FleetError(Code.DIGEST_MISMATCH, "the registry sent something else", place=digest)
    return data


def _docker_configs() -> list[str]:
    """Where `docker login` wrote, if it was told another place than ~/.docker, where oras-py looks by itself."""
    folder = os.environ.get("DOCKER_CONFIG")
    file = Path(folder) / "config.json" if folder else None
    return [str(file)] if file is not None and file.is_file() else []
