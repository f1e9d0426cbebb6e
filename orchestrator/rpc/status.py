"""The one translator between `FleetError` and a gRPC status.

Owns: the trailing metadata "fleet-error-bin" with its `ErrorDetail`, and what a stranger learns of an unknown error:
nothing but a request id, under which the log has the whole chain.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import grpc
from grpc import aio

from fleet.errors import Code, FleetError
from fleet.v1 import error_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator.rpc.interceptor import Context

ERROR_METADATA: Final = "fleet-error-bin"

MAX_DETAIL = 1024
"""Characters of one value in the detail: trailing metadata has to stay below 8 KiB."""

_LOG = logging.getLogger(__name__)


def to_detail(error: FleetError, request_id: str) -> error_pb2.ErrorDetail:
    """Write the part of an error that may leave this machine: never its private text."""
    return error_pb2.ErrorDetail(
        code=error.code,
        message=error.row.public,
        remedy=error.remedy,
        detail={key: str(value)[:MAX_DETAIL] for key, value in error.detail.items() if key != "remedy"},
        request_id=request_id,
    )


@asynccontextmanager
async def translated(method: str, context: Context, _: bytes | None = None) -> AsyncIterator[None]:
    """Run a call and end it with the status of whatever it raises."""
    try:
        yield
    except aio.AbortError:
        raise
    except FleetError as error:
        request_id = secrets.token_hex(8)
        _LOG.info("%s %s failed: %s", request_id, method, error)
        await _abort(context, error, request_id)
    except Exception:  # noqa: BLE001 - the edge of the process: whatever went wrong is logged here, once
        request_id = secrets.token_hex(8)
        _LOG.exception("%s %s failed", request_id, method)
        await _abort(context, FleetError(Code.INTERNAL, "unexpected"), request_id)


async def _abort(context: Context, error: FleetError, request_id: str) -> None:
    status = grpc.StatusCode[error.row.grpc_status]
    detail = to_detail(error, request_id).SerializeToString()
    await context.abort(status, error.row.public, ((ERROR_METADATA, detail),))
