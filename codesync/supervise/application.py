"""One application: started, watched, stopped, started again. All of it happens in the loop's consumer.

Stopping is a ladder of named, bounded waits, and it is over only when the whole session is gone: a worker that outlives
its master would hold the port that the next start needs.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from codesync.supervise.output import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from codesync.supervise.children import Children, Exit
    from codesync.supervise.health import Check, Prober
    from codesync.supervise.loop import Loop

KILL_SECONDS = 5.0  # a killed process is gone at once, unless the kernel itself waits for something
DRAIN_SECONDS = 0.5  # the last output is read at once, unless a daemon still holds the pipe
FIRST_POLL_SECONDS, POLL_SECONDS = 0.002, 0.05  # for members of a session whose exit nobody tells us

STARTING, RUNNING, HEALTHY, STOPPING, EXITED = "starting", "running", "healthy", "stopping", "exited"


class Process:
    """One run of the application, from its start to its exit; a reload that keeps the process has it judged anew."""

    def __init__(self, clock: float) -> None:
        self.pid = 0
        self.started = clock
        self.tail = Tail()
        self.exit: Exit | None = None
        self.ended = 0.0  # the clock at its exit
        self.passed = False  # the check has passed
        self.healthy_ms: int | None = None  # how long after `started` it did
        self.prober: Prober | None = None
        self.open_streams = 2
        self.gone = False  # nothing of its session is left: its number may belong to somebody else now

    def start_anew(self, clock: float) -> None:
        """Forget what has been said and judged until now."""
        self.stop_probing()
        self.started, self.tail = clock, Tail()
        self.passed, self.healthy_ms = False, None

    def stop_probing(self) -> None:
        """Whatever the check still says, it is not heard any more."""
        if self.prober:
            self.prober.cancel()


class Application:
    """`command`, run in `cwd` as often as needed; `process` is the last run.

    `changed` is told of every new state. `heard(stream, chunk)` gets all output as it comes, in the threads that pass it
    on: stream 1 or 2, and an empty chunk when the stream of a run has ended. Several applications may share a loop and
    its children.
    """

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
        heard: Callable[[int, bytes], None] = lambda stream, chunk: None,
        stdin: int | None = None,
    ) -> None:
        self.check = check
        self.process: Process | None = None
        self.state = EXITED
        self.since = time.time()
        self.changed = changed
        self.heard = heard
        self._loop = loop
        self._children = children
        self._command = list(command)
        self._cwd = cwd
        self._stdin = stdin
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

    def members(self) -> frozenset[int]:
        """The pids that run in the application's session beside its first process: the workers of a master."""
        process = self.process
        if process is None or process.gone:
            return frozenset()
        return self._children.members(process.pid) - {process.pid}

    # --- start and judge -------------------------------------------------------------------------------------

    def start(self, env: Mapping[str, str]) -> Process:
        """Start it and return at once. Raises OSError where there is nothing to run."""
        process = Process(self._loop.clock())
        process.pid = self._children.spawn_heard(
            self._command,
            lambda ended: self._exited(process, ended),
            lambda stream, chunk: self._hear(process, stream, chunk),
            cwd=self._cwd,
            env=env,
            stdin=self._stdin,
        )
        self.process = process
        self.start_probing(env)
        self._change(STARTING)
        return process

    def judge_anew(self, env: Mapping[str, str], *, probe: bool = True) -> None:
        """For a reload that keeps the process: it is starting again, with an empty tail and a check that has not passed.

        Without `probe` the check is not asked before `start_probing`. Nothing happens when the process has exited.
        """
        process = self.process
        if process is None or process.exit is not None:
            return
        process.start_anew(self._loop.clock())
        if probe:
            self.start_probing(env)
        self._change(STARTING)

    def start_probing(self, env: Mapping[str, str]) -> None:
        """Ask the check until it passes, the process ends, or it is judged anew; a `cmd:` check runs with `env`."""
        process = self.process
        if process is None or process.exit is not None:
            return
        process.stop_probing()
        process.prober = self.check.watch(env, lambda prober: self._loop.post(self._passed, process, prober))

    # --- events ----------------------------------------------------------------------------------------------

    def _hear(self, process: Process, stream: int, chunk: bytes) -> None:
        """In the thread of that stream."""
        process.tail.add(stream, chunk)
        self.heard(stream, chunk)
        if not chunk:
            self._loop.post(_stream_ended, process)

    def _exited(self, process: Process, ended: Exit) -> None:
        process.exit, process.ended = ended, self._loop.clock()
        process.stop_probing()
        if process is self.process and self.state != STOPPING:
            self._change(EXITED)

    def _passed(self, process: Process, prober: Prober) -> None:
        if prober is not process.prober or prober.cancelled:
            return  # it passed for what was there before
        process.passed = True
        process.healthy_ms = round((self._loop.clock() - process.started) * 1000)
        if process is self.process and self.state == STARTING:
            self._change(HEALTHY if self.check.real else RUNNING)

    def _change(self, state: str) -> None:
        self.state, self.since = state, time.time()
        self.changed()

    # --- signals and the end ---------------------------------------------------------------------------------

    def forward(self, number: int) -> None:
        """Pass a signal on to the application's first process."""
        if self.process and self.process.exit is None:
            self._children.signal(self.process.pid, number)

    def stop(self, first: int = signal.SIGTERM) -> None:
        """Return when nothing of the application is left: `first`, a bounded wait, then KILL. Also after its exit."""
        process = self.process
        if process is None or process.gone:
            return
        process.stop_probing()
        if process.exit is None:
            self._change(STOPPING)
        for number, seconds in stop_ladder(first, self._stop_seconds):
            if self._is_gone(process):
                break
            self._signal_and_wait(process, number, seconds)
        process.gone = True
        self._loop.wait(lambda: not process.open_streams, self._loop.clock() + DRAIN_SECONDS)
        if self.state == STOPPING:
            self._change(EXITED)

    def _signal_and_wait(self, process: Process, number: int, seconds: float) -> None:
        """Until nothing is left, or for `seconds`. Exits of children are events; others' children must be looked for."""
        until, pause = self._loop.clock() + seconds, FIRST_POLL_SECONDS
        self._children.signal_session(process.pid, number)
        while not self._loop.wait(lambda: self._is_gone(process), min(until, self._loop.clock() + pause)):
            if self._loop.clock() >= until:
                return
            pause = min(2 * pause, POLL_SECONDS)
            if number == signal.SIGKILL:  # again, for what was forked while the first was under way
                self._children.signal_session(process.pid, number)

    def _is_gone(self, process: Process) -> bool:
        return process.exit is not None and not self._children.session_lives(process.pid)


def _stream_ended(process: Process) -> None:
    process.open_streams -= 1


def stop_ladder(first: int, seconds: float) -> list[tuple[int, float]]:
    """Signals and how long to wait after each. An interrupt is followed by TERM: background jobs ignore SIGINT."""
    if first == signal.SIGINT:
        return [(signal.SIGINT, seconds / 2), (signal.SIGTERM, seconds / 2), (signal.SIGKILL, KILL_SECONDS)]
    return [(first, seconds), (signal.SIGKILL, KILL_SECONDS)]
