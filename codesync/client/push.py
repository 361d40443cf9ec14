"""A push from scan to outcome: what the MCP server, the command line and watch mode call.

    scan → connect → lease → plan → guards → batches → transfer → outcome

A connection that is lost is taken up again with the same push_id: the proxy answers from its record or goes on.
A source that changes meanwhile is another push: the lease is given back, and all begins anew, guards and push_id included.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, cast

from codesync.client.results import ByteCounts, ClientError, FileCounts, ProgressCallback, PushResult
from codesync.client.results import Progress as ClientProgress
from codesync.client.session import Session, open_session
from codesync.client.source import Source
from codesync.client.trees import KnownTrees, decode_tree
from codesync.config import Settings
from codesync.connection import ConnectError, Disconnected, backoff, finish
from codesync.delta import SourceChanged, TrackedChange, write_batch
from codesync.errors import UserError
from codesync.plan import Modes, Plan, ReplicaTree, check_conflict, check_deletes, check_size, plan, show
from codesync.protocol import (
    MAX_CHUNK,
    BatchRef,
    Begin,
    Cancel,
    Chunk,
    DeploymentState,
    Outcome,
    Progress,
    Push,
    TreeRef,
)

ATTEMPTS = 8  # connections tried for one push
RESCANS = 3  # a source that changes under the push is read again
SIGNATURE_FROM = 4096  # bytes: smaller files go whole, one round trip saved
CANCEL_SECONDS = 5.0
SPOOL_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class PushOptions:
    """How a push behaves; the names are those of `push_changes`."""

    description: str
    dry_run: bool = False
    mirror: bool = False
    modes: Modes = "executable"
    allow_mass_delete: bool = False
    allow_large: bool = False
    take_over: bool = False


@dataclass
class _Batch:
    ref: BatchRef
    file: BinaryIO
    size: int


class Pusher:
    """One push of one source tree; `run` it once."""

    def __init__(
        self, settings: Settings, options: PushOptions, progress: ProgressCallback | None, push_id: str | None
    ) -> None:
        self._settings = settings
        self._options = options
        self._progress = progress or (lambda _: None)
        self._source = Source(settings)
        self._known = KnownTrees(f"{settings.cache_dir}/trees")
        self._targets: dict[TreeRef, ReplicaTree] = {}
        self._own_id = push_id is None
        self._result = PushResult(push_id or new_push_id(), settings.app_id, settings.deployment_id, "failed")

    async def run(self) -> PushResult:
        """Push. Raises UserError: one line that says what to do."""
        summary = asyncio.create_task(asyncio.to_thread(self._source.git_summary))
        try:
            result = await self._rounds()
            result.diff = await summary
            return result
        finally:
            summary.cancel()
            await asyncio.gather(summary, return_exceptions=True)

    async def _rounds(self) -> PushResult:
        """Begin anew, from the scan on, when the source has changed before it could be read for the batches."""
        for rescan in range(1 + RESCANS):
            if rescan and self._own_id:
                self._result.push_id = new_push_id()
            await self._scan()
            try:
                return await self._attempts()
            except SourceChanged:
                continue
        raise ClientError(
            "the source keeps changing while it is pushed; push again when it is quiet", code="source_changed"
        )

    async def _attempts(self) -> PushResult:
        for attempt, wait in enumerate(backoff(), 1):
            try:
                async with open_session(self._settings, self._relay) as session:
                    return await self._converse(session)
            except (ConnectError, Disconnected, ClientError) as error:
                if attempt == ATTEMPTS or not _may_pass(error, attempt):
                    if isinstance(error, ClientError):
                        raise
                    raise ClientError(str(error), code=getattr(error, "code", "lost")) from error
                await asyncio.sleep(wait)
        raise AssertionError("backoff never ends")

    async def _converse(self, session: Session) -> PushResult:
        if self._options.dry_run:
            plans = await self._plans(session, session.deployment)
            return self._end("planned" if any(not p.is_empty for p in plans.values()) else "no_changes")
        begin = Begin(
            push_id=self._result.push_id,
            source=self._settings.source,
            description=self._options.description,
            source_tree_id=self._source.manifest.tree_id,
        )
        async with _cancelled_unless_done(session, self._result.push_id) as lease:
            await session.send(begin)
            granted = await session.wait(session.granted, "lease on the deployment")
            if isinstance(granted, Outcome):  # decided, or being decided, while we were away
                return self._finish(granted)
            plans = await self._plans(session, granted.deployment)
            if all(p.is_empty for p in plans.values()):
                return self._end("no_changes")
            with ExitStack() as files:
                batches = await self._batches(session, plans, files)
                await self._transfer(session, batches)
            lease.done = True
        return self._finish(await session.wait(session.ended, "outcome"))

    # --- on this machine -------------------------------------------------------------------------------------

    async def _scan(self) -> None:
        self._targets.clear()
        self._progress(ClientProgress("scan", "", 0, 0))
        with self._timed("scan"):
            manifest = await asyncio.to_thread(self._source.scan)
        self._result.bytes = ByteCounts(tree=manifest.total_size)
        self._result.files.skipped = [f"{show(s.path)}: {s.reason}" for s in manifest.skipped]

    async def _plans(self, session: Session, deployment: DeploymentState) -> dict[TreeRef, Plan]:
        """One plan for each distinct tree among the replicas, guards passed."""
        if not deployment.replicas:
            raise ClientError(_no_replica(deployment), code="no_replica")
        trees = {
            ref: await self._tree(session, ref) for ref in dict.fromkeys(r.tree for r in deployment.replicas)
        }
        with self._timed("delta"):
            plans = {ref: self._plan(tree) for ref, tree in trees.items()}
        skipped = self._result.files.skipped
        self._result.files = FileCounts.of(plans.values())
        self._result.files.skipped = skipped
        self._result.generation = max(replica.generation for replica in deployment.replicas)
        for found in plans.values():
            self._check(found, deployment)
        return plans

    async def _tree(self, session: Session, ref: TreeRef) -> ReplicaTree:
        if (known := self._known.find(ref)) is not None:
            return known
        tree = decode_tree(await session.manifest(ref), ref)
        self._known.add(tree)
        return tree

    def _plan(self, tree: ReplicaTree) -> Plan:
        options = self._options
        ignored = self._source.ignored
        return plan(
            self._source.manifest,
            tree.manifest,
            tree.tracked,
            ignored,
            mirror=options.mirror,
            modes=options.modes,
        )

    def _check(self, found: Plan, deployment: DeploymentState) -> None:
        options, last = self._options, deployment.last_push
        if last is not None:
            at = datetime.fromtimestamp(last.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            check_conflict(
                found,
                mine=self._settings.source,
                last=last.source,
                last_at=at,
                push_id=last.push_id,
                take_over=options.take_over,
            )
        check_deletes(found, self._source.manifest, allow_mass_delete=options.allow_mass_delete)
        check_size(found, allow_large=options.allow_large)

    # --- to the replicas -------------------------------------------------------------------------------------

    async def _batches(self, session: Session, plans: dict[TreeRef, Plan], files: ExitStack) -> list[_Batch]:
        """Write a batch for each plan. Raises SourceChanged, ClientError."""
        with self._timed("delta"):
            return [await self._batch(session, ref, found, files) for ref, found in plans.items()]

    async def _batch(self, session: Session, ref: TreeRef, found: Plan, files: ExitStack) -> _Batch:
        target = ReplicaTree(found.target, found.tracked)
        self._progress(ClientProgress("delta", "", 0, len(found.difference.modified)))
        paths = [path for path in found.difference.modified if _worth_a_signature(found, path)]
        signatures = await session.signatures(ref, paths)
        file = cast("BinaryIO", files.enter_context(tempfile.SpooledTemporaryFile(SPOOL_BYTES)))
        await asyncio.to_thread(
            write_batch,
            file,
            self._source.root,
            found.base,
            found.target,
            push_id=self._result.push_id,
            signatures=signatures,
            tracked=TrackedChange.between(found.base_tracked, found.target, found.tracked),
        )
        size = file.tell()
        check_size(found, allow_large=self._options.allow_large, wire_bytes=size)
        file.seek(0)
        self._targets[TreeRef(*target.ids)] = target
        return _Batch(BatchRef(base=ref, target=TreeRef(*target.ids)), file, size)

    async def _transfer(self, session: Session, batches: list[_Batch]) -> None:
        total, done = sum(batch.size for batch in batches), 0
        push_id = self._result.push_id
        with self._timed("transfer"):
            await session.send(Push(push_id=push_id, batches=tuple(batch.ref for batch in batches)))
            for index, batch in enumerate(batches):
                for data, last in _chunks(batch):
                    await session.send(Chunk(push_id=push_id, batch=index, data=data, last=last))
                    done += len(data)
                    self._progress(ClientProgress("transfer", "", done, total))
        self._result.bytes.sent = total

    # --- the end ---------------------------------------------------------------------------------------------

    def _end(self, status: str) -> PushResult:
        self._result.status = status  # type: ignore[assignment]
        return self._result.advise()

    def _finish(self, outcome: Outcome) -> PushResult:
        result = self._result.finish(outcome)
        if result.ok:
            for tree in self._targets.values():
                self._known.add(tree)
        return result

    def _relay(self, message: Progress) -> None:
        self._progress(ClientProgress(message.stage, message.replica, message.done, message.total))

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = round((time.perf_counter() - start) * 1000)
            setattr(self._result.timings_ms, name, getattr(self._result.timings_ms, name) + spent)


@dataclass
class _Lease:
    done: bool = False


@asynccontextmanager
async def _cancelled_unless_done(session: Session, push_id: str) -> AsyncIterator[_Lease]:
    """Give the lease back when the push does not come to the end of its transfer, whatever stopped it."""
    lease = _Lease()
    try:
        yield lease
    finally:
        if not lease.done and not session.ended.done():
            await finish(_cancel(session, push_id), within=CANCEL_SECONDS)


async def _cancel(session: Session, push_id: str) -> None:
    """Say it, and hear the proxy agree: then another push can begin."""
    await session.send(Cancel(push_id=push_id))
    await asyncio.wait([session.ended])


def _may_pass(error: UserError, attempt: int) -> bool:
    """Whether trying again may help. After a restart of the proxy a sidecar may come back a moment later than we do."""
    if isinstance(error, ClientError):
        return error.code == "no_replica" and attempt > 1
    return not (isinstance(error, ConnectError) and error.final)


def new_push_id() -> str:
    """A new id: sortable by time, random enough never to meet another one."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(5)}"


def _worth_a_signature(found: Plan, path: bytes) -> bool:
    old, new = found.base[path], found.target[path]
    return old.kind == new.kind and min(old.size, new.size) >= SIGNATURE_FROM


def _chunks(batch: _Batch) -> Iterator[tuple[bytes, bool]]:
    left = batch.size
    while left:
        data = batch.file.read(min(left, MAX_CHUNK))
        left -= len(data)
        yield data, left == 0


def _no_replica(deployment: DeploymentState) -> str:
    return (
        f"no sidecar is connected for app {deployment.app_id} deployment {deployment.deployment_id}; "
        "start it beside the application, or check app_id and deployment_id"
    )
