"""Fetches what the node lacks from its coordinator.

Owns the two fetching calls, each read capped, given a limit of time and held to a least rate, so that nobody keeps a
node busy with a file that never ends (TUF's slow retrieval attack). Believes nothing: blobs are hashed by
`edge_agent.blobs`, trust metadata is verified by `fleet.trust`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from edge_agent.link.channel import to_fleet_error
from fleet.errors import Code, FleetError
from fleet.v1 import node_pb2 as pb
from fleet.v1 import node_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

MAX_CHUNK = 1024 * 1024
"""Bytes of one chunk of a blob."""

MIN_BYTES_PER_S = 256
"""Rate below which a transfer is given up: a fifth of what the slowest satellite modems carry."""


class CoordinatorRemote:
    """The coordinator as a source of bytes.

    Args:
        channel: a channel of its own.
        timeout_s: limit of one request for metadata, and of waiting for a blob's next bytes: as many as the least
            rate gives in that time, or all the rest of it.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._stub = node_pb2_grpc.NodeServiceStub(channel)
        self._timeout_s = timeout_s

    async def fetch_blob(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        """Yield (data, size of the whole blob) from an offset.

        Raises:
            FleetError: BLOB_MISSING, UNAVAILABLE, DEADLINE_EXCEEDED, LIMIT_EXCEEDED, or what the coordinator says.
        """
        call = self._stub.FetchBlob(pb.FetchBlobRequest(digest=digest, offset=offset))
        time, left_s, received = asyncio.get_running_loop().time, self._timeout_s, 0
        try:
            while True:
                asked = time()
                async with asyncio.timeout(left_s):
                    chunk = await call.read()
                if not isinstance(chunk, pb.BlobChunk):
                    break
                if len(chunk.data) > MAX_CHUNK:
                    raise FleetError(Code.LIMIT_EXCEEDED, f"a chunk of {len(chunk.data)} bytes")
                left_s, received = left_s - (time() - asked), received + len(chunk.data)
                if received >= MIN_BYTES_PER_S * self._timeout_s:
                    left_s, received = self._timeout_s, 0
                yield chunk.data, chunk.total
        except TimeoutError as error:
            raise FleetError(Code.DEADLINE_EXCEEDED, f"{digest} stalls or comes too slowly", digest=digest) from error
        except grpc.aio.AioRpcError as error:
            raise to_fleet_error(error) from error
        finally:
            call.cancel()

    async def fetch_trust(self, known_root_version: int) -> Mapping[str, bytes]:
        """Return the newest trust metadata: file name -> bytes.

        Raises:
            FleetError: UNAVAILABLE, DEADLINE_EXCEEDED, or what the coordinator says.
        """
        request = pb.FetchTrustRequest(known_root_version=known_root_version)
        try:
            reply = await self._stub.FetchTrust(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise to_fleet_error(error) from error
        return dict(reply.files)
