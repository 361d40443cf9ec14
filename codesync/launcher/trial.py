"""One trial, from `try` to its end: stage, bring the new code to run, judge it, and then wait for the sidecar's decision.

It reads from top to bottom; how code is brought to run is the way's to know (`reload.py`). Whatever goes wrong before
the verdict ends in `_take_back`: the old tree and the old code run again. After the verdict only the sidecar decides, or,
when it is gone, what it has committed; or the deadline.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from codesync.launcher.changes import Cancelled
from codesync.launcher.hooks import HookFailed
from codesync.launcher.messages import drift_fields
from codesync.launcher.records import AFTER_HEALTHY, BEFORE_START, BEFORE_STOP
from codesync.launcher.reload import NotReloaded
from codesync.launcher.supervisor import CannotStart, Terminated
from codesync.launcher.tree import COPYING, FAILURES
from codesync.transaction import TransactionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.messages import Try
    from codesync.launcher.records import Plan
    from codesync.launcher.service import Service
    from codesync.launcher.tree import Step
    from codesync.supervise import Exit, Process

KEEP, UNDO = "keep", "undo"
TAIL_SECONDS = 0.5  # how long it waits for the last output of what has exited
BACK_SECONDS = 5.0  # how long the verdict waits for the old code to serve again


class Refused(Exception):
    """The trial has failed: why, in one line."""


class Unwell(Refused):
    """The new code runs, or has run, and is not well. Nothing else is wrong."""


class Trial:
    """`run` it once. `decision` and `consult` are set by the service, from what it hears."""

    def __init__(self, service: Service, request: Try) -> None:
        self.push_id = request.push_id
        self.decision: str | None = None
        self.consult = False  # the sidecar was lost or is back: look at what it has committed
        self.verdict: dict[str, Any] | None = None
        self._service = service
        self._way = service.reload
        self._deadline = service.loop.clock() + request.deadline_s
        self._plan: Plan | None = None
        self._step: Step | None = None
        self._renamed = False
        self._process: Process | None = None
        self._ended: Exit | None = None  # how the trial's process ended by itself
        self._healthy_ms: int | None = None
        self._tail: list[str] = []  # what it had written when it was judged
        self._hooks = service.make_hooks()
        self._back = True  # the code before serves, or has never stopped
        self._drift: list[bytes] = []
        self._timings: dict[str, int] = {}

    def run(self) -> None:
        """From beginning to end. Terminated passes through, with the trial settled."""
        try:
            self._try()
        except Terminated:
            self._abandon()
            raise

    def _try(self) -> None:
        reason, failed = "", False
        self._way.begin_trial()
        try:
            self._stage()
            self._switch()
            self._judge()
        except Refused as refusal:
            reason = str(refusal)
            failed = isinstance(refusal, Unwell) and self._service.options.keep_failed
            if not failed:
                self._give_back(reason)
                return
        self._finish_hooks()
        self._tell("keep", reason, failed=failed)
        self._await_decision()

    # --- the steps -------------------------------------------------------------------------------------------

    def _stage(self) -> None:
        tree = self._service.tree
        if tree.trouble or tree.gen0 == COPYING:
            raise Refused(tree.trouble or "generation 0 is still being copied; try again when it is ready")
        self._progress("apply")
        with self._timed("apply"):
            try:
                self._plan = plan = self._service.volume.plan()
                if plan.push_id != self.push_id:
                    raise Refused(f"the plan on the volume is of push {plan.push_id!r:.80}")
                self._step = self._service.do(
                    lambda cancelled: self._way.stage(plan, cancelled),
                    unless=self._service.interruption,
                    until=self._deadline,
                )
            except Cancelled:
                raise Refused(
                    f"staging was given up: {self._service.interruption() or 'the deadline has passed'}"
                ) from None
            except TransactionError as error:  # in the words for what is found only after the stop
                raise Refused(f"the push cannot be applied: {error}") from error
            except FAILURES as error:
                raise Refused(f"the push cannot be staged: {error}") from error
        self._drift = self._step.drift

    def _switch(self) -> None:
        assert self._step is not None, "staged first"
        self._run_hooks(BEFORE_STOP)
        self._service.check()
        if self._way.halts:
            self._progress("stop")
        with self._timed("stop"):
            self._way.halt()
        with self._timed("apply"):
            try:
                self._service.do(lambda _: self._rename())
            except FAILURES as error:
                raise Refused(f"the push cannot be applied: {error}") from error

    def _rename(self) -> None:
        assert self._step is not None, "staged first"
        self._step.rename()
        self._renamed = True

    def _judge(self) -> None:
        self._service.check()
        self._run_hooks(BEFORE_START)
        self._progress("start")
        with self._timed("start"):
            try:
                self._process = self._way.launch(self.push_id, self._is_useless)
            except CannotStart as error:
                raise Refused(str(error)) from error
            except NotReloaded as error:
                self._process = self._service.app.process
                self._sync()
                self._note_tail()
                raise Unwell(str(error)) from error
        self._progress("health")
        with self._timed("health"):
            self._sync()
            reason = self._wait_for_health(self._process)
        self._ended, self._healthy_ms = self._process.exit, self._process.healthy_ms
        if reason:
            self._note_tail()
            raise Refused(reason) if self.decision else Unwell(reason)
        self._way.accept()
        self._note_tail()

    def _is_useless(self) -> bool:
        return self.decision is not None or self._service.loop.clock() >= self._deadline

    def _sync(self) -> None:
        """While it starts: bring to the disk what nobody may decide upon before."""
        step = self._step
        assert step is not None, "staged first"
        try:
            self._service.do(lambda _: step.sync())
        except FAILURES as error:
            raise Refused(f"the push cannot be brought to the disk: {error}") from error

    def _wait_for_health(self, process: Process) -> str:
        """Why it is not well; nothing when it is."""
        seconds = self._service.options.health_seconds
        until = self._deadline
        if self._service.app.check.real:
            until = min(until, self._service.loop.clock() + seconds)
        self._service.wait(lambda: process.exit or process.passed or self.decision, until)
        if process.exit:
            return f"the application ended with {process.exit} before it was {self._wanted()}"
        if process.passed:
            return ""
        if self.decision:
            return "the push was called off"
        last = process.prober.reason if process.prober else ""
        if self._service.loop.clock() >= self._deadline:
            return "the deadline passed before the application was " + self._wanted()
        return f"{self._service.app.check.label} did not pass within {seconds:g} s: {last}"

    def _wanted(self) -> str:
        return "healthy" if self._service.app.check.real else "settled"

    # --- hooks -----------------------------------------------------------------------------------------------

    def _run_hooks(self, moment: str) -> None:
        """Run those of that moment. Raises Refused."""
        assert self._plan is not None, "staged first"
        hooks = self._plan.hooks_at(moment)
        if not hooks:
            return
        self._progress("hook")
        with self._timed("hook"):
            try:
                self._hooks.run(
                    hooks,
                    cwd=self._way.directory(),
                    env=self._service.supervisor.hook_environment(self.push_id),
                    called_off=lambda: self.decision,
                )
            except HookFailed as error:
                raise Refused(str(error)) from error

    def _finish_hooks(self) -> None:
        """What comes after health changes nothing about the verdict; its report tells how it went."""
        try:
            if self._process is not None and self._process.passed:
                self._run_hooks(AFTER_HEALTHY)
        except Refused as error:
            self._service.note(str(error))

    # --- the ends --------------------------------------------------------------------------------------------

    def _await_decision(self) -> None:
        while True:
            self._service.wait(lambda: self.decision or self.consult, self._deadline)
            overdue = self._service.loop.clock() >= self._deadline
            decision = decide(self.decision, self._is_committed, overdue)
            self.consult = False
            if decision == KEEP:
                return self._keep()
            if decision == UNDO:
                return self._undo()

    def _is_committed(self) -> bool:
        return self._service.tree.is_committed(self.push_id)

    def _keep(self) -> None:
        step = self._step
        assert step is not None, "there was a verdict"
        self._service.probation.kept()
        self._service.do(lambda _: step.keep())
        try:
            self._way.settle()
        except FAILURES as error:
            self._service.complain(f"the application's directory does not follow yet: {error}")
        self._service.link.send("kept", push_id=self.push_id)

    def _undo(self) -> None:
        self._take_back()
        self._tell_undone()
        self._service.catch_up()

    def _give_back(self, reason: str) -> None:
        """It has failed: the old tree, the old code, and then the verdict."""
        trouble = self._take_back()
        self._tell("undone", f"{reason}{trouble}")
        if self.decision == UNDO:
            self._tell_undone()

    def _take_back(self) -> str:
        """The old tree, and the old code running; returns what to add to the reason when that is not well either."""
        self._way.withdraw()
        self._undo_step()
        self._service.check()
        process = self._way.resume(self._service.tree.applied.push_id)
        if process is None:
            self._back = self._service.app.exit is None
            return ""
        until = self._service.loop.clock() + min(self._service.options.health_seconds, BACK_SECONDS)
        self._service.wait(lambda: process.exit or process.passed, until)
        self._back = process.passed
        return "" if self._back else f"; the old code is started again, and not {self._wanted()} yet"

    def _undo_step(self) -> None:
        step, self._step, self._renamed = self._step, None, False
        if step is not None:
            self._service.do(lambda _: step.undo())

    def _abandon(self) -> None:
        """The launcher itself must end: leave the tree as the sidecar has decided, or as it was."""
        self._service.supervisor.stop_for_good()
        step = self._step
        if step is not None and self._renamed and self._is_committed():
            self._service.do(lambda _: step.keep())
            self._service.link.send("kept", push_id=self.push_id)
        else:
            self._undo_step()

    # --- words -----------------------------------------------------------------------------------------------

    def _progress(self, stage: str) -> None:
        self._service.link.send("progress", push_id=self.push_id, stage=stage)

    def _tell_undone(self) -> None:
        self._service.link.send("undone", push_id=self.push_id, app=self._service.describe())

    def _note_tail(self) -> None:
        process = self._process
        if process is None or not self._service.options.log_tail:
            return
        if process.exit:  # its last words may still be on their way
            self._service.wait(lambda: not process.open_streams, self._service.loop.clock() + TAIL_SECONDS)
        self._tail = process.tail.lines()

    def _tell(self, verdict: str, reason: str, *, failed: bool = False) -> None:
        process, ended = self._process, self._ended
        self.verdict = dict(
            push_id=self.push_id,
            verdict=verdict,
            failed=failed,
            back=self._back,
            healthy=bool(verdict == "keep" and not failed and self._service.app.check.real),
            pid=process.pid if process else None,
            exit_code=ended.code if ended else None,
            signal=ended.signal if ended else None,
            healthy_ms=self._healthy_ms,
            reason=reason,
            log_tail=self._tail,
            hooks=self._hooks.reports,
            timings_ms=dict(self._timings),
            **drift_fields(self._drift),
        )
        self._service.tell_verdict(self.verdict)

    def _timed(self, name: str) -> Stopwatch:
        return Stopwatch(self._timings, name, self._service.loop.clock)


def decide(said: str | None, is_committed: Callable[[], bool], overdue: bool) -> str | None:
    """Keep, undo, or (None) go on waiting: the sidecar's word first, then its state, then the deadline."""
    if said is not None:
        return said
    if is_committed():
        return KEEP
    return UNDO if overdue else None


class Stopwatch:
    """Adds the milliseconds of a block to `timings[name]`."""

    def __init__(
        self, timings: dict[str, int], name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timings = timings
        self._name = name
        self._clock = clock
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = self._clock()

    def __exit__(self, *_: object) -> None:
        spent = round((self._clock() - self._start) * 1000)
        self._timings[self._name] = self._timings.get(self._name, 0) + spent
