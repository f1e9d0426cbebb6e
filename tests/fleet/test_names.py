"""Names and digests."""

import pytest

from fleet.names import is_agent_name, is_digest, is_name


@pytest.mark.parametrize("text", ["a", "a1", "context-agent", "a-1-b", "x" * 63])
def test_names(text):
    assert is_name(text)
    assert is_agent_name(f"{text}/{text}")


@pytest.mark.parametrize("text", ["", "A", "1a", "-a", "a-", "a--b", "a_b", "a.b", "a/b", "a\n", "é", "x" * 64])
def test_no_names(text):
    assert not is_name(text)
    assert not is_agent_name(f"{text}/a")
    assert not is_agent_name(f"a/{text}")


@pytest.mark.parametrize("text", ["a", "a/", "/a", "a/b/c"])
def test_no_agent_names(text):
    assert not is_agent_name(text)


def test_digests():
    assert is_digest("sha256:" + "0f" * 32)
    for text in (
        "0f" * 32,
        "sha256:" + "0F" * 32,
        "sha256:" + "0f" * 31,
        "sha512:" + "0f" * 32,
        "sha256:" + "0f" * 32 + "\n",
    ):
        assert not is_digest(text)
