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

from codesync.supervise.output import pump

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    """The table of processes: whatever is done to one is done here, so that a test can put its own in its place.

    Spawn from any thread; `reap` when SIGCHLD has come. A session is named by its leader's pid.
    """

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

    def spawn_heard(
        self,
        command: Sequence[str],
        on_exit: Callable[[Exit], None],
        heard: Callable[[int, bytes], None],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: int | None = subprocess.DEVNULL,
    ) -> int:
        """`spawn`, its output passed on to our own stdout and stderr: streams 1 and 2.

        `heard(stream, chunk)` is called for every chunk by the thread that passes it on, and at the stream's end, when
        nobody holds it any more, with an empty one.
        """
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        # their threads are there before a child competes with them, and end by themselves when there will be none
        pump(out, 1, lambda chunk: heard(1, chunk))
        pump(err, 2, lambda chunk: heard(2, chunk))
        try:
            return self.spawn(command, on_exit, cwd=cwd, env=env, stdin=stdin, stdout=out_end, stderr=err_end)
        finally:
            os.close(out_end)
            os.close(err_end)

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

    def signal(self, pid: int, number: int) -> None:
        """Signal one process, if it is there."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def signal_session(self, leader: int, number: int) -> None:
        """Signal the group of `leader`, and the groups that a shell's job control made in its session.

        A stopped process would not hear anything but KILL: it is told to go on.
        """
        groups = {leader}
        for pid in _session(leader):
            with suppress(OSError):
                groups.add(os.getpgid(pid))
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
                if number != signal.SIGKILL:
                    os.killpg(group, signal.SIGCONT)

    def members(self, leader: int) -> frozenset[int]:
        """The pids of what runs in that session."""
        return frozenset(pid for pid in _session(leader) if not _is_over(pid))

    def session_lives(self, leader: int) -> bool:
        """Whether anything runs in that session."""
        found = _session(leader)
        if found:
            return not all(map(_is_over, found))
        try:  # what is not shown in /proc (none there, or others' processes hidden) can still be asked for
            os.killpg(leader, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def become_subreaper() -> None:
    """Inherit the orphans of all descendants, as process 1 does anyway. Where the system cannot: no matter."""
    if os.getpid() == 1:
        return
    with suppress(Exception):  # no ctypes, no prctl: orphans go to process 1, which reaps them
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _session(leader: int) -> list[int]:
    """The pids of that session, zombies too; one look at /proc, a fraction of a millisecond per hundred processes."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    found = []
    for pid in map(int, filter(str.isdigit, names)):
        with suppress(OSError):  # it has ended meanwhile
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


def _is_over(pid: int) -> bool:
    """Whether it is gone, or a zombie that its parent may never reap. One of ours is reaped in a moment, and then gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, parent = file.read().rpartition(b") ")[2].split()[:2]
    except (OSError, ValueError):
        return True
    return state in (b"Z", b"X") and int(parent) != os.getpid()
