"""The nouns that both programs exchange."""

from fleet.model import AssignedAgent, TargetRef

REF = TargetRef("bundles/default/context-agent/0.1.0.json", f"sha256:{'0' * 64}")


def test_an_agents_application_is_the_first_part_of_its_name():
    assert AssignedAgent("climate/context", REF, REF).application == "climate"
