"""Triggers that give an agent messages and readings need a component that takes them and a grant that names them."""

import pytest

from fleet.errors import Code, FleetError
from fleet.grants import Authority, Rule, check_triggers
from fleet.grants.constraints import Patterns
from fleet.model import EventTrigger, MessageTrigger, SensorTrigger

HANDLER = "wasi:messaging/incoming-handler"
EXPORTS = (f"{HANDLER}@0.2.0-draft",)
NOTHING = Authority({})


def granting(**interfaces):
    names = {"messages": (HANDLER, "topics"), "readings": ("fleet:sensors/handler", "sources")}
    return Authority(
        {names[key][0]: (Rule({names[key][1]: Patterns(frozenset(values))}),) for key, values in interfaces.items()}
    )


def refusal(*triggers, exports=EXPORTS, authority=NOTHING):
    with pytest.raises(FleetError) as caught:
        check_triggers(triggers, exports, authority, "app/a", "b@0.1.0")
    return caught.value


def test_what_is_granted_passes():
    authority = granting(messages=["site/*"], readings=["roof"])
    triggers = (
        MessageTrigger("site/alerts"),
        MessageTrigger("site/*"),
        MessageTrigger("other/*"),
        SensorTrigger("roof", "f"),
        EventTrigger("any", "f"),
    )
    check_triggers(triggers, EXPORTS, authority, "app/a", "b@0.1.0")


def test_a_component_that_takes_no_messages():
    error = refusal(MessageTrigger("site/alerts"), exports=("a:b/c",), authority=granting(messages=["*"]))
    assert error.code is Code.EXPORT_NOT_FOUND
    assert HANDLER in error.remedy


@pytest.mark.parametrize("trigger", [MessageTrigger("site/alerts"), MessageTrigger("site/*"), SensorTrigger("r", "f")])
def test_an_interface_without_a_grant(trigger):
    error = refusal(trigger)
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert error.remedy.startswith("fleetctl grant propose app/a --bundle b@0.1.0 --add ")


@pytest.mark.parametrize(
    ("trigger", "missing"), [(MessageTrigger("x/y"), "topic x/y"), (SensorTrigger("cellar", "f"), "source cellar")]
)
def test_a_topic_or_source_that_the_grant_does_not_name(trigger, missing):
    error = refusal(trigger, authority=granting(messages=["site/*"], readings=["roof"]))
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert missing in error.remedy


def test_a_lease_that_lapsed_takes_messages_away_and_not_the_agent():
    authority = granting(messages=["site/*"]).without(frozenset({HANDLER}))
    check_triggers((MessageTrigger("site/alerts"),), EXPORTS, authority, "app/a", "b@0.1.0")
