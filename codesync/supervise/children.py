"""Every child of this process is spawned and reaped here, and nowhere else.

A container's first process inherits every orphan; one that is not the first asks for the same duty. So any exit may be
anybody's, and only one place may call waitpid.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_PR_SET_CHILD_SUBREAPER = 36


class Exit(NamedTuple):
    """How a process ended: an exit code, or the signal that killed it; the other is None."""

    code: int | None
    signal: int | None

    @classmethod
    def of(cls, wait_status: int) -> Exit:
        """From the status that waitpid gives."""
        if os.WIFSIGNALED(wait_status):
            return cls(None, os.WTERMSIG(wait_status))
        return cls(os.WEXITSTATUS(wait_status), None)

    @property
    def status(self) -> int:
        """As a shell reports it: the code, or 128 and the signal."""
        return self.code if self.code is not None else 128 + (self.signal or 0)

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        with suppress(ValueError):
            return f"signal {signal.Signals(self.signal).name}"
        return f"signal {self.signal}"


class Children:
    """Spawn from any thread; `reap` when SIGCHLD has come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # an exit must not be reaped before its pid is known here
        self._watched: dict[int, Callable[[Exit], None]] = {}

    def spawn(
        self,
        command: Sequence[str],
        on_exit: Callable[[Exit], None],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
        stdin: int | None = subprocess.DEVNULL,
    ) -> int:
        """Start `command` as the leader of a session and group of its own; its pid. Raises OSError.

        `on_exit` is called by whoever reaps.
        """
        with self._lock:
            process = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
            )
            process.returncode = 0  # it is ours to reap: Popen must neither wait for it nor warn about it
            self._watched[process.pid] = on_exit
            return process.pid

    def reap(self) -> None:
        """Reap every child that has exited, known or inherited."""
        while True:
            with self._lock:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return
                if pid == 0:
                    return
                on_exit = self._watched.pop(pid, None)
            if on_exit is not None:
                on_exit(Exit.of(status))


def become_subreaper() -> None:
    """Inherit the orphans of all descendants, as process 1 does anyway. Where the system cannot: no matter."""
    if os.getpid() == 1:
        return
    with suppress(Exception):  # no ctypes, no prctl: orphans go to process 1, which reaps them
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_session(leader: int, number: int) -> None:
    """Signal the group of `leader`, and the groups that a shell's job control made in its session."""
    groups = {leader}
    for pid in _descendants(os.getpid()):
        with suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                groups.add(os.getpgid(pid))
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def session_lives(leader: int) -> bool:
    """Whether anything of that session is left: its group, or a job's group whose parent is gone and that is ours now."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return any(_session(pid) == leader for pid in _children(os.getpid()))
    except PermissionError:
        return True
    return True


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _descendants(pid: int) -> Iterator[int]:
    found = list(_children(pid))
    while found:
        child = found.pop()
        yield child
        found.extend(_children(child))


def _children(pid: int) -> Iterator[int]:
    """The pids of its children, where the kernel tells (CONFIG_PROC_CHILDREN); else none, and groups must do."""
    tasks = f"/proc/{pid}/task"
    try:
        threads = os.listdir(tasks)
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"{tasks}/{thread}/children") as file:
                yield from map(int, file.read().split())
        except OSError:
            continue
