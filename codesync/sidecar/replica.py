"""One replica: its store, its launcher, and what the proxy says to it. What a push goes through is in `trial.py`.

This file knows no websocket: messages in by `handle`, messages out by `send`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from codesync.delta import DeltaError
from codesync.protocol import (
    HISTORY,
    AnswerError,
    Chunk,
    Crash,
    EndRequest,
    GetDetails,
    GetHistory,
    GetLogs,
    GetManifest,
    GetSignatures,
    Keep,
    Message,
    ReplicaState,
    Stage,
    StageTree,
    State,
    Try,
    Undo,
    fit_state,
)
from codesync.sidecar.answers import (
    LATER_QUESTIONS,
    details_answer,
    history_answer,
    manifest_answer,
    signatures_answer,
)
from codesync.sidecar.at_launcher import STOP_SECONDS
from codesync.sidecar.launcher_link import LauncherError, LauncherLink
from codesync.sidecar.logs import Logs
from codesync.sidecar.permissions import Permissions
from codesync.sidecar.reports import (
    failed,
    one_line,
    present_crash,
    present_trial,
    told_commit,
    told_crash,
    told_result,
)
from codesync.sidecar.store import Store, StoreError
from codesync.sidecar.tasks import Tasks
from codesync.sidecar.trial import UNDO_MARGIN, Trials
from codesync.transaction import TransactionError

SOON = 0.1  # seconds: so late at most is told what the application has become

log = logging.getLogger("codesync.sidecar")
Send = Callable[[Message], Awaitable[None]]


class Replica:
    """The store, the launcher and the one push under way, if any.

    `undo_margin`: so many seconds past the deadline of a Try the trial is undone without being asked.
    """

    def __init__(self, store: Store, send: Send, undo_margin: float = UNDO_MARGIN) -> None:
        self.store = store
        self.tasks = Tasks()
        self.launcher = LauncherLink(store.volume.launcher, self._greeting, self._heard)
        self._send = send
        self._trials = Trials(
            store, self.launcher, self.tasks, send, self.tell_state, undo_margin=undo_margin
        )
        self._logs = Logs(self.launcher)
        self._questions: set[tuple[int, int]] = (
            set()
        )  # visit and number; whoever asked still wants the answer
        self.permissions = Permissions(store.volume, self.tell_state)
        self._crash: Crash | None = None
        self._app: dict[str, Any] = {}
        self._gen0 = "none"
        self._settling = False
        self._telling: asyncio.TimerHandle | None = None  # what has changed is told when it is due
        self.permissions.look()

    # --- state -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> ReplicaState:
        """What the proxy and `status` are told."""
        state, committed, hello = self.store.state, self.store.state.committed, self.launcher.hello
        told = ReplicaState(
            id=state.replica,
            tree=self.store.tree,
            generation=committed.generation if committed else 0,
            image=state.image,
            gen0=state.gen0 or "none",
            launcher=self._launcher_state(),
            health=bool(hello and hello["health"]),
            reload=hello["reload"] if hello else "",
            app=self._app,
            crash=present_crash(self._crash, state),
            trial=present_trial(self._trials.told, state),
            notes=tuple(
                dict.fromkeys([*state.notes, *self.permissions.notes, *(hello["notes"] if hello else ())])
            ),
            history=tuple(told_commit(commit) for commit in state.history[-HISTORY:]),
            results=tuple(told_result(result) for result in state.results),
            questions=LATER_QUESTIONS,
        )
        return fit_state(told)

    def _launcher_state(self) -> str:
        if not self.launcher.connected:
            return "absent"
        return "starting" if self._settling or self._gen0 != "none" else "ready"

    async def tell_state(self) -> None:
        """Tell the proxy, if one is connected, how the replica is now."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        await self._send(State(replica=self.state))

    def _tell_state_soon(self) -> None:
        """A restart has four states in a moment, and while a push waits for it there is more urgent work."""
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(SOON, lambda: self.tasks.spawn(self.tell_state()))

    def parted(self) -> None:
        """The proxy is lost, and with it whoever has asked something."""
        self._questions.clear()
        self._logs.end_all()

    async def reintroduce(self, told: ReplicaState) -> None:
        """Tell a proxy that has just welcomed us what has happened since our hello, which said `told`.

        And what a lost connection may have swallowed: the verdict of a trial.
        """
        self._trials.visit += 1
        self._trials.forget_incoming()
        await self.tell_state()
        trial = told.trial
        if trial and self._trials.told is None and not self._trials.is_kept(trial.push_id):
            await self._trials.tell_undone(trial.push_id, "the trial was undone while the proxy was away")
        await self._trials.repeat()

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
        kind = message["type"]
        if kind in ("hello", "app"):
            self._app = message["app"]
        self._trials.launcher_said(message)
        if kind in ("hello", "lost"):
            self.permissions.look()
        if kind == "hello":
            self._crash = told_crash(message["crash"]) or self._known_crash(message["image"])
            self._gen0 = message["gen0"]
            self.tasks.spawn(self._welcome_launcher(message))
        elif kind == "gen0":
            self._gen0 = "ready" if message.get("state") == "ready" else "none"
            self.tasks.spawn(self._take_generation0())
        elif kind == "progress":
            self.tasks.spawn(self._trials.relay(message["push_id"], message["stage"]))
        elif kind == "crashed":
            self._crash = told_crash(message)
        elif kind == "log":
            self._logs.heard(message)
        elif kind == "lost":
            self._logs.lost()
        elif kind == "error":
            log.warning("launcher: %s", message["message"])
        if kind == "app":
            self._tell_state_soon()
        elif kind in ("crashed", "lost"):
            self.tasks.spawn(self.tell_state())

    def _known_crash(self, image: str) -> Crash | None:
        """What a launcher before this one has told: this one does not know it. Of another image it tells nothing."""
        ours = self.store.state.image
        return None if ours and image and image != ours else self._crash

    async def _welcome_launcher(self, hello: dict[str, Any]) -> None:
        trial = hello["trial"]
        if trial and not self._trials.holds(trial):
            await self._settle_foreign_trial(trial)
        committed = self.store.state.committed
        if self._gen0 == "ready":
            await self._take_generation0()
        elif committed and self._gen0 == "none" and hello["applied"] != committed.tree_id and not trial:
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
            try:
                if self.store.has_stored_pushes:
                    await self._apply_committed()
                else:
                    await self._adopt_generation0()
            finally:
                if self._gen0 == "taken":  # else another launcher has come meanwhile
                    self._gen0 = "none"
        await self.tell_state()

    async def _adopt_generation0(self) -> None:
        try:
            commit = await self.tasks.disk(self.store.adopt_generation0)
            self.launcher.send({"type": "adopted", "tree_id": commit.tree_id})
            log.info("generation 0 taken from the image: tree %s", commit.tree_id[:12])
        except (OSError, ValueError, KeyError, DeltaError, StoreError, TransactionError) as error:
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
        self._trials.heard()
        match message:
            case Stage():
                self._trials.begin(message)
            case Chunk():
                await self._trials.take(message.push_id, message.data, message.last)
            case StageTree():
                self._trials.stage_tree(message)
            case Try():
                await self._trials.attempt(message)
            case Keep():
                await self._trials.keep(message.push_id)
            case Undo():
                await self._trials.undo(message.push_id, message.reason)
            case GetManifest():
                self._answer(message.request, manifest_answer(message, self.store))
            case GetSignatures():
                self._answer(message.request, signatures_answer(message, self.store))
            case GetDetails():
                self._answer(message.request, details_answer(message, self.store))
            case GetHistory():
                self._answer(message.request, history_answer(message, self.store))
            case GetLogs():
                self._answer(message.request, self._logs.answer(message))
            case EndRequest():
                self._questions.discard((self._trials.visit, message.request))
                self._logs.end(message.request)
            case _:
                log.warning("the proxy sent an unexpected %s", type(message).__name__)

    async def fail(self, message: Message, error: Exception) -> None:
        """Tell the proxy that `handle` has raised, where it waits for an answer."""
        text = f"internal error: {type(error).__name__}: {error}"
        match message:
            case Stage() | Chunk() | StageTree():
                self._trials.forget_incoming(message.push_id)
                await self._send(failed(message.push_id, "stage", "internal", text))
            case Try():
                await self._send(failed(message.push_id, "try", "internal", text))
            case Keep() if not self._trials.is_kept(message.push_id):
                await self._send(failed(message.push_id, "keep", "internal", text))
            case Undo():
                await self._trials.tell_undone(message.push_id, text)

    def _answer(self, request: int, messages: AsyncGenerator[Message, None]) -> None:
        question = (self._trials.visit, request)
        self._questions.add(question)
        self.tasks.spawn(self._say_all(question, messages))

    async def _say_all(self, question: tuple[int, int], messages: AsyncGenerator[Message, None]) -> None:
        request = question[1]
        try:
            async with aclosing(messages):
                async for message in messages:
                    if question not in self._questions:
                        return  # whoever asked is gone, or wants no more
                    await self._send(message)
        except Exception as error:  # the asker must not wait for the rest
            log.exception("question %d", request)
            text = one_line(f"{type(error).__name__}: {error}")
            await self._send(AnswerError(request=request, code="internal", message=text))
        finally:
            self._questions.discard(question)
