"""An application that has ended by itself: started again after a pause, or left alone. `crashes.py` decides which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesync.launcher.crashes import LONGEST_PAUSE, Crashes
from codesync.launcher.supervisor import CannotStart

if TYPE_CHECKING:
    from codesync.launcher.service import Service
    from codesync.supervise import Process


class Probation:
    """`due`: the clock when it is started again. All of it in the consumer."""

    def __init__(self, service: Service) -> None:
        self.due: float | None = None
        self._left: Process | None = None  # it has ended, and is not started again
        self._service = service
        self._crashes = Crashes(service.options.probation_seconds)

    @property
    def record(self) -> dict[str, Any] | None:
        """The last crash since a push was kept, as the sidecar is told."""
        return self._crashes.record

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self._service.supervisor.app_is_gone() and self._left is self._service.app.process

    @property
    def is_open(self) -> bool:
        """Whether it has ended, and nothing is decided yet."""
        return self._service.supervisor.app_is_gone() and self.due is None and not self.is_over

    def kept(self) -> None:
        """A push was kept: its probation begins."""
        self._crashes.kept(self._service.loop.clock())

    def started(self) -> None:
        """Somebody has started it, or another instance serves."""
        self.due = None

    def look_after(self) -> bool:
        """Decide, or start it when that is due; False when there is nothing to do."""
        if self.is_open:
            self._decide()
        elif self.due is not None and self.due <= self._service.loop.clock():
            self._start_again()
        else:
            return False
        return True

    def _decide(self) -> None:
        service, process = self._service, self._service.app.process
        assert process is not None, "it has ended"
        assert process.exit is not None, "it has ended"
        pause = self._crashes.ended(
            process.exit,
            clock=process.ended,
            started=process.started,
            push_id=service.tree.applied.push_id,
            tail=process.tail.lines() if service.options.log_tail else [],
            held=service.volume.has_sidecar(),
        )
        if pause is None:
            self._left = process
            return
        service.app.stop()  # what it left behind
        self.due = service.loop.clock() + pause
        service.note(f"the application ended with {process.exit}; it is started again in {pause:g} s")
        service.link.send("crashed", **(self.record or {}))
        service.tell_app()

    def _start_again(self) -> None:
        try:
            self._service.start(self._service.tree.applied.push_id)
        except CannotStart as error:
            self._service.complain(str(error))
            self.due = self._service.loop.clock() + LONGEST_PAUSE
