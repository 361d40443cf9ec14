"""One application: started, watched, stopped, started again. All of it happens in the loop's consumer.

Stopping is a ladder of named, bounded waits, and it is over only when the whole session is gone: a worker that outlives
its master would hold the port that the next start needs.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from codesync.supervise.children import session_lives, signal_session
from codesync.supervise.health import Prober
from codesync.supervise.output import Tail, pump

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from codesync.supervise.children import Children, Exit
    from codesync.supervise.health import Check
    from codesync.supervise.loop import Loop

KILL_SECONDS = 5.0  # a killed process is gone at once, unless the kernel itself waits for something
DRAIN_SECONDS = 0.5  # the last output is read at once, unless a daemon still holds the pipe
POLL_SECONDS = 0.05  # for the members of a session whose exit nobody tells us

STARTING, RUNNING, HEALTHY, STOPPING, EXITED = "starting", "running", "healthy", "stopping", "exited"


class Process:
    """One run of the application, from its start to its exit."""

    def __init__(self, clock: float) -> None:
        self.pid = 0
        self.started = clock
        self.tail = Tail()
        self.exit: Exit | None = None
        self.passed = False  # the check has passed
        self.open_streams = 0
        self.gone = False  # nothing of its session is left: its number may belong to somebody else now
        self.prober: Prober | None = None


class Application:
    """`command`, run in `cwd` as often as needed; `process` is the last run. `changed` is told of every new state."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        *,
        command: Sequence[str],
        cwd: str,
        check: Check,
        stop_seconds: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.check = check
        self.process: Process | None = None
        self.state = EXITED
        self.since = time.time()
        self.changed = changed
        self._loop = loop
        self._children = children
        self._command = list(command)
        self._cwd = cwd
        self._stop_seconds = stop_seconds

    @property
    def exit(self) -> Exit | None:
        """How the last run ended; None while it runs."""
        return self.process.exit if self.process else None

    def describe(self) -> dict[str, Any]:
        """State, pid, exit_code, signal and since (unix seconds), as the sidecar and `app.status` are told."""
        ended = self.exit
        return {
            "state": self.state,
            "pid": self.process.pid if self.process else None,
            "exit_code": ended.code if ended else None,
            "signal": ended.signal if ended else None,
            "since": self.since,
        }

    def start(self, env: Mapping[str, str]) -> Process:
        """Start it and return at once. Raises OSError where there is nothing to run."""
        process = Process(self._loop.clock())
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        try:
            process.pid = self._children.spawn(
                self._command,
                lambda ended: self._exited(process, ended),
                cwd=self._cwd,
                env=env,
                stdin=None,
                stdout=out_end,
                stderr=err_end,
            )
        except BaseException:  # nobody else knows these descriptors
            os.close(out)
            os.close(err)
            raise
        finally:
            os.close(out_end)
            os.close(err_end)
        self.process = process
        for source, sink in ((out, 1), (err, 2)):
            self._pass_on(process, source, sink)
        process.prober = Prober(self.check, env, lambda: self._loop.post(self._passed, process))
        self._change(STARTING)
        return process

    def _pass_on(self, process: Process, source: int, sink: int) -> None:
        process.open_streams += 1
        pump(
            source,
            sink,
            lambda data: process.tail.add(sink, data),
            lambda: self._loop.post(_stream_ended, process),
        )

    def _exited(self, process: Process, ended: Exit) -> None:
        process.exit = ended
        if process.prober:
            process.prober.cancel()
        if process is self.process and self.state != STOPPING:
            self._change(EXITED)

    def _passed(self, process: Process) -> None:
        process.passed = True
        if process is self.process and self.state == STARTING:
            self._change(HEALTHY if self.check.real else RUNNING)

    def _change(self, state: str) -> None:
        self.state, self.since = state, time.time()
        self.changed()

    def forward(self, number: int) -> None:
        """Pass a signal on to the application's first process."""
        if self.process and self.process.exit is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def stop(self, first: int = signal.SIGTERM) -> None:
        """Return when nothing of the application is left: `first`, a bounded wait, then KILL. Also after its exit."""
        process = self.process
        if process is None or process.gone:
            return
        if process.prober:
            process.prober.cancel()
        if process.exit is None:
            self._change(STOPPING)
        for number, seconds in stop_ladder(first, self._stop_seconds):
            if not session_lives(process.pid):
                break
            signal_session(process.pid, number)
            self._wait_until_gone(process, seconds)
        process.gone = True
        self._loop.wait(lambda: not process.open_streams, self._loop.clock() + DRAIN_SECONDS)
        if self.state == STOPPING:
            self._change(EXITED)

    def _wait_until_gone(self, process: Process, seconds: float) -> None:
        until = self._loop.clock() + seconds

        def gone() -> bool:
            return not session_lives(process.pid)

        while not self._loop.wait(gone, min(until, self._loop.clock() + POLL_SECONDS)):
            if self._loop.clock() >= until:
                return


def _stream_ended(process: Process) -> None:
    process.open_streams -= 1


def stop_ladder(first: int, seconds: float) -> list[tuple[int, float]]:
    """Signals and how long to wait after each. An interrupt is followed by TERM: background jobs ignore SIGINT."""
    if first == signal.SIGINT:
        return [(signal.SIGINT, seconds / 2), (signal.SIGTERM, seconds / 2), (signal.SIGKILL, KILL_SECONDS)]
    return [(first, seconds), (signal.SIGKILL, KILL_SECONDS)]
