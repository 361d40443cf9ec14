"""The demo's processes: each in a session of its own, its output in a log; none of them outlives the demo."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

POLL_SECONDS = 0.02
STOP_SECONDS = 8.0  # the launcher's own ladder is shorter
TAIL_LINES = 25

T = TypeVar("T")


class DemoError(Exception):
    """Something is not as it should be: what, in one line."""


class Processes:
    """What was started, in order. Leaving the context stops all of it, the last one first."""

    def __init__(self, logs: Path, mark: tuple[str, str]) -> None:
        self._logs = logs
        self._mark = mark  # a variable all of them get, and with them whatever they start
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        # The bounded waits below end soon; an impatient second Ctrl-C must not leave processes behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for process in reversed(self._running.values()):
            _stop(process)
        sweep(self._mark)
        signal.signal(signal.SIGINT, before)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Start one; its output goes to its log, after that of an earlier one of this name."""
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=cwd,
                env={**env, self._mark[0]: self._mark[1]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def pid(self, name: str) -> int:
        """The process id of one that runs."""
        return self._running[name].pid

    def terminate(self, name: str) -> None:
        """Ask one to end, and wait until it has."""
        _stop(self._running.pop(name))

    def kill(self, name: str) -> None:
        """Kill one and its group, without a chance to put anything in order."""
        process = self._running.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> Path:
        """Where the output of `name` goes."""
        return self._logs / f"{name}.log"

    def wait_for(self, what: str, ready: Callable[[], T | None], seconds: float = 30.0) -> T:
        """Poll until `ready` answers something. Raises DemoError when it does not, or when a process ends."""
        deadline = time.monotonic() + seconds
        while (answer := ready()) is None:
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"expected {what} within {seconds:.0f} s, found nothing of the kind")
            time.sleep(POLL_SECONDS)
        return answer

    def check(self) -> None:
        """Raise DemoError when a process has ended."""
        for name, process in self._running.items():
            if (status := process.poll()) is not None:
                raise DemoError(f"expected the {name} to keep running, found it ended with status {status}")

    def wait(self) -> None:
        """Wait until somebody interrupts or a process ends. Raises DemoError then."""
        while True:
            self.check()
            time.sleep(POLL_SECONDS * 10)

    def tails(self) -> str:
        """The last lines of every log."""
        parts = []
        for path in sorted(self._logs.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            parts.append("\n".join([f"--- {path.stem}", *(lines or ["(nothing)"])]))
        return "\n".join(parts)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """TERM, so that it can stop its own; then KILL for its whole group."""
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def sweep(mark: tuple[str, str]) -> None:
    """Kill every process that has the variable `mark` in its environment, until all are gone."""
    deadline = time.monotonic() + STOP_SECONDS
    while (pids := _carrying(mark)) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _carrying(mark: tuple[str, str]) -> list[int]:
    """Processes that live with our mark in their environment."""
    wanted = os.fsencode("=".join(mark))
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # gone meanwhile, or another user's
            if wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found
