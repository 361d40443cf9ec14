"""A push from scan to outcome: what the MCP server, the command line and watch mode call.

    scan → connect → lease → plan → guards → batches → transfer → outcome

A connection that is lost is taken up again with the same push_id: the proxy answers from its record or goes on.
A source that changes meanwhile is another push: the lease is given back, and all begins anew, guards and push_id included.
A push that is cancelled is undone on every replica, unless it is too late; progress tells which.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO, cast

from codesync.client.against import Against, Sides, find_bases
from codesync.client.contents import Contents, worth_keeping
from codesync.client.lease import end_of, lease
from codesync.client.results import (
    NO_CHANGES_NOT_WELL,
    ByteCounts,
    ClientError,
    FileCounts,
    ProgressCallback,
    PushResult,
    checked_description,
    crashes,
    not_well,
)
from codesync.client.results import Progress as ClientProgress
from codesync.client.session import Session, no_replica, persistently
from codesync.client.source import Source
from codesync.client.trees import KnownTrees, decode_tree
from codesync.config import Settings
from codesync.delta import Kind, SourceChanged, TrackedChange, write_batch
from codesync.hooks import matching
from codesync.plan import Modes, Plan, ReplicaTree, check_conflict, check_deletes, check_size, plan, show
from codesync.protocol import (
    MAX_CHUNK,
    BatchRef,
    Begin,
    Chunk,
    DeploymentState,
    Hook,
    Outcome,
    Progress,
    Push,
    TreeRef,
)

RESCANS = 3  # a source that changes under the push is read again
WRITER = "keep contents"  # name of the threads that do
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
        self._contents = Contents(f"{settings.cache_dir}/contents")
        self._targets: dict[TreeRef, ReplicaTree] = {}
        self._own_id = push_id is None
        self._begun = False  # the proxy may know of it
        self._ill = ""  # what is not healthy there already
        self._outcome: Outcome | None = None
        self._scanned: asyncio.Task[None] | None = None
        self._summary: asyncio.Task[str] | None = None
        self._result = PushResult(push_id or new_push_id(), settings.app_id, settings.deployment_id, "failed")

    async def run(self) -> PushResult:
        """Push. Raises UserError: one line that says what to do."""
        description = checked_description(self._options.description)
        self._options = replace(self._options, description=description)
        try:
            result = await self._rounds()
            result.diff = await self._summarised()
            return result
        except asyncio.CancelledError:
            if not self._begun:
                self._progress(ClientProgress("cancelled", "", 0, 0))
            elif self._outcome is not None and (end := end_of(self._outcome)) is not None:
                self._progress(end)
            raise
        finally:
            if self._summary is not None:
                self._summary.cancel()
                await asyncio.gather(self._summary, return_exceptions=True)

    def _summarised(self) -> asyncio.Task[str]:
        """Git's word on the tree: asked while the replicas are at work, since git needs as much as a scan does."""
        if self._summary is None:
            self._summary = asyncio.create_task(asyncio.to_thread(self._source.git_summary))
        return self._summary

    async def _rounds(self) -> PushResult:
        """Begin anew, from the scan on, when the source has changed before it could be read for the batches."""
        for rescan in range(1 + RESCANS):
            if rescan and self._own_id:
                self._result.push_id = new_push_id()
            self._scanned = asyncio.create_task(self._scan())  # while we connect
            try:
                return await persistently(self._settings, self._relay, self._converse)
            except SourceChanged:
                self._begun = False
            finally:
                self._scanned.cancel()
                await asyncio.gather(self._scanned, return_exceptions=True)
        raise ClientError(
            "the source keeps changing while it is pushed; push again when it is quiet", code="source_changed"
        )

    async def _converse(self, session: Session) -> PushResult:
        assert self._scanned is not None, "begun with the round"
        await asyncio.shield(self._scanned)
        self._see(session.deployment)
        if self._options.dry_run:
            plans = await self._plans(session, session.deployment)
            return self._end("planned" if any(not p.is_empty for p in plans.values()) else "no_changes")
        begin = Begin(
            push_id=self._result.push_id,
            source=self._settings.source,
            description=self._options.description,
            source_tree_id=self._source.manifest.tree_id,
        )
        self._begun = True
        async with lease(session, self._result.push_id, self._progress) as held:
            await session.send(begin)
            granted = await session.wait(session.granted, "lease on the deployment")
            if isinstance(granted, Outcome):  # decided, or being decided, while we were away
                return self._finish(granted)
            self._see(granted.deployment)
            plans = await self._plans(session, granted.deployment)
            if all(p.is_empty for p in plans.values()):
                held.no_changes = True
                return self._end("no_changes")
            with ExitStack() as files:
                batches = await self._batches(session, granted.deployment, plans, files)
                await self._transfer(session, batches)
            held.sent = True
            self._keep_contents(plans.values())
            self._summarised()
            hooks = [hook for batch in batches for hook in batch.ref.hooks]
            return self._finish(await session.wait(session.ended, "outcome", hooks=hooks), hooks)

    def _see(self, deployment: DeploymentState) -> None:
        """How the application is before the push."""
        self._result.crashed_after = crashes(deployment)
        self._ill = not_well(deployment)

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
            raise no_replica(deployment)
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
        tree = await asyncio.to_thread(decode_tree, await session.manifest(ref), ref)
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

    async def _batches(
        self, session: Session, deployment: DeploymentState, plans: dict[TreeRef, Plan], files: ExitStack
    ) -> list[_Batch]:
        """Write a batch for each plan. Raises SourceChanged, ClientError."""
        batches = []
        with self._timed("delta"):
            for ref, found in plans.items():
                self._progress(ClientProgress("delta", "", 0, len(found.difference.modified)))
                sides = Sides.of(self._source.root, found, ref, deployment.replicas)
                against = await find_bases(session, sides, self._contents)
                batches.append(await self._batch(ref, found, against, files))
        return batches

    async def _batch(self, ref: TreeRef, found: Plan, against: Against, files: ExitStack) -> _Batch:
        target = ReplicaTree(found.target, found.tracked)
        file = cast("BinaryIO", files.enter_context(tempfile.SpooledTemporaryFile(SPOOL_BYTES)))
        await asyncio.to_thread(
            write_batch,
            file,
            self._source.root,
            found.base,
            found.target,
            push_id=self._result.push_id,
            signatures=against.signatures,
            basis=against.basis,
            tracked=TrackedChange.between(found.base_tracked, found.target, found.tracked),
        )
        size = file.tell()
        check_size(found, allow_large=self._options.allow_large, wire_bytes=size)
        file.seek(0)
        self._targets[TreeRef(*target.ids)] = target
        hooks = _called_for(self._settings.hooks, found)
        return _Batch(BatchRef(base=ref, target=TreeRef(*target.ids), hooks=hooks), file, size)

    async def _transfer(self, session: Session, batches: list[_Batch]) -> None:
        total, done = sum(batch.size for batch in batches), 0
        push_id = self._result.push_id
        with self._timed("transfer"):
            refs = tuple(batch.ref for batch in batches)
            await session.send(Push(push_id=push_id, batches=refs, timings_ms=self._spent()))
            for index, batch in enumerate(batches):
                for data, last in _chunks(batch):
                    await session.send(Chunk(push_id=push_id, batch=index, data=data, last=last))
                    done += len(data)
                    self._progress(ClientProgress("transfer", "", done, total))
        self._result.bytes.sent = total

    def _keep_contents(self, plans: Iterable[Plan]) -> None:
        """Keep what the next push is likely to change, while the replicas are at work and it still is what was sent."""
        modified = {found.target[path] for found in plans for path in found.difference.modified}
        added = {found.target[path] for found in plans for path in found.difference.added}
        entries = worth_keeping(modified, added)
        # no daemon: a process that ends waits for it
        threading.Thread(target=self._contents.keep, args=(self._source.root, entries), name=WRITER).start()

    # --- the end ---------------------------------------------------------------------------------------------

    def _end(self, status: str) -> PushResult:
        self._result.status = status  # type: ignore[assignment]
        ill = self._ill and status == "no_changes" and not self._result.crashed_after
        return self._result.advise(advice=NO_CHANGES_NOT_WELL.format(what=self._ill) if ill else "")

    def _finish(self, outcome: Outcome, hooks: Sequence[Hook] = ()) -> PushResult:
        self._outcome = outcome
        result = self._result.finish(outcome, hooks)
        if result.ok:
            for tree in self._targets.values():
                self._known.add(tree)
        return result

    def _relay(self, message: Progress) -> None:
        self._progress(ClientProgress(message.stage, message.replica, message.done, message.total))

    def _spent(self) -> dict[str, int]:
        """The milliseconds so far, by step."""
        return {step: spent for step, spent in asdict(self._result.timings_ms).items() if spent}

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = round((time.perf_counter() - start) * 1000)
            setattr(self._result.timings_ms, name, getattr(self._result.timings_ms, name) + spent)


def new_push_id() -> str:
    """A new id: sortable by time, random enough never to meet another one."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(5)}"


def _chunks(batch: _Batch) -> Iterator[tuple[bytes, bool]]:
    left = batch.size
    while left:
        data = batch.file.read(min(left, MAX_CHUNK))
        left -= len(data)
        yield data, left == 0


def _called_for(hooks: tuple[Hook, ...], found: Plan) -> tuple[Hook, ...]:
    """The hooks that a plan's changes call for; they are matched now, and need their patterns no more."""
    return tuple(replace(hook, when="") for hook in matching(hooks, _changed(found))) if hooks else ()


def _changed(found: Plan) -> Iterator[bytes]:
    """Every path that changes, directories with a slash behind them."""
    changes = found.difference
    moved = (path for pair in changes.renamed for path in pair)
    for path in (*changes.added, *changes.modified, *changes.deleted, *changes.attributes, *moved):
        entry = found.target.get(path) or found.base[path]
        yield path + b"/" if entry.kind == Kind.DIRECTORY else path
