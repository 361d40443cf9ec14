"""A push that is stopped on this side: the proxy is told, waited for, and what became of it is told. Nothing is left behind."""

import asyncio
import gc
import secrets
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codesync import client
from codesync.client import lease
from codesync.connection import finish
from codesync.protocol import (
    Begin,
    Cancel,
    Chunk,
    Error,
    Message,
    Outcome,
    Progress,
    Push,
    ReplicaReport,
    decode,
)
from tests.client.fake import Fake, accept, fake_proxy, fill, push, tree_at
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio

Stage = Callable[[Fake, Peer], Awaitable[str]]  # until a moment of a push; then its push_id


async def waiting(fake: Fake, peer: Peer) -> str:
    return (await peer.hear(Begin)).push_id


async def planning(fake: Fake, peer: Peer) -> str:
    return (await fake.grant(peer)).push_id


async def sending(fake: Fake, peer: Peer) -> str:
    push_id = (await fake.grant(peer)).push_id
    await fake.describe(peer)
    await peer.hear(Push)
    await peer.hear(Chunk)
    return push_id


async def hear_cancel(peer: Peer, push_id: str) -> None:
    """Read on until the client cancels, and agree."""
    async for data in peer.websocket:
        assert isinstance(data, bytes)
        message = decode(data)
        if isinstance(message, Cancel):
            await peer.say(Error(code="cancelled", message="cancelled", push_id=push_id))
            return
    raise AssertionError("no cancel")


@pytest.mark.parametrize("again_and_again", [False, True])
@pytest.mark.parametrize("stage", [waiting, planning, sending])
async def test_a_cancelled_push_is_cancelled_at_the_proxy_and_leaves_nothing(
    tmp_path: Path, stage: Stage, again_and_again: bool
) -> None:
    fill(tmp_path / "source", 1)
    fill(tmp_path / "replica", 1)
    (tmp_path / "source" / "large").write_bytes(secrets.token_bytes(12 * 2**20))
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    reached = asyncio.Event()

    async def script(peer: Peer) -> None:
        push_id = await stage(fake, peer)
        reached.set()
        await hear_cancel(peer, push_id)

    before = asyncio.all_tasks()
    async with fake_proxy(script, tree=tree_at(tmp_path / "replica")) as fake:
        task = asyncio.create_task(push(fake, tmp_path))
        await asyncio.wait_for(reached.wait(), 10)
        task.cancel()
        while again_and_again and not task.done():  # as some cancel scopes do
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        await fake.all_ended(1)
    assert asyncio.all_tasks() - before <= {task}
    gc.collect()
    assert complaints == []


async def interrupted(directory: Path, end: Message) -> tuple[list[client.Progress], list[Message]]:
    """A push that is cancelled while it is tried, and whose proxy then says `end`: what was told, what the proxy heard."""
    fill(directory / "source", 1)
    fill(directory / "replica", 1)
    told: list[client.Progress] = []
    heard: list[Message] = []
    reached = asyncio.Event()

    async def script(peer: Peer) -> None:
        push_id = (await fake.grant(peer)).push_id
        await fake.describe(peer)
        await peer.hear(Push)
        await peer.hear_batch()
        await peer.say(Progress(push_id=push_id, stage="health", done=0, total=0))
        heard.append(await peer.hear(Cancel))
        await peer.say(Progress(push_id=push_id, stage="stop", done=0, total=0))
        await peer.say(replace(end, push_id=push_id))  # type: ignore[call-arg]
        await peer.websocket.wait_closed()

    def progress(message: client.Progress) -> None:
        told.append(message)
        if message.stage == "health":
            reached.set()

    async with fake_proxy(script, tree=tree_at(directory / "replica")) as fake:
        settings = fake.settings(directory)
        task = asyncio.create_task(client.push(settings, description="x", progress=progress))
        await asyncio.wait_for(reached.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), 10)
        await fake.all_ended(1)
    return told, heard


def report(status: str) -> ReplicaReport:
    return ReplicaReport(id="one", status=status, generation=4)


UNDONE = Error(code="cancelled", message="cancelled", push_id="x")
KEPT = Outcome(push_id="x", status="healthy", replicas=(report("healthy"),))


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (UNDONE, ("cancelled", "", 0, 0)),
        (KEPT, ("kept", "", 4, 0)),
        (replace(KEPT, status="partial"), ("kept", "", 4, 0)),
        (
            Outcome(push_id="x", status="rolled_back", replicas=(report("rolled_back"),)),
            ("cancelled", "", 0, 0),
        ),
        (Outcome(push_id="x", status="failed", replicas=(report("failed"),)), None),
        (replace(UNDONE, code="replaced"), None),
    ],
    ids=["undone", "kept", "partly", "rolled back", "nobody knows", "replaced"],
)
async def test_a_push_that_is_tried_is_taken_back_and_what_became_of_it_is_told(
    tmp_path: Path, end: Message, last: tuple[str, str, int, int] | None
) -> None:
    told, heard = await interrupted(tmp_path, end)
    stages = [report.stage for report in told]
    assert stages[stages.index("health") + 1 :] == ["cancelling", "stop", *([last[0]] if last else [])]
    assert last is None or told[-1] == last
    assert len(heard) == 1


async def test_a_second_cancellation_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PAUSE_SECONDS", 0.0)
    fill(tmp_path / "source", 1)
    fill(tmp_path / "replica", 1)
    waiting, cancelling = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def script(peer: Peer) -> None:
        await fake.grant(peer)
        waiting.set()
        await peer.hear(Cancel)
        cancelling.set()
        await peer.websocket.wait_closed()

    async with fake_proxy(script, tree=tree_at(tmp_path / "replica")) as fake:
        settings = fake.settings(tmp_path)
        progress = client.push(settings, description="x", progress=lambda report: told.append(report.stage))
        task = asyncio.create_task(progress)
        for event in (waiting, cancelling):
            await asyncio.wait_for(event.wait(), 10)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        await fake.all_ended(1)
    assert told[-1] == "cancelling"


async def test_what_was_never_begun_is_as_good_as_undone(tmp_path: Path) -> None:
    fill(tmp_path / "source", 1)
    told: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.websocket.wait_closed()

    async with fake_proxy(script) as fake:
        settings = fake.settings(tmp_path)
        scanning = asyncio.Event()

        def progress(report: client.Progress) -> None:
            told.append(report.stage)
            scanning.set()

        task = asyncio.create_task(client.push(settings, description="x", progress=progress))
        await scanning.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.connections == 0
    assert told == ["scan", "cancelled"]


def test_a_push_cancelled_at_any_moment_leaves_no_complaint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "source", 3)
    fill(tmp_path / "replica", 1)
    complaints: list[object] = []

    async def once(steps: int) -> None:
        """Cancel after so many turns of the loop."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

        async def takes(peer: Peer) -> None:
            await accept(fake, peer)

        async with fake_proxy(takes, tree=tree_at(tmp_path / "replica")) as fake:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            task = asyncio.create_task(push(fake, tmp_path))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    for steps in (0, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560):
        asyncio.run(once(steps))
        gc.collect()
    assert complaints == []
    assert "Traceback" not in capfd.readouterr().err


async def test_finish_ends_within_its_bound_and_raises_the_cancellation() -> None:
    started = asyncio.Event()

    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    await finish(endless(), within=0.01)
    started.clear()
    task = asyncio.create_task(finish(endless(), within=0.05))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
