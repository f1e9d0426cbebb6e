"""Wraps every method of a server in an asynchronous context manager.

Owns: the four shapes of gRPC handlers, so that `status` and `auth` each state one thing once. gRPC gives interceptors
no servicer context, therefore the handler itself is wrapped.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

if TYPE_CHECKING:  # gRPC's classes are generic in its stubs only
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    Context = aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Around = Callable[[str, Context], AbstractAsyncContextManager[None]]
    """Given the method's full name and the call's context, returns what to run the call inside of."""


class AroundInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Runs every call inside `around`."""

    def __init__(self, around: Around) -> None:
        self._around = around

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of one method; an unknown method stays unknown."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            return _stream(handler, inner, method, self._around)
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        return _unary(handler, inner, method, self._around)


def _unary(handler: Handler, inner: Any, method: str, around: Around) -> Handler:
    async def call(request: object, context: Context) -> object:
        async with around(method, context):
            return await inner(request, context)

    make: Any = (
        grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
    )
    wrapped: Handler = make(call, handler.request_deserializer, handler.response_serializer)
    return wrapped


def _stream(handler: Handler, inner: Any, method: str, around: Around) -> Handler:
    async def call(request: object, context: Context) -> None:
        async with around(method, context):
            outcome = inner(request, context)
            if isinstance(outcome, AsyncIterable):
                async for reply in outcome:
                    await context.write(reply)
            else:  # the handler writes to the context by itself
                await outcome

    make: Any = (
        grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
    )
    wrapped: Handler = make(call, handler.request_deserializer, handler.response_serializer)
    return wrapped
