"""An agent with both ends of HTTP in a real runner: it is served on its granted port, and fetches what it may."""

import asyncio
import http.client
import json
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.capabilities.http_client import MAX_REQUESTS
from edge_agent.runtime import AgentExited
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component
from tests.fakes.http import answering, plain, raw_server
from tests.fakes.ports import free_port

pytestmark = pytest.mark.system

COMPONENT = Path(__file__).parents[3] / "components/http-agent/http_agent.wasm"
AGENT = "app/web"


@pytest.fixture
def web(host, tmp_path):
    """Starts the agent; returns the port that it is served on."""
    built = component(tmp_path / "http.wasm", COMPONENT.read_bytes())

    async def start(name=AGENT, outgoing=None, incoming=None, port=None, **limits):
        port = free_port() if port is None else port
        capabilities = {
            "wasi:http/outgoing-handler": [
                {"hosts": ["*"], "ports": ["*"], "methods": ["GET", "POST"], **(outgoing or {})}
            ],
            "wasi:http/incoming-handler": [{"ports": [str(port)], **(incoming or {})}],
        }
        document = {"schema": "fleet.authority/v1", "capabilities": capabilities, "limits": limits}
        granted = Authority.decode(json.dumps(document).encode())
        await host.start(built.start(name, granted.limits, granted.capabilities))
        return port

    return start


def _get(port, path, method="GET", body=None, headers=None):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        client.request(method, path, body, headers or {})
        response = client.getresponse()
        return response.status, response.read(), dict(response.getheaders())


async def get(port, path, *arguments):
    return await asyncio.to_thread(_get, port, path, *arguments)


async def exited(host):
    async with asyncio.timeout(60):
        while not isinstance(event := await host.next_event(), AgentExited):
            pass
        return event.exit


def _raw(port, data):
    with closing(socket.create_connection(("127.0.0.1", port), 60)) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


async def raw(port, data):
    return await asyncio.to_thread(_raw, port, data)


async def test_it_answers_requests(host, web):
    port = await web()
    status, body, headers = await get(port, "/")
    assert (status, body, headers["content-type"]) == (200, b"hello", "text/plain; charset=utf-8")
    assert (await get(port, "/echo", "POST", b"x" * 300_000))[1] == b"x" * 300_000
    assert (await get(port, "/large?1000000"))[1] == b"x" * 1_000_000
    assert (await get(port, "/nothing"))[0] == 404
    about = (await get(port, "/about", "GET", None, {"X-Own": "1"}))[1].decode().split("\n")
    assert about[0] == f"127.0.0.1:{port}"
    assert "x-own=1" in [line.lower() for line in about]
    head = await raw(port, b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n")


async def test_a_connection_may_bring_several_requests(web):
    port = await web()
    one = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert (await raw(port, one + one + last)).count(b"hello") == 3


@pytest.mark.parametrize(
    ("path", "status", "cause"),
    [
        ("/trap", 502, ExitCause.UNREACHABLE),
        ("/spin", 504, ExitCause.DEADLINE),
        ("/silent", 502, None),
        ("/refuse", 502, None),
    ],
)
async def test_a_client_is_answered_whatever_the_agent_does(host, web, path, status, cause):
    port = await web(deadline="300ms")
    assert (await get(port, path))[0] == status
    if cause is None:
        assert (await get(port, "/"))[0] == 200
        return
    assert (await exited(host)).cause is cause
    again = await web(port=port)
    assert (await get(again, "/"))[0] == 200, "its port is free for its next start"


async def test_a_body_that_broke_off_is_not_taken_for_a_whole_one(web):
    port = await web()
    with pytest.raises(http.client.IncompleteRead):
        await get(port, "/broken")
    assert (await get(port, "/"))[0] == 200


async def test_one_request_too_many_is_told_to_come_again(host, web):
    port = await web(queue=1, deadline="2s")
    slow = [asyncio.create_task(get(port, "/spin")) for _ in range(4)]
    answers = await asyncio.gather(*slow)
    assert sorted(status for status, _, _ in answers) == [503, 503, 503, 504]
    assert all(headers["Retry-After"] == "1" for status, _, headers in answers if status == 503)
    await exited(host)


async def test_rates_and_bodies_are_bounded_by_the_grant(web):
    port = await web(incoming={"max_rps": 2, "max_request_bytes": "1KiB"})
    assert (await get(port, "/echo", "POST", b"x" * 1024))[0] == 200
    assert (await get(port, "/echo", "POST", b"x" * 1025))[0] == 413
    chunked = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n" + b"x" * 1025
    assert b" 413 " in (await raw(port, chunked)).partition(b"\r\n")[0]
    statuses = [(await get(port, "/"))[0] for _ in range(8)]
    assert set(statuses) == {200, 429}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", 431),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ],
)
async def test_malformed_requests_never_reach_the_agent(host, web, data, status):
    port = await web()
    try:
        answer = await raw(port, data)
    except ConnectionResetError:
        answer = b""  # it hung up on what it had not read
    assert answer.split(b" ")[1:2] in ([str(status).encode()], [])
    assert host.stats(AGENT).calls == 0
    assert (await get(port, "/"))[0] == 200


async def test_slow_clients_and_too_many_of_them_hold_nobody_up(web):
    port = await web()
    idle = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(28)]
    try:
        for connection in idle:
            connection.sendall(b"GET / HTTP/1.1\r\nHo")
        before = time.monotonic()
        assert (await get(port, "/"))[0] == 200
        assert time.monotonic() - before < 5
        idle += [socket.create_connection(("127.0.0.1", port), 60) for _ in range(10)]
        await asyncio.to_thread(idle[-1].recv, 1)  # closed at once
    finally:
        for connection in idle:
            connection.close()


async def test_its_port_is_closed_with_it(host, web):
    port = await web()
    await host.stop(AGENT, 1000)
    with pytest.raises(ConnectionRefusedError):
        await get(port, "/")


async def test_a_port_that_is_taken_is_said_so(host, web):
    port = await web()
    with pytest.raises(FleetError) as caught:
        await web(name="app/other", port=port)
    assert caught.value.code is Code.PORT_UNAVAILABLE
    assert AGENT in caught.value.private
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, pytest.raises(FleetError) as caught:
        await web(name="second/other", port=taken.getsockname()[1])
    assert caught.value.code is Code.PORT_UNAVAILABLE
    assert (await get(port, "/"))[0] == 200


async def test_it_listens_on_the_node_alone_unless_granted_more(web):
    port = await web()
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.2", port))  # nobody has it


async def test_it_fetches_what_it_may_and_hears_why_not(host, web):
    with raw_server(answering(plain(b"data"))) as server:
        place = f"127.0.0.1:{server.port}"
        await web(outgoing={"networks": ["loopback"], "ports": [str(server.port)], "max_request_bytes": "64KiB"})

        async def fetch(url, method="GET", headers="[]", body=""):
            return (await host.call(AGENT, f'fetch("{method}", "{url}", {headers}, "{body}")')).output

        assert 'status: 200, headers: [("content-length", "4")], body: "data"' in await fetch(f"http://{place}/x")
        assert "status: 200" in await fetch(f"http://{place}/x", "POST", '[("x-a", "b")]', "content")
        assert server.requests[-1].endswith(b"7\r\ncontent\r\n0\r\n\r\n")
        for url, method, expected in (
            (f"http://{place}/x", "PUT", "HTTP-request-denied"),
            ("http://127.0.0.1:1/", "GET", "HTTP-request-denied"),
            (f"http://127.0.0.2.invalid:{server.port}/", "GET", "DNS-error"),
            (f"http://10.0.0.1:{server.port}/", "GET", "destination-IP-prohibited"),
            (f"http://169.254.169.254:{server.port}/", "GET", "destination-IP-prohibited"),
            (f"http://2130706433:{server.port}/", "GET", "authority refused"),
        ):
            assert expected in await fetch(url, method)
        assert 'err("field refused")' in await fetch(f"http://{place}/", "GET", '[("host", "other")]')
        assert (await host.call(AGENT, f'upload("http://{place}/", 60000, true)')).output == "ok(200)"
        assert "HTTP-request-body-size" in (await host.call(AGENT, f'upload("http://{place}/", 70000, true)')).output
        assert "HTTP-protocol-error" in (await host.call(AGENT, f'upload("http://{place}/", 100, false)')).output


async def test_requests_at_a_time_are_bounded(host, web):
    def late(server, connection):
        server.read_request(connection)
        server.closed.wait(2)  # by then all have begun
        connection.sendall(plain())

    with raw_server(late) as server:
        await web(outgoing={"networks": ["loopback"]}, deadline="20s")
        answered = (await host.call(AGENT, f'flood("http://127.0.0.1:{server.port}/", 40)')).output
    assert answered.startswith(f"({MAX_REQUESTS}, ")
    assert answered.count("connection-limit-reached") == 40 - MAX_REQUESTS


async def test_it_can_fetch_while_it_answers(web):
    with raw_server(answering(plain(b"data"))) as server:
        port = await web(outgoing={"networks": ["loopback"]})
        assert (await get(port, f"/fetch?http://127.0.0.1:{server.port}/"))[:2] == (200, b"data")
        assert (await get(port, "/fetch?http://10.0.0.1/"))[:2] == (502, b"destination-IP-prohibited")


async def test_a_server_that_never_answers_does_not_outlive_the_call(host, web):
    with raw_server(lambda server, connection: server.closed.wait(60)) as server:
        await web(outgoing={"networks": ["loopback"]}, deadline="500ms")
        before = time.monotonic()
        with pytest.raises(FleetError) as caught:
            await host.call(AGENT, f'fetch("GET", "http://127.0.0.1:{server.port}/", [], "")')
        assert caught.value.detail["cause"] == ExitCause.DEADLINE
        assert time.monotonic() - before < 20
