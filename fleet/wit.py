"""Names of WIT interfaces and functions.

Owns: the grammar of interface names (component-model `Explainer.md`, import and export definitions) and the rule by
which a provided version serves a required one. Types and signatures are in `fleet.wit_types`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from fleet.errors import Code, FleetError
from fleet.semver import parse_version

MAX_INTERFACE = 256
"""Characters in an interface or function name."""

_WORDS = r"[a-z][0-9a-z]*(?:-[0-9a-z]+)*"
_LABEL = r"(?:[a-z][0-9a-z]*|[A-Z][0-9A-Z]*)(?:-(?:[0-9a-z]+|[0-9A-Z]+))*"
_INTERFACE = re.compile(rf"(?P<package>{_WORDS}:{_WORDS})/(?P<interface>{_LABEL})(?:@(?P<version>.+))?")
_FUNCTION = re.compile(_LABEL)


@dataclass(frozen=True, slots=True)
class InterfaceName:
    """`package/interface@version`, for example `wasi:keyvalue/store@0.2.0-draft2`.

    Attributes:
        package: `namespace:name`.
        interface: name of the interface within its package.
        version: complete semantic version, or None.
    """

    package: str
    interface: str
    version: str | None = None

    @property
    def unversioned(self) -> str:
        """The name as grants write it, for example `wasi:keyvalue/store`."""
        return f"{self.package}/{self.interface}"

    def __str__(self) -> str:
        return self.unversioned if self.version is None else f"{self.unversioned}@{self.version}"


@lru_cache(maxsize=4096)  # pure, and every start of an agent asks again for the same few names
def parse_interface(text: str, code: Code = Code.COMPONENT_INVALID, place: str = "") -> InterfaceName:
    """Parse an interface name.

    Plain names (`run`), URLs, hashes, locked names and nested namespaces are no interface names and are refused.

    Raises:
        FleetError: `code` at `place` (by default the text itself).
    """
    where = place or text[:MAX_INTERFACE]
    match = _INTERFACE.fullmatch(text) if len(text) <= MAX_INTERFACE else None
    if match is None:
        raise FleetError(code, f"{text[:MAX_INTERFACE]!r} is not namespace:package/interface@version", place=where)
    version = match["version"]
    if version is not None:
        parse_version(version, code, where)
    return InterfaceName(match["package"], match["interface"], version)


def is_interface(text: str) -> bool:
    """Whether `text` is an interface name, with or without a version."""
    try:
        parse_interface(text)
    except FleetError:
        return False
    return True


def is_function(text: str) -> bool:
    """Whether `text` names a function: `handle-data`, or `namespace:package/interface@version#handle-data`."""
    interface, hash_sign, function = text.rpartition("#")
    if len(text) > MAX_INTERFACE or _FUNCTION.fullmatch(function) is None:
        return False
    return not hash_sign or is_interface(interface)


def compatible(required: InterfaceName, provided: InterfaceName) -> bool:
    """Whether `provided` may be linked where a component imports `required`.

    The rule is that of canonical interface names (component-model `Explainer.md`, `canonversion`) and of Wasmtime's
    linker: equal versions; or released versions within one semver track, which is the major number, below 1.0 the
    minor and below 0.1 the patch. The order within a track does not matter, since functions that are missing show
    when signatures are checked at admission. A pre-release or an absent version serves only itself.
    """
    if required.unversioned != provided.unversioned:
        return False
    if required.version is None or provided.version is None:
        return required.version == provided.version
    need = parse_version(required.version, Code.COMPONENT_INVALID, str(required))
    have = parse_version(provided.version, Code.COMPONENT_INVALID, str(provided))
    if need.pre_release or have.pre_release:
        return need == have
    if need.major or have.major:
        return need.major == have.major
    if need.minor or have.minor:
        return need.minor == have.minor
    return need.patch == have.patch
