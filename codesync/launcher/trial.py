"""One trial, from `try` to its end: stage, stop, rename, start, judge, and then wait for the sidecar's decision.

It reads from top to bottom. Whatever goes wrong before the verdict ends in `_take_back`: the old tree and the old code run
again. After the verdict only the sidecar decides, or, when it is gone, what it has committed; or the deadline.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from codesync.launcher.changes import Cancelled
from codesync.launcher.messages import drift_fields
from codesync.launcher.supervisor import CannotStart, Terminated
from codesync.launcher.tree import COPYING, FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.messages import Try
    from codesync.launcher.service import Service
    from codesync.launcher.tree import Step
    from codesync.supervise import Exit, Process

KEEP, UNDO = "keep", "undo"
BACK_SECONDS = 5.0  # how long the verdict waits for the old code to serve again


class Refused(Exception):
    """The trial has failed: why, in one line."""


class Trial:
    """`run` it once. `decision` and `consult` are set by the service, from what it hears."""

    def __init__(self, service: Service, request: Try) -> None:
        self.push_id = request.push_id
        self.decision: str | None = None
        self.consult = False  # the sidecar was lost or is back: look at what it has committed
        self.verdict: dict[str, Any] | None = None
        self._service = service
        self._deadline = service.loop.clock() + request.deadline_s
        self._step: Step | None = None
        self._renamed = False
        self._stopped = False
        self._process: Process | None = None
        self._ended: Exit | None = None  # how the trial's process ended by itself
        self._drift: list[bytes] = []
        self._timings: dict[str, int] = {}

    def run(self) -> None:
        """From beginning to end. Terminated passes through, with the trial settled."""
        try:
            try:
                self._stage()
                self._switch()
                self._judge()
            except Refused as refusal:
                trouble = self._take_back()
                self._tell("undone", f"{refusal}{trouble}")
                if self.decision == UNDO:
                    self._tell_undone()
                return
            self._tell("keep", "")
            self._await_decision()
        except Terminated:
            self._abandon()
            raise

    # --- the steps -------------------------------------------------------------------------------------------

    def _stage(self) -> None:
        tree = self._service.tree
        if tree.trouble or tree.gen0 == COPYING:
            raise Refused(tree.trouble or "generation 0 is still being copied; try again when it is ready")
        self._progress("apply")
        with self._timed("apply"):
            try:
                plan = self._service.volume.plan()
                if plan.push_id != self.push_id:
                    raise Refused(f"the plan on the volume is of push {plan.push_id!r:.80}")
                self._step = self._service.do(
                    lambda cancelled: tree.stage_plan(plan, cancelled),
                    interruptible=True,
                    until=self._deadline,
                )
            except Cancelled:
                raise Refused(
                    f"staging was given up: {self._service.interruption() or 'the deadline has passed'}"
                ) from None
            except FAILURES as error:
                raise Refused(f"the push cannot be staged: {error}") from error

    def _switch(self) -> None:
        assert self._step is not None, "staged first"
        self._drift = self._step.drift
        self._service.check()
        self._progress("stop")
        with self._timed("stop"):
            self._stopped = True
            self._service.app.stop()
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
        self._progress("start")
        with self._timed("start"):
            try:
                self._process = self._service.start(self.push_id)
            except CannotStart as error:
                raise Refused(str(error)) from error
        self._progress("health")
        with self._timed("health"):
            reason = self._wait_for_health(self._process)
        self._ended = self._process.exit
        if reason:
            raise Refused(reason)

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

    # --- the ends --------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        step = self._step
        assert step is not None, "there was a verdict"
        self._service.do(lambda _: step.keep())
        self._service.link.send("kept", push_id=self.push_id)

    def _undo(self) -> None:
        self._take_back()
        self._tell_undone()
        self._service.catch_up()

    def _take_back(self) -> str:
        """The old tree, and the old code running; returns what to add to the reason when that is not well either."""
        if self._stopped:
            self._service.app.stop()
        self._undo_step()
        if not self._stopped:
            return ""
        self._service.check()
        process = self._service.start(self._service.tree.applied.push_id)
        until = self._service.loop.clock() + min(self._service.options.health_seconds, BACK_SECONDS)
        self._service.wait(lambda: process.exit or process.passed, until)
        return "" if process.passed else f"; the old code is started again, and not {self._wanted()} yet"

    def _undo_step(self) -> None:
        step, self._step, self._renamed = self._step, None, False
        if step is not None:
            self._service.do(lambda _: step.undo())

    def _abandon(self) -> None:
        """The launcher itself must end: leave the tree as the sidecar has decided, or as it was."""
        self._service.supervisor.stop_for_good()
        if self._renamed and self._is_committed():
            self._keep()
        else:
            self._undo_step()

    # --- words -----------------------------------------------------------------------------------------------

    def _progress(self, stage: str) -> None:
        self._service.link.send("progress", push_id=self.push_id, stage=stage)

    def _tell_undone(self) -> None:
        self._service.link.send("undone", push_id=self.push_id, app=self._service.app.describe())

    def _tell(self, verdict: str, reason: str) -> None:
        process, ended = self._process, self._ended
        self.verdict = dict(
            push_id=self.push_id,
            verdict=verdict,
            healthy=bool(verdict == "keep" and self._service.app.check.real),
            pid=process.pid if process else None,
            exit_code=ended.code if ended else None,
            signal=ended.signal if ended else None,
            reason=reason,
            log_tail=process.tail.lines() if process else [],
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
