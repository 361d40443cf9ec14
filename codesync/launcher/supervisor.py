"""An application and the signals that are meant for it: a plain good init, and all there is without a volume.

Signals and exits are events of one queue; handlers only leave a note here, and whoever waits takes it up.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from codesync.supervise import EXITED, Application, Children, Loop, Signals, parse_check

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.options import Options
    from codesync.supervise import Process

OWN_FAILURE = 70  # exit status when the launcher itself is at fault
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGQUIT, signal.SIGCONT)


class CannotStart(Exception):
    """There is nothing to run. `status` is what a shell would exit with: 127 not found, 126 not executable."""

    def __init__(self, command: str, error: OSError) -> None:
        super().__init__(f"the application cannot be started: {command}: {error.strerror}")
        self.status = 127 if isinstance(error, FileNotFoundError) else 126


class Terminated(Exception):
    """The launcher has been told to end; whoever waits puts its things in order and passes this on."""


def note(text: str) -> None:
    """One line on stderr, among what the application writes there."""
    try:
        os.write(2, b"codesync: " + text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass  # nobody listens


class Supervisor:
    """One application and its signals. Raises HealthError for a health check nobody understands."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.loop = Loop()
        self.stop_signal = 0  # the first TERM or INT we got
        self.on_hang_up: Callable[[], None] | None = None  # else SIGHUP is the application's, too
        self._children = Children()
        self.app = Application(
            self.loop,
            self._children,
            command=options.command,
            cwd=os.getcwd(),
            check=parse_check(options.health, options.settle_seconds, os.getcwd(), self._children),
            stop_seconds=options.stop_seconds,
        )

    def install_signals(self) -> None:
        """From now on signals are events. First of all: process 1 does not even get what it does not handle."""
        signals = Signals(self.loop)
        signals.on(signal.SIGCHLD, lambda _: self._children.reap())
        signals.on(signal.SIGHUP, self._hang_up)
        for number in (signal.SIGTERM, signal.SIGINT):
            signals.on(number, self._terminate)
        for number in FORWARDED:
            signals.on(number, self.app.forward)

    def _terminate(self, number: int) -> None:
        self.stop_signal = self.stop_signal or number

    def _hang_up(self, number: int) -> None:
        if self.on_hang_up is not None:
            self.on_hang_up()
        else:
            self.app.forward(number)

    def start(self, push_id: str) -> Process:
        """Start the application; it sees which push it runs. Raises CannotStart."""
        env = dict(os.environ, CODESYNC_PUSH_ID=push_id, BIFROST_PUSH_ID=push_id)
        try:
            return self.app.start(env)
        except OSError as error:
            raise CannotStart(self.options.command[0], error) from error

    def app_is_gone(self) -> bool:
        """Whether it has exited by itself."""
        return self.app.state == EXITED and self.app.exit is not None

    def stop_for_good(self) -> int:
        """Stop the application with the signal that we were told to end with; the launcher's exit status."""
        self.app.stop(self.stop_signal or signal.SIGTERM)
        return self.app.exit.status if self.app.exit else 128 + self.stop_signal

    def serve(self) -> int:
        """Run until the application ends, or we are told to: the exit status."""
        try:
            self.start("")
        except CannotStart as error:
            note(str(error))
            return error.status
        self.loop.wait(lambda: self.stop_signal or self.app_is_gone())
        return self.stop_for_good()
