"""Names of places in registries: `oci://HOST[:PORT]/REPOSITORY:TAG` and `...@sha256:DIGEST`.

Owns: the grammar (distribution-spec 1.1, "Pulling manifests"; distribution/reference, `reference.go`) and the aliases
that this grammar has for Docker Hub (`normalize.go`), which answers under another name than people write.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from fleet.errors import Code, FleetError

MAX_REPOSITORY: Final = 255
"""Characters of host and repository together (distribution/reference, `RepositoryNameTotalLengthMax`)."""

_HUB: Final = "docker.io"
_HUB_ALIASES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_ENDPOINT: Final = "registry-1.docker.io"
_HUB_LOGIN: Final = "https://index.docker.io/v1/"
"""Under this name `docker login` keeps what it knows of Docker Hub."""

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"oci://(?P<host>{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?)"
    rf"/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))",
    re.ASCII,
)
"""A reference without a tag would be a moving one, so there is no default."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A place in a registry; `name` is a tag or a digest."""

    host: str
    repository: str
    name: str

    def __str__(self) -> str:
        return f"oci://{self.host}/{self.repository}{'@' if ':' in self.name else ':'}{self.name}"

    @property
    def is_digest(self) -> bool:
        """Whether it names content rather than a tag."""
        return ":" in self.name

    @property
    def endpoint(self) -> str:
        """Host and port that are asked."""
        return _HUB_ENDPOINT if self.host == _HUB else self.host

    @property
    def login(self) -> str:
        """Name under which `docker login` keeps the credentials."""
        return _HUB_LOGIN if self.host == _HUB else self.host

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine."""
        host = self.host.partition(":")[0]
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def parse_reference(text: str) -> Reference:
    """Read `oci://HOST[:PORT]/REPOSITORY:TAG` or `...@sha256:DIGEST`.

    Every name of Docker Hub becomes `docker.io`, and an image of its own there `library/NAME`.

    Raises:
        FleetError: CONFIG_INVALID.
    """
    found = _REFERENCE.fullmatch(text) if len(text) <= 1_000 else None
    if found is None or len(found["host"]) + 1 + len(found["repository"]) > MAX_REPOSITORY:
        raise FleetError(
            Code.CONFIG_INVALID,
            f"{text[:200]!r} names no place in a registry",
            remedy="Write oci://HOST[:PORT]/REPOSITORY:TAG or oci://HOST[:PORT]/REPOSITORY@sha256:DIGEST.",
        )
    host, repository = found["host"], found["repository"]
    if host.lower() in _HUB_ALIASES:
        host = _HUB
        repository = repository if "/" in repository else f"library/{repository}"
    return Reference(host, repository, found["tag"] or found["digest"])
