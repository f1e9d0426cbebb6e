"""Keys that a chip holds: only that chip gives them back, and signatures are everybody's to check."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config import Settings, load_settings
from edge_agent.disk import LocalDisk, replace_file
from edge_agent.identity import IdentityStore
from edge_agent.node_keys import open_keys
from edge_agent.tpm import Tpm, TpmBoundKey
from edge_agent.vault import FileVault
from fleet.errors import Code, FleetError
from fleet.keys import read_public_key
from fleet.sealing import SealingKeyStatement, open_statement, public_of, sign_statement
from tests.fakes.refusals import code_of
from tests.fakes.software_tpm import SoftwareTpm


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    chip = SoftwareTpm(tmp_path / "chip").start()
    yield chip
    chip.stop()


@pytest.fixture
def other_chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    chip = SoftwareTpm(tmp_path / "other-chip").start()
    yield chip
    chip.stop()


@pytest.mark.slow
@pytest.mark.system
def test_a_sealed_key_comes_back_after_a_restart_and_is_in_no_file(chip: SoftwareTpm, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    key = Tpm(chip.tcti, keys).key("sealing")
    assert len(key) == 32
    chip.stop()
    assert code_of(Tpm(chip.tcti, keys).key, "sealing") is Code.KEY_UNAVAILABLE
    chip.start()
    assert Tpm(chip.tcti, keys).key("sealing") == key
    assert Tpm(chip.tcti, keys).key("cache") != key
    for path in keys.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert key not in path.read_bytes()


@pytest.mark.slow
@pytest.mark.system
def test_on_another_chip_a_stolen_folder_is_worth_nothing(
    chip: SoftwareTpm, other_chip: SoftwareTpm, tmp_path: Path
) -> None:
    mine = Tpm(chip.tcti, tmp_path / "keys")
    mine.key("sealing")
    mine.bound_key()
    shutil.copytree(tmp_path / "keys", tmp_path / "stolen")
    thief = Tpm(other_chip.tcti, tmp_path / "stolen")
    assert code_of(thief.key, "sealing") is Code.KEY_UNAVAILABLE
    assert code_of(thief.bound_key().sign, b"renew") is Code.KEY_UNAVAILABLE
    assert Tpm(chip.tcti, tmp_path / "stolen").key("sealing") == mine.key("sealing"), "the positive control"


@pytest.mark.slow
@pytest.mark.system
def test_the_bound_key_signs_for_everybody_to_check(chip: SoftwareTpm, tmp_path: Path) -> None:
    key = Tpm(chip.tcti, tmp_path / "keys").bound_key()
    again = Tpm(chip.tcti, tmp_path / "keys").bound_key()
    public = read_public_key(key.public.raw)
    assert again.key_id == key.key_id == public.key_id
    for data in (b"", b"x" * 100_000):
        public.verify(again.sign(data), data)
    with pytest.raises(FleetError):
        public.verify(key.sign(b"one"), b"other")
    said = SealingKeyStatement("demo", "n1", 1, public_of(bytes(range(32))))
    assert open_statement(sign_statement(said, key), fleet="demo", node="n1", epoch=1, key=public) == said
    for _ in range(8):  # what is loaded is taken out again: there is room for three objects
        key.sign(b"again")


@pytest.mark.slow
@pytest.mark.system
def test_what_does_not_come_from_this_key_is_noticed(chip: SoftwareTpm, tmp_path: Path) -> None:
    """Somebody put the public half of another key beside the wrapped one."""
    one, two = Tpm(chip.tcti, tmp_path / "one"), Tpm(chip.tcti, tmp_path / "two")
    mixed = TpmBoundKey(one, replace(one.bound_key()._wrapped, spki=two.bound_key().public.raw))
    assert code_of(mixed.sign, b"data") is Code.SIGNATURE_INVALID


@pytest.mark.slow
@pytest.mark.system
def test_a_node_with_a_chip_keeps_no_key_in_the_open(chip: SoftwareTpm, tmp_path: Path) -> None:
    keys = open_keys(Settings(tmp_path / "node", tpm=chip.tcti))
    key = keys.identity.bound_key()
    assert keys.vault.key("cache") == open_keys(Settings(tmp_path / "node", tpm=chip.tcti)).vault.key("cache")
    assert {path.name for path in (tmp_path / "node" / "keys").iterdir()} == {"bound.tpm", "cache.tpm", "tpm.lock"}
    assert len(key.public.raw) > 32
    refused = code_of(open_keys, Settings(tmp_path / "node"))
    assert refused is Code.CONFIG_INVALID, "without the setting, the node would make itself another identity"


@pytest.mark.slow
@pytest.mark.system
def test_users_of_the_chip_take_turns(chip: SoftwareTpm, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    Tpm(chip.tcti, keys).key("sealing")
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: Tpm(chip.tcti, keys).key("sealing"), range(8)))
    assert len(found) == 1


@pytest.mark.parametrize("spoiled", [b"", b"{}", b'{"schema":"fleet.tpm-key/v2"}', b"\xff"])
def test_a_spoiled_file_is_no_key(tmp_path: Path, spoiled: bytes) -> None:
    replace_file(LocalDisk(), tmp_path / "sealing.tpm", spoiled)
    assert code_of(Tpm("device:/nowhere", tmp_path).key, "sealing") is Code.KEY_UNAVAILABLE


def test_without_the_tools_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FleetError) as caught:
        Tpm("device:/dev/tpmrm0", tmp_path).key("sealing")
    assert caught.value.code is Code.TOOL_MISSING
    assert "apt install tpm2-tools" in caught.value.remedy


def test_a_node_that_joined_with_a_file_does_not_change_over(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "bound.pem").write_text("a key")
    (tmp_path / "node.json").write_text(
        '{"enrolment_address":"a:1","enrolment_pin":"","epoch":1,"fleet":"demo","labels":{},"node":"n1",'
        '"schema":"fleet.node/v1","sequence":1,"session_address":"a:2"}'
    )
    assert code_of(open_keys, Settings(tmp_path, tpm="device:/dev/tpmrm0")) is Code.CONFIG_INVALID
    assert isinstance(open_keys(Settings(tmp_path)).vault, FileVault)


@pytest.mark.parametrize("text", ["cmd:rm -rf /", "swtpm:path=a b", "device:\n", "1", "DEVICE"])
def test_a_way_to_a_chip_is_never_a_command(tmp_path: Path, text: str) -> None:
    assert code_of(load_settings, tmp_path, {}, {"tpm": text}) is Code.CONFIG_INVALID


def test_ways_to_a_chip(tmp_path: Path) -> None:
    for text in ("", "device:/dev/tpmrm0", "swtpm:host=127.0.0.1,port=2321", "tabrmd"):
        assert load_settings(tmp_path, {}, {"tpm": text}).tpm == text
    assert isinstance(open_keys(Settings(tmp_path)).identity, IdentityStore)
