"""The coordinator's end of `tests.fakes.network`: what servicers and their interceptors use of `grpc.aio`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio

from fleet.v1 import node_pb2, node_pb2_grpc
from tests.fakes.network import Network, Stream

Around = Callable[[str, Any, bytes | None], AbstractAsyncContextManager[None]]


@dataclass
class Context:
    """Implements the part of `grpc.aio.ServicerContext` that handlers and interceptors use."""

    stream: Stream
    certificate: bytes
    serialize: Callable[[Any], bytes]
    orders: list[bytes]

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self.certificate], "ssl_tls_version": [b"TLSv1.3"]}

    def invocation_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return ()

    async def write(self, message: Any) -> None:
        data = self.serialize(message)
        if isinstance(message, node_pb2.CoordinatorMessage) and message.WhichOneof("message") == "desired":
            self.orders.append(data)
        await self.stream.down.write(data)

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        self.stream.error = aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*trailing), details)
        raise aio.AbortError


@dataclass
class Server:
    """A servicer behind its interceptors.

    Attributes:
        around: interceptors, the outermost first.
        certificates: node -> the certificate that its connections show.
    """

    network: Network
    around: tuple[Around, ...]
    certificates: dict[str, bytes]
    handlers: dict[str, Any] = field(default_factory=dict)

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The registered ones below are the same."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def add(self, servicer: node_pb2_grpc.NodeServiceServicer) -> None:
        """Answer the servicer's methods."""
        node_pb2_grpc.add_NodeServiceServicer_to_server(servicer, self)  # type: ignore[arg-type]

    async def handle(self, stream: Stream) -> None:
        """Answer one call, from its beginning to its status."""
        handler = self.handlers[stream.method]
        certificate = self.certificates[stream.node]
        context = Context(stream, certificate, handler.response_serializer, self.network.orders[stream.node])
        try:
            with suppress(aio.AbortError):  # the status is in the stream
                await self._within(self.around, handler, stream, context)
            stream.down.finish()  # a handler that was cancelled says nothing more
        finally:
            stream.server_open = False

    async def _within(self, around: tuple[Around, ...], handler: Any, stream: Stream, context: Context) -> None:
        if around:
            async with around[0](stream.method, context, None):
                await self._within(around[1:], handler, stream, context)
            return
        if handler.request_streaming:
            await handler.stream_stream(_requests(stream, handler.request_deserializer), context)
            return
        request = await anext(_requests(stream, handler.request_deserializer), None)
        if request is None:
            return
        if handler.response_streaming:
            replies = handler.unary_stream(request, context)  # gRPC takes both: what yields, and what writes itself
            if inspect.isawaitable(replies):
                await replies
            else:
                async for reply in replies:
                    await context.write(reply)
        else:
            await context.write(await handler.unary_unary(request, context))


async def _requests(stream: Stream, deserialize: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    while (data := await stream.up.read()) is not None:
        yield deserialize(data)
