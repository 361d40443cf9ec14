"""Blue-green: each candidate runs from a copy of the tree that is its own, beside the code that serves.

The launcher owns the address that clients use and relays to whichever instance serves. A candidate that fails has touched
nothing. When one is kept, the application's directory follows at once, so that a start of the launcher finds there what is
committed, as with every other way; the old instance finishes what it has begun in the background, for a bounded time.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codesync.launcher.changes import Cancelled
from codesync.launcher.place import Place
from codesync.launcher.ports import free_port
from codesync.launcher.records import BEFORE_START
from codesync.launcher.reload import Reload
from codesync.launcher.roots import Roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from codesync.launcher.records import Applied, Plan
    from codesync.launcher.service import Service
    from codesync.launcher.supervisor import Instance
    from codesync.launcher.tree import Step
    from codesync.supervise import Process

GRACE_SECONDS = 1.0  # beyond the drain's bound, for the relay to say that it is over
MAX_DRAINING = 2  # old instances that finish what they have begun; one more, and the oldest is stopped
REUSE_SECONDS = 1.0  # an old instance that is done so soon leaves its root to the next candidate
LOOK_SECONDS = 0.05  # between two looks at whether somebody else still needs the spare root


class BlueGreen(Reload):
    """Roots of old instances become the next candidates': only what differs is copied again.

    The lock is that of the spare root, which is made ready in the background and taken by the next push. Threads wait for
    it, the consumer never does.
    """

    halts = False

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._roots = Roots(service.volume.path(""))
        self._lock = threading.Lock()
        self._ready_for: Applied | None = None  # what the spare root is a copy of
        self._hurry = threading.Event()  # a push needs the spare root
        self._clear_first = False  # what an earlier launcher has left is still there
        self._free: list[str] = []  # roots that nothing runs in any more
        self._freed = threading.Event()
        self._root = ""  # of the present candidate
        self._hooks_make_things = False  # in it
        self._candidate: Instance | None = None
        self._old: Instance | None = None  # what served before the candidate was accepted
        self._draining: list[Instance] = []
        self._drained: list[Instance] = []

    def begin(self) -> None:
        """Have a spare root made, while the application starts."""
        self._clear_first = True
        self._prepare()

    def begin_trial(self) -> None:
        """What has finished gives its root to this push."""
        self._end_drained()

    @property
    def old_serves(self) -> bool:
        """Whether the code from before the present push is the one that serves."""
        return self._old is None

    def directory(self) -> str:
        """The candidate's root."""
        return self._root or self._service.tree.root.path

    # --- roots -----------------------------------------------------------------------------------------------

    def _prepare(self, patience: float = 0.0) -> None:
        """Have a spare root made in the background, out of one that is free by then, or within `patience` seconds.

        A push that comes meanwhile waits for what is of use to it, and for no more. Who needs a root tries again, and
        says what is wrong.
        """
        self._hurry.set()  # this one does what an earlier one has not begun
        hurry = self._hurry = threading.Event()

        def work(cancelled: threading.Event) -> None:
            until = time.monotonic() + patience
            while time.monotonic() < until and not (self._freed.wait(LOOK_SECONDS) or hurry.is_set()):
                pass
            with self._hold(hurry):
                if hurry.is_set():
                    return
                self._tidy(cancelled, only_for_spare=True)
                self._refresh(cancelled)
            with self._hold(hurry):
                self._tidy(hurry)

        self._service.loop.run(work, _ignore)

    def _release(self, root: str) -> None:
        """Nothing runs there any more."""
        if root != self._service.tree.root.path:
            self._free.append(root)
        self._freed.set()
        self._prepare()

    def _tidy(self, cancelled: threading.Event, only_for_spare: bool = False) -> None:
        """Make one free root the spare, where there is none, and remove the others. With the lock."""
        if self._clear_first:
            self._roots.clear(cancelled)
            self._clear_first = False
        while self._free and not (only_for_spare and self._roots.has_spare):
            self._put_away(self._free.pop(0), cancelled)

    def _put_away(self, root: str, cancelled: threading.Event) -> None:
        try:
            self._roots.release(root, cancelled)
        except Cancelled:
            if os.path.exists(root):
                self._free.append(root)
            raise
        except OSError as error:  # it takes room, no more; the next start tries again
            self._service.note(f"{root} cannot be removed: {error}")

    @contextmanager
    def _hold(self, cancelled: threading.Event) -> Iterator[None]:
        while not self._lock.acquire(timeout=LOOK_SECONDS):
            if cancelled.is_set():
                raise Cancelled
        try:
            yield
        finally:
            self._lock.release()

    def _refresh(self, cancelled: threading.Event) -> None:
        applied = self._service.tree.applied
        if self._ready_for != applied:
            skip = (self._service.volume.identity(),)
            self._ready_for = None
            self._roots.refresh_spare(self._service.tree.root.path, cancelled, skip)
            self._ready_for = applied

    def stage(self, plan: Plan, cancelled: threading.Event) -> Step:
        """Stage it in a copy of the tree."""
        self._hurry.set()
        with self._hold(cancelled):
            self._catch_up(plan, cancelled)
            self._tidy(cancelled, only_for_spare=True)
            self._refresh(cancelled)
            self._ready_for = None
            self._root = self._roots.claim(plan.generation)
        self._hooks_make_things = bool(plan.hooks_at(BEFORE_START))
        try:
            return self._service.tree.stage_plan(plan, cancelled, self._root)
        except BaseException:  # whatever it was: the root is of use for the next one
            self._give_root_back()
            raise

    def _catch_up(self, plan: Plan, cancelled: threading.Event) -> None:
        """Make good what has failed after the last keep."""
        target = self._service.tree.target()
        if target is not None and target.tree_id == plan.base != self._service.tree.applied.tree_id:
            self._follow(cancelled)

    def _follow(self, cancelled: threading.Event) -> None:
        step = self._service.tree.stage_committed(self._service.tree.target(), cancelled)
        if step is not None:
            step.switch()

    def _give_root_back(self) -> None:
        root, self._root = self._root, ""
        self._release(root)

    # --- the candidate ---------------------------------------------------------------------------------------

    def halt(self) -> None:
        """Nothing: nobody runs in the candidate's root."""

    def launch(self, push_id: str, unless: Callable[[], Any]) -> Process:
        """Start it on a port of its own."""
        self._candidate = self._service.supervisor.make(Place(self._root, free_port()))
        return self._candidate.start(push_id)

    def accept(self) -> None:
        """From now on it is the one that serves."""
        assert self._candidate is not None, "launched first"
        self._old, candidate = self._service.supervisor.instance, self._candidate
        self._service.probation.started()
        self._service.supervisor.serve_by(candidate)

    def settle(self) -> None:
        """Have the application's directory follow; let the old instance finish what it has begun."""
        old, self._old, self._candidate = self._old, None, None
        root, self._root = self._root, ""

        def follow(cancelled: threading.Event) -> None:
            self._follow(cancelled)
            if self._hooks_make_things:
                with self._hold(cancelled):
                    left = self._roots.carry(root, self._service.tree.root.path, cancelled)
                    self._ready_for = None
                for path in left:
                    self._service.note(f"what a hook has made is not kept: {path!r}")

        self._freed.clear()
        try:
            self._service.do(follow)
        finally:
            if old is not None:
                self._drain(old)
            self._prepare(REUSE_SECONDS)

    def withdraw(self) -> None:
        """Back to the one that served, if the candidate does; stop that."""
        candidate, self._candidate = self._candidate, None
        old, self._old = self._old, None
        if old is not None:
            self._service.supervisor.serve_by(old)
        if candidate is not None:
            self._stop_when_drained(candidate)

    def resume(self, push_id: str) -> Process | None:
        """The old code has never stopped, unless by itself."""
        if self._root:
            self._give_root_back()
        return None if self._service.app.exit is None else self._service.start(push_id)

    def rebase(self) -> None:
        """Run in the application's directory, which holds the tree to be run now."""
        supervisor = self._service.supervisor
        old, root = supervisor.instance, self._service.tree.root.path
        if old.place.root != root:
            supervisor.serve_by(supervisor.make(Place(root, free_port())))
            supervisor.forget(old)
        self._release(old.place.root)

    # --- instances that end ----------------------------------------------------------------------------------

    def _drain(self, instance: Instance) -> None:
        """In the background: nothing new goes there; it is stopped when it has finished, or after the bound."""
        self._draining.append(instance)
        if len(self._draining) > MAX_DRAINING:
            self._has_drained(self._draining[0])
        self._when_drained(instance, lambda: self._has_drained(instance))

    def _has_drained(self, instance: Instance) -> None:
        self._drained.append(instance)
        self._service.request(self._end_drained)

    def _when_drained(self, instance: Instance, then: Callable[[], None]) -> None:
        """Have the consumer call `then` once no connection uses the instance any more."""
        relay, port = self._service.supervisor.relay, instance.place.port
        if relay is not None and port is not None and instance.app.exit is None:
            loop = self._service.loop
            relay.drain(port, self._service.options.drain_seconds, lambda: loop.post(then))
        else:
            then()

    def _stop_when_drained(self, instance: Instance) -> None:
        """Wait until it may be stopped: the tree that it runs in is to go back."""
        drained: list[bool] = []
        self._when_drained(instance, lambda: drained.append(True))
        until = self._service.loop.clock() + self._service.options.drain_seconds + GRACE_SECONDS
        self._service.wait(lambda: drained or instance.app.exit, until)
        instance.app.stop()
        self._service.supervisor.forget(instance)

    def _end_drained(self) -> None:
        drained, self._drained = self._drained, []
        for instance in drained:
            if instance in self._draining:
                self._draining.remove(instance)
                instance.app.stop()
                self._service.supervisor.forget(instance)
                self._release(instance.place.root)


def _ignore(job: object) -> None:
    pass
