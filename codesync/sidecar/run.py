"""What is known of the push under way: a record, no behaviour but its timer's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from codesync.protocol import Failed, ReplicaReport
from codesync.sidecar.pushes import Staged


@dataclass(eq=False)
class Run:
    """One staged push and how far it is."""

    staged: Staged
    phase: str = "staged"
    report: ReplicaReport | None = None
    failure: Failed | None = None
    at_launcher: bool = False  # it was told to try
    called_off: bool = False
    trying: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def push_id(self) -> str:
        """Whose trial it is."""
        return self.staged.push.push_id

    def stop_timer(self) -> None:
        """Nothing happens any more without being asked for."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None
