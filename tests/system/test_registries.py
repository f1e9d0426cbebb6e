"""A component from elsewhere to a real fleet: through a registry, signed here, and back out again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ExitCode
from tests.fakes.registry import running

if TYPE_CHECKING:
    from tests.system.harness import RealFleet

COMPONENT = Path(__file__).parents[2] / "components" / "hungry-agent" / "hungry_agent.wasm"


def test_what_comes_through_a_registry_is_worth_something_once_it_is_signed(fleet: RealFleet, tmp_path: Path) -> None:
    imported, pulled = str(tmp_path / "imported"), str(tmp_path / "pulled")
    made = fleet.ask("bundle", "import", str(COMPONENT), "--name", "thing", "--version", "1.0.0", "--to", imported)
    fleet.ctl("bundle", "verify", imported, expect=ExitCode.VERIFICATION_FAILED)  # nobody has signed it
    with running() as registry:
        place = f"oci://{registry.host}/team/thing:1.0.0"
        fleet.ctl("bundle", "push", imported, "--to", place, "--insecure-no-tls")
        assert fleet.ask("bundle", "list") == []  # a registry is only a place
        registry.seen.clear()
        published = fleet.ask("bundle", "push", place, "--insecure-no-tls")
        place = f"/v2/team/thing/blobs/{made['component']['digest']}"
        assert [path for _, path, _ in registry.seen].count(place) == 1  # read three times, fetched once
    assert published["digest"] == made["digest"]
    listed = fleet.ask("bundle", "list")
    assert [(row["bundle"], row["team"], row["release"], row["refused"]) for row in listed] == [
        ("thing@1.0.0", "default", 1, "")
    ]
    fleet.ctl("bundle", "pull", "thing@1.0.0", "--to", pulled)
    assert fleet.ask("bundle", "verify", pulled)["role"] == "code-default"
    fleet.ctl("bundle", "verify", imported, "--trust", str(fleet.home / "trust"))
