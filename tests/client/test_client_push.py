"""A push against a proxy that does what a real one rarely does: guards hold, leases are given back, nothing is left."""

import asyncio
import gc
import secrets
import shutil
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path

import pytest

from codesync import client
from codesync.client import ClientError, PushResult
from codesync.connection import finish
from codesync.plan import GuardError
from codesync.protocol import Begin, Cancel, Chunk, Error, Outcome, Progress, Push, ReplicaReport, decode
from tests.client.fake import Fake, agree_to_cancel, fake_proxy, fill, tree_at
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio


async def push(fake: Fake, directory: Path, push_id: str | None = None) -> PushResult:
    async with asyncio.timeout(20):
        return await client.push(fake.settings(directory), description="x", push_id=push_id)


async def accept(fake: Fake, peer: Peer) -> None:
    """A whole push that ends well."""
    begin = await fake.grant(peer)
    await fake.describe(peer)
    await peer.hear(Push)
    await peer.hear_batch()
    report = ReplicaReport(id="one", status="healthy", generation=1)
    await peer.say(Outcome(push_id=begin.push_id, status="healthy", replicas=(report,)))
    await peer.websocket.wait_closed()


# -- a source that changes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("push_id", [None, "mine"])
async def test_a_source_that_changes_meets_the_guards_again(tmp_path: Path, push_id: str | None) -> None:
    source = tmp_path / "source"
    fill(source, 60)
    replica = tree_at(source)
    (source / "0.txt").write_text("changed")
    begun: list[Begin] = []

    async def second(peer: Peer) -> None:
        begin = await fake.grant(peer)
        begun.append(begin)
        await agree_to_cancel(peer, begin.push_id)

    async def first(peer: Peer) -> None:
        begin = await peer.hear(Begin)
        begun.append(begin)
        for number in range(59):
            (source / f"{number}.txt").unlink()
        await fake.grant_to(peer, begin)
        await fake.describe(peer)
        await agree_to_cancel(peer, begin.push_id)

    async with fake_proxy(first, second, tree=replica) as fake:
        with pytest.raises(GuardError, match="deletes 59 of 60"):
            await push(fake, tmp_path, push_id)
        await fake.all_ended(2)
    ids, trees = [b.push_id for b in begun], [b.source_tree_id for b in begun]
    assert trees[0] != trees[1] == tree_at(source).manifest.tree_id
    assert (ids == ["mine", "mine"]) if push_id else (ids[0] != ids[1])


async def test_a_changed_source_is_counted_anew(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, 4)
    replica = tree_at(source)
    (source / "0.txt").write_text("changed")

    async def first(peer: Peer) -> None:
        begin = await peer.hear(Begin)
        (source / "0.txt").unlink()
        (source / "1.txt").unlink()
        await fake.grant_to(peer, begin)
        await fake.describe(peer)
        await agree_to_cancel(peer, begin.push_id)

    async def second(peer: Peer) -> None:
        begin = await fake.grant(peer)
        await peer.hear(Push)
        await peer.hear_batch()
        report = ReplicaReport(id="one", status="healthy", generation=1)
        await peer.say(Outcome(push_id=begin.push_id, status="healthy", replicas=(report,)))

    async with fake_proxy(first, second, tree=replica) as fake:
        result = await push(fake, tmp_path)
        await fake.all_ended(2)
    assert (result.status, result.files.deleted, result.files.modified) == ("healthy", 2, 0)


async def test_a_source_that_never_rests_is_given_up_after_three_rescans(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, 4)
    replica = tree_at(source)
    (source / "0.txt").write_text("changed")

    async def script(peer: Peer) -> None:
        begin = await peer.hear(Begin)
        (source / "0.txt").write_text("changed" * (fake.connections + 1))
        await fake.grant_to(peer, begin)
        if fake.connections == 1:
            await fake.describe(peer)
        await agree_to_cancel(peer, begin.push_id)

    async with fake_proxy(script, tree=replica) as fake:
        with pytest.raises(ClientError, match="keeps changing"):
            await push(fake, tmp_path)
        await fake.all_ended(4)
        assert fake.connections == 4


# -- connections that end ----------------------------------------------------------------------------------------------


async def test_a_guard_is_heard_when_the_proxy_is_lost_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    fill(tmp_path / "replica", 60)

    async def script(peer: Peer) -> None:
        await fake.grant(peer)
        await fake.describe(peer)
        peer.websocket.transport.abort()

    async with fake_proxy(script, tree=tree_at(tmp_path / "replica")) as fake:
        with pytest.raises(GuardError, match="empty"):
            await push(fake, tmp_path)


async def test_a_guard_is_heard_when_the_proxy_does_not_answer_the_cancel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("codesync.client.push"), "CANCEL_SECONDS", 0.1)
    (tmp_path / "source").mkdir()
    fill(tmp_path / "replica", 60)

    async def script(peer: Peer) -> None:
        await fake.grant(peer)
        await fake.describe(peer)
        await peer.hear(Cancel)
        await peer.websocket.wait_closed()

    async with fake_proxy(script, tree=tree_at(tmp_path / "replica")) as fake:
        with pytest.raises(GuardError, match="empty"):
            await push(fake, tmp_path)
        await fake.all_ended(1)


@pytest.mark.parametrize("politely", [True, False])
async def test_a_connection_closed_during_the_upload_is_tried_again(tmp_path: Path, politely: bool) -> None:
    fill(tmp_path / "replica", 1)
    fill(tmp_path / "source", 1)
    (tmp_path / "source" / "large").write_bytes(secrets.token_bytes(8 * 2**20))
    begun: list[str] = []

    async def breaks(peer: Peer) -> None:
        begun.append((await fake.grant(peer)).push_id)
        await fake.describe(peer)
        await peer.hear(Push)
        await peer.hear(Chunk)
        if politely:
            await peer.websocket.close(1001)
        else:
            peer.websocket.transport.abort()

    async def takes(peer: Peer) -> None:
        begin = await fake.grant(peer)
        begun.append(begin.push_id)
        await peer.hear(Push)
        await peer.hear_batch()
        report = ReplicaReport(id="one", status="healthy", generation=1)
        await peer.say(Outcome(push_id=begin.push_id, status="healthy", replicas=(report,)))

    async with fake_proxy(breaks, takes, tree=tree_at(tmp_path / "replica")) as fake:
        assert (await push(fake, tmp_path)).status == "healthy"
    assert begun[0] == begun[1]


async def refuse(peer: Peer) -> None:
    begin = await peer.hear(Begin)
    await peer.say(Error(code="no_replica", message="no sidecar", push_id=begin.push_id))


async def test_a_replica_that_comes_back_after_the_proxy_is_waited_for(tmp_path: Path) -> None:
    fill(tmp_path / "source", 1)
    fill(tmp_path / "replica", 1)

    async def breaks(peer: Peer) -> None:
        await peer.hear(Begin)
        peer.websocket.transport.abort()

    async def takes(peer: Peer) -> None:
        await accept(fake, peer)

    tree = tree_at(tmp_path / "replica")
    async with fake_proxy(breaks, refuse, refuse, takes, tree=tree) as fake:
        assert (await push(fake, tmp_path)).status == "healthy"


async def test_no_replica_at_first_is_told_at_once(tmp_path: Path) -> None:
    fill(tmp_path / "source", 1)
    async with fake_proxy(refuse) as fake:
        with pytest.raises(ClientError, match="no sidecar"):
            await push(fake, tmp_path)
        assert fake.connections == 1


# -- cancellation ------------------------------------------------------------------------------------------------------

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


async def test_what_was_wholly_sent_goes_on_when_the_client_is_cancelled(tmp_path: Path) -> None:
    fill(tmp_path / "source", 1)
    fill(tmp_path / "replica", 1)
    reached = asyncio.Event()

    async def script(peer: Peer) -> None:
        await fake.grant(peer)
        await fake.describe(peer)
        await peer.hear(Push)
        await peer.hear_batch()
        await peer.say(Progress(push_id="x", stage="apply", done=0, total=1))
        assert [decode(data) async for data in peer.websocket if isinstance(data, bytes)] == []

    def progress(message: client.Progress) -> None:
        if message.stage == "apply":
            reached.set()

    async with fake_proxy(script, tree=tree_at(tmp_path / "replica")) as fake:
        settings = fake.settings(tmp_path)
        task = asyncio.create_task(client.push(settings, description="x", progress=progress))
        await asyncio.wait_for(reached.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await fake.all_ended(1)


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
