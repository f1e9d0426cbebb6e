"""Which logs a fleet believes: keys of the present one, and those that it continues."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.checkpoint import KeyKind, format_vkey
from fleet.documents import dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.logs import MAX_CLOSED_LOGS, MAX_LOG_KEYS, ClosedLog, check_logs, keys_of, next_origin, origin_of
from fleet.trust import encode_fleet_trust, parse_fleet_trust
from tests.fakes.publisher import LOG, fleet_trust, key
from tests.fakes.refusals import code_of


def vkey(number: int = 0, origin: str = LOG) -> str:
    return format_vkey(origin, key(f"log-{number}").public)


OLD = ClosedLog((vkey(7, "old/log"), vkey(8, "old/log")), 5, bytes(range(32)))


def test_the_name_of_a_log_is_in_its_keys() -> None:
    assert origin_of((vkey(1), vkey(2))) == LOG
    assert OLD.origin == "old/log"
    assert [next_origin("demo", [OLD] * count) for count in range(3)] == ["demo/audit", "demo/audit/2", "demo/audit/3"]


def test_a_name_leads_to_the_keys_of_its_log() -> None:
    present = (vkey(1),)
    assert keys_of("old/log", present, [OLD]) == OLD.vkeys
    assert keys_of(LOG, present, [OLD]) == keys_of("stranger", present, []) == present


@pytest.mark.parametrize(
    ("vkeys", "closed", "code"),
    [
        ((vkey(1), vkey(2)), [OLD], None),
        ((), [], Code.TRUST_INVALID),  # 1
        ((vkey(1), vkey(1)), [], Code.TRUST_INVALID),
        ((vkey(1), vkey(2, "other/log")), [], Code.TRUST_INVALID),
        (("log",), [], Code.PROOF_INVALID),
        ((format_vkey(LOG, key("w").public, KeyKind.COSIGNER),), [], Code.PROOF_INVALID),
        ((vkey(1),), [replace(OLD, vkeys=())], Code.TRUST_INVALID),  # 2
        ((vkey(1),), [replace(OLD, vkeys=(vkey(7, "old/log"), vkey(7, "x")))], Code.TRUST_INVALID),
        ((vkey(1),), [OLD, OLD], Code.TRUST_INVALID),  # 3
        ((vkey(7, "old/log"),), [OLD], Code.TRUST_INVALID),
    ],
)
def test_the_rules_for_logs(vkeys: tuple[str, ...], closed: list[ClosedLog], code: Code | None) -> None:
    assert code_of(check_logs, vkeys, closed) is code


def test_a_document_with_one_key_is_written_as_ever_and_others_are_read_back() -> None:
    one = encode_fleet_trust(fleet_trust())
    assert b"log_vkeys" not in one
    assert b"closed_logs" not in one
    for trust in (
        fleet_trust(),
        replace(fleet_trust(), log_vkeys=(vkey(1), vkey(2))),
        replace(fleet_trust(), closed_logs=(OLD,)),
    ):
        assert parse_fleet_trust(encode_fleet_trust(trust)) == trust


@pytest.mark.parametrize(
    "change",
    [
        {"log_vkeys": [vkey(1)]},  # beside the single one
        {"log_vkey": None, "log_vkeys": []},
        {"log_vkey": None, "log_vkeys": [vkey(number) for number in range(MAX_LOG_KEYS + 1)]},
        {"log_vkey": None, "log_vkeys": [vkey(1), "x"]},
        {"closed_logs": [{"vkeys": [vkey(1, "old")], "size": -1, "root": "00" * 32}]},
        {"closed_logs": [{"vkeys": [vkey(1, "old")], "size": 1, "root": "00" * 31}]},
        {"closed_logs": [{"vkeys": [vkey(1, "old")], "size": 1, "root": "0Z" * 32}]},
        {"closed_logs": [{"vkeys": [vkey(1, "old")], "size": 1, "root": "00" * 32, "more": 1}]},
        {"closed_logs": [{"size": 1, "root": "00" * 32}]},
        {
            "closed_logs": [
                {"vkeys": [vkey(1, f"old-{number}")], "size": 1, "root": "00" * 32}
                for number in range(MAX_CLOSED_LOGS + 1)
            ]
        },
    ],
)
def test_a_document_with_malformed_logs_is_refused(change: dict[str, object]) -> None:
    fields = load_json(encode_fleet_trust(fleet_trust()), Code.TRUST_INVALID, "x")
    assert isinstance(fields, dict)
    changed = {name: value for name, value in {**fields, **change}.items() if value is not None}
    with pytest.raises(FleetError) as refused:
        parse_fleet_trust(dump_json(changed))
    assert refused.value.code is Code.TRUST_INVALID
