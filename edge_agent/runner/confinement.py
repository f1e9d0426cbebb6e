"""What a forked child gives up before it touches anything from outside.

Owns: descriptors, environment, session, capabilities, privileges, resource limits, death with the parent. It is the
second line behind the engine's sandbox, for the day on which a guest escapes it. Address space is not limited in
runners: the engine reserves 4 GiB of it per linear memory and uses almost none (limits of memory are the engine's).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

MAX_OPEN_FILES = 1024
"""Descriptors of one child: models, databases and sockets of all agents of an application."""

OOM_SCORE = 500
"""When memory runs out the system ends children before the supervisor (proc(5), oom_score_adj)."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_STANDARD_ERROR = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), value, zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def die_with_parent(parent: int) -> None:
    """End with SIGKILL when the parent process `parent` ends, and at once if it has ended already (prctl(2))."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def name_process(name: str) -> None:
    """Set the name that ps and top show; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode())


def drop_privileges() -> None:
    """Give up every capability and the ways to gain one by executing a program (capabilities(7))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def close_descriptors(keep: int) -> None:
    """Close all descriptors but `keep` and standard error, where the engine writes its last words."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if number > _STANDARD_ERROR and number != keep:
            with suppress(OSError):  # the listing names the descriptor of the listing itself
                os.close(number)


def confine(control: int, name: str, parent: int) -> None:
    """Confine the calling process, which has just been forked by `parent` and owns the socket `control`."""
    os.setsid()
    die_with_parent(parent)
    name_process(name)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    close_descriptors(control)
    os.environ.clear()
    os.environ["LANG"] = "C.UTF-8"
    os.umask(0o077)
    Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = min(MAX_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    drop_privileges()


def leave(status: int) -> NoReturn:
    """End a forked child without running what the parent registered for its own end."""
    sys.stderr.flush()
    os._exit(status)
