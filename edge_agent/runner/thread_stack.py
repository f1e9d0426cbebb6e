"""Stack pages of a thread that will wait for long.

Owns: `give_back_stack`. Making an instance goes deeper than waiting for a call, and what was touched stays in memory:
some pages for each agent, which is much with a thousand of them. Does nothing on a platform that it does not know.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys

_UCONTEXT_BYTES = 8192
"""More than a `ucontext_t` of any platform below (x86_64: 968, aarch64: 4560)."""

_STACK_POINTER_AT = {"x86_64": 160, "aarch64": 432}
"""Where `ucontext_t` has the stack pointer (sys/ucontext.h of glibc)."""

_MARGIN = 1024
"""Bytes below our frame that stay: the calls of the C library that follow lie there, as `getcontext` did."""

_PTHREAD_ATTR_BYTES = 128
"""More than a `pthread_attr_t` (bits/pthreadtypes-arch.h: at most 64)."""

_DONTNEED = 4  # MADV_DONTNEED of sys/mman.h


_NEEDED = (
    "pthread_self",
    "pthread_getattr_np",
    "pthread_attr_getstack",
    "pthread_attr_destroy",
    "getcontext",
    "madvise",
)


def _c_library() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    if platform.machine() not in _STACK_POINTER_AT or not all(hasattr(library, name) for name in _NEEDED):
        return None
    library.pthread_self.restype = ctypes.c_ulong
    library.pthread_getattr_np.argtypes = ctypes.c_ulong, ctypes.c_char_p
    library.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return library


_LIBRARY = _c_library()


def give_back_stack() -> int:
    """Give the pages below the calling function's frame back to the kernel; they are zero when they are next touched.

    For threads with a stack of their own, not for the first thread of a process, whose stack grows by itself.

    Returns:
        Bytes of address space that were given back; 0 where that is not possible.
    """
    library = _LIBRARY
    if library is None:
        return 0
    attributes = ctypes.create_string_buffer(_PTHREAD_ATTR_BYTES)
    lowest, size = ctypes.c_void_p(), ctypes.c_size_t()
    if library.pthread_getattr_np(library.pthread_self(), attributes):
        return 0
    library.pthread_attr_getstack(attributes, ctypes.byref(lowest), ctypes.byref(size))
    library.pthread_attr_destroy(attributes)
    registers = ctypes.create_string_buffer(_UCONTEXT_BYTES)
    library.getcontext(registers)
    at = _STACK_POINTER_AT[platform.machine()]
    here = int.from_bytes(registers.raw[at : at + 8], sys.byteorder)
    start = lowest.value or 0
    if not start <= here <= start + size.value:
        return 0
    unused = max(here - _MARGIN - start, 0) // mmap.PAGESIZE * mmap.PAGESIZE
    return 0 if library.madvise(start, unused, _DONTNEED) else unused
