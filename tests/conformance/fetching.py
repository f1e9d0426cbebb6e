"""How the conformance clients fetch: HTTP over loopback, bounded, and an absent file told apart from a fault."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import urlopen

from fleet.errors import Code, FleetError

TIMEOUT_S = 10


def fetch(url: str, limit: int) -> bytes | None:
    """Bytes of a file, or None when the server has none; more than `limit` are refused.

    Raises:
        FleetError: UNAVAILABLE, LIMIT_EXCEEDED.
    """
    try:
        with urlopen(url, timeout=TIMEOUT_S) as response:
            data: bytes = response.read(limit + 1)
    except HTTPError as error:
        if error.code in {403, 404}:
            return None
        raise FleetError(Code.UNAVAILABLE, f"HTTP status {error.code}", place=url) from error
    except OSError as error:
        raise FleetError(Code.UNAVAILABLE, "the server cannot be reached", place=url) from error
    if len(data) > limit:
        raise FleetError(Code.LIMIT_EXCEEDED, f"more than {limit} bytes", place=url)
    return data
