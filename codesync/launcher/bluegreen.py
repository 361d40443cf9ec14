"""Blue-green: each candidate runs from a copy of the tree that is its own, beside the code that serves.

The launcher owns the address that clients use and relays to whichever instance serves. A candidate that fails has touched
nothing. The application's directory itself follows once nothing of the old code runs any more, so that a start of the
launcher finds there what is committed, as with every other way.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from codesync.launcher.place import Place
from codesync.launcher.ports import free_port
from codesync.launcher.reload import Reload
from codesync.launcher.roots import Roots

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.records import Plan
    from codesync.launcher.service import Service
    from codesync.launcher.supervisor import Instance
    from codesync.launcher.tree import Step
    from codesync.supervise import Process

GRACE_SECONDS = 1.0  # beyond the drain's bound, for the relay to say that it is over
_NEVER = threading.Event()


class BlueGreen(Reload):
    """Roots of old instances become the next candidates': only what differs is copied again."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._roots = Roots(service.volume.path(""))
        self._lock = (
            threading.Lock()
        )  # of the spare root: made ready in the background, taken by the next push
        self._is_ready = False
        self._root = ""  # of the present candidate
        self._candidate: Instance | None = None
        self._old: Instance | None = None  # what served before the candidate was accepted

    def begin(self) -> None:
        """Have a spare root made, while the application starts."""
        self._make_ready(self._roots.clear)

    def directory(self) -> str:
        """The candidate's root."""
        return self._root or self._service.tree.root.path

    # --- the candidate's root --------------------------------------------------------------------------------

    def _make_ready(self, before: Callable[[], None] = lambda: None) -> None:
        """Have a spare root made in the background, after `before`. Who needs it tries again, and says what is wrong."""

        def work(cancelled: threading.Event) -> None:
            with self._lock:
                before()
                self._refresh(cancelled)

        self._service.loop.run(work, _ignore)

    def _release(self, root: str) -> None:
        self._make_ready(lambda: self._roots.release(root))

    def _refresh(self, cancelled: threading.Event) -> None:
        if not self._is_ready:
            skip = (self._service.volume.identity(),)
            self._roots.refresh_spare(self._service.tree.root.path, cancelled, skip)
            self._is_ready = True

    def stage(self, plan: Plan, cancelled: threading.Event) -> Step:
        """Stage it in a copy of the tree."""
        with self._lock:
            self._refresh(cancelled)
            self._is_ready = False
            self._root = self._roots.claim(plan.generation)
        try:
            return self._service.tree.stage_plan(plan, cancelled, self._root)
        except BaseException:  # whatever it was: the root is of use for the next one
            self._give_root_back()
            raise

    def _give_root_back(self) -> None:
        root, self._root = self._root, ""
        self._release(root)

    # --- the candidate ---------------------------------------------------------------------------------------

    def halt(self) -> None:
        """Nothing: nobody runs in the candidate's root."""

    def launch(self, push_id: str) -> Process:
        """Start it on a port of its own."""
        supervisor = self._service.supervisor
        self._candidate = supervisor.make(Place(self._root, free_port()))
        return self._candidate.start(push_id)

    def accept(self) -> None:
        """From now on it is the one that serves."""
        assert self._candidate is not None, "launched first"
        self._old, candidate = self._service.supervisor.instance, self._candidate
        self._service.supervisor.serve_by(candidate)

    def settle(self) -> None:
        """Let the old one finish what it has begun, then have the application's directory follow."""
        old, self._old, self._candidate, self._root = self._old, None, None, ""
        if old is not None:
            self._retire(old)
        try:
            step = self._service.tree.stage_committed(self._service.tree.target(), _NEVER)
            if step is not None:
                step.switch()
        finally:
            self._release_root_of(old)

    def _release_root_of(self, instance: Instance | None) -> None:
        """Nothing runs there any more; and the application's directory has become another tree."""
        with self._lock:
            self._is_ready = False
        if instance is not None and instance.place.root != self._service.tree.root.path:
            self._release(instance.place.root)
        else:
            self._make_ready()

    def _retire(self, instance: Instance) -> None:
        """Drain it, stop it, forget it."""
        supervisor, loop = self._service.supervisor, self._service.loop
        relay, port = supervisor.relay, instance.place.port
        if relay is not None and port is not None and instance.app.exit is None:
            drained: list[bool] = []
            seconds = self._service.options.drain_seconds
            relay.drain(port, seconds, lambda: loop.post(drained.append, True))
            until = loop.clock() + seconds + GRACE_SECONDS
            loop.wait(lambda: drained or supervisor.stop_signal or instance.app.exit, until)
        instance.app.stop()
        supervisor.forget(instance)

    def withdraw(self) -> None:
        """Back to the one that served, if the candidate does; stop that."""
        candidate, self._candidate = self._candidate, None
        old, self._old = self._old, None
        if old is not None:
            self._service.supervisor.serve_by(old)
        if candidate is not None:
            self._retire(candidate)

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
        self._release_root_of(old)


def _ignore(job: object) -> None:
    pass
