"""Virtual time goes on, however much of it has passed."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tests.fakes.virtual_loop import VirtualLoop


@pytest.mark.parametrize("passed_s", [0.0, 17_801_052.0, 2.0**31 + 0.1, 400 * 86_400.0])
def test_a_timer_fires_where_two_times_differ_by_less_than_a_float_can_tell(passed_s: float) -> None:
    loop = VirtualLoop(Random(1))
    loop.jump(passed_s)
    loop.run_until_complete(asyncio.sleep(2.0))
    assert loop.time() == pytest.approx(passed_s + 2.0)
    loop.close()
