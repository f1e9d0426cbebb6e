"""Moments on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fleet.times import to_ms


class Time(click.ParamType[int]):
    """An RFC 3339 time as milliseconds since 1970; without a zone it is UTC."""

    name = "time"

    def convert(self, value: int | str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the time, or fail as wrong usage."""
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail("expected an RFC 3339 time, for example 2026-11-22T13:00:00Z", param, ctx)
        return to_ms(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


TIME = Time()
