"""Host functions whose refusals and faults are error values, not traps.

Owns: `RefusedError`, which ends such a function early, and `Answering`, which gives it its result type. Which case of
the package's error a fault becomes is the package's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fleet.errors import FleetError
from fleet.wit_types import Err, Ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.wit_types import Variant

P = ParamSpec("P")
T = TypeVar("T")


class RefusedError(Exception):
    """Ends a call with an error value of the package.

    Attributes:
        error: the value.
    """

    def __init__(self, error: Variant[str]) -> None:
        super().__init__(error.case)
        self.error = error


class Answering:
    """Gives calls the result type of a package: their value as `Ok`, every refusal and fault as `Err`.

    Args:
        error_of: the package's error for a fault.
    """

    def __init__(self, error_of: Callable[[FleetError], Variant[str]]) -> None:
        self._error_of = error_of

    def __call__(self, call: Callable[P, T]) -> Callable[P, Ok[T] | Err[Variant[str]]]:
        """Return the host function for `call`."""

        def answer(*args: P.args, **kwargs: P.kwargs) -> Ok[T] | Err[Variant[str]]:
            try:
                return Ok(call(*args, **kwargs))
            except RefusedError as refused:
                return Err(refused.error)
            except FleetError as error:
                return Err(self._error_of(error))

        return answer
