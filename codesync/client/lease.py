"""A push's time at the proxy: however it is stopped on this side, the proxy is told, and what became of it is learnt.

What stops by an error before all was sent is given back quickly. A cancellation takes back also what replicas are trying,
and waits until their old code runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from codesync.client.results import ClientError, Progress, ProgressCallback
from codesync.client.session import Session
from codesync.connection import finish
from codesync.errors import UserError
from codesync.protocol import KEPT_STATUSES, Cancel, Code, Outcome

GIVE_BACK_SECONDS = 5.0
UNDO_SECONDS = 60.0  # on replicas the old code has to be stopped and started
PAUSE_SECONDS = (
    0.2  # some cancel scopes cancel again at every await; what comes after such a pause is meant anew
)


@dataclass
class Lease:
    """`sent`: the proxy has all that it needs; from now on only a cancellation takes it back. `no_changes`: nothing to send."""

    sent: bool = False
    no_changes: bool = False


@asynccontextmanager
async def lease(session: Session, push_id: str, progress: ProgressCallback) -> AsyncIterator[Lease]:
    """Hold the deployment for the block, from before `begin` or `rollback` to the end of the push."""
    held = Lease()
    try:
        yield held
    except asyncio.CancelledError:
        await _take_back(session, push_id, progress)
        held.sent = True  # there is nothing left to give back
        raise
    finally:
        if not held.sent and not session.ended.done():
            await finish(_cancel(session, push_id, held.no_changes), within=GIVE_BACK_SECONDS)


async def _take_back(session: Session, push_id: str, progress: ProgressCallback) -> None:
    """Cancel it, and tell what became of it where that can be learnt."""
    if not session.ended.done():
        progress(Progress("cancelling", "", 0, 0))
        await patiently(_cancel(session, push_id), within=UNDO_SECONDS)
    if (end := _what_became(session)) is not None:
        progress(end)


async def _cancel(session: Session, push_id: str, no_changes: bool = False) -> None:
    """Say it, and hear the proxy agree: then another push can begin."""
    await session.send(Cancel(push_id=push_id, no_changes=no_changes))
    await asyncio.wait([session.ended])


def _what_became(session: Session) -> Progress | None:
    ended = session.ended
    if not ended.done() or ended.cancelled():
        return None
    if (error := ended.exception()) is not None:
        undone = isinstance(error, ClientError) and error.code == Code.CANCELLED
        return Progress("cancelled", "", 0, 0) if undone else None
    return end_of(ended.result())


def end_of(outcome: Outcome) -> Progress | None:
    """What a cancellation that comes too late is told of a push, None where that is not known."""
    if outcome.status in (*KEPT_STATUSES, "partial"):
        return Progress("kept", "", max((report.generation for report in outcome.replicas), default=0), 0)
    return Progress("cancelled", "", 0, 0) if outcome.status == "rolled_back" else None


async def patiently(work: Coroutine[Any, Any, None], *, within: float) -> None:
    """Bring `work` to its end, for at most `within` seconds, although the caller is being cancelled.

    A lost connection or a passed bound is no error here. A second cancellation ends it at once; it is not raised.
    """

    async def bounded() -> None:
        with suppress(UserError, OSError):
            async with asyncio.timeout(within):
                await work

    task = asyncio.create_task(bounded())
    clock = asyncio.get_running_loop().time
    last = clock()
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            previous, last = last, clock()
            if last - previous > PAUSE_SECONDS:
                task.cancel()
    if not task.cancelled():
        task.result()
