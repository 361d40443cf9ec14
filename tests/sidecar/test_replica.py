"""A replica with a real launcher, told what to do by messages as the proxy sends them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from codesync.protocol import (
    MAX_CHUNK,
    Answer,
    AnswerError,
    Chunk,
    Failed,
    GetLogs,
    GetManifest,
    GetSignatures,
    Hook,
    Keep,
    Kept,
    Message,
    Stage,
    Staged,
    TreeRef,
    Tried,
    Try,
    Undo,
    Undone,
)
from codesync.sidecar.replica import Replica
from codesync.sidecar.store import Store
from tests.chain.harness import Chain, content, running_chain, tree_of
from tests.sidecar.pushing import stage_messages

pytestmark = pytest.mark.anyio


class World:
    """The replica and what it has said; `chain` has its launcher."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.said: asyncio.Queue[Message] = asyncio.Queue()
        self.store = Store.open(str(chain.replicas["one"].files))
        self.replica = Replica(self.store, self.said.put, undo_margin=1.0)

    async def expect(self, kind: type[Message]) -> Message:
        """The next message of that type; states and progress before it do not matter."""
        async with asyncio.timeout(20):
            while not isinstance(message := await self.said.get(), kind):
                assert type(message).__name__ in ("State", "Progress"), message
        return message

    async def undone(self) -> None:
        """Wait for an Undone, whatever comes before."""
        while not isinstance(await self.said.get(), Undone):
            pass

    async def ready(self) -> None:
        async with asyncio.timeout(20):
            while self.replica.state.launcher != "ready" or self.store.state.committed is None:
                await self.said.get()

    async def stage(self, push_id: str, **fields: Any) -> None:
        """What the proxy relays for a push of the chain's source."""
        for message in stage_messages(self.store, self.chain.source, push_id, **fields):
            await self.replica.handle(message)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with running_chain(tmp_path) as chain:
        chain.add_replica()
        world = World(chain)
        link = asyncio.create_task(world.replica.launcher.run())
        chain.start_launcher()
        await world.ready()
        yield world
        link.cancel()
        with suppress(asyncio.CancelledError):
            await link
        world.store.close()


async def answer(world: World, path: str = "/") -> str | None:
    return await asyncio.to_thread(world.chain.replicas["one"].ask, path)


async def test_a_trial_that_nobody_decides_is_undone_at_its_deadline(world: World) -> None:
    world.chain.write("content.py", content("new"))
    await world.stage("p1")
    await world.expect(Staged)
    await world.replica.handle(Try(push_id="p1", deadline_s=1.0))
    tried = await world.expect(Tried)
    assert isinstance(tried, Tried)
    assert tried.healthy
    assert await answer(world) == "new"
    undone = await world.expect(Undone)
    assert isinstance(undone, Undone)
    assert "nobody decided" in undone.report.reason
    await asyncio.to_thread(world.chain.wait_answer, "the image")
    assert tree_of(world.chain.replicas["one"].app) == tree_of(world.chain.image)
    await world.replica.handle(Keep(push_id="p1"))  # too late
    failed = await world.expect(Failed)
    assert isinstance(failed, Failed)
    assert failed.phase == "keep"


async def test_an_undo_ends_a_trial_that_is_still_being_judged(world: World) -> None:
    world.chain.write("content.py", content("ill", healthy=False))
    await world.stage("p1")
    await world.expect(Staged)
    await world.replica.handle(Try(push_id="p1", deadline_s=60.0))
    await asyncio.to_thread(world.chain.wait_answer, "ill")
    await world.replica.handle(Undo(push_id="p1", reason="another replica failed"))
    tried = await world.expect(Tried)
    assert isinstance(tried, Tried)
    assert not tried.healthy
    await world.expect(Undone)
    await asyncio.to_thread(world.chain.wait_answer, "the image")
    assert world.store.state.trial is None


async def test_an_undo_of_an_unknown_push_is_answered(world: World) -> None:
    await world.replica.handle(Undo(push_id="never", reason="x"))
    await world.expect(Undone)


async def test_a_keep_that_is_said_twice_is_answered_twice(world: World) -> None:
    world.chain.write("content.py", content("new"))
    await world.stage("p1")
    await world.expect(Staged)
    await world.replica.handle(Try(push_id="p1", deadline_s=60.0))
    await world.expect(Tried)
    for _ in range(2):
        await world.replica.handle(Keep(push_id="p1"))
        kept = await world.expect(Kept)
        assert isinstance(kept, Kept)
        assert (kept.report.status, kept.report.generation) == ("healthy", 1)


async def test_a_push_that_is_kept_is_not_said_to_have_failed(world: World) -> None:
    world.chain.write("content.py", content("new"))
    keep = Keep(push_id="p1")
    await on_trial(world, "p1")
    await world.replica.fail(keep, ValueError("a mistake"))
    assert isinstance(await world.expect(Failed), Failed)
    await world.replica.handle(keep)
    await world.expect(Kept)
    await world.replica.fail(keep, ValueError("a mistake"))
    await world.replica.handle(Undo(push_id="never", reason="x"))
    await world.expect(Undone)  # and nothing else before


async def test_damaged_chunks_are_a_failure_and_the_next_push_works(world: World) -> None:
    world.chain.write("content.py", content("new"))
    ref = TreeRef("0" * 64, "0" * 64)
    stage = Stage(
        push_id="p1", base=world.store.tree, target=ref, source="", description="", source_tree_id="0" * 64
    )
    await world.replica.handle(stage)
    await world.replica.handle(Chunk(push_id="p1", data=b"no batch at all", last=True))
    failed = await world.expect(Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "stage_failed"
    await world.stage("p2")
    await world.expect(Staged)


async def test_questions_about_another_tree_are_refused(world: World) -> None:
    await world.replica.handle(GetManifest(request=1, tree=TreeRef("0" * 64, "0" * 64)))
    await world.replica.handle(GetSignatures(request=2, tree_id="0" * 64, paths=(b"main.py",)))
    for _ in range(2):
        refused = await world.expect(AnswerError)
        assert isinstance(refused, AnswerError)
        assert refused.code == "stale"


async def on_trial(world: World, push_id: str, deadline_s: float = 60.0) -> None:
    await world.stage(push_id)
    await world.expect(Staged)
    await world.replica.handle(Try(push_id=push_id, deadline_s=deadline_s))
    await world.expect(Tried)


async def test_a_trial_whose_container_restarts_is_undone_unasked_and_not_kept(world: World) -> None:
    world.chain.write("content.py", content("new"))
    await on_trial(world, "p1")
    await asyncio.to_thread(world.chain.kill, "launcher-one")
    undone = await world.expect(Undone)
    assert isinstance(undone, Undone)
    assert undone.report.reason == "the container restarted during the trial"
    await world.replica.handle(Keep(push_id="p1"))
    failed = await world.expect(Failed)
    assert isinstance(failed, Failed)
    assert failed.phase == "keep"
    assert world.store.staged is None
    world.chain.start_launcher()
    await world.ready()
    await asyncio.to_thread(world.chain.wait_answer, "the image")


async def test_two_undos_at_once_leave_the_next_push_alone(world: World) -> None:
    world.chain.write("content.py", content("new"))
    await on_trial(world, "p1")
    undos = [asyncio.create_task(world.replica.handle(Undo(push_id="p1", reason=f"{n}"))) for n in range(2)]
    await world.expect(Undone)
    await world.stage("p2")
    await asyncio.gather(*undos)
    await world.expect(Undone)
    await world.expect(Staged)
    assert world.store.staged is not None
    assert world.store.staged.push.push_id == "p2"


async def test_a_push_is_tried_at_once_after_another_was_kept(world: World) -> None:
    for number in range(1, 4):
        world.chain.write("content.py", content(f"new {number}"))
        await on_trial(world, f"p{number}")
        await world.replica.handle(Keep(push_id=f"p{number}"))
        kept = await world.expect(Kept)
        assert isinstance(kept, Kept)
        assert (kept.report.status, kept.report.generation) == ("healthy", number)
        assert await answer(world) == f"new {number}"


async def test_a_trial_that_is_kept_is_not_undone_at_its_deadline(world: World) -> None:
    world.chain.write("content.py", content("new"))
    await on_trial(world, "p1", 0.2)
    await world.replica.handle(Keep(push_id="p1"))
    await world.expect(Kept)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.undone(), 1.5)
    assert await answer(world) == "new"


async def test_a_verdict_is_said_again_to_a_proxy_that_comes_back(world: World) -> None:
    world.chain.write("content.py", content("new"))
    await on_trial(world, "p1")
    told = world.replica.state
    await world.replica.reintroduce(told)
    await world.expect(Tried)
    await world.replica.handle(Undo(push_id="p1", reason="x"))
    await world.expect(Undone)
    await world.replica.reintroduce(told)
    await world.expect(Undone)


async def test_a_batch_that_the_disk_does_not_take_fails_the_push_only(world: World) -> None:
    world.chain.write("content.py", content("new"))
    stage = Stage(
        push_id="p1",
        base=world.store.tree,
        target=world.store.tree,
        source="",
        description="",
        source_tree_id="",
    )
    sidecar, away = world.store.volume.sidecar, world.store.volume.sidecar.with_name("away")
    await world.replica.handle(stage)
    sidecar.rename(away)
    try:
        for _ in range(6):
            await world.replica.handle(Chunk(push_id="p1", data=bytes(MAX_CHUNK), last=False))
    finally:
        away.rename(sidecar)
    failed = await world.expect(Failed)
    assert isinstance(failed, Failed)
    assert failed.code == "stage_failed"
    await world.stage("p2")
    await world.expect(Staged)


async def test_an_undo_is_told_also_where_it_cannot_be_recorded(world: World) -> None:
    world.chain.write("content.py", content("new"))
    await on_trial(world, "p1")
    draft = world.store.volume.state.with_name(".state.new")
    draft.mkdir()  # in the way of the state's next version
    await world.replica.handle(Undo(push_id="p1", reason="x"))
    await world.expect(Undone)
    assert world.replica.state.trial is None
    draft.rmdir()
    await on_trial(world, "p2")


async def test_hooks_run_at_the_launcher_and_its_log_is_answered(world: World) -> None:
    world.chain.write("content.py", content("new") + "print('imported', flush=True)\n")
    await world.stage("p1", hooks=(Hook(run="echo hooked", moment="before_start", seconds=20.0),))
    await world.expect(Staged)
    await world.replica.handle(Try(push_id="p1", deadline_s=60.0))
    tried = await world.expect(Tried)
    assert isinstance(tried, Tried)
    assert [(hook.exit_code, hook.output) for hook in tried.report.hooks] == [(0, ("hooked",))]
    assert tried.report.pid
    await world.replica.handle(GetLogs(request=1, replica="r", lines=100, since_push="p1"))
    answer = await world.expect(Answer)
    assert isinstance(answer, Answer)
    assert answer.last
    assert b'"text": "imported"' in answer.data
    assert b'"push_id": "p1"' in answer.data
