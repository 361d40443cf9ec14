"""Commands that a push brings along: run in order, once, bounded in time, each in a session of its own.

What they write goes where the application's output goes, and its end into the report.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from codesync.supervise import Application, Never, Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from codesync.launcher.records import PlannedHook
    from codesync.supervise import Children, Loop, Process

OUTPUT_LINES = 40
OUTPUT_BYTES = 8192
STOP_SECONDS = 5.0


class HookFailed(Exception):
    """One line: which hook, and how it ended."""


class Hooks:
    """Runs the hooks of one push. `reports` holds what became of those that ran; `wait` as the service waits."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        wait: Callable[[Callable[[], Any], float | None], None],
        heard: Callable[[int, bytes], None],
        *,
        tell: bool,
    ) -> None:
        self.reports: list[dict[str, Any]] = []
        self._loop = loop
        self._children = children
        self._wait = wait
        self._heard = heard
        self._tell = tell  # what they write may be reported

    def run(
        self,
        hooks: Iterable[PlannedHook],
        *,
        cwd: str,
        env: Mapping[str, str],
        called_off: Callable[[], Any],
    ) -> None:
        """Run these, one after another. Raises HookFailed at the first that fails; what follows it is not run."""
        for hook in hooks:
            report = self._run(hook, cwd, env, called_off)
            self.reports.append(report)
            if report["reason"]:
                raise HookFailed(f"the hook `{hook.run}` {report['reason']}")

    def _run(
        self, hook: PlannedHook, cwd: str, env: Mapping[str, str], called_off: Callable[[], Any]
    ) -> dict[str, Any]:
        tail = Tail(OUTPUT_LINES, OUTPUT_BYTES)
        started = self._loop.clock()
        process, reason = self._ended(hook, cwd, env, called_off, tail)
        ended = process.exit if process and not reason else None
        if ended is not None and ended.status != 0:
            reason = f"ended with {ended}"
        return {
            "run": hook.run,
            "moment": hook.moment,
            "exit_code": ended.code if ended else None,
            "signal": ended.signal if ended else None,
            "ms": round((self._loop.clock() - started) * 1000),
            "output": tail.lines() if self._tell else [],
            "reason": reason,
        }

    def _ended(
        self,
        hook: PlannedHook,
        cwd: str,
        env: Mapping[str, str],
        called_off: Callable[[], Any],
        tail: Tail,
    ) -> tuple[Process | None, str]:
        """Its process, when it has ended, and why that was not by itself."""

        def heard(stream: int, data: bytes) -> None:
            tail.add(stream, data)
            self._heard(stream, data)

        command = Application(
            self._loop,
            self._children,
            command=["/bin/sh", "-c", hook.run],
            cwd=cwd,
            check=Never(),
            stop_seconds=STOP_SECONDS,
            heard=heard,
            stdin=subprocess.DEVNULL,
        )
        try:
            process = command.start(env)
        except OSError as error:
            return None, f"cannot be started: {error.strerror}"
        until = self._loop.clock() + hook.seconds
        try:
            self._wait(lambda: process.exit or called_off(), until)
            by_itself = process.exit is not None
        finally:
            command.stop()
        if by_itself:
            return process, ""
        return process, "was stopped: the push was called off" if called_off() else (
            f"did not end within {hook.seconds:g} s"
        )
