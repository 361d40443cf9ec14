"""What to do when the application ends by itself. Pure: clock readings in, the decision out.

An application that ends soon after a push was kept, or that fails soon after its start, is started again, later each
time: so the launcher is there for the push that mends it. Once it has crashed, it is started again whenever it fails,
until another push is kept. Any other end is the container's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codesync.supervise import Exit

FIRST_PAUSE = 0.5  # seconds before the first start; each next pause is twice as long
LONGEST_PAUSE = 30.0
TAIL_LINES = 100


class Crashes:
    """`probation` in seconds; `record` is the last crash as the sidecar is told of it, None since the last kept push."""

    def __init__(self, probation: float, now: Callable[[], float] = time.time) -> None:
        self.record: dict[str, Any] | None = None
        self._probation = probation
        self._now = now
        self._kept = float("-inf")
        self._pause = FIRST_PAUSE
        self._restarts = 0

    def kept(self, clock: float) -> None:
        """A push was kept: what was before it is over."""
        self._kept = clock
        self._pause = FIRST_PAUSE
        self._restarts = 0
        self.record = None

    def ended(
        self, ended: Exit, *, clock: float, started: float, push_id: str, tail: Sequence[str], held: bool
    ) -> float | None:
        """Seconds until the next start; None: it is not to be started again.

        `started` is when it was. `held`: also the image's own code is, because a push can mend it.
        """
        soon = clock - self._kept <= self._probation
        early = clock - started <= self._probation
        again = self.record is not None or (early and bool(push_id or held))
        if not (soon or (again and ended.status != 0)):
            return None
        if not early:  # it had stayed up
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self.record = {
            "push_id": push_id,
            "at": self._now(),
            "after_ms": max(0, round((clock - started) * 1000)),
            "exit_code": ended.code,
            "signal": ended.signal,
            "restarts": self._restarts,
            "log_tail": list(tail)[-TAIL_LINES:],
        }
        self._restarts += 1
        return pause
