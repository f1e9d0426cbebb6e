"""Pages that a waiting thread gives back."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_agent.runner import thread_stack
from edge_agent.runner.thread_stack import give_back_stack

if TYPE_CHECKING:
    from collections.abc import Callable

STACK_BYTES = 8 << 20


def in_a_thread(work: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    for failure in failures:
        raise failure


def resident_kib() -> int:
    """Resident size of the mappings of a thread's stack, by their size."""
    total, counted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        word = line.split()[0]
        if word == "Size:":
            counted = int(line.split()[1]) == STACK_BYTES >> 10
        if word == "Rss:" and counted:
            total += int(line.split()[1])
    return total


def go_deep(levels: int) -> int:
    """Use the C stack: each level goes through a C function that calls back."""
    if levels == 0:
        return 0
    return 1 + max([levels - 1], key=lambda below: 0 * go_deep(below))


@pytest.mark.skipif(thread_stack._LIBRARY is None, reason="the platform is not known")
def test_what_lies_below_is_given_back_and_what_runs_goes_on() -> None:
    def work() -> None:
        kept = [number * number for number in range(100)]
        go_deep(150)
        before = resident_kib()
        assert give_back_stack() > 0
        assert before - resident_kib() >= 32
        go_deep(150)  # and can be used again
        assert kept == [number * number for number in range(100)]

    in_a_thread(work)


def test_an_unknown_platform_keeps_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_stack, "_LIBRARY", None)
    assert give_back_stack() == 0


def test_a_stack_that_is_not_the_threads_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        """A C library whose threads all have a stack of one page that nobody runs on."""

        page = ctypes.create_string_buffer(4096)

        def __getattr__(self, name: str) -> object:
            return getattr(ctypes.CDLL(None), name)

        def pthread_attr_getstack(self, _attributes: object, lowest: object, size: object) -> int:
            lowest._obj.value = ctypes.addressof(self.page)  # type: ignore[attr-defined]
            size._obj.value = 4096  # type: ignore[attr-defined]
            return 0

        def pthread_getattr_np(self, _thread: int, _attributes: object) -> int:
            return 0

        def pthread_attr_destroy(self, _attributes: object) -> int:
            return 0

    monkeypatch.setattr(thread_stack, "_LIBRARY", Elsewhere())
    in_a_thread(lambda: None if give_back_stack() == 0 else pytest.fail("gave back what is not its own"))
