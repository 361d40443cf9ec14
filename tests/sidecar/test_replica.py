"""A replica with a real launcher, told what to do by messages as the proxy sends them."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from codesync.delta import TrackedChange, scan, tracked_id, write_batch
from codesync.protocol import (
    MAX_CHUNK,
    AnswerError,
    Chunk,
    Failed,
    GetManifest,
    GetSignatures,
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

pytestmark = pytest.mark.anyio


class World:
    """The replica and what it has said; `chain` has its launcher."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.said: asyncio.Queue[Message] = asyncio.Queue()
        self.store = Store.open(str(chain.replicas["one"].files))
        self.replica = Replica(self.store, self.said.put)

    async def expect(self, kind: type[Message]) -> Message:
        """The next message of that type; states and progress before it do not matter."""
        async with asyncio.timeout(20):
            while not isinstance(message := await self.said.get(), kind):
                assert type(message).__name__ in ("State", "Progress"), message
        return message

    async def ready(self) -> None:
        async with asyncio.timeout(20):
            while self.replica.state.launcher != "ready" or self.store.state.committed is None:
                await self.said.get()

    async def stage(self, push_id: str) -> None:
        """What the proxy relays for a push of the chain's source."""
        source = self.chain.source
        target = scan(str(source))
        file = io.BytesIO()
        tracked = TrackedChange.between(self.store.committed.tracked, target, target.paths)
        write_batch(file, str(source), self.store.manifest, target, push_id=push_id, tracked=tracked)
        ref = TreeRef(target.tree_id, tracked_id(target.paths))
        stage = Stage(
            push_id=push_id,
            base=self.store.tree,
            target=ref,
            source="s",
            description="d",
            source_tree_id=ref.tree_id,
        )
        await self.replica.handle(stage)
        data = file.getvalue()
        for start in range(0, len(data), MAX_CHUNK):
            last = start + MAX_CHUNK >= len(data)
            await self.replica.handle(Chunk(push_id=push_id, data=data[start : start + MAX_CHUNK], last=last))


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
    await world.replica.handle(Try(push_id="p1", deadline_s=2.0))
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
