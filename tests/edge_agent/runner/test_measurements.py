"""What is counted about one agent, and when it is time to tell."""

from edge_agent.health import Health
from edge_agent.runner.known_agent import KnownAgent
from edge_agent.runner.measurements import REPORT_S, Measurements
from edge_agent.runner.message_values import Counters, HostCalls, Measures
from edge_agent.runner.probes import Probes
from fleet.health import MAX_INTERFACES, HealthPolicy


def report(numbers, now=0.0, probes=None, living=()):
    return numbers.report(now, queue=1, queue_limit=4, probes=probes, living=living)


def test_calls_are_counted_and_timed_from_their_turn_to_their_end():
    numbers = Measurements()
    for began, took in ((0.0, 0.000_010), (1.0, 0.000_010), (2.0, 0.000_015)):
        numbers.begin()
        numbers.end(began, began + took, returned=True)
    numbers.begin()
    numbers.end(3.0, 3.000_012, returned=False)
    told = report(numbers, 4.0)
    assert (numbers.calls, told.returned) == (4, 3)
    assert told.p50_us <= 12 <= told.p99_us
    assert (told.queue, told.queue_limit) == (1, 4)


def test_the_end_of_what_is_no_call_counts_for_nothing():
    numbers = Measurements()
    numbers.end(None, 1.0, returned=True)
    numbers.begin()
    numbers.take_back()
    assert numbers.calls == 0
    assert report(numbers) == Measures(queue=1, queue_limit=4)


def test_there_is_nothing_to_tell_without_a_change_and_not_too_often():
    numbers = Measurements()
    assert numbers.wait_s(4.0) is None
    numbers.begin()
    assert numbers.wait_s(4.0) == 0
    report(numbers, 5.0)
    assert numbers.wait_s(6.0) is None
    numbers.begin()
    assert numbers.wait_s(5.25) == REPORT_S - 0.25
    assert numbers.wait_s(9.0) == 0


def test_calls_to_the_host_outlive_instances_and_the_most_called_are_told():
    numbers = Measurements()
    numbers.bury({"a:b/c": 2, "a:b/d": 1}, trapped=True)
    told = report(numbers, living=[{"a:b/c": 3}, {"a:b/e": 1}])
    assert told.host_calls == (HostCalls("a:b/c", 5), HostCalls("a:b/d", 1), HostCalls("a:b/e", 1))
    assert numbers.errors == 1
    many = {f"a:b/c{n:03}": n for n in range(1, 101)}
    told = report(numbers, living=[many])
    assert len(told.host_calls) == MAX_INTERFACES
    assert min(entry.calls for entry in told.host_calls) == 100 - MAX_INTERFACES + 1


def test_memory_has_a_peak_and_a_new_instance_has_returned_nothing():
    numbers = Measurements()
    for size in (3, 9, 0):
        numbers.note_memory(size)
    numbers.begin()
    numbers.end(0.0, 0.1, returned=True)
    assert (report(numbers).peak_bytes, report(numbers).returned) == (9, 1)
    numbers.renew()
    assert report(numbers).returned == 0


def test_the_word_of_the_instance_goes_along():
    probes = Probes("a:b/c#health", HealthPolicy(), 0.0)
    assert report(Measurements(), probes=probes).health is Health.UNASKED
    probes.answered("no network", 0.0)
    told = report(Measurements(), probes=probes)
    assert (told.health, told.health_message) == (Health.FAILING, "no network")


def test_an_agent_is_asked_at_once_then_at_its_interval_and_may_fail_so_often_in_a_row():
    probes = Probes("a:b/c#health", HealthPolicy(every_ms=2_000, failures=3), 10.0)
    assert probes.wait_s(10.0) == 0
    assert not probes.answered("x", 11.0)
    assert (probes.wait_s(11.0), probes.wait_s(12.5), probes.wait_s(99.0)) == (2.0, 0.5, 0)
    assert not probes.answered("x", 13.0)
    assert not probes.answered(None, 15.0)
    assert (probes.health, probes.message) == (Health.OK, "")
    assert [probes.answered("x" * 999, 17.0) for _ in range(3)] == [False, False, True]
    assert probes.message == "x" * 512


def test_the_totals_of_earlier_runs_stay_and_the_rest_is_of_this_one():
    calls = (HostCalls("a:b/c", 2),)
    first = Counters(calls=5, errors=1, memory_bytes=7, dropped=2), Measures(9, 9, 7, 1, 4, 3, host_calls=calls)
    known = KnownAgent(("sha256:0", False), 100).ended(*first)
    assert (known.stats(Counters(), Measures()).p50_us, known.stats(Counters(), Measures()).memory_bytes) == (0, 0)
    stats = known.stats(Counters(1, 0, 3, 1), Measures(p50_us=4, peak_bytes=3, host_calls=(HostCalls("a:b/d", 1),)))
    assert (stats.calls, stats.errors, stats.dropped, stats.memory_bytes, stats.memory_peak_bytes) == (6, 1, 3, 3, 7)
    assert (stats.p50_us, stats.queue, stats.returned) == (4, 0, 0)
    assert stats.host_calls == {"a:b/c": 2, "a:b/d": 1}
