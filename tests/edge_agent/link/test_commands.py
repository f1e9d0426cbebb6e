"""What a coordinator may ask of a node."""

from __future__ import annotations

import pytest

from edge_agent.link.commands import MAX_PAYLOADS, MAX_TEXT, failed, obey
from fleet.crash import CrashSummary
from fleet.errors import Code, FleetError
from fleet.v1 import node_pb2 as pb
from fleet.wire import from_pb_crash

DIGEST = "sha256:" + "0" * 64
CRASH = CrashSummary("0" * 16, "", "app/one", "quota", "why", 1, DIGEST, DIGEST)


class AskedNode:
    async def call(self, agent: str, invocation: str, deadline_ms: int) -> str:
        return f"{agent} {invocation} {deadline_ms}"

    async def publish(self, topic: str, payloads: tuple[str, ...]) -> int:
        return len(payloads) if topic == "t" else 0

    async def crashes(self, agent: str) -> tuple[CrashSummary, ...]:
        return (CRASH,) if agent in {"", "app/one"} else ()

    async def crash(self, identifier: str) -> bytes:
        if identifier != CRASH.id:
            raise FleetError(Code.NOT_FOUND, "private text")
        return b"the report"


async def ask(**what: object) -> pb.CommandResult:
    return await obey(AskedNode(), pb.Command(id="7", **what), 250)  # type: ignore[arg-type]


async def test_every_command_is_answered_under_its_number() -> None:
    assert await ask(call={"agent": "a/b", "invocation": "f()"}) == pb.CommandResult(id="7", output="a/b f() 250")
    assert await ask(send={"topic": "t", "payloads": ["1", "2"]}) == pb.CommandResult(id="7", delivered=2)
    assert await ask(crashes={"id": CRASH.id}) == pb.CommandResult(id="7", document=b"the report")
    listed = await ask(crashes={"agent": "app/one"})
    assert [from_pb_crash(crash) for crash in listed.crashes] == [CRASH]
    assert not (await ask(crashes={"agent": "app/two"})).crashes


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"call": {"invocation": "x" * (MAX_TEXT + 1)}}, Code.LIMIT_EXCEEDED),
        ({"send": {"payloads": ["1"] * (MAX_PAYLOADS + 1)}}, Code.LIMIT_EXCEEDED),
        ({"send": {"payloads": ["x" * (MAX_TEXT + 1)]}}, Code.LIMIT_EXCEEDED),
        ({"crashes": {"id": "1" * 16}}, Code.NOT_FOUND),
        ({}, Code.MESSAGE_INVALID),
    ],
)
async def test_what_is_too_much_or_unknown_is_refused(what: dict[str, object], code: Code) -> None:
    with pytest.raises(FleetError) as caught:
        await ask(**what)
    assert caught.value.code is code
    told = failed("7", caught.value)
    assert (told.id, told.error_code) == ("7", str(code))
    assert "private" not in told.error_message
