"""For fuzz tests: an input is either taken or refused with a `FleetError`; anything else is a fault of the code."""

from collections.abc import Callable

from fleet.errors import Code, FleetError


def refusal(action: Callable[[], object]) -> FleetError | None:
    """Return how the action was refused, or None when it succeeded; other exceptions pass through."""
    try:
        action()
    except FleetError as error:
        return error
    return None


def code_of(call: Callable[..., object], *arguments: object) -> Code | None:
    """Return the code with which the call was refused, or None when it succeeded."""
    error = refusal(lambda: call(*arguments))
    return None if error is None else error.code
