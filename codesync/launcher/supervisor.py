"""An application and the signals that are meant for it: a plain good init, and all there is without a volume.

Signals and exits are events of one queue; handlers only leave a note here, and whoever waits takes it up.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from codesync.launcher.place import Place
from codesync.supervise import (
    EXITED,
    STARTING,
    STOPPING,
    Application,
    Children,
    Log,
    Loop,
    Signals,
    parse_check,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.options import Options
    from codesync.launcher.relay import Relay
    from codesync.supervise import Process

OWN_FAILURE = 70  # exit status when the launcher itself is at fault
NOT_SERVING = (STARTING, STOPPING, EXITED)  # clients wait meanwhile, as long as the relay lets them
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


class Instance:
    """The application at one place. `push_id` is of the code that it was started with, or told of, last."""

    def __init__(self, supervisor: Supervisor, place: Place) -> None:
        options = supervisor.options
        here = start_directory()
        cwd = place.cwd(options, here)
        self.place = place
        self.push_id = ""
        self._log = supervisor.log
        self._command = place.command(options)
        self.app = Application(
            supervisor.loop,
            supervisor.children,
            command=self._command,
            cwd=cwd,
            check=parse_check(
                place.check(options),
                options.settle_seconds,
                cwd,
                supervisor.children,
                body=options.health_body,
            ),
            stop_seconds=options.stop_seconds,
            heard=self._heard,
        )

    def environment(self, push_id: str) -> dict[str, str]:
        """The variables of its processes, from now on those of this push."""
        self.push_id = push_id
        return dict(os.environ, **self.place.environment(push_id))

    def start(self, push_id: str) -> Process:
        """Start it. Raises CannotStart."""
        env = self.environment(push_id)
        if self._log is not None:  # also what writes nothing can be asked for by its push
            self._log.note("the application is started", push_id)
        try:
            return self.app.start(env)
        except OSError as error:
            raise CannotStart(self._command[0], error) from error

    def _heard(self, stream: int, data: bytes) -> None:
        if self._log is not None:
            self._log.add(stream, data, self.push_id)


class Supervisor:
    """One application, its signals, and the relay where there is one. Raises HealthError, OSError.

    HealthError: a health check nobody understands. OSError: the address to listen on is not to be had.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.loop = Loop()
        self.children = Children()
        self.log = Log() if options.log_tail else None
        self.stop_signal = 0  # the first TERM or INT we got
        self.on_hang_up: Callable[[], None] | None = None  # else SIGHUP is the application's, too
        self.changed: Callable[[], None] = _nothing  # the serving instance has another state
        self.relay: Relay | None = None
        self._instances: list[Instance] = []
        port = None
        if options.listen is not None:
            from codesync.launcher.ports import free_port
            from codesync.launcher.relay import Relay

            self.relay, port = Relay(*options.listen), free_port()
        self.instance = self.make(Place(options.app_root, port))
        self.instance.app.changed = self._changed

    @property
    def app(self) -> Application:
        """The application that serves."""
        return self.instance.app

    # --- instances -------------------------------------------------------------------------------------------

    def make(self, place: Place) -> Instance:
        """Another instance, which neither runs nor serves yet."""
        instance = Instance(self, place)
        self._instances.append(instance)
        return instance

    def serve_by(self, instance: Instance) -> None:
        """From now on this is the application; new connections go there."""
        self.instance.app.changed = _nothing
        self.instance = instance
        instance.app.changed = self._changed
        self._changed()

    def forget(self, instance: Instance) -> None:
        """It has been stopped for good."""
        self._instances.remove(instance)

    def _changed(self) -> None:
        if self.relay is not None:
            serves = self.app.state not in NOT_SERVING or (
                self.app.state == STARTING and not self.app.check.real
            )
            self.relay.point(self.instance.place.port if serves else None)
        self.changed()

    # --- signals ---------------------------------------------------------------------------------------------

    def install_signals(self) -> None:
        """From now on signals are events, and clients are listened to. First of all: process 1 does not even get what it does not handle."""
        signals = Signals(self.loop)
        signals.on(signal.SIGCHLD, lambda _: self.children.reap())
        signals.on(signal.SIGHUP, self._hang_up)
        for number in (signal.SIGTERM, signal.SIGINT):
            signals.on(number, self._terminate)
        for number in FORWARDED:
            signals.on(number, self._forward)
        if self.relay is not None:
            self.relay.serve()

    def _terminate(self, number: int) -> None:
        self.stop_signal = self.stop_signal or number

    def _forward(self, number: int) -> None:
        self.app.forward(number)

    def _hang_up(self, number: int) -> None:
        if self.on_hang_up is not None:
            self.on_hang_up()
        else:
            self.app.forward(number)

    # --- hooks -----------------------------------------------------------------------------------------------

    def hook_environment(self, push_id: str) -> dict[str, str]:
        """The variables of a command that a push brings along."""
        return dict(os.environ, **self.instance.place.environment(push_id))

    def heard_from_hooks(self, stream: int, data: bytes) -> None:
        """Keep what such a command writes."""
        if self.log is not None:
            self.log.add(stream, data, self.instance.push_id)

    # --- running ---------------------------------------------------------------------------------------------

    def start(self, push_id: str) -> Process:
        """Start the application; it sees which push it runs. Raises CannotStart."""
        return self.instance.start(push_id)

    def app_is_gone(self) -> bool:
        """Whether it has exited by itself."""
        return self.app.state == EXITED and self.app.exit is not None

    def stop_for_good(self) -> int:
        """Stop the application with the signal that we were told to end with; the launcher's exit status."""
        first = self.stop_signal or signal.SIGTERM
        others = [instance for instance in self._instances if instance is not self.instance]
        for instance in others:  # at once, so that all have the time that there is
            instance.app.forward(first)
        for instance in (self.instance, *others):
            instance.app.stop(first)
        if self.relay is not None:
            self.relay.close()
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


def start_directory() -> str:
    """The launcher's own directory, which is the application's too; the root where that is gone."""
    try:
        return os.getcwd()
    except OSError:
        return "/"


def _nothing() -> None:
    pass
