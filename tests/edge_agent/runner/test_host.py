"""The real runtime: processes, sockets and the engine, with a small guest."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from edge_agent.clock import SystemClock
from edge_agent.runner import compilation, runner_client
from edge_agent.runner.host import RunnerHost
from edge_agent.runner.memory_meter import REFRESH_SECONDS
from edge_agent.runner.messages import Hello
from edge_agent.runtime import AgentExited, AgentStats, RunnerLost
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.components import wasm
from tests.fakes.wait import until

pytestmark = pytest.mark.system


async def event(host):
    async with asyncio.timeout(60):
        return await host.next_event()


async def failure(awaitable):
    with pytest.raises(FleetError) as caught:
        async with asyncio.timeout(60):
            await awaitable
    return caught.value


async def looping(host):
    """Wait until the guest of "app" has really used the processor."""
    process = psutil.Process(host.runner_pid("app"))
    before = process.cpu_times().user
    await until(lambda: process.cpu_times().user > before + 0.02, "the loop")


def gone(process):
    """Whether a process has ended; whoever inherited it may not have looked yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def answers(host, agent):
    return (await host.call(agent, "add(2, 3)")).output == "5"


@pytest.mark.parametrize(
    ("invocation", "cause"),
    [
        ("trap()", ExitCause.UNREACHABLE),
        ("deep()", ExitCause.STACK_OVERFLOW),
        ("loop()", ExitCause.DEADLINE),
        ("grow-or-abort()", ExitCause.QUOTA),
    ],
)
async def test_a_bad_agent_ends_alone_and_starts_again(host, tiny, invocation, cause):
    bad = tiny.start("app/bad", small(deadline_ms=200, memory_bytes=8 << 20))
    await host.start(bad)
    await host.start(tiny.start("app/good"))
    assert (await host.call("app/good", "count()")).output == "1"

    error = await failure(host.call("app/bad", invocation))
    assert (error.code, error.detail["cause"]) == (Code.AGENT_TRAPPED, cause)
    ended = await event(host)
    assert isinstance(ended, AgentExited)
    assert (ended.agent, ended.exit.cause) == ("app/bad", cause)
    assert (await failure(host.call("app/bad", "count()"))).code is Code.AGENT_NOT_RUNNING

    await host.start(bad)
    assert (await host.call("app/bad", "count()")).output == "1", "a restart is a new instance"
    assert (await host.call("app/good", "count()")).output == "2", "the other agent kept its state"
    assert host.stats("app/bad").calls == 2
    assert host.stats("app/bad").errors == 1


async def test_fuel_is_its_own_cause(host, tiny):
    await host.start(tiny.start("app/a", small(fuel_per_call=100_000)))
    assert await answers(host, "app/a")
    error = await failure(host.call("app/a", "loop()"))
    assert error.detail["cause"] == ExitCause.FUEL


async def test_memory_is_bounded_and_reported(host, tiny):
    await host.start(tiny.start("app/a", small(memory_bytes=4 << 20)))
    assert host.stats("app/a").memory_bytes == 1 << 16
    assert (await host.call("app/a", "grow(31)")).output == "1"
    assert (await host.call("app/a", "grow(1000)")).output == "-1"

    await asyncio.sleep(REFRESH_SECONDS)  # sizes are read at most that often
    await host.call("app/a", "count()")
    assert host.stats("app/a").memory_bytes == 32 << 16


async def test_the_memory_of_an_agent_is_the_sum_of_its_memories(host, tmp_path):
    two = component(
        tmp_path / "two.wasm",
        wasm("""(component
          (core module $m (memory 1) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))
          (core instance $a (instantiate $m)) (core instance $b (instantiate $m))
          (func (export "grow-a") (param "n" u32) (result s32) (canon lift (core func $a "grow")))
          (func (export "grow-b") (param "n" u32) (result s32) (canon lift (core func $b "grow"))))"""),
    )
    await host.start(two.start("app/a", small(memory_bytes=4 << 20)))
    assert (await host.call("app/a", "grow-a(30)")).output == "1"
    assert (await host.call("app/a", "grow-a(1)")).output == "-1"
    assert (await host.call("app/a", "grow-b(30)")).output == "1"


async def test_a_full_queue_refuses_and_queued_calls_end_with_their_agent(host, tiny):
    await host.start(tiny.start("app/a", small(queue=2, deadline_ms=300)))
    running = asyncio.create_task(host.call("app/a", "loop()"))
    await looping(host)
    others = [asyncio.create_task(host.call("app/a", "count()")) for _ in range(3)]
    codes = [(await failure(call)).code for call in others]
    assert sorted(codes) == [Code.AGENT_BUSY, Code.AGENT_NOT_RUNNING, Code.AGENT_NOT_RUNNING]
    assert (await failure(running)).code is Code.AGENT_TRAPPED


async def test_a_caller_may_shorten_the_deadline_but_not_stretch_it(host, tiny):
    loop = asyncio.get_running_loop()
    for granted, asked, least in ((60_000, 50, 0.05), (300, 60_000, 0.3)):
        await host.start(tiny.start("app/a", small(deadline_ms=granted)))
        began = loop.time()
        assert (await failure(host.call("app/a", "loop()", asked))).detail["cause"] == ExitCause.DEADLINE
        assert least <= loop.time() - began < 60
        while not isinstance(await event(host), AgentExited):
            pass


async def test_a_killed_runner_is_reported_and_replaced(host, tiny):
    for name in ("app/a", "app/b", "other/c"):
        await host.start(tiny.start(name))
    call = asyncio.create_task(host.call("app/a", "loop()"))
    await looping(host)
    os.kill(host.runner_pid("app"), signal.SIGKILL)

    assert (await failure(call)).code is Code.RUNNER_LOST
    lost = await event(host)
    assert isinstance(lost, RunnerLost)
    assert (lost.application, lost.agents, lost.exit.cause) == ("app", ("app/a", "app/b"), ExitCause.KILLED)
    assert "SIGKILL" in lost.exit.message
    assert await answers(host, "other/c")
    await host.start(tiny.start("app/a"))
    assert await answers(host, "app/a")


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSYS])
async def test_a_crash_of_the_engine_is_told_from_a_kill(host, tiny, number):
    await host.start(tiny.start("app/a"))
    os.kill(host.runner_pid("app"), number)
    lost = await event(host)
    assert isinstance(lost, RunnerLost)
    assert lost.exit.cause is ExitCause.ENGINE_CRASH
    assert number.name in lost.exit.message


async def test_a_killed_zygote_takes_its_runners_and_comes_back(spawning_host, tiny):
    await spawning_host.start(tiny.start("app/a"))
    runner, zygote = psutil.Process(spawning_host.runner_pid("app")), psutil.Process(spawning_host.zygote_pid)
    zygote.kill()
    lost = await event(spawning_host)
    assert isinstance(lost, RunnerLost)
    assert lost.agents == ("app/a",)
    await until(lambda: gone(runner), "the end of the runner")
    await spawning_host.start(tiny.start("app/a"))
    assert await answers(spawning_host, "app/a")
    assert spawning_host.zygote_pid != zygote.pid


async def test_a_runner_that_does_not_answer_is_killed_after_its_deadline(host, tiny, monkeypatch):
    monkeypatch.setattr(runner_client, "WEDGE_GRACE_S", 0.2)
    await host.start(tiny.start("app/a", small(deadline_ms=100)))
    psutil.Process(host.runner_pid("app")).suspend()
    error = await failure(host.call("app/a", "count()"))
    assert error.code is Code.RUNNER_LOST
    lost = await event(host)
    assert isinstance(lost, RunnerLost)
    assert lost.exit.cause is ExitCause.KILLED
    assert "app/a was stuck in a call" in lost.exit.message


async def test_stopping_waits_for_the_call_that_runs_and_then_interrupts_it(host, tiny):
    await host.start(tiny.start("app/a"))
    await host.start(tiny.start("app/b"))
    call = asyncio.create_task(host.call("app/a", "loop()"))
    await looping(host)
    async with asyncio.timeout(60):
        await host.stop("app/a", 50)
    assert (await failure(call)).detail["cause"] == ExitCause.STOPPED
    assert host.stats("app/a") == AgentStats()
    assert await answers(host, "app/b"), "its neighbour runs on"
    runner = psutil.Process(host.runner_pid("app"))
    await host.stop("app/b", 50)
    assert gone(runner), "a runner ends with its last agent"
    assert host.runner_pid("app") is None


async def test_tampered_machine_code_is_compiled_again(host, tiny, paths, caplog):
    await host.prepare(tiny.path, tiny.digest)
    (cached,) = paths.cache.iterdir()
    data = bytearray(cached.read_bytes())
    data[len(data) // 2] ^= 1
    cached.write_bytes(data)
    await host.start(tiny.start("app/a"))
    assert await answers(host, "app/a")
    assert "does not verify" in caplog.text
    (mended,) = paths.cache.iterdir()
    assert mended.read_bytes() != bytes(data)


async def test_one_compilation_serves_all_who_wait_and_the_next_process(spawning_host, tiny, paths):
    await asyncio.gather(*(spawning_host.prepare(tiny.path, tiny.digest) for _ in range(5)))
    (cached,) = paths.cache.iterdir()
    made = cached.stat().st_ino
    await spawning_host.close()
    again = RunnerHost(paths, node="node-1", clock=SystemClock())
    tiny.path.unlink()
    await again.prepare(tiny.path, tiny.digest)
    await again.close()
    assert cached.stat().st_ino == made


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no component", Code.COMPONENT_INVALID),
        (b"\0asm\x0d\0\x01\0" + b"\xff" * 20, Code.COMPONENT_INVALID),
        (wasm('(component (import "f" (func $f async)))'), Code.COMPONENT_UNSUPPORTED),
    ],
)
async def test_what_does_not_compile_is_refused(host, tmp_path, data, code):
    broken = component(tmp_path / "broken.wasm", data)
    assert (await failure(host.prepare(broken.path, broken.digest))).code is code


async def test_a_file_that_changed_or_is_gone_is_refused(host, tiny):
    tiny.path.write_bytes(tiny.path.read_bytes() + b"\0")
    assert (await failure(host.prepare(tiny.path, tiny.digest))).code is Code.DIGEST_MISMATCH
    tiny.path.unlink()
    assert (await failure(host.prepare(tiny.path, tiny.digest))).code is Code.BLOB_MISSING


async def test_a_compilation_that_takes_too_long_is_given_up(host, tiny, tmp_path, monkeypatch):
    await host.prepare(tiny.path, tiny.digest)
    monkeypatch.setattr(compilation, "COMPILE_TIMEOUT_S", 0.0)
    other = component(tmp_path / "other.wasm", wasm("(component (core module))"))
    assert (await failure(host.prepare(other.path, other.digest))).code is Code.LIMIT_EXCEEDED
    monkeypatch.undo()
    await host.prepare(other.path, other.digest)


async def test_a_zygote_that_is_told_nonsense_ends_with_its_children(spawning_host, tiny):
    await spawning_host.start(tiny.start("app/a"))
    runner, zygote = psutil.Process(spawning_host.runner_pid("app")), psutil.Process(spawning_host.zygote_pid)
    spawning_host._zygote._channel.send(Hello(1))
    lost = await event(spawning_host)
    assert isinstance(lost, RunnerLost)
    await until(lambda: gone(runner) and gone(zygote), "their end")
    await spawning_host.start(tiny.start("app/a"))
    assert await answers(spawning_host, "app/a")


async def test_an_import_that_is_not_granted_is_not_linked(host, tmp_path):
    text = """(component (import "wasi:logging/logging@0.1.0-draft" (instance
      (type $level (enum "trace" "debug" "info" "warn" "error" "critical"))
      (export "level" (type $exported (eq $level)))
      (export "log" (func (param "level" $exported) (param "context" string) (param "message" string))))))"""
    logger = component(tmp_path / "logger.wasm", wasm(text))
    error = await failure(host.start(logger.start("app/a")))
    assert error.code is Code.IMPORT_NOT_GRANTED
    await host.start(logger.start("app/a", capabilities={"wasi:logging/logging": ()}))
    await host.start(logger.start("app/b", deny_stubs=("wasi:logging/logging@0.1.0-draft",)))


async def test_a_start_function_that_traps_or_wants_too_much_is_a_failed_start(host, tmp_path):
    trapping = component(
        tmp_path / "trapping.wasm",
        wasm("(component (core module $m (func $s unreachable) (start $s)) (core instance (instantiate $m)))"),
    )
    error = await failure(host.start(trapping.start("app/a")))
    assert (error.code, error.detail["cause"]) == (Code.AGENT_TRAPPED, ExitCause.UNREACHABLE)
    large = component(
        tmp_path / "large.wasm", wasm("(component (core module $m (memory 100)) (core instance (instantiate $m)))")
    )
    error = await failure(host.start(large.start("app/a", small(memory_bytes=1 << 20))))
    assert (error.code, error.detail["cause"]) == (Code.AGENT_TRAPPED, ExitCause.QUOTA)


async def test_a_cancelled_start_leaves_nothing_running(host, tiny):
    await host.prepare(tiny.path, tiny.digest)
    start = asyncio.create_task(host.start(tiny.start("app/a")))
    await until(lambda: host.runner_pid("app") is not None, "the fork")
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await host.stop("app/a", 0)
    await host.start(tiny.start("app/a"))
    assert await answers(host, "app/a")


async def test_a_runner_holds_nothing_that_is_not_its_own(spawning_host, tiny, tmp_path):
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    os.environ["FLEET_TEST_SECRET"] = "secret"
    try:
        await spawning_host.start(tiny.start("app/a"))
        await spawning_host.start(tiny.start("other/b"))
        process = Path(f"/proc/{spawning_host.runner_pid('app')}")
        held = {str(entry.readlink()) for entry in (process / "fd").iterdir()}
        sockets = [name for name in held if name.startswith("socket:")]
        assert len(sockets) == 1, "its control socket and no other"
        others = held - set(sockets) - {os.devnull, str((Path("/proc/self/fd") / "2").readlink())}
        # The engine keeps the sealed file of the machine code open: it is the initial content of memories.
        assert {name for name in others if not name.startswith(("pipe:", "anon_inode:"))} == {
            "/memfd:compiled (deleted)"
        }
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        assert status["NoNewPrivs"] == "1"
        assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh")} == {0}
        assert status["Name"] == "fleet-app"
        limits = [line.split() for line in (process / "limits").read_text().splitlines()]
        assert ["Max", "core", "file", "size", "0", "0", "bytes"] in limits
        assert int((process / "oom_score_adj").read_text()) == 500
        assert os.getsid(spawning_host.runner_pid("app")) == spawning_host.runner_pid("app")
        # What execve gave the zygote stays readable there; the environment of the supervisor is not in it.
        assert b"FLEET_TEST_SECRET" not in (process / "environ").read_bytes()
    finally:
        del os.environ["FLEET_TEST_SECRET"]
        os.close(secret)


def test_a_zygote_imports_no_server_database_or_inference():
    code = (
        "import sys, edge_agent.runner.zygote, threading;"
        "bad = {'grpc', 'sqlalchemy', 'onnxruntime', 'numpy', 'asyncio', 'tuf'} & sys.modules.keys();"
        "sys.exit(repr(bad) if bad or threading.active_count() != 1 else 0)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def test_a_zygote_may_be_a_unit_of_its_own(paths, tiny):
    paths.socket.parent.mkdir(parents=True)
    zygote = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "edge_agent.runner.zygote", str(paths.socket)
    )
    host = RunnerHost(paths, node="node-1", clock=SystemClock(), spawn_zygote=False)
    await host.open()
    assert paths.socket.stat().st_mode & 0o777 == 0o600
    await host.start(tiny.start("app/a"))
    assert await answers(host, "app/a")
    runner = psutil.Process(host.runner_pid("app"))
    await host.close()
    async with asyncio.timeout(60):
        assert await zygote.wait() == 0
    assert gone(runner)


def test_a_supervisor_never_imports_the_engine():
    code = "import sys, edge_agent.runner.host; sys.exit('wasmtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


async def test_a_zygote_ends_with_its_supervisor(paths, tiny, tmp_path):
    """The supervisor is killed with SIGKILL while a guest loops: nothing of it is left."""
    program = tmp_path / "supervisor.py"
    program.write_text(
        f"""
import asyncio
from pathlib import Path
from edge_agent.clock import SystemClock
from edge_agent.runner.host import RunnerHost, RunnerPaths
from edge_agent.runtime import AgentStart
from fleet.grants import Authority, Limits
async def main():
    host = RunnerHost(RunnerPaths(*map(Path, {[str(paths.socket), str(paths.cache), str(paths.cache_key)]!r})),
                      node="n", clock=SystemClock())
    authority = Authority({{}}, Limits()).encode()
    await host.start(AgentStart("app/a", Path({str(tiny.path)!r}), {tiny.digest!r}, authority, Path({str(tmp_path)!r})))
    print(host.zygote_pid, host.runner_pid("app"), flush=True)
    await host.call("app/a", "loop()")
asyncio.run(main())
"""
    )
    supervisor = await asyncio.create_subprocess_exec(sys.executable, str(program), stdout=subprocess.PIPE)
    children = [psutil.Process(int(number)) for number in (await supervisor.stdout.readline()).split()]
    supervisor.kill()
    await supervisor.wait()
    assert len(children) == 2
    await until(lambda: all(map(gone, children)), "their end")
