"""The one push under way on a replica: staged, tried, then kept or undone.

Staging and both ends happen under one lock, in the order in which they were asked for. Whoever has waited looks
again whether its trial is still the present one, so that nothing late touches the next push.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from codesync.protocol import (
    KEPT_STATUSES,
    Kept,
    Message,
    Progress,
    ReplicaReport,
    Stage,
    Staged,
    StageTree,
    Trial,
    Tried,
    Try,
    Undone,
)
from codesync.sidecar.at_launcher import AtLauncher
from codesync.sidecar.incoming import Incoming
from codesync.sidecar.launcher_link import LauncherError, LauncherLink
from codesync.sidecar.launcher_link import Message as LauncherMessage
from codesync.sidecar.pushes import Ending, Push
from codesync.sidecar.pushes import Staged as StagedPush
from codesync.sidecar.reports import failed, make_report, one_line, verdict_status, was_undone
from codesync.sidecar.run import Run
from codesync.sidecar.state import Commit
from codesync.sidecar.store import Store, StoreError
from codesync.sidecar.tasks import Tasks
from codesync.transaction import TransactionError

STAGED_SECONDS = 180.0  # a staged trial is dropped when nothing is heard from the proxy for so long
# The proxy takes verdicts until 15 s past its deadline, and may say Keep for 30 s after that.
UNDO_MARGIN = 60.0
LAST_WORD_SECONDS = 5.0  # the verdict of a trial that was called off

log = logging.getLogger("codesync.sidecar")


class Trials:
    """What the proxy's words do to the store and at the launcher."""

    def __init__(
        self,
        store: Store,
        launcher: LauncherLink,
        tasks: Tasks,
        send: Callable[[Message], Awaitable[None]],
        tell_state: Callable[[], Awaitable[None]],
        *,
        undo_margin: float,
    ) -> None:
        self.visit = 0  # counts the proxy's connections: what one has asked is not answered on the next
        self._store = store
        self._launcher = AtLauncher(launcher, tasks, tell_state)
        self._tasks = tasks
        self._send = send
        self._tell_state = tell_state
        self._undo_margin = undo_margin
        self._run: Run | None = None
        self._incoming: Incoming | None = None
        self._turn = asyncio.Lock()
        self._progress = asyncio.Lock()

    # --- what is there ---------------------------------------------------------------------------------------

    @property
    def told(self) -> Trial | None:
        """The trial as the proxy is told of it."""
        run = self._current
        return Trial(push_id=run.push_id, phase=run.phase) if run else None

    @property
    def _current(self) -> Run | None:
        run = self._run
        return run if run is not None and self._store.staged is run.staged else None

    def _find(self, push_id: str) -> Run | None:
        run = self._current
        return run if run is not None and run.push_id == push_id else None

    def holds(self, push_id: str) -> bool:
        """Whether this push is on trial here, and is to stay."""
        run = self._find(push_id)
        return run is not None and not run.called_off

    def is_kept(self, push_id: str) -> bool:
        """Whether this push is remembered as committed."""
        result = self._store.state.result(push_id)
        return result is not None and result.status in KEPT_STATUSES

    async def repeat(self) -> None:
        """Say the verdict again: the first may have been lost."""
        run = self._current
        if run is not None and run.report is not None:
            healthy = run.phase == "healthy"
            await self._send(Tried(push_id=run.push_id, healthy=healthy, report=run.report))
        elif run is not None and run.failure is not None:
            await self._send(run.failure)

    # --- staging ---------------------------------------------------------------------------------------------

    def heard(self) -> None:
        """The proxy is there: a staged trial may wait for it longer."""
        run = self._current
        if run is not None and run.phase == "staged":
            self._set_deadline(run, STAGED_SECONDS)

    def forget_incoming(self, push_id: str | None = None) -> None:
        """Drop what has come of a batch (of this push): no more of it will be staged."""
        incoming = self._incoming
        if incoming is not None and push_id in (None, incoming.stage.push_id):
            self._incoming = None
            incoming.close()

    def begin(self, stage: Stage) -> None:
        """A batch follows."""
        self.forget_incoming()
        self._incoming = Incoming(stage, self._store.volume.sidecar)

    async def take(self, push_id: str, data: bytes, last: bool) -> None:
        """The next piece of the batch; with the last one it is staged, in a task of its own."""
        incoming = self._incoming
        if incoming is None or incoming.stage.push_id != push_id:
            return  # of a push that was undone or has failed meanwhile
        try:
            await incoming.write(data)
        except OSError as error:
            self.forget_incoming()
            await self._send(failed(push_id, "stage", "stage_failed", f"{type(error).__name__}: {error}"))
            return
        if last:
            self._incoming = None
            self._tasks.spawn(self._stage_batch(incoming, self.visit))

    async def _stage_batch(self, incoming: Incoming, visit: int) -> None:
        stage = incoming.stage
        push = Push(
            stage.push_id,
            stage.source,
            stage.description,
            stage.source_tree_id,
            hooks=stage.hooks,
            size=incoming.size,
            timings_ms=stage.timings_ms,
        )
        await self._stage(
            push, lambda: self._store.stage_batch(push, incoming.rewound(), stage.target), visit
        )
        incoming.close()

    def stage_tree(self, message: StageTree) -> None:
        """Stage a tree of the history, in a task of its own."""
        push = Push(
            message.push_id,
            message.source,
            message.description,
            restores=message.restores,
            hooks=message.hooks,
        )
        work = self._stage(push, lambda: self._store.stage_tree(push, message.tree), self.visit)
        self._tasks.spawn(work)

    async def _stage(self, push: Push, work: Callable[[], StagedPush], visit: int) -> None:
        answer: Message = Staged(push_id=push.push_id)
        async with self._turn:
            if self._run is not None:
                self._run.stop_timer()
            try:
                self._run = Run(await self._tasks.disk(work))
                self._set_deadline(self._run, STAGED_SECONDS)
            except (
                Exception
            ) as error:  # a batch or a disk, whatever is wrong with it: the push fails, no more
                log.warning("push %s cannot be staged: %s: %s", push.push_id, type(error).__name__, error)
                text = f"{type(error).__name__}: {error}"
                answer = failed(push.push_id, "stage", "stage_failed", text)
        if visit == self.visit:
            await self._send(answer)

    # --- trying ----------------------------------------------------------------------------------------------

    async def attempt(self, message: Try) -> None:
        """Begin to try it; the verdict is told when it is there."""
        run = self._find(message.push_id)
        if run is None:
            text = "the trial was dropped before it was tried"
            await self._send(failed(message.push_id, "try", "dropped", text))
        elif run.phase == "staged" and not run.called_off:
            run.phase = "trying"
            seconds = message.deadline_s + self._undo_margin
            self._set_deadline(run, seconds)
            run.trying = self._tasks.spawn(self._try(run, seconds))
        else:
            await self.repeat()

    async def _try(self, run: Run, seconds: float) -> None:
        try:
            run.report = await self._verdict(run, seconds)
            healthy = run.report.status in KEPT_STATUSES
        except LauncherError as error:
            run.failure = failed(run.push_id, "try", "launcher_lost", str(error))
        except Exception as error:  # a mistake of ours fails this push, not the next ones
            log.exception("push %s", run.push_id)
            run.failure = failed(run.push_id, "try", "internal", f"{type(error).__name__}: {error}")
        if run.failure is not None:
            await self._send(run.failure)
        elif run.report is not None:
            run.phase = "healthy" if healthy else run.phase
            await self._send(Tried(push_id=run.push_id, healthy=healthy, report=run.report))

    async def _verdict(self, run: Run, seconds: float) -> ReplicaReport:
        if not run.staged.changes:
            return self._make_report("no_changes")
        there = await self._launcher.is_there()
        await self._launcher.free()
        if run.called_off:
            raise LauncherError("the push was called off before it was tried")
        if not there:
            return self._make_report("stored")
        has_check = self._launcher.has_check
        run.at_launcher = True
        verdict = await self._launcher.attempt(run.push_id, seconds)
        return self._make_report(verdict_status(verdict, has_check=has_check), verdict)

    async def _prepare(self, run: Run) -> None:
        """While the application starts: before, the disk and the processors are the launcher's, and `trial/` is read."""

        def work() -> None:
            if self._store.staged is run.staged:
                self._store.prepare()

        try:
            await self._tasks.disk(work)
        except (OSError, TransactionError, StoreError) as error:
            log.warning("push %s is not prepared, its commit tries again: %s", run.push_id, error)

    def _make_report(self, status: str, verdict: LauncherMessage | None = None) -> ReplicaReport:
        return make_report(self._store.state, status, verdict or {})

    # --- the launcher ----------------------------------------------------------------------------------------

    async def relay(self, push_id: str, stage: str) -> None:
        """Tell how far the launcher is, one after another, as long as it matters."""
        async with self._progress:
            run = self._find(push_id)
            if run is not None and run.phase == "trying":
                if stage == "health":
                    self._tasks.spawn(self._prepare(run))
                await self._send(Progress(push_id=push_id, stage=stage, done=0, total=0))

    def launcher_said(self, message: LauncherMessage) -> None:
        """Call the trial off when the launcher, or a new one, has it no more."""
        run, kind = self._current, message["type"]
        if kind in ("hello", "app"):
            self._launcher.app_is(message["app"])
        if run is None or not run.at_launcher or run.called_off or was_undone(run.report):
            return
        if kind == "lost" or (kind == "hello" and message.get("trial") != run.push_id):
            run.called_off = True
            self._tasks.spawn(self._expire(run, "the container restarted during the trial"))
        elif kind == "undone" and message.get("push_id") == run.push_id:
            run.called_off = True
            self._tasks.spawn(self._expire(run, "the launcher has undone the trial by itself"))

    # --- keeping ---------------------------------------------------------------------------------------------

    async def keep(self, push_id: str) -> None:
        """Commit it, say so, and only then tell the launcher, which goes on in a task."""
        async with self._turn:
            run = self._find(push_id)
            if run is None:
                await self._already_decided(push_id)
            elif trouble := self._trouble(run):
                code, reason = trouble
                await self._end(run, reason)
                await self._send(failed(push_id, "keep", code, reason))
            else:
                await self._commit(run)

    def _trouble(self, run: Run) -> tuple[str, str] | None:
        if run.report is None or run.phase != "healthy":
            return "undone", "there is no healthy trial to be kept"
        if run.called_off or (run.at_launcher and not self._launcher.connected):
            return "undone", "the container restarted during the trial"
        if run.at_launcher and run.report.status != "unhealthy" and self._launcher.has_ended(run.report.pid):
            return "crashed", "the application ended before the push was kept"
        return None

    async def _commit(self, run: Run) -> None:
        report = run.report
        assert report is not None, "it is healthy"
        changed = bool(run.staged.changes)
        try:
            commit = await self._tasks.disk(lambda: self._commit_this(run, report))
        except Exception as error:  # the store says by raising that the old tree still stands
            log.warning("push %s cannot be committed: %s", run.push_id, error)
            await self._end(run, f"the commit failed: {error}")
            await self._send(failed(run.push_id, "keep", "commit_failed", str(error)))
            return
        run.stop_timer()
        self._run = None
        if changed and self._launcher.connected:
            self._launcher.keep(run.push_id)
        await self._send(Kept(push_id=run.push_id, report=replace(report, generation=commit.generation)))
        await self._tell_state()

    def _commit_this(self, run: Run, report: ReplicaReport) -> Commit:
        if self._store.staged is not run.staged:
            raise StoreError("the trial was dropped meanwhile")
        return self._store.commit(Ending(report.status, report.timings_ms, report.reason))

    async def _already_decided(self, push_id: str) -> None:
        """Keep for a push that is no trial any more: say what it became."""
        result = self._store.state.result(push_id)
        if result is not None and self.is_kept(push_id):
            report = replace(self._make_report(result.status), generation=result.generation)
            await self._send(Kept(push_id=push_id, report=report))
        else:
            text = "the trial had been undone already: its deadline had passed, or its container restarted"
            await self._send(failed(push_id, "keep", "undone", text))

    # --- undoing ---------------------------------------------------------------------------------------------

    async def undo(self, push_id: str, reason: str) -> None:
        """Drop the trial, if it is there, and say so; the launcher puts the old files back if they are not back yet."""
        self.forget_incoming(push_id)
        if run := self._find(push_id):
            run.called_off = True
        async with self._turn:
            if run := self._find(push_id):
                await self._end(run, reason)
            else:
                await self.tell_undone(push_id, reason)
                await self._tell_state()

    async def _expire(self, run: Run, reason: str) -> None:
        """End this trial without being asked, unless it has ended meanwhile."""
        async with self._turn:
            if self._current is run:
                await self._end(run, reason)

    async def _end(self, run: Run, reason: str) -> None:
        """Undo it. In the lock."""
        run.called_off = True
        run.stop_timer()
        if run.at_launcher and self._launcher.connected and not was_undone(run.report):
            await self._launcher.undo(run.push_id)
        await self._finish_trying(run)
        try:
            await self._tasks.disk(lambda: self._drop(run, reason))
        except Exception as error:  # the trial is over all the same; a start drops what is left of it
            log.warning("what became of push %s is not recorded: %s", run.push_id, error)
        if self._run is run:
            self._run = None
        await self.tell_undone(run.push_id, reason, run.report)
        await self._tell_state()

    def _drop(self, run: Run, reason: str) -> None:
        if self._store.staged is not run.staged:
            return
        if run.phase == "staged":  # what was not tried may be sent again as if it had never been
            self._store.drop_trial()
        else:
            report = run.report
            told = (report.reason if report else "") or one_line(reason)
            self._store.undo(Ending("rolled_back", report.timings_ms if report else {}, told))

    async def tell_undone(self, push_id: str, reason: str, report: ReplicaReport | None = None) -> None:
        """Say that the push is no trial here."""
        done = replace(report or self._make_report("rolled_back"), status="rolled_back")
        report = done if done.reason else replace(done, reason=one_line(reason))
        await self._send(Undone(push_id=push_id, report=report))

    async def _finish_trying(self, run: Run) -> None:
        if run.trying is not None:
            _, late = await asyncio.wait([run.trying], timeout=LAST_WORD_SECONDS)
            for task in late:
                task.cancel()

    def _set_deadline(self, run: Run, seconds: float) -> None:
        run.stop_timer()
        reason = f"nobody decided within {seconds:.0f} s; was the proxy lost?"
        loop = asyncio.get_running_loop()
        run.timer = loop.call_later(seconds, lambda: self._tasks.spawn(self._expire(run, reason)))
