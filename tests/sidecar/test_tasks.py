"""Disk operations outlive whoever asked for them, and are waited for."""

import asyncio
import threading

import pytest

from codesync.sidecar.tasks import Tasks

pytestmark = pytest.mark.anyio


async def test_a_disk_operation_that_has_begun_is_waited_for_and_no_other_begins() -> None:
    tasks, begun, go, done = Tasks(), threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go.wait(5)
        done.append(1)

    caller = asyncio.create_task(tasks.disk(work))
    await asyncio.to_thread(begun.wait, 5)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    settled = asyncio.create_task(tasks.settle(5))
    go.set()
    await settled
    assert done == [1]
    with pytest.raises(asyncio.CancelledError):
        await tasks.disk(work)
    assert done == [1]
