"""A crash report with one call that called the host."""

from __future__ import annotations

from fleet.crash import CrashReport, GuestCall, HostCall, Recording
from fleet.model import ExitCause

CALL = GuestCall("run", ("1",), (HostCall("a:b/c#d", ("2",), "3"),))
REPORT = CrashReport(
    node="roof",
    agent="climate/context",
    generation=4,
    bundle="sha256:b",
    grant="sha256:g",
    component="sha256:c",
    authority="{}",
    engine="wasmtime 1",
    cause=ExitCause.UNREACHABLE,
    message="unreachable",
    at_ms=1,
    recording=Recording(GuestCall(""), (CALL,)),
)
