"""Jobs that come from threads of the runner itself: what a full queue does to them. The runner is in this process."""

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_agent.runner import memory_file
from edge_agent.runner.connection import Connection
from edge_agent.runner.engine import Engine
from edge_agent.runner.jobs import Job
from edge_agent.runner.messages import AgentStarted, StartAgent
from edge_agent.runner.process import Runner
from fleet.errors import Code
from fleet.grants import Authority, Limits
from fleet.model import QueuePolicy
from tests.fakes.guests import guest
from tests.fakes.wait import wait_until

pytestmark = pytest.mark.system

ANSWER_S = 60
AT_ONCE_S = 0.001


class Work(Job):
    """A job that runs until it is told to end, and remembers what became of it."""

    deadline_ms = None

    def __init__(self, *, ends: bool = True) -> None:
        self.began, self.end, self.told = threading.Event(), threading.Event(), threading.Event()
        self.fault = None
        if ends:
            self.end.set()

    def run(self, _instance, _seconds):
        self.began.set()
        assert self.end.wait(ANSWER_S)
        self.told.set()

    def refuse(self, fault):
        self.fault = fault
        self.told.set()

    def outcome(self):
        assert self.told.wait(ANSWER_S)
        return None if self.fault is None else self.fault.code


@pytest.fixture
def started(tmp_path):
    """Starts an agent with room for one waiting job and a policy; returns its thread."""
    ours, theirs = socket.socketpair()
    supervisor, runner = Connection(ours), Runner(Connection(theirs))
    ours.settimeout(ANSWER_S)
    serving = threading.Thread(target=runner.serve)
    serving.start()

    def start(policy):
        module = memory_file.create("guest")
        memory_file.write(module, Engine().compile(guest()))
        memory_file.seal(module)
        authority = Authority({}, Limits(queue=1)).encode().decode()
        message = StartAgent("app/a", "sha256:0", authority, (), {}, (), str(tmp_path), on_full_queue=policy)
        supervisor.send(message, (module,))
        os.close(module)
        assert isinstance(supervisor.receive()[0], AgentStarted)
        return runner.agent("app/a")

    yield start
    ours.shutdown(socket.SHUT_RDWR)
    serving.join()
    runner.close()
    supervisor.close()
    theirs.close()


def fill(agent):
    """One job that runs, and one that waits."""
    running, waiting = Work(ends=False), Work()
    agent.submit(running)
    assert running.began.wait(ANSWER_S)
    agent.submit(waiting, AT_ONCE_S)
    return running, waiting


def test_a_thread_that_blocks_gets_its_turn(started):
    agent = started(QueuePolicy.BLOCK)
    running, waiting = fill(agent)
    patient = [Work() for _ in range(5)]
    with ThreadPoolExecutor(len(patient)) as threads:
        sent = [threads.submit(agent.submit, work, ANSWER_S) for work in patient]
        assert not any(future.done() for future in sent)
        running.end.set()
        assert [work.outcome() for work in (running, waiting, *patient)] == [None] * 7
    assert agent.counters().dropped == 0


def test_a_thread_that_blocks_waits_no_longer_than_it_said(started):
    agent = started(QueuePolicy.BLOCK)
    running, waiting = fill(agent)
    hasty = Work()
    agent.submit(hasty, AT_ONCE_S)
    assert hasty.outcome() is Code.AGENT_BUSY
    from_outside = Work()
    agent.submit(from_outside)  # whoever sent it has waited already
    running.end.set()
    assert [work.outcome() for work in (running, waiting, from_outside)] == [None] * 3
    assert agent.counters().dropped == 1


def test_a_thread_that_blocks_hears_of_a_stop(started):
    agent = started(QueuePolicy.BLOCK)
    running, waiting = fill(agent)
    patient, before = Work(), threading.active_count()
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(agent.submit, patient, ANSWER_S)
        agent.stop(ANSWER_S * 1000)
        sent.result(ANSWER_S)
    assert patient.outcome() is Code.AGENT_NOT_RUNNING
    running.end.set()
    assert [running.outcome(), waiting.outcome()] == [None, Code.AGENT_NOT_RUNNING]
    wait_until(lambda: threading.active_count() < before, ANSWER_S / 4)  # the grace ends with the agent


@pytest.mark.parametrize("policy", [QueuePolicy.REJECT, QueuePolicy.DROP_OLDEST])
def test_no_thread_waits_under_the_other_policies(started, policy):
    agent = started(policy)
    running, waiting = fill(agent)
    late = Work()
    agent.submit(late, ANSWER_S)
    gone, kept = (late, waiting) if policy is QueuePolicy.REJECT else (waiting, late)
    assert gone.outcome() is Code.AGENT_BUSY
    running.end.set()
    assert [running.outcome(), kept.outcome()] == [None, None]
