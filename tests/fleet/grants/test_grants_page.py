"""docs/grants.md says what a grant can name, and its documents are documents."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.documents import dump_json, load_yaml
from fleet.errors import Code
from fleet.grants import BASELINE, VOCABULARY, Risk, parse_break_glass, parse_ceilings, parse_grant, request_digest
from fleet.grants.vocabulary import LINK
from fleet.manifest import parse_application
from orchestrator.cli.grant import grant
from orchestrator.guardrails import default_guardrails, default_text, load_guardrails

PAGE = (Path(__file__).parents[3] / "docs" / "grants.md").read_text()


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading):
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ?([^|\n]*)\|", table, re.MULTILINE))


def written(specs):
    bold = {name for name, spec in specs.items() if spec.required}
    return [f"**`{name}`**" if name in bold else f"`{name}`" for name in specs]


def test_every_interface_has_a_row_with_its_constraints():
    table = rows("interface")
    assert {name: cell.split() for name, cell in table.items()} == {
        name: written(specs) for name, specs in VOCABULARY.items()
    }
    assert f"| any other, such as `acme:pipeline/score` | {' '.join(written(LINK))}" in PAGE
    assert BASELINE.isdisjoint(table.keys() - VOCABULARY.keys())


def test_the_grant_of_the_page_is_one():
    document = parse_grant(blocks("yaml")[0].encode(), "docs/grants.md")
    assert document.risk is Risk.HIGH
    assert document.request is not None
    assert document.request.digest == request_digest(document.request.interfaces)
    assert set(document.capabilities) == set(document.request.interfaces)


def test_the_other_documents_of_the_page_are_documents():
    _, narrow, emergencies, ceilings = blocks("yaml")
    assert parse_break_glass(emergencies.encode(), "docs/grants.md").max_validity == timedelta(hours=4)
    whole = load_yaml(narrow.encode(), Code.MANIFEST_INVALID, "docs/grants.md")
    document = {"schema": "fleet.application/v1", "application": "vision", **whole}
    (agent,) = parse_application(dump_json(document)).agents
    assert '"deny"' in agent.narrow
    assert len(parse_ceilings(ceilings.encode(), "docs/grants.md").ceilings) == 2


def test_every_default_guardrail_has_a_row():
    assert set(rows("guardrail")) | {"whatever-nothing-forbids"} == set(default_guardrails().ids)


def test_the_guardrail_of_the_page_is_one():
    (own,) = blocks("cedar")
    assert load_guardrails(f"{default_text()}\n{own}".encode()).ids[-1] == "cameras-stay-inside"


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^fleetctl grant ([\w-]+)", PAGE, re.MULTILINE))))
def test_every_command_of_the_page_exists(command):
    assert command in grant.commands
