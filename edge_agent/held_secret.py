"""Secrets in clear, for as long as an agent that may have them runs.

Owns: `HeldSecret`, which is never printed and can be overwritten, and `Mask`, which takes secrets out of texts that
leave the runner. Pure: where secrets come from is `edge_agent.secret_store`.

Overwriting reaches this copy. Python and the engine make others while a value is passed on, and a guest that was told
a value keeps its own; those go with the runner's process.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.sealing import SecretKind

MASKED = "<confidential>"
"""What stands in place of a secret."""

SHORTEST = 4
"""Bytes of the shortest secret that is looked for: a shorter one is part of too much else."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldSecret:
    """One value in memory that can be overwritten."""

    kind: SecretKind
    data: bytearray = field(repr=False)

    def text(self) -> str:
        """The value of a text."""
        return self.data.decode()

    def wipe(self) -> None:
        """Overwrite the value; what is held afterwards is empty."""
        self.data[:] = bytes(len(self.data))
        self.data.clear()


class Mask:
    """Replaces secrets in texts, in the forms in which a guest is likely to have written them.

    It is a net under honest mistakes: a guest that was told a value can write it in a form that nobody looks for.
    """

    def __init__(self, secrets: Iterable[HeldSecret]) -> None:
        self._forms: dict[str, str] = {}
        for secret in secrets:
            if len(secret.data) >= SHORTEST:
                self._add(bytes(secret.data))

    def __call__(self, text: str) -> str:
        """Return the text without the secrets."""
        for form, instead in self._forms.items():
            if form in text:
                text = text.replace(form, instead)
        return text

    def _add(self, data: bytes) -> None:
        # As lists of numbers they stay lists, so that a recording can still be read.
        self._forms[", ".join(map(str, data))] = ", ".join("0" * len(data))
        self._forms[base64.b64encode(data).decode().rstrip("=")] = MASKED
        self._forms[base64.urlsafe_b64encode(data).decode().rstrip("=")] = MASKED
        self._forms[data.hex()] = MASKED
        try:
            form = data.decode()
        except UnicodeDecodeError:
            return
        for _ in range(3):  # plain, inside a WAVE string, and inside a JSON string that holds one
            self._forms[form] = MASKED
            form = json.dumps(form, ensure_ascii=False)[1:-1]
