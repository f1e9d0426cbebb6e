"""What may be a name, and what a content address looks like.

Owns: the grammar of names of nodes, applications, agents, bundles and teams, of topics and of digests. Never resolves
a name.
"""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""Names of nodes, applications, agents, bundles and teams: lower-case words joined by single hyphens."""

MAX_NAME = 63
"""Characters in a name (RFC 1123 label length, so that a name can be a host name)."""

MAX_TOPIC = 255
"""Characters in a topic."""

_TOPIC = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*(/[a-z0-9]+([-_.][a-z0-9]+)*)*")

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
"""A content address as OCI image-spec (descriptor.md) writes it; SHA-256 only."""


def is_name(text: str) -> bool:
    """Whether `text` is a name: lower-case words joined by hyphens, at most 63 characters."""
    return len(text) <= MAX_NAME and NAME.fullmatch(text) is not None


def is_agent_name(text: str) -> bool:
    """Whether `text` is `application/agent`."""
    application, slash, agent = text.partition("/")
    return bool(slash) and is_name(application) and is_name(agent)


def is_topic(text: str) -> bool:
    """Whether `text` is a topic: lower-case words joined by hyphens, underlines, dots and slashes."""
    return len(text) <= MAX_TOPIC and _TOPIC.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 lower-case hexadecimal digits."""
    return DIGEST.fullmatch(text) is not None
