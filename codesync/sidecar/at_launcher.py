"""What a push asks of the launcher: to try it, to keep it, to undo it. One trial at a time.

The launcher may be lost at every step: it reads the committed tree when it is back, and undoes what is not committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from codesync.sidecar.launcher_link import LauncherError, LauncherLink, Message
from codesync.sidecar.tasks import Tasks

VERDICT_MARGIN = 15.0  # past its deadline the launcher still has to put the old code back
STOP_SECONDS = 60.0  # the launcher's answer to keep, undo and apply

log = logging.getLogger("codesync.sidecar")


class AtLauncher:
    """The launcher, as a trial sees it. `tell_state` is called when it has kept a push."""

    def __init__(
        self, launcher: LauncherLink, tasks: Tasks, tell_state: Callable[[], Awaitable[None]]
    ) -> None:
        self._launcher = launcher
        self._tasks = tasks
        self._tell_state = tell_state
        self._keeping: asyncio.Task[None] | None = None
        self._app_end: dict[str, Any] | None = (
            None  # how the application is told to have ended, since the last `try`
        )

    @property
    def connected(self) -> bool:
        """Whether one is there."""
        return self._launcher.connected

    async def is_there(self) -> bool:
        """Whether one is there, or comes back in a moment."""
        return await self._launcher.is_there()

    @property
    def has_check(self) -> bool:
        """Whether it has a health check."""
        return bool(self._launcher.hello and self._launcher.hello["health"])

    async def free(self) -> None:
        """Wait until it has kept the push before."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    async def attempt(self, push_id: str, seconds: float) -> Message:
        """Have it try the push, decided within so many seconds: its verdict. Raises LauncherError."""
        self._app_end = None  # what was before says nothing about this trial
        asked = {"type": "try", "push_id": push_id, "deadline_s": seconds}
        return await self._launcher.request(asked, "verdict", seconds + VERDICT_MARGIN)

    def keep(self, push_id: str) -> None:
        """Tell it that the push is committed, in a task of its own."""
        self._keeping = self._tasks.spawn(self._keep(push_id))

    async def _keep(self, push_id: str) -> None:
        try:
            await self._launcher.request({"type": "keep", "push_id": push_id}, "kept", STOP_SECONDS)
        except LauncherError as error:
            log.warning("%s; it reads the committed tree when it is back", error)
        await self._tell_state()

    async def undo(self, push_id: str) -> None:
        """Have it put the old tree back, and wait until it has."""
        try:
            await self._launcher.request({"type": "undo", "push_id": push_id}, "undone", STOP_SECONDS)
        except LauncherError as error:
            log.warning("%s; it undoes the trial when it is back", error)

    def app_is(self, app: dict[str, Any]) -> None:
        """The application's state, as the launcher tells it."""
        self._app_end = app if app.get("state") == "exited" else None

    def has_ended(self, pid: int | None) -> bool:
        """Whether the process that was judged has: not one of before, nor another beside it."""
        ended = self._app_end
        return ended is not None and (pid is None or ended.get("pid") in (pid, None))
