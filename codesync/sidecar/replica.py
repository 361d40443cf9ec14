"""One replica's part in a push: stage, try, keep or undo, told by the proxy, done by store and launcher.

This file knows no websocket: messages in by `handle`, messages out by `send`.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, BinaryIO, cast

from codesync.delta import BatchError, DeltaError
from codesync.protocol import (
    HISTORY,
    Chunk,
    Failed,
    GetManifest,
    GetSignatures,
    Keep,
    Kept,
    Message,
    Progress,
    ReplicaReport,
    ReplicaState,
    Stage,
    Staged,
    StageTree,
    State,
    Trial,
    Tried,
    Try,
    Undo,
    Undone,
    fit_state,
)
from codesync.sidecar.answers import manifest_answer, signatures_answer
from codesync.sidecar.launcher_link import LauncherError, LauncherLink
from codesync.sidecar.reports import make_report, told_commit, told_result, was_undone
from codesync.sidecar.state import Result
from codesync.sidecar.store import Push, Store, StoreError
from codesync.transaction import TransactionError

STAGED_SECONDS = 180.0  # a staged trial that nobody tries is dropped
VERDICT_MARGIN = 15.0  # past the deadline the launcher still has to put the old code back
STOP_SECONDS = 60.0  # the launcher's answer to keep, undo and apply
SPOOL_BYTES = 1024 * 1024

log = logging.getLogger("codesync.sidecar")
Send = Callable[[Message], Awaitable[None]]


class Replica:
    """The store, the launcher and the one push under way, if any."""

    def __init__(self, store: Store, send: Send) -> None:
        self.store = store
        self.launcher = LauncherLink(store.volume.launcher, self._greeting, self._heard)
        self._send = send
        self._app: dict[str, Any] = {}
        self._gen0 = "none"
        self._settling = False
        self._stage: tuple[Stage, BinaryIO] | None = None
        self._phase = ""
        self._report: ReplicaReport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._trying: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._disk = asyncio.Lock()

    # --- state -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> ReplicaState:
        """What the proxy and `status` are told."""
        state, committed = self.store.state, self.store.state.committed
        told = ReplicaState(
            id=state.replica,
            tree=self.store.tree,
            generation=committed.generation if committed else 0,
            image=state.image,
            gen0=state.gen0 or "none",
            launcher=self._launcher_state(),
            health=bool(self.launcher.hello and self.launcher.hello.get("health")),
            app=self._app,
            trial=Trial(push_id=state.trial.push_id, phase=self._phase or "staged") if state.trial else None,
            notes=state.notes,
            history=tuple(told_commit(commit) for commit in state.history[-HISTORY:]),
            results=tuple(told_result(result) for result in state.results),
        )
        return fit_state(told)

    def _launcher_state(self) -> str:
        if not self.launcher.connected:
            return "absent"
        return "starting" if self._settling or self._gen0 != "none" else "ready"

    async def tell_state(self) -> None:
        """Tell the proxy, if one is connected, how the replica is now."""
        await self._send(State(replica=self.state))

    async def reintroduce(self) -> None:
        """Tell a proxy that has just welcomed us what has happened since our hello, and what a lost one may not know."""
        await self.tell_state()
        trial = self.store.state.trial
        if trial and self._report:
            await self._send(
                Tried(push_id=trial.push_id, healthy=self._phase == "healthy", report=self._report)
            )

    # --- the launcher ----------------------------------------------------------------------------------------

    def _greeting(self) -> dict[str, Any]:
        committed = self.store.state.committed
        told = (
            {"push_id": committed.push_id, "tree_id": committed.tree_id, "generation": committed.generation}
            if committed
            else None
        )
        return {"type": "hello", "version": 1, "committed": told}

    def _heard(self, message: dict[str, Any]) -> None:
        """Take a message from the launcher that is no answer."""
        kind = message.get("type")
        if kind in ("hello", "app"):
            self._app = message.get("app") or {}
        if kind == "hello":
            self._gen0 = str(message.get("gen0", "none"))
            self._spawn(self._welcome_launcher(message))
        elif kind == "gen0":
            self._gen0 = "ready" if message.get("state") == "ready" else "none"
            self._spawn(self._take_generation0())
        elif kind == "progress":
            push_id, stage = str(message.get("push_id")), str(message.get("stage"))
            self._spawn(self._send(Progress(push_id=push_id, stage=stage, done=0, total=0)))
        elif kind == "error":
            log.warning("launcher: %s", message.get("message"))
        if kind in ("app", "lost"):
            self._spawn(self.tell_state())

    async def _welcome_launcher(self, hello: dict[str, Any]) -> None:
        trial, staged = hello.get("trial"), self.store.staged
        if trial and not (staged and staged.push.push_id == trial):
            await self._settle_foreign_trial(str(trial))
        committed = self.store.state.committed
        if self._gen0 == "ready":
            await self._take_generation0()
        elif committed and self._gen0 == "none" and hello.get("applied") != committed.tree_id and not trial:
            await self._apply_committed()
        await self.tell_state()

    async def _settle_foreign_trial(self, push_id: str) -> None:
        """End a trial of a sidecar before us; until then the launcher counts as starting."""
        committed = self.store.state.committed
        kept = committed is not None and committed.push_id == push_id
        self._settling = True
        try:
            asked, answer = ("keep", "kept") if kept else ("undo", "undone")
            await self.launcher.request({"type": asked, "push_id": push_id}, answer, STOP_SECONDS)
        except LauncherError as error:
            log.warning("the trial of push %s: %s", push_id, error)
        finally:
            self._settling = False

    async def _take_generation0(self) -> None:
        if self._gen0 == "ready":
            self._gen0 = "taken"  # told both by hello and by a message, done once
            if self.store.has_stored_pushes:
                await self._apply_committed()
            else:
                await self._adopt_generation0()
            self._gen0 = "none"
        await self.tell_state()

    async def _adopt_generation0(self) -> None:
        try:
            async with self._disk:
                commit = await asyncio.to_thread(self.store.adopt_generation0)
            self.launcher.send({"type": "adopted", "tree_id": commit.tree_id})
            log.info("generation 0 taken from the image: tree %s", commit.tree_id[:12])
        except (OSError, ValueError, KeyError, DeltaError, TransactionError) as error:
            log.error(
                "the image's copy cannot be taken over, so the first push carries the whole tree: %s", error
            )
        except LauncherError as error:
            log.warning("%s; it learns of generation 0 when it is back", error)

    async def _apply_committed(self) -> None:
        try:
            await self.launcher.request({"type": "apply"}, "applied", STOP_SECONDS)
        except LauncherError as error:
            log.warning("the committed tree is not applied yet: %s", error)

    # --- the proxy -------------------------------------------------------------------------------------------

    async def handle(self, message: Message) -> None:
        """Do what the proxy says. Long work goes on in tasks of its own, so that an undo is heard meanwhile."""
        match message:
            case Stage():
                self._stage = (message, cast("BinaryIO", tempfile.SpooledTemporaryFile(SPOOL_BYTES)))
            case Chunk():
                await self._take_chunk(message)
            case StageTree():
                push = Push(message.push_id, message.source, message.description, restores=message.restores)
                await self._staging(push, lambda: self.store.stage_tree(push, message.tree))
            case Try():
                self._trying = self._spawn(self._try(message))
            case Keep():
                await self._finish_trying()
                await self._keep(message.push_id)
            case Undo():
                await self._undo(message.push_id, message.reason)
            case GetManifest():
                self._spawn(self._answer(manifest_answer(message, self.store)))
            case GetSignatures():
                self._spawn(self._answer(signatures_answer(message, self.store)))
            case _:
                log.warning("the proxy sent an unexpected %s", type(message).__name__)

    async def _answer(self, messages: Any) -> None:
        async for message in messages:
            await self._send(message)

    async def _take_chunk(self, chunk: Chunk) -> None:
        if self._stage is None or self._stage[0].push_id != chunk.push_id:
            return  # of a push that was undone meanwhile
        stage, spool = self._stage
        spool.write(chunk.data)
        if not chunk.last:
            return
        self._stage = None
        spool.seek(0)
        push = Push(stage.push_id, stage.source, stage.description, stage.source_tree_id)
        await self._staging(push, lambda: self.store.stage_batch(push, spool, stage.target))
        spool.close()

    async def _staging(self, push: Push, work: Callable[[], object]) -> None:
        try:
            async with self._disk:
                await asyncio.to_thread(work)
        except (BatchError, StoreError, TransactionError, OSError) as error:
            await self._send(
                Failed(
                    push_id=push.push_id,
                    phase="stage",
                    code="stage_failed",
                    message=f"{type(error).__name__}: {error}",
                )
            )
            return
        self._phase, self._report = "staged", None
        self._set_deadline(STAGED_SECONDS)
        await self._send(Staged(push_id=push.push_id))

    async def _try(self, message: Try) -> None:
        self._phase = "trying"
        self._set_deadline(message.deadline_s)
        try:
            report = await self._verdict(message)
        except LauncherError as error:
            await self._send(
                Failed(push_id=message.push_id, phase="try", code="launcher_lost", message=str(error))
            )
            return
        healthy = report.status in ("healthy", "running", "stored", "no_changes")
        self._report = report
        if healthy:
            self._phase = "healthy"
        await self._send(Tried(push_id=message.push_id, healthy=healthy, report=report))

    async def _verdict(self, message: Try) -> ReplicaReport:
        staged = self.store.staged
        if staged is None or staged.push.push_id != message.push_id:
            raise LauncherError("the trial was dropped before it was tried")
        if staged.target.ids[0] == self.store.tree.tree_id:
            return self._make_report("no_changes")
        if not self.launcher.connected:
            return self._make_report("stored")
        health = bool(self.launcher.hello and self.launcher.hello.get("health"))
        asked = {"type": "try", "push_id": message.push_id, "deadline_s": message.deadline_s}
        verdict = await self.launcher.request(asked, "verdict", message.deadline_s + VERDICT_MARGIN)
        kept = verdict.get("verdict") == "keep"
        status = ("healthy" if health else "running") if kept else "rolled_back"
        return self._make_report(status, verdict)

    def _make_report(self, status: str, verdict: dict[str, Any] | None = None) -> ReplicaReport:
        return make_report(self.store.state, status, verdict or {})

    async def _keep(self, push_id: str) -> None:
        staged, report = self.store.staged, self._report
        if staged is None or staged.push.push_id != push_id or report is None:
            await self._already_decided(push_id)
            return
        if self._phase == "healthy" and self._app.get("state") == "exited":
            await self._undo(push_id, "the application ended before the push was kept")
            await self._send(
                Failed(
                    push_id=push_id,
                    phase="keep",
                    code="crashed",
                    message="the application ended before the push was kept",
                )
            )
            return
        self._set_deadline(None)
        changed = staged.target.ids[0] != self.store.tree.tree_id
        try:
            async with self._disk:
                commit = await asyncio.to_thread(self.store.commit, report.status)
        except (TransactionError, StoreError, OSError) as error:
            await self._undo(push_id, f"the commit failed: {error}")
            await self._send(Failed(push_id=push_id, phase="keep", code="commit_failed", message=str(error)))
            return
        self._phase = ""
        if changed and self.launcher.connected:
            await self._settle_launcher(push_id)
        await self._send(Kept(push_id=push_id, report=replace(report, generation=commit.generation)))
        await self.tell_state()

    async def _settle_launcher(self, push_id: str) -> None:
        try:
            await self.launcher.request({"type": "keep", "push_id": push_id}, "kept", STOP_SECONDS)
        except LauncherError as error:
            log.warning("%s; it reads the committed tree when it is back", error)

    async def _already_decided(self, push_id: str) -> None:
        """Keep for a push that is no trial any more: say what it became."""
        result = self.store.state.result(push_id)
        if result and result.status not in ("rolled_back", "failed"):
            await self._send(
                Kept(
                    push_id=push_id,
                    report=replace(self._make_report(result.status), generation=result.generation),
                )
            )
        else:
            await self._send(
                Failed(
                    push_id=push_id,
                    phase="keep",
                    code="undone",
                    message="the trial's deadline had passed, so it was undone",
                )
            )

    async def _undo(self, push_id: str, reason: str) -> None:
        """Drop the trial; the launcher puts the old files back if they are not back yet."""
        if self._stage and self._stage[0].push_id == push_id:
            self._stage = None
        staged, report = self.store.staged, self._report
        if staged is not None and staged.push.push_id == push_id:
            self._set_deadline(None)
            if self.launcher.connected and self._phase in ("trying", "healthy") and not was_undone(report):
                await self._undo_at_launcher(push_id)
            await self._finish_trying()
            tried = self._phase != "staged"  # else it may be sent again as if it had never been
            result = Result(
                push_id, staged.push.source_tree_id, "rolled_back", *self.store.tree, self.state.generation
            )
            async with self._disk:
                await asyncio.to_thread(self.store.drop_trial, result if tried else None)
            self._phase, self._report = "", None
        done = replace(report or self._make_report("rolled_back"), status="rolled_back")
        await self._send(
            Undone(push_id=push_id, report=done if done.reason else replace(done, reason=reason))
        )
        await self.tell_state()

    async def _undo_at_launcher(self, push_id: str) -> None:
        try:
            await self.launcher.request({"type": "undo", "push_id": push_id}, "undone", STOP_SECONDS)
        except LauncherError as error:
            log.warning("%s; it undoes the trial when it is back", error)

    async def _finish_trying(self) -> None:
        if self._trying is not None:
            await asyncio.wait([self._trying])
            self._trying = None

    # --- time and tasks --------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        trial = self.store.state.trial
        if seconds is not None and trial is not None:
            reason = f"nobody decided within {seconds:.0f} s; was the proxy lost?"
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(seconds, lambda: self._spawn(self._undo(trial.push_id, reason)))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reaped)
        return task

    def _reaped(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("internal error", exc_info=task.exception())
