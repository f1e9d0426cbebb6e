"""Keys at hand: plain files, encrypted files, and keys behind a URI."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fleet.errors import Code, FleetError
from fleet.release import NamedKey, format_named_key, parse_named_key
from orchestrator.signers import KeyFolder, RemoteSigner, ask_nobody
from tests.fakes.publisher import key

MESSAGE = b"what is signed"


def test_a_made_key_signs_and_its_public_half_can_be_handed_on(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    made = folder.make("ann")
    (signer,) = folder.signers()
    made.public.verify(signer.sign(MESSAGE), MESSAGE)
    assert parse_named_key((folder.path / "ann.pub").read_text(), "ann.pub") == made
    assert stat.S_IMODE((folder.path / "ann.pem").stat().st_mode) == 0o600
    assert folder.named() == (made,)


def test_only_wanted_keys_are_given_out(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    ann, bob = folder.make("ann"), folder.make("bob")
    assert [signer.public for signer in folder.signers({bob.public})] == [bob.public]
    assert [signer.public for signer in folder.signers()] == [ann.public, bob.public]
    assert KeyFolder(tmp_path / "none").signers() == ()


def test_an_encrypted_key_asks_when_it_signs_and_not_before(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(name: str) -> str:
        asked.append(name)
        return "correct horse"

    made = KeyFolder(tmp_path).make("ann", "correct horse")
    assert b"ENCRYPTED" in (tmp_path / "ann.pem").read_bytes()
    (signer,) = KeyFolder(tmp_path, answer).signers()
    assert asked == []
    made.public.verify(signer.sign(MESSAGE), MESSAGE)
    assert asked == ["ann"]


@pytest.mark.parametrize("answer", ["wrong", ""])
def test_a_wrong_passphrase_opens_nothing(tmp_path: Path, answer: str) -> None:
    KeyFolder(tmp_path).make("ann", "correct horse")
    (signer,) = KeyFolder(tmp_path, lambda _: answer).signers()
    with pytest.raises(FleetError) as refused:
        signer.sign(MESSAGE)
    assert refused.value.code is Code.CONFIG_INVALID


def test_where_nobody_can_be_asked_an_encrypted_key_does_not_sign(tmp_path: Path) -> None:
    KeyFolder(tmp_path).make("ann", "correct horse")
    with pytest.raises(FleetError, match="nobody to ask"):
        KeyFolder(tmp_path, ask_nobody).signers()[0].sign(MESSAGE)


def test_a_key_behind_a_uri_signs(tmp_path: Path) -> None:
    """`file2:` stands for every signer of securesystemslib: the same call reaches a key service."""
    secret = tmp_path / "elsewhere.pem"
    secret.write_bytes(key("ann").to_pem())
    folder = KeyFolder(tmp_path / "keys")
    folder.register(NamedKey(key("ann").public, "ann"), f"file2:{secret}")
    (signer,) = folder.signers()
    assert isinstance(signer, RemoteSigner)
    key("ann").public.verify(signer.sign(MESSAGE), MESSAGE)
    assert list(folder.path.glob("*.pem")) == []


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("file2:{folder}/bob.pem", Code.CONFIG_INVALID),
        ("file2:{folder}/nobody.pem", Code.CONFIG_INVALID),
        ("unknown:x", Code.CONFIG_INVALID),
        ("no uri", Code.CONFIG_INVALID),
    ],
)
def test_a_uri_that_does_not_lead_to_the_key_is_refused(tmp_path: Path, uri: str, code: Code) -> None:
    (tmp_path / "bob.pem").write_bytes(key("bob").to_pem())
    folder = KeyFolder(tmp_path / "keys")
    with pytest.raises(FleetError) as refused:
        folder.register(NamedKey(key("ann").public, "ann"), uri.format(folder=tmp_path))
    assert refused.value.code is code
    assert folder.signers() == ()


def test_no_key_is_overwritten(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    made = folder.make("ann")
    for again in (lambda: folder.make("ann"), lambda: folder.register(NamedKey(key("x").public, "ann"), "file2:x")):
        with pytest.raises(FleetError):
            again()
    assert folder.named() == (made,)
    with pytest.raises(FleetError) as refused:
        folder.make("../ann")
    assert refused.value.code is Code.CONFIG_INVALID


def test_files_that_are_no_keys_are_named(tmp_path: Path) -> None:
    ann = NamedKey(key("ann").public, "ann")
    rows: list[dict[str, bytes]] = [
        {"ann.pem": b"nonsense"},
        {"ann.uri": b"file2:x"},
        {"ann.pem": key("ann").to_pem(b"secret")},
        {"ann.pem": key("ann").to_pem(b"secret"), "ann.pub": b"nonsense"},
    ]
    for number, files in enumerate(rows):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        with pytest.raises(FleetError) as refused:
            KeyFolder(folder).signers()
        assert refused.value.code is Code.CONFIG_INVALID
        assert str(folder) in str(refused.value.detail["place"])
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    (swapped / "ann.pem").write_bytes(key("bob").to_pem(b"secret"))
    (swapped / "ann.pub").write_text(format_named_key(ann))
    with pytest.raises(FleetError) as refused:
        KeyFolder(swapped, lambda _: "secret").signers()[0].sign(MESSAGE)
    assert refused.value.code is Code.SIGNATURE_INVALID
