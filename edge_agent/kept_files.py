"""Files by name within a JSON document, as the stores of `trust/` keep them: each in base64."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping


def encode_files(files: Mapping[str, bytes]) -> dict[str, str]:
    """Write files as texts."""
    return {name: base64.b64encode(data).decode() for name, data in files.items()}


def decode_files(texts: Mapping[str, str], place: str) -> dict[str, bytes]:
    """Read what `encode_files` wrote.

    Raises:
        FleetError: TRUST_INVALID with the place.
    """
    try:
        return {name: base64.b64decode(text, validate=True) for name, text in texts.items()}
    except binascii.Error as error:
        raise FleetError(Code.TRUST_INVALID, "not base64", place=place) from error
