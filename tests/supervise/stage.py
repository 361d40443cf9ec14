"""A loop whose children are reaped, and real applications on it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codesync.supervise import Application, Children, Loop, Process, parse_check

PATIENCE = 10.0  # seconds; nothing here takes that long unless it fails


class Recorded(Children):
    """Real processes; `sent` are the signals that sessions were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[int] = []

    def signal_session(self, leader: int, number: int) -> None:
        self.sent.append(number)
        super().signal_session(leader, number)


class Stage:
    """`heard` is the output of all applications, `states` what they have been."""

    def __init__(self, cwd: Path) -> None:
        self.loop = Loop()
        self.children = Recorded()
        self.cwd = str(cwd)
        self.states: list[str] = []
        self.heard: list[tuple[int, bytes]] = []
        self.apps: list[Application] = []

    def app(
        self, script: str, *, health: str | None = None, stop_seconds: float = 5.0, shell: str = "bash"
    ) -> Application:
        check = parse_check(health, 0.02, self.cwd, self.children)
        app = Application(
            self.loop,
            self.children,
            command=[shell, "-c", script],
            cwd=self.cwd,
            check=check,
            stop_seconds=stop_seconds,
            heard=lambda stream, chunk: self.heard.append((stream, chunk)),
        )
        app.changed = lambda: self.states.append(app.state)
        self.apps.append(app)
        return app

    def start(self, script: str, **options: Any) -> tuple[Application, Process]:
        app = self.app(script, **options)
        return app, app.start(os.environ)

    def output(self, stream: int = 1) -> bytes:
        return b"".join(chunk for number, chunk in self.heard if number == stream)

    def wait(self, ready: Callable[[], Any]) -> None:
        assert self.loop.wait(ready, self.loop.clock() + PATIENCE), "waited in vain"

    def look(self, ready: Callable[[], Any]) -> None:
        """Wait for what posts no event."""
        until = self.loop.clock() + PATIENCE
        while not ready():
            assert self.loop.clock() < until, "waited in vain"
            self.loop.wait(lambda: False, self.loop.clock() + 0.002)

    def wait_for_line(self, process: Process, line: str) -> None:
        self.look(lambda: line in process.tail.lines())

    def close(self) -> None:
        for app in self.apps:
            app.stop(signal.SIGKILL)
