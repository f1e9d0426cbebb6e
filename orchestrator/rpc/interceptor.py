"""Wraps every method of a server in an asynchronous context manager.

Owns: the four shapes of gRPC handlers, so that `status` and `auth` each state one thing once. gRPC gives interceptors
no servicer context, therefore the handler itself is wrapped. Requests are parsed inside of it too: left to gRPC, bytes
that are no message would be answered without a code, and logged with a stack trace for each stranger who sends some.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from fleet.errors import Code, FleetError

if TYPE_CHECKING:  # gRPC's classes are generic in its stubs only
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    Context = aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Around = Callable[[str, Context, bytes | None], AbstractAsyncContextManager[None]]
    """Given the method's full name, the call's context and the bytes of its one request (None where requests are a
    stream), returns what to run the call inside of."""


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
    parse = _parser(handler, method)

    async def call(request: object, context: Context) -> object:
        async with around(method, context, request if isinstance(request, bytes) else None):
            return await inner(parse(request), context)

    make: Any = (
        grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
    )
    wrapped: Handler = make(call, None, handler.response_serializer)
    return wrapped


def _stream(handler: Handler, inner: Any, method: str, around: Around) -> Handler:
    parse = _parser(handler, method)

    async def call(request: object, context: Context) -> None:
        async with around(method, context, request if isinstance(request, bytes) else None):
            outcome = inner(parse(request), context)
            if isinstance(outcome, AsyncIterable):
                async for reply in outcome:
                    await context.write(reply)
            else:  # the handler writes to the context by itself
                await outcome

    make: Any = (
        grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
    )
    wrapped: Handler = make(call, None, handler.response_serializer)
    return wrapped


def _parser(handler: Handler, method: str) -> Callable[[Any], Any]:
    """Make what turns the bytes of a request, or of a stream of them, into messages."""
    deserialize: Callable[[bytes], object] | None = handler.request_deserializer
    if deserialize is None:  # parsed by an interceptor further in
        return lambda request: request

    def parse(data: bytes) -> object:
        try:
            return deserialize(data)
        except DecodeError as error:
            raise FleetError(Code.MESSAGE_INVALID, f"{len(data)} bytes are no message", place=method) from error

    return partial(_Parsed, parse) if handler.request_streaming else parse


class _Parsed:
    """A stream of requests, each parsed when it is taken."""

    def __init__(self, parse: Callable[[bytes], object], requests: AsyncIterator[bytes]) -> None:
        self._parse = parse
        self._requests = requests

    def __aiter__(self) -> _Parsed:
        return self

    async def __anext__(self) -> object:
        return self._parse(await anext(self._requests))
