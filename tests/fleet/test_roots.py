"""The chain of roots counts as far as it verifies, whatever else is wrong."""

from __future__ import annotations

import pytest

from fleet import metadata
from fleet.errors import Code
from fleet.release import RoleKeys, rotate_root
from fleet.roots import climb_roots
from tests.fakes.publisher import NOW, Publisher, key, role_keys
from tests.fakes.refusals import code_of


def rotated(publisher: Publisher, keys: RoleKeys) -> None:
    publisher.files = rotate_root(publisher.files, publisher.keys, keys, NOW)
    publisher.keys = keys


@pytest.fixture
def publisher() -> Publisher:
    publisher = Publisher()
    rotated(publisher, role_keys(root=key("root-2")))
    rotated(publisher, role_keys(root=key("root-3")))
    return publisher


def test_every_root_up_to_the_first_fault_counts(publisher: Publisher) -> None:
    files = publisher.files
    assert list(climb_roots(files, publisher.root, {})) == ["2.root.json", "3.root.json"]
    stranger = {**files, "3.root.json": Publisher(keys=role_keys(root=key("thief"))).root}
    assert list(climb_roots(stranger, publisher.root, {})) == ["2.root.json"]
    assert list(climb_roots({"3.root.json": files["3.root.json"]}, publisher.root, {})) == []
    assert dict(climb_roots({}, publisher.root, files)) == {n: files[n] for n in ("2.root.json", "3.root.json")}


def test_a_long_chain_is_climbed_in_pieces(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_ROOT_ROTATIONS", 1)
    first = climb_roots(publisher.files, publisher.root, {})
    assert list(first) == ["2.root.json"]
    assert list(climb_roots(publisher.files, publisher.root, first)) == ["2.root.json", "3.root.json"]


def test_too_much_and_a_pin_that_is_no_root_are_refused(publisher: Publisher) -> None:
    much = {"timestamp.json": b" " * (metadata.MAX_METADATA + 1)}
    assert code_of(climb_roots, much, publisher.root, {}) is Code.LIMIT_EXCEEDED
    assert code_of(climb_roots, publisher.files, b"{}", {}) is Code.TRUST_INVALID
