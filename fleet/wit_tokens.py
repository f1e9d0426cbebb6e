"""Cuts the text of a `.wit` file into tokens.

Owns: `TokenReader`, the cursor on which `fleet.wit_document` parses. Documentation comments belong to the token that
follows them; other comments and white space are dropped (component model, `WIT.md`, lexical structure).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from fleet.errors import Code, FleetError

MAX_DOCUMENT = 1 << 20
"""Characters of one file; the largest published one has about 30,000."""

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+|//(?!/)[^\n]*)"
    r"|(?P<doc>///[^\n]*)"
    r"|(?P<comment>/\*)"
    r"|(?P<version>@[0-9][0-9A-Za-z.+-]*(?<![.+-]))"
    r"|(?P<word>%?[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*)"
    r"|(?P<number>[0-9][0-9A-Za-z.+-]*)"
    r"|(?P<mark>->|[{}()<>:;,.=/*_@])"
)
_COMMENT_ENDS = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: `word`, `number`, `version` with its @, `mark`, or `end` of the file.
        text: as it is written.
        at: its place in the text.
        docs: documentation before it, without the slashes.
    """

    kind: str
    text: str
    at: int
    docs: str = ""


class TokenReader:
    """Reads the tokens of one file in order.

    Args:
        text: the file.
        name: its name, for errors.

    Raises:
        FleetError: WIT_INVALID with file, line and column; so do all methods that say what they expect.
    """

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name = text, name
        self._at = 0
        self._tokens: list[Token] = []
        if len(text) > MAX_DOCUMENT:
            raise FleetError(Code.WIT_INVALID, f"more than {MAX_DOCUMENT} characters", place=name)
        self._split()

    @property
    def peek(self) -> Token:
        """The next token."""
        return self._tokens[self._at]

    def ahead(self, count: int) -> Token:
        """The token so many after the next one."""
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def next(self) -> Token:
        """Go past the next token, whatever it is, and return it."""
        token = self.peek
        if token.kind == "end":
            self.fail("the file ends here")
        self._at += 1
        return token

    def take(self, text: str) -> bool:
        """Go past the next token if it is this one."""
        if self.peek.text != text:
            return False
        self._at += 1
        return True

    def expect(self, text: str) -> None:
        """Go past this token."""
        if not self.take(text):
            self.fail(f"expected {text!r}")

    def separate(self, end: str) -> None:
        """Go past a comma; none is needed before `end`."""
        if not self.take(",") and self.peek.text != end:
            self.fail(f"expected ',' or {end!r}")

    def word(self, what: str) -> str:
        """Go past a word and return it without its escape; `what` is for the error."""
        if self.peek.kind != "word":
            self.fail(f"expected {what}")
        return self.next().text.removeprefix("%")

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Refuse the file at the next token, or at this place."""
        raise FleetError(Code.WIT_INVALID, message, place=self._place(self.peek.at if at is None else at))

    def _place(self, at: int) -> str:
        return f"{self._name}:{self._text.count(chr(10), 0, at) + 1}:{at - self._text.rfind(chr(10), 0, at)}"

    def _split(self) -> None:
        at, docs = 0, list[str]()
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                self.fail(f"unexpected {self._text[at]!r}", at)
            kind = str(match.lastgroup)
            at = match.end()
            if kind == "comment":
                at = self._after_comment(match.start())
            elif kind == "doc":
                docs.append(match[0][3:].removeprefix(" ").rstrip())
            elif kind != "space":
                self._tokens.append(Token(kind, match[0], match.start(), "\n".join(docs)))
                docs = []
        self._tokens.append(Token("end", "", at))

    def _after_comment(self, start: int) -> int:
        depth = 0
        for match in _COMMENT_ENDS.finditer(self._text, start):
            depth += 1 if match[0] == "/*" else -1
            if depth == 0:
                return match.end()
        raise FleetError(Code.WIT_INVALID, "a comment without an end", place=self._place(start))
