"""What goes on beside the conversation: tasks whose failures are logged, and one disk operation at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("codesync.sidecar")


class Tasks:
    """`spawn` what need not be waited for, `disk` for what blocks; `settle` before the volume is given back."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._disk = asyncio.Lock()
        self._operations: set[asyncio.Task[Any]] = set()
        self._closing = False

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin it; an exception is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reaped)
        return task

    async def disk(self, work: Callable[[], T]) -> T:
        """Do it in a thread, after those before it. Once begun it is finished, also when the caller is cancelled."""
        operation = asyncio.get_running_loop().create_task(self._in_turn(work))
        self._operations.add(operation)
        operation.add_done_callback(self._operations.discard)
        return await asyncio.shield(operation)

    async def settle(self, within: float) -> None:
        """Begin nothing on disk any more; wait up to `within` seconds for what has begun."""
        self._closing = True
        if self._operations:
            _, late = await asyncio.wait(self._operations, timeout=within)
            if late:
                log.error("a disk operation has not ended within %.0f s", within)

    async def _in_turn(self, work: Callable[[], T]) -> T:
        async with self._disk:
            if self._closing:
                raise asyncio.CancelledError
            return await asyncio.to_thread(work)

    def _reaped(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("internal error", exc_info=task.exception())
