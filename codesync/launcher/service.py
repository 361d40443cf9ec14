"""The launcher at work with a volume, on which a sidecar may or may not be.

Messages, like signals, only leave a note: a request, or a trial's decision. `serve` does one request after the other, and
what a request waits for, it waits for here.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from codesync.launcher import messages
from codesync.launcher.changes import Cancelled
from codesync.launcher.hooks import HookFailed, Hooks
from codesync.launcher.logs import Logs
from codesync.launcher.messages import Adopted, Apply, EndLogs, GetLogs, Greeting, Keep, Try, Undo
from codesync.launcher.permissions import report
from codesync.launcher.probation import Probation
from codesync.launcher.records import RecordError
from codesync.launcher.reload import make_reload
from codesync.launcher.supervisor import OWN_FAILURE, CannotStart, Terminated, note
from codesync.launcher.tree import COPYING, FAILURES, NO_GEN0, READY
from codesync.launcher.trial import KEEP, UNDO, Trial

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from codesync.launcher.link import Link
    from codesync.launcher.supervisor import Supervisor
    from codesync.launcher.tree import Tree
    from codesync.launcher.volume import Volume
    from codesync.supervise import Application, Job, Process

T = TypeVar("T")


class Service:
    """One application, one volume. `serve` it once."""

    def __init__(self, supervisor: Supervisor, volume: Volume, tree: Tree, link: Link) -> None:
        self.supervisor = supervisor
        self.options = supervisor.options
        self.loop = supervisor.loop
        self.volume = volume
        self.tree = tree
        self.link = link
        self.reload = make_reload(self)
        self.trial: Trial | None = None  # from when it is asked for
        self._is_trying = False
        self.notes: list[str] = []  # permissions that are missing
        self.probation = Probation(self)
        self._logs = Logs(supervisor.log, self.loop, link.send)
        self._requests: deque[Callable[[], None]] = deque()
        self._greeted = False
        self._untold: dict[str, Any] | None = None  # a verdict that no sidecar has heard yet
        self._copying: Job[None] | None = None

    @property
    def app(self) -> Application:
        """The application that serves."""
        return self.supervisor.app

    def prepare(self) -> None:
        """All that must be done before the application starts. Raises TreeError."""
        try:
            self.do(self.tree.prepare, unless=lambda: self.supervisor.stop_signal)
        except Cancelled:
            pass  # we were told to stop, `serve` will notice
        self.notes = report(self.options.files_dir, self.options.app_root)
        for line in self.notes:
            self.note(line)

    def serve(self) -> int:
        """Run until the application ends, or we are told to: the exit status."""
        self.supervisor.on_hang_up = self.request_apply
        self.supervisor.changed = self.tell_app
        self.link.connected, self.link.received, self.link.lost = self._connected, self._received, self._lost
        try:
            self.check()
            self._run_hooks_due()
            self.start(self.tree.applied.push_id)
            self.link.serve()
            self._copy_gen0()
            self.reload.begin()
            while self._attend():
                pass
            return self._finish()
        except Terminated:
            return self._finish()
        except CannotStart as error:
            self.note(str(error))
            self._finish()
            return error.status
        except Exception:  # told by `_run`: nothing runs any more, and a new start puts things in order
            self._finish()
            return OWN_FAILURE

    def _attend(self) -> bool:
        """Do what is to be done next; False when the application has ended for good."""
        probation = self.probation
        self.wait(lambda: self._requests or probation.is_open, probation.due)
        if self._requests:
            self._run(self._requests.popleft())
            return True
        probation.look_after()
        return not probation.is_over

    def _run(self, request: Callable[[], None]) -> None:
        """A failure of ours must not take the application with it, if that still runs."""
        try:
            request()
        except (Terminated, CannotStart):
            raise
        except Exception as error:  # whatever it is: an init outlives its own mistakes
            import traceback

            traceback.print_exc()
            self.complain(f"internal error: {error!r}")
            if self.probation.is_open:
                raise

    def _finish(self) -> int:
        status = self.supervisor.stop_for_good()
        self.link.close()
        return status

    # --- waiting ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise Terminated when we have been told to end."""
        if self.supervisor.stop_signal:
            raise Terminated

    def wait(self, ready: Callable[[], Any], until: float | None = None) -> None:
        """Until `ready()`, or the clock reaches `until`. Raises Terminated.

        While a candidate is on trial beside the code that serves, that is looked after, too.
        """
        probation = self.probation
        while True:
            beside = self._is_trying and self.reload.old_serves
            dues = [due for due in (until, probation.due if beside else None) if due is not None]
            self.loop.wait(
                lambda beside=beside: (  # type: ignore[misc]
                    ready() or self.supervisor.stop_signal or (beside and probation.is_open)
                ),
                min(dues, default=None),
            )
            self.check()
            if ready() or not (beside and probation.look_after()):
                return

    def do(
        self,
        work: Callable[[threading.Event], T],
        *,
        unless: Callable[[], Any] = lambda: False,
        until: float | None = None,
    ) -> T:
        """Have a thread do it, and return or raise what it did. It is cancelled when `unless()`, and at `until`."""
        job = self.loop.run(work)
        self.loop.wait(lambda: job.done or unless(), until)
        if not job.done:
            job.cancelled.set()
            self.loop.wait(lambda: job.done)
        return job.result()

    def interruption(self) -> str:
        """Why it makes no sense to go on with the trial; "" when it does."""
        if self.supervisor.stop_signal:
            return "the launcher was told to stop"
        if self.trial and self.trial.decision == UNDO:
            return "the push was called off"
        return ""

    # --- the application -------------------------------------------------------------------------------------

    def start(self, push_id: str) -> Process:
        """Start the application. Raises CannotStart."""
        self.probation.started()
        return self.supervisor.start(push_id)

    def describe(self) -> dict[str, Any]:
        """The application's state, as the sidecar and `app.status` are told."""
        due = self.probation.due
        next_start = {} if due is None else {"next_start": time.time() + max(0.0, due - self.loop.clock())}
        return dict(self.app.describe(), **next_start)

    def tell_app(self) -> None:
        """Tell whoever looks how the application is."""
        app = self.describe()
        self.volume.guard(lambda: self.volume.set_status(app), self.note)
        self.link.send("app", app=app)

    # --- the sidecar -----------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """One line for whoever reads the output of the container, or the log."""
        note(text)
        if self.supervisor.log is not None:
            self.supervisor.log.note(text)

    def complain(self, text: str, **fields: Any) -> None:
        """Tell whoever is there: the sidecar and the log."""
        self.note(text)
        self.link.send("error", message=text, **fields)

    def tell_verdict(self, verdict: dict[str, Any]) -> None:
        """Tell it now, or when a sidecar connects."""
        self._untold = None if self.link.send("verdict", **verdict) else verdict

    def _connected(self) -> None:
        self._greeted = False
        self.link.send("hello", **self._hello())
        verdict = self.trial.verdict if self.trial else self._untold
        if verdict:
            self.tell_verdict(verdict)

    def _hello(self) -> dict[str, Any]:
        applied = self.tree.applied
        return {
            "version": messages.VERSION,
            "pid": os.getpid(),
            "instance": applied.instance,
            "image": applied.image,
            "applied": applied.tree_id,
            "push_id": applied.push_id,
            "gen0": self.tree.gen0,
            "health": self.app.check.real,
            "reload": self.reload.name,
            "notes": self.notes,
            "crash": self.probation.record,
            "app": self.describe(),
            "trial": self.trial.push_id if self.trial else None,
            "app_root": self.tree.root.path,
        }

    def _lost(self) -> None:
        self._logs.end_all()
        if self.trial:
            self.trial.consult = True

    def _received(self, message: Any) -> None:
        if isinstance(message, Greeting):
            self._greeted = True
            if self.trial:
                self.trial.consult = True
        elif not self._greeted:
            self.link.send("error", message="say hello first, in version 1")
        elif isinstance(message, Adopted):
            self._adopt(message)
        elif isinstance(message, Try):
            self._take_try(message)
        elif isinstance(message, Keep):
            self._take_keep(message.push_id)
        elif isinstance(message, Undo):
            self._take_undo(message.push_id)
        elif isinstance(message, Apply):
            self.request_apply()
        elif isinstance(message, GetLogs):
            self._logs.answer(message)
        elif isinstance(message, EndLogs):
            self._logs.end(message.request)

    def _adopt(self, message: Adopted) -> None:
        if self.trial or self.tree.gen0 != READY:
            self.link.send("error", message="there is no generation 0 to adopt")
        else:
            self.tree.adopt_gen0(message.tree_id)

    def _take_try(self, message: Try) -> None:
        trial = self.trial
        if trial is None:
            self.trial = Trial(self, message)
            self._requests.append(self._try)
        elif trial.push_id != message.push_id:
            text = f"busy with the trial of push {trial.push_id}; decide that first"
            self.link.send("error", message=text, push_id=message.push_id)
        elif trial.verdict:
            self.tell_verdict(trial.verdict)

    def _take_keep(self, push_id: str) -> None:
        trial = self.trial
        if trial and trial.push_id == push_id and trial.verdict:
            trial.decision = trial.decision or KEEP
        elif trial:
            self.link.send(
                "error", message=f"push {trial.push_id} is on trial and not judged", push_id=push_id
            )
        else:
            self._requests.append(lambda: self._keep_late(push_id))

    def _take_undo(self, push_id: str) -> None:
        trial = self.trial
        if trial and trial.push_id == push_id:
            trial.decision = trial.decision or UNDO
        elif self.tree.applied.push_id == push_id:
            self.link.send("error", message=f"push {push_id} is kept already", push_id=push_id)
        else:
            self.link.send("undone", push_id=push_id, app=self.describe())

    # --- requests --------------------------------------------------------------------------------------------

    def _try(self) -> None:
        assert self.trial is not None, "set when it was asked for"
        self._is_trying = True
        try:
            self.trial.run()
        finally:
            self.trial, self._is_trying = None, False

    def _keep_late(self, push_id: str) -> None:
        """The sidecar has committed what is no trial here any more: then that is the tree to have."""
        if self.tree.applied.push_id != push_id and self.tree.is_committed(push_id):
            self._apply()
        if self.tree.applied.push_id == push_id:
            self.link.send("kept", push_id=push_id)
        else:
            self.complain(f"push {push_id} is neither on trial nor committed", push_id=push_id)

    def request(self, work: Callable[[], None]) -> None:
        """Have it done as soon as nothing else goes on."""
        self._requests.append(work)

    def request_apply(self) -> None:
        """Bring in the committed tree and restart, as soon as nothing else goes on."""
        if self._apply not in self._requests:
            self._requests.append(self._apply)

    def catch_up(self) -> None:
        """Apply what is committed, if that is not what is there."""
        try:
            target = self.tree.target()
        except (RecordError, OSError):
            return
        if target is not None and target.tree_id != self.tree.applied.tree_id:
            self.request_apply()

    def _apply(self) -> None:
        try:
            step = self.do(self._stage_committed, unless=lambda: self.supervisor.stop_signal)
        except Cancelled:
            return  # `serve` sees for itself why
        except FAILURES as error:
            self.complain(f"the committed tree is not applied: {error}")
            return
        self.app.stop()
        if step is not None:
            before = self.tree.applied.push_id
            try:
                self.do(lambda _: step.switch())
                self.tree.expect_hooks(before)
            except FAILURES as error:
                self.complain(f"the committed tree is not applied: {error}")
        self.check()
        self._run_hooks_due()
        self.reload.rebase()
        self.start(self.tree.applied.push_id)
        self.link.send("applied", tree_id=self.tree.applied.tree_id)

    def _stage_committed(self, cancelled: threading.Event) -> Any:
        self.tree.require_recovered()
        return self.tree.stage_committed(self.tree.target(), cancelled)

    def make_hooks(self) -> Hooks:
        """What runs the hooks of one push."""
        supervisor, tell = self.supervisor, self.options.log_tail
        return Hooks(self.loop, supervisor.children, self.wait, supervisor.heard_from_hooks, tell=tell)

    def _run_hooks_due(self) -> None:
        """Run what was called for while no launcher was there, or in a container before this one.

        There is no older code to go back to: one that fails is told, and the application started all the same.
        """
        hooks = self.make_hooks()
        env = self.supervisor.hook_environment(self.tree.applied.push_id)
        due, self.tree.due = self.tree.due, []
        try:
            hooks.run(due, cwd=self.tree.root.path, env=env, called_off=lambda: False)
        except HookFailed as error:
            self.notes = [*self.notes, f"before this start {error}; its output is in the log"]
            self.complain(self.notes[-1])

    # --- generation 0 ----------------------------------------------------------------------------------------

    def _copy_gen0(self) -> None:
        if self.tree.gen0 == COPYING:
            self._copying = self.loop.run(self.tree.copy_gen0, self._copied)

    def _copied(self, job: Job[None]) -> None:
        try:
            job.result()
        except FAILURES as error:
            self.tree.gen0 = NO_GEN0
            self.note(f"the image is not copied to the volume: {error}")
            self.link.send("gen0", state="failed", error=str(error))
        else:
            self.tree.gen0 = READY
            self.link.send("gen0", state="ready")
