"""How a pushed tree becomes the running one, and how the old one comes back: one class for each way but blue-green.

A trial goes through `stage`, `halt`, (the rename), `launch`, `accept` and then `settle`; or, from anywhere, through
`withdraw`, (the undoing) and `resume`. What each step means is said here; when it is done is the trial's affair.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from codesync.launcher.options import BLUE_GREEN, RESTART, reload_signal

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from codesync.launcher.records import Plan
    from codesync.launcher.service import Service
    from codesync.launcher.tree import Step
    from codesync.supervise import Process

FIRST_LOOK_SECONDS, LOOK_SECONDS = 0.002, 0.02  # between two looks at which workers are left


class NotReloaded(Exception):
    """The application runs on as if nothing had been said; one line."""


class Reload(ABC):
    """`name` is as the option is written; `halts`: the application is stopped on the way."""

    halts = True

    def __init__(self, service: Service) -> None:
        self.name = service.options.reload
        self._service = service

    def begin(self) -> None:
        """The application has been started for the first time."""

    def begin_trial(self) -> None:
        """A trial begins."""

    @property
    def old_serves(self) -> bool:
        """Whether, during a trial, other code than the one on trial serves."""
        return False

    def stage(self, plan: Plan, cancelled: threading.Event) -> Step:
        """Stage it, in a thread, while old code runs. Raises one of FAILURES, or Cancelled."""
        return self._service.tree.stage_plan(plan, cancelled)

    def directory(self) -> str:
        """Where hooks run."""
        return self._service.tree.root.path

    @abstractmethod
    def halt(self) -> None:
        """Make the tree free to be renamed."""

    @abstractmethod
    def launch(self, push_id: str, unless: Callable[[], Any]) -> Process:
        """The new tree is there: have its code run. The process to be judged. Raises CannotStart, NotReloaded.

        What it waits for is of no use any more when `unless()`.
        """

    def accept(self) -> None:
        """It is well: it gets the work."""

    def settle(self) -> None:
        """It is kept: what is old may go. Raises one of FAILURES."""

    def rebase(self) -> None:
        """The application has been stopped and its directory holds another tree: the next start is to run that."""

    @abstractmethod
    def withdraw(self) -> None:
        """Make the tree free for the old one to come back."""

    @abstractmethod
    def resume(self, push_id: str) -> Process | None:
        """The old tree is there: have its code run, if it does not. The process to wait for. Raises CannotStart."""


class Restart(Reload):
    """Stop, rename, start."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._halted = False

    def halt(self) -> None:
        """Stop the application."""
        self._halted = True
        self._service.app.stop()

    def launch(self, push_id: str, unless: Callable[[], Any]) -> Process:
        """Start it."""
        return self._service.start(push_id)

    def settle(self) -> None:
        """Nothing old is left."""
        self._halted = False

    def withdraw(self) -> None:
        """Stop it, if it is not the old code."""
        if self._halted:
            self._service.app.stop()

    def resume(self, push_id: str) -> Process | None:
        """Start it again."""
        halted, self._halted = self._halted, False
        return self._service.start(push_id) if halted else None


class InPlace(Reload):
    """Rename under the running code, and (`signal:NAME`) tell it; (`none`) it looks for itself.

    Its first process stays; workers of the old code may answer for a while. So the check is asked once they are gone.
    Some may take long to finish: when one at least has gone, the settle time is enough. After a signal one has to go,
    or nothing was reloaded; an application without workers is taken at its word after the settle time.
    """

    halts = False

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._signal = reload_signal(self.name)
        self._launched = False

    def halt(self) -> None:
        """Nothing."""

    def launch(self, push_id: str, unless: Callable[[], Any]) -> Process:
        """Tell it, or start it where it does not run."""
        self._launched = True
        options = self._service.options
        patience = options.settle_seconds if self._signal is None else options.health_seconds
        return self._renewed(push_id, patience, unless)

    def settle(self) -> None:
        """Nothing old is left."""
        self._launched = False

    def withdraw(self) -> None:
        """Nothing: the old tree comes back under the running code, too."""

    def resume(self, push_id: str) -> Process | None:
        """Tell it again, if it was told."""
        launched, self._launched = self._launched, False
        if not launched:
            return None
        try:
            return self._renewed(push_id, self._service.options.settle_seconds, lambda: False)
        except NotReloaded:  # it may never have noticed the new tree
            self._service.app.start_probing(self._service.supervisor.instance.environment(push_id))
            return self._service.app.process

    def _renewed(self, push_id: str, patience: float, unless: Callable[[], Any]) -> Process:
        app, service = self._service.app, self._service
        if app.process is None or app.exit is not None:
            app.stop()  # what it left behind
            return service.start(push_id)
        process, old = app.process, app.members()
        env = service.supervisor.instance.environment(push_id)
        app.judge_anew(env, probe=False)
        if self._signal is not None:
            app.forward(self._signal)
        self._await_turnover(process, old, patience, unless)
        if process.exit is None:
            app.start_probing(env)
        return process

    def _await_turnover(
        self, process: Process, old: frozenset[int], patience: float, unless: Callable[[], Any]
    ) -> None:
        """Wait until the old workers are gone. Raises NotReloaded when they show no sign of it."""
        options, clock, app = self._service.options, self._service.loop.clock, self._service.app
        begun, pause, left = clock(), FIRST_LOOK_SECONDS, old
        while process.exit is None and (left or not old) and not unless():
            settled = clock() - begun >= options.settle_seconds
            if settled and (left != old or not old or self._signal is None):
                return
            if clock() - begun >= patience:
                raise NotReloaded(
                    f"none of its {len(old)} processes was replaced within {patience:g} s of {self.name}"
                )
            self._service.wait(lambda: process.exit or unless(), clock() + pause)
            pause = min(2 * pause, LOOK_SECONDS)
            left = old & app.members()


def make_reload(service: Service) -> Reload:
    """The way that the options name."""
    if service.options.reload == BLUE_GREEN:
        from codesync.launcher.bluegreen import BlueGreen

        return BlueGreen(service)
    return Restart(service) if service.options.reload == RESTART else InPlace(service)
