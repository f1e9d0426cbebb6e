import logging
import os

import pytest

from edge_agent.runner import memory_file
from edge_agent.runner.compiled_cache import CompiledCache
from edge_agent.vault import load_key
from fleet.errors import Code, FleetError

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def sealed(data):
    number = memory_file.create("test")
    memory_file.write(number, data)
    memory_file.seal(number)
    return number


def stored(cache, digest, data):
    number = sealed(data)
    cache.store(digest, number)
    os.close(number)


def found(cache, digest):
    number = cache.find(digest)
    if number is None:
        return None
    memory_file.check_sealed(number, 1 << 20)
    data = memory_file.read(number, 1 << 20)
    os.close(number)
    return data


@pytest.fixture
def open_cache(tmp_path):
    key = load_key(tmp_path / "key")

    def open_cache(engine="engine 1", key=key, **settings):
        return CompiledCache(tmp_path / "cache", key, engine=engine, **settings)

    return open_cache


def test_what_was_stored_is_found_again(open_cache):
    cache = open_cache()
    assert found(cache, DIGEST) is None
    stored(cache, DIGEST, b"machine code")
    assert found(open_cache(), DIGEST) == b"machine code"
    assert found(cache, OTHER) is None


def test_another_engine_finds_nothing(open_cache):
    stored(open_cache(), DIGEST, b"machine code")
    assert found(open_cache(engine="engine 2"), DIGEST) is None
    assert found(open_cache(), DIGEST) == b"machine code"


@pytest.mark.parametrize("place", [0, 15, 16, 47, 48, -1])
def test_a_flipped_bit_anywhere_means_compile_again(open_cache, place, caplog):
    cache = open_cache()
    stored(cache, DIGEST, b"machine code")
    path = cache.path(DIGEST)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.ERROR):
        assert found(cache, DIGEST) is None
    assert "does not verify" in caplog.text
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 20, 48, 50])
def test_a_cut_file_means_compile_again(open_cache, size):
    cache = open_cache()
    stored(cache, DIGEST, b"machine code")
    os.truncate(cache.path(DIGEST), size)
    assert found(cache, DIGEST) is None


def test_a_file_is_good_only_for_its_own_component_and_key(open_cache):
    cache = open_cache()
    stored(cache, DIGEST, b"machine code")
    cache.path(DIGEST).rename(cache.path(OTHER))
    assert found(cache, OTHER) is None
    stored(cache, DIGEST, b"machine code")
    assert found(open_cache(key=bytes(32)), DIGEST) is None


def test_code_of_an_older_engine_does_not_pass_for_a_newer_ones(open_cache):
    """A downgrade: the file is put where the present engine looks."""
    older, newer = open_cache(engine="engine 49"), open_cache(engine="engine 50")
    stored(older, DIGEST, b"code of 49")
    older.path(DIGEST).rename(newer.path(DIGEST))
    assert found(newer, DIGEST) is None
    assert not newer.path(DIGEST).exists()


@pytest.mark.parametrize("spoil", ["link", "folder", "pipe", "readable", "writable", "hard link"])
def test_a_file_that_is_not_this_users_alone_means_compile_again(open_cache, tmp_path, spoil):
    told = []
    cache = open_cache(refused=told.append)
    stored(cache, DIGEST, b"machine code")
    path, kept = cache.path(DIGEST), tmp_path / "kept"
    if spoil == "readable":
        path.chmod(0o644)
    elif spoil == "writable":
        path.chmod(0o620)
    else:
        path.rename(kept)
        {"link": lambda: path.symlink_to(kept), "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}.get(
            spoil, lambda: path.hardlink_to(kept)
        )()
    if spoil == "hard link":  # the same file under two names is still what this node wrote
        assert found(cache, DIGEST) == b"machine code"
        return
    assert found(cache, DIGEST) is None
    assert told == [DIGEST]
    assert not os.path.lexists(path)
    stored(cache, DIGEST, b"machine code")
    assert found(cache, DIGEST) == b"machine code"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_means_compile_again(open_cache):
    told = []
    cache = open_cache(refused=told.append)
    stored(cache, DIGEST, b"machine code")
    os.chown(cache.path(DIGEST), 65534, 65534)
    assert found(cache, DIGEST) is None
    assert told == [DIGEST]


def test_nothing_is_written_through_a_link(open_cache, tmp_path):
    cache, victim = open_cache(), tmp_path / "victim"
    victim.write_bytes(b"untouched")
    cache.path(DIGEST).with_suffix(".new").symlink_to(victim)
    stored(cache, DIGEST, b"machine code")
    assert victim.read_bytes() == b"untouched"
    assert found(cache, DIGEST) == b"machine code"


def test_the_verified_bytes_are_the_used_bytes(open_cache):
    """The file changes after it was verified: what was handed out does not."""
    cache = open_cache()
    stored(cache, DIGEST, b"machine code")
    module = cache.find(DIGEST)
    with cache.path(DIGEST).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"evil")
    assert memory_file.read(module, 1 << 20) == b"machine code"
    os.close(module)


def test_the_least_recently_used_make_room(open_cache):
    cache = open_cache(max_bytes=3 * 148)
    digests = [f"sha256:{number:064x}" for number in range(4)]
    for age, digest in enumerate(digests[:3]):
        stored(cache, digest, bytes(100))
        os.utime(cache.path(digest), (age, age))
    assert found(cache, digests[0]) is not None  # used now
    stored(cache, digests[3], bytes(100))
    assert [found(cache, digest) is not None for digest in digests] == [True, False, True, True]


def test_a_full_disk_leaves_the_cache_as_it_was(open_cache, monkeypatch):
    cache = open_cache()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        stored(cache, DIGEST, b"machine code")
    assert list(cache.path(DIGEST).parent.iterdir()) == []


def test_the_key_is_made_once_and_is_private(tmp_path):
    path = tmp_path / "key"
    key = load_key(path)
    assert len(key) == 32
    assert load_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    assert load_key(path) != key


def test_a_key_that_others_could_read_is_not_used_any_more(tmp_path, caplog):
    path = tmp_path / "key"
    key = load_key(path)
    path.chmod(0o640)
    assert load_key(path) != key
    assert path.stat().st_mode & 0o777 == 0o600
    assert "not this user's alone" in caplog.text
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    load_key(path)
    assert not path.is_symlink()


def test_only_sealed_memory_files_pass(tmp_path):
    number = memory_file.create("test")
    memory_file.write(number, b"12345")
    with pytest.raises(FleetError) as caught:
        memory_file.check_sealed(number, 10)
    assert caught.value.code is Code.MESSAGE_INVALID
    memory_file.seal(number)
    assert memory_file.check_sealed(number, 5) == 5
    with pytest.raises(FleetError) as caught:
        memory_file.check_sealed(number, 4)
    assert caught.value.code is Code.LIMIT_EXCEEDED
    with pytest.raises(PermissionError):
        os.write(number, b"more")
    os.close(number)
    with (tmp_path / "file").open("wb") as file, pytest.raises(FleetError) as caught:
        memory_file.check_sealed(file.fileno(), 10)
    assert caught.value.code is Code.MESSAGE_INVALID
