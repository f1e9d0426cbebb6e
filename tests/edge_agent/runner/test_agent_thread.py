"""Faults of the host at both ends of an agent's life: the supervisor hears of each of them, and the runner goes on.

The runner is in this process, where such faults can be made.
"""

import os
import socket
import threading

import pytest

from edge_agent.runner import agent_thread, memory_file
from edge_agent.runner.agent_thread import AgentContext
from edge_agent.runner.connection import Connection
from edge_agent.runner.engine import Engine
from edge_agent.runner.messages import (
    AgentEnded,
    AgentMeasured,
    AgentStarted,
    AgentStopped,
    StartAgent,
    StartFailed,
    StopAgent,
)
from edge_agent.runner.process import Runner
from fleet.errors import Code
from fleet.grants import Authority
from fleet.model import ExitCause
from tests.fakes.guests import guest

pytestmark = pytest.mark.system

ANSWER_S = 60


@pytest.fixture
def supervisor():
    """The supervisor's end of a runner's connection."""
    ours, theirs = socket.socketpair()
    supervisor, runner = Connection(ours), Runner(Connection(theirs))
    ours.settimeout(ANSWER_S)
    serving = threading.Thread(target=runner.serve)
    serving.start()
    yield supervisor
    ours.shutdown(socket.SHUT_RDWR)
    serving.join()
    runner.close()
    supervisor.close()
    theirs.close()


def start(supervisor, state_dir):
    """Order a start and return the answer."""
    module = memory_file.create("guest")
    memory_file.write(module, Engine().compile(guest()))
    memory_file.seal(module)
    authority = Authority({}).encode().decode()
    supervisor.send(StartAgent("app/a", "sha256:0", authority, (), {}, (), str(state_dir)), (module,))
    os.close(module)
    return supervisor.receive()[0]


def test_a_fault_before_the_component_is_linked_is_a_failed_start(monkeypatch, supervisor, tmp_path):
    def full(**_):
        raise OSError(28, "No space left on device", "state/app")

    with monkeypatch.context() as patched:
        patched.setattr(agent_thread, "AgentContext", full)
        answer = start(supervisor, tmp_path)
    assert isinstance(answer, StartFailed)
    assert answer.fault.code is Code.AGENT_TRAPPED
    assert answer.fault.detail["cause"] == ExitCause.HOST_ERROR
    assert "No space left on device: 'state/app'" in answer.fault.message
    assert isinstance(start(supervisor, tmp_path), AgentStarted), "the runner goes on and its name is free"


def test_a_fault_while_an_agent_is_freed_is_told_and_ends_it(monkeypatch, supervisor, tmp_path):
    def broken(_context):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(AgentContext, "close", broken)
    assert isinstance(start(supervisor, tmp_path), AgentStarted)
    supervisor.send(StopAgent("app/a", 0))
    measured, ended, stopped = (supervisor.receive()[0] for _ in range(3))
    assert isinstance(measured, AgentMeasured)
    assert isinstance(ended, AgentEnded)
    assert (ended.cause, "Input/output error" in ended.message) == (ExitCause.HOST_ERROR, True)
    assert stopped == AgentStopped("app/a")
    monkeypatch.undo()
    assert isinstance(start(supervisor, tmp_path), AgentStarted)
