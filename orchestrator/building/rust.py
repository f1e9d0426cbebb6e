"""Finds a Rust toolchain that can build for wasm32-unknown-unknown, or makes one from Debian packages.

Two recipes, tried in this order:

* `rustup`: the target is installed (`rustup target add wasm32-unknown-unknown`). Nothing else is touched.
* `debian`: rustc, cargo and the source of the standard library from Debian's `-web` packages, `lld` to link. The
  standard library for the target is compiled once, from Debian's source, into the cache directory.

Never downloads a toolchain, and never changes an installed one; `install` is for programs that say they do.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from orchestrator.building.tools import Tools

TARGET = "wasm32-unknown-unknown"
LLD = "lld-19"
LINKER = "wasm-ld-19"
PACKAGES = ("rustc-web", "cargo-web", "rust-web-src", LLD)
DEBIAN_RUSTC = Path("/usr/bin/rustc")
DEBIAN_CARGO = Path("/usr/bin/cargo")


INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", *PACKAGES)
BY_HAND = f"rustup target add {TARGET}\nor, on Debian:\n  apt-get update && {' '.join(INSTALL)}"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The programs of one build, and the flags that make them produce the same bytes anywhere."""

    recipe: str
    cargo: Path
    rustc: Path
    linker: str | None
    """None: the linker that comes with rustc."""
    sysroot: Path | None
    """Where the standard library for the target lies; None: with rustc."""

    def versions(self) -> dict[str, str]:
        """What the bytes of an artefact depend on besides its source."""
        found = {
            "recipe": self.recipe,
            "rustc": _first_line(self.rustc, "--version"),
            "cargo": _first_line(self.cargo, "--version"),
            "linker": _first_line(self.linker, "--version") if self.linker else "with rustc",
        }
        if self.sysroot is not None:
            found["standard library"] = _package_version("rust-web-src")
        return found

    def environment(self, workspace: Path, target_dir: Path) -> dict[str, str]:
        """Environment for cargo when it builds `workspace`; paths of this machine do not reach the artefact."""
        registry = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "registry" / "src"
        flags = [f"--remap-path-prefix={workspace}=/components", f"--remap-path-prefix={registry}=/registry"]
        if self.sysroot is not None:
            flags += ["--sysroot", str(self.sysroot)]
        environment = {name: value for name, value in os.environ.items() if not _changes_a_build(name)}
        environment |= {
            "RUSTC": str(self.rustc),
            "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
            "CARGO_TARGET_DIR": str(target_dir),
        }
        if self.linker is not None:
            environment["CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER"] = self.linker
        return environment


def find(tools: Tools) -> Toolchain:
    """Return the toolchain to build with; Debian's standard library for the target is compiled first if need be.

    Raises:
        FleetError: TOOL_MISSING without rustup's target and without Debian's packages; BUILD_FAILED.
    """
    found = _rustup()
    if found is not None:
        return found
    if not (DEBIAN_RUSTC.is_file() and DEBIAN_CARGO.is_file() and shutil.which(LINKER) and _library_source()):
        raise FleetError(Code.TOOL_MISSING, f"no Rust toolchain for {TARGET}", tool="rust", remedy=f"Run {BY_HAND}")
    return Toolchain("debian", DEBIAN_CARGO, DEBIAN_RUSTC, LINKER, _sysroot(tools))


def install() -> None:
    """Install Debian's packages, for a machine that is there to build (root only).

    Raises:
        FleetError: TOOL_MISSING where this is no Debian or not root; BUILD_FAILED.
    """
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise FleetError(Code.TOOL_MISSING, f"no Rust toolchain for {TARGET}", tool="rust", remedy=f"Run {BY_HAND}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "-qq", "update"], [INSTALL[0], "-qq", *INSTALL[1:]]):
        done = subprocess.run(command, env=environment, check=False)  # noqa: S603 - fixed text
        if done.returncode != 0:
            raise FleetError(Code.BUILD_FAILED, f"{' '.join(command)} ended with {done.returncode}", tool="apt-get")


def _rustup() -> Toolchain | None:
    rustc, cargo = shutil.which("rustc"), shutil.which("cargo")
    if rustc is None or cargo is None or not shutil.which("rustup"):
        return None
    libraries = Path(_first_line(rustc, "--print", "target-libdir", "--target", TARGET))
    if not any(libraries.glob("libstd-*.rlib")):
        return None
    return Toolchain("rustup", Path(cargo), Path(rustc), linker=None, sysroot=None)


def _library_source() -> Path | None:
    source = Path(_first_line(DEBIAN_RUSTC, "--print", "sysroot")) / "lib/rustlib/src/rust/library"
    return source if (source / "std" / "Cargo.toml").is_file() else None


def _sysroot(tools: Tools) -> Path:
    """Return the cached standard library for the target, compiled on first use (half a minute to two minutes)."""
    identity = f"{_first_line(DEBIAN_RUSTC, '--version')} {_package_version('rust-web-src')}"
    sysroot = tools.cache / f"wasm-std-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not sysroot.is_dir():
        tools.note(f"Compiling Rust's standard library for {TARGET} into {sysroot}.")
        tools.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tools.cache) as scratch:
            built = _compile_library(Path(scratch), tools)
            # Two builds at once do the same work; the loser finds the winner's directory.
            if not sysroot.is_dir():
                built.rename(sysroot)
    return sysroot


def _compile_library(scratch: Path, tools: Tools) -> Path:
    """Compile std and panic_abort from Debian's source and vendored crates, without any network."""
    source = _library_source()
    if source is None:
        raise FleetError(
            Code.TOOL_MISSING, "the source of Rust's library is gone", tool="rust", remedy=f"Run {BY_HAND}"
        )
    seed = scratch / "seed"
    (seed / "src").mkdir(parents=True)
    (seed / "src" / "lib.rs").write_text("#![no_std]\n")
    (seed / "Cargo.toml").write_text(
        '[package]\nname = "seed"\nversion = "0.0.0"\nedition = "2021"\n'
        '[workspace]\n[profile.release]\nopt-level = "s"\npanic = "abort"\n'
    )
    (seed / ".cargo").mkdir()
    (seed / ".cargo" / "config.toml").write_text(
        f'[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "{source / "vendor"}"\n'
    )
    environment = {name: value for name, value in os.environ.items() if not _changes_a_build(name)}
    environment |= {
        "RUSTC": str(DEBIAN_RUSTC),
        "RUSTC_BOOTSTRAP": "1",  # -Zbuild-std is not stable
        "RUSTFLAGS": "-Cembed-bitcode=yes",  # link-time optimisation of the components reaches into std
    }
    command = [str(DEBIAN_CARGO), "build", "--release", "--offline", "-Zbuild-std=std,panic_abort", "--target", TARGET]
    tools.run(command, seed, environment)
    sysroot = scratch / "sysroot"
    libraries = sysroot / "lib/rustlib" / TARGET / "lib"
    libraries.mkdir(parents=True)
    for library in (seed / "target" / TARGET / "release/deps").glob("*.rlib"):
        if not library.name.startswith("libseed"):
            shutil.copy(library, libraries)
    return sysroot


def _changes_a_build(variable: str) -> bool:
    """Settings of the caller that would lead to other bytes than the next machine's."""
    if variable in {"RUSTFLAGS", "RUSTC", "RUSTC_BOOTSTRAP"} or variable.startswith("RUSTC_W"):
        return True
    return variable.startswith(("CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_ENCODED_"))


def _first_line(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - fixed programs of a toolchain
    return done.stdout.partition("\n")[0].strip()


def _package_version(package: str) -> str:
    return _first_line("dpkg-query", "--show", "--showformat=${Version}", package)
