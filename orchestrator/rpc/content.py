"""ControlService, content: blobs, publishing, bundles and grants."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.floors import read_counters
from fleet.model import is_agent_name
from fleet.oci import digest_of
from fleet.targets import bundle_of, is_break_glass
from fleet.times import to_ms
from fleet.v1 import control_pb2
from orchestrator import emergencies
from orchestrator.releases import grant_of
from orchestrator.rpc.auth import principal_operator
from orchestrator.rpc.services import Door
from orchestrator.rpc.teams import check_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fleet.trust import Target
    from orchestrator.releases import Releases
    from orchestrator.rpc.interceptor import Context

_LOG = logging.getLogger(__name__)

MAX_DIGESTS = 4_096
"""Digests in one question."""

MAX_CHUNK = 1024 * 1024
"""Bytes of one piece of an upload."""


class ContentDoor(Door):
    """Methods about what is published."""

    async def HasBlobs(self, request: control_pb2.HasBlobsRequest, _: Context) -> control_pb2.HasBlobsReply:  # noqa: N802
        """Say which blobs are not stored yet."""
        if len(request.digests) > MAX_DIGESTS:
            raise FleetError(Code.LIMIT_EXCEEDED, f"{len(request.digests)} digests", limit=MAX_DIGESTS)
        blobs = self._services.blobs
        missing = await self._run(lambda: [digest for digest in request.digests if not blobs.has(digest)])
        return control_pb2.HasBlobsReply(missing=missing)

    async def PutBlob(  # noqa: N802
        self, requests: AsyncIterator[control_pb2.PutBlobRequest], _: Context
    ) -> control_pb2.PutBlobReply:
        """Store a blob that comes in pieces; nothing of it stays when it is not what was announced."""
        first = await anext(requests, None)
        if first is None or not first.digest:
            raise FleetError(Code.MESSAGE_INVALID, "an upload begins with digest and size", place="digest")
        with await self._run(self._services.blobs.writer, first.digest, first.size) as writer:
            await self._run(writer.write, first.data)
            async for piece in requests:
                if len(piece.data) > MAX_CHUNK:
                    raise FleetError(Code.LIMIT_EXCEEDED, f"a piece of {len(piece.data)} bytes", limit=MAX_CHUNK)
                await self._run(writer.write, piece.data)
            await self._run(writer.publish)
        return control_pb2.PutBlobReply()

    async def GetBlob(  # noqa: N802
        self, request: control_pb2.GetBlobRequest, _: Context
    ) -> AsyncIterator[control_pb2.GetBlobChunk]:
        """Send a blob."""
        total = await self._run(self._services.blobs.size, request.digest)
        chunks = self._services.blobs.chunks(request.digest, 0)
        while (piece := await self._run(next, chunks, None)) is not None:
            yield control_pb2.GetBlobChunk(data=piece, total=total)

    async def Publish(self, request: control_pb2.PublishRequest, _: Context) -> control_pb2.PublishReply:  # noqa: N802
        """Adopt new trust metadata, signed elsewhere."""
        for document in request.documents:
            if digest_of(document.content) != document.digest:
                raise FleetError(Code.DIGEST_MISMATCH, "a document is not what it says", digest=document.digest[:80])
        operator = principal_operator()
        published = await self._run(
            self._services.releases.publish,
            dict(request.files),
            [document.content for document in request.documents],
            operator.name,
            partial(check_files, operator),
        )
        try:  # before nodes hear of it and ask for certificates
            await self._run(self._services.node_authorities.look)
        except (FleetError, OSError) as error:
            _LOG.warning("the node authorities stay as they were for now: %s", error)  # it is published all the same
        self._services.sessions.signal_release()
        await self._run(self._tell_emergencies, published.added, principal_operator().name)
        return control_pb2.PublishReply(
            timestamp_version=published.timestamp_version, added=published.added, removed=published.removed
        )

    async def GetTrust(self, _request: control_pb2.GetTrustRequest, _: Context) -> control_pb2.GetTrustReply:  # noqa: N802
        """Send the published metadata, for a publisher to continue from."""
        return control_pb2.GetTrustReply(files=dict(await self._run(self._services.releases.files)))

    async def ListBundles(self, _request: control_pb2.ListBundlesRequest, _: Context) -> control_pb2.ListBundlesReply:  # noqa: N802
        """List the published bundles."""
        return control_pb2.ListBundlesReply(bundles=await self._run(self._bundles))

    async def ListGrants(self, request: control_pb2.ListGrantsRequest, _: Context) -> control_pb2.ListGrantsReply:  # noqa: N802
        """List the published grants, of one agent or of all, the newest revision first."""
        return control_pb2.ListGrantsReply(grants=await self._run(self._grants, request.agent))

    async def GetGrant(self, request: control_pb2.GetGrantRequest, _: Context) -> control_pb2.Grant:  # noqa: N802
        """Send one grant; revision 0 means the newest."""
        return await self._run(self._grant, request.agent, request.revision or None)

    def _tell_emergencies(self, paths: Sequence[str], operator: str) -> None:
        broken = [path for path in paths if is_break_glass(path)]
        if not broken:
            return
        releases, now = self._services.releases, self._services.clock()
        release = releases.adopted()
        for path in broken:
            grant, _ = releases.read_grant(release.target(path))
            self._services.journal.append(emergencies.tell(grant, emergencies.APPROVED, now, operator))

    def _bundles(self) -> list[control_pb2.Bundle]:
        releases = self._services.releases
        result: list[control_pb2.Bundle] = []
        release = releases.adopted()
        standing = releases.standing(release)
        for target in release.targets("bundles/"):
            bundle = releases.open_bundle(target)
            name, _, version = bundle_of(target.path).partition("@")
            result.append(
                control_pb2.Bundle(
                    name=name,
                    version=version,
                    digest=target.digest,
                    path=target.path,
                    imports=bundle.imports,
                    exports=bundle.exports,
                    models=[model.name for model in bundle.models],
                    size=target.length + sum(blob.size for blob in bundle.blobs),
                    team=target.path.split("/")[1],
                    release=read_counters(target).release,
                    refused=standing.why_not(target, bundle),
                )
            )
        return result

    def _grants(self, agent: str) -> list[control_pb2.Grant]:
        releases = self._services.releases
        return [write_grant(releases, target) for target in releases.find_grants(releases.adopted(), agent)]

    def _grant(self, agent: str, revision: int | None) -> control_pb2.Grant:
        if not is_agent_name(agent):
            raise FleetError(Code.VALUE_INVALID, "expected application/agent", place="agent")
        releases = self._services.releases
        return write_grant(releases, releases.find_grant(releases.adopted(), agent, revision, "NAME@VERSION"))


def write_grant(releases: Releases, target: Target) -> control_pb2.Grant:
    """Read a published grant and write it for an operator."""
    grant, document = releases.read_grant(target)
    agent, revision = grant_of(target.path)
    return control_pb2.Grant(
        agent=agent,
        revision=revision,
        digest=target.digest,
        path=target.path,
        document=document,
        not_before_ms=to_ms(grant.not_before),
        not_after_ms=to_ms(grant.not_after),
        interfaces=sorted(grant.capabilities),
        approvers=target.approvers,
    )
