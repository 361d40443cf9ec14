"""A rollback's result is as true as a push's: what it went back to, what that has changed, what became of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codesync import client
from codesync.client import ClientError, PushResult
from codesync.client.results import CRASHED, NEXT_STEPS
from codesync.client.trees import encode_tree
from codesync.plan import ReplicaTree
from codesync.protocol import (
    AnswerError,
    Cancel,
    Crash,
    Error,
    GetManifest,
    HistoryEntry,
    Hook,
    Outcome,
    Progress,
    ReplicaReport,
    ReplicaState,
    Rollback,
    TreeRef,
)
from tests.client.fake import Fake, answer, fake_proxy, fill, tree_at
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio

HOOK = Hook(run="make", moment="before_start", seconds=5.0, when="*.txt")


def trees(directory: Path) -> tuple[ReplicaTree, ReplicaTree]:
    """The present tree and the one before: one file more, one changed."""
    root = directory / "replica"
    fill(root, 4)
    before = tree_at(root)
    (root / "0.txt").write_text("changed")
    (root / "new.txt").write_text("new")
    return tree_at(root), before


def entry(push_id: str, tree: ReplicaTree, **fields: object) -> HistoryEntry:
    return HistoryEntry(push_id=push_id, generation=1, tree=TreeRef(*tree.ids), **fields)  # type: ignore[arg-type]


def at(tree: ReplicaTree, *history: HistoryEntry, crash: Crash | None = None) -> ReplicaState:
    return ReplicaState(id="one", tree=TreeRef(*tree.ids), history=history, crash=crash)


def kept(push_id: str, status: str = "healthy") -> Outcome:
    steps = {"apply": 2, "stop": 5, "start": 6, "health": 70}
    report = ReplicaReport(id="one", status=status, generation=3, timings_ms=steps)
    return Outcome(push_id=push_id, status=status, replicas=(report,))


async def roll_back(fake: Fake, directory: Path, push_id: str | None = None, *hooks: Hook) -> PushResult:
    async with asyncio.timeout(10):
        return await client.rollback(fake.settings(directory, *hooks), push_id=push_id, description="why")


@pytest.mark.parametrize("asked_for", [None, "p1"])
async def test_what_it_went_back_to_and_what_that_changed_is_told(
    tmp_path: Path, asked_for: str | None
) -> None:
    now, before = trees(tmp_path)
    words: list[Rollback] = []

    async def first(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        await answer(peer, asked.request, encode_tree(now))
        words.append(await peer.hear(Rollback))
        push_id = words[0].push_id
        fake.states = (
            at(before, entry("p1", before), entry("p2", now), entry(push_id, before, restores="p1")),
        )
        await peer.say(kept(push_id))
        await peer.websocket.wait_closed()

    async def second(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        await answer(peer, asked.request, encode_tree(before))
        await peer.websocket.wait_closed()

    crash = Crash(push_id="p2", at=1.0, after_ms=900)
    states = (at(now, entry("p1", before), entry("p2", now), crash=crash),)
    async with fake_proxy(first, second, states=states) as fake:
        result = await roll_back(fake, tmp_path, asked_for, HOOK)
    assert (words[0].to, words[0].description, words[0].hooks) == (asked_for or "", "why", (HOOK,))
    assert (result.push_id, result.restores, result.generation) == (words[0].push_id, "p1", 3)
    counts = result.files
    assert (counts.added, counts.modified, counts.deleted, counts.renamed) == (0, 1, 1, 0)
    assert (result.bytes.tree, result.bytes.sent) == (before.manifest.total_size, 0)
    timings = result.timings_ms
    assert (timings.scan, timings.apply, timings.restart, timings.health) == (0, 2, 11, 70)
    assert result.next_step == f"{NEXT_STEPS['healthy']} {CRASHED.format(push_id='p2', after_s=0.9)}"


async def test_numbers_that_cannot_be_learnt_do_not_make_a_rollback_fail(tmp_path: Path) -> None:
    now, before = trees(tmp_path)

    async def first(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        await peer.say(AnswerError(request=asked.request, code="no_replica", message="busy"))
        words = await peer.hear(Rollback)
        await peer.say(kept(words.push_id))
        await peer.websocket.wait_closed()

    async def second(peer: Peer) -> None:
        peer.websocket.transport.abort()

    async with fake_proxy(first, second, states=(at(now, entry("p1", before)),)) as fake:
        result = await roll_back(fake, tmp_path)
    assert (result.status, result.restores, result.files.modified) == ("healthy", "", 0)


async def test_one_that_was_not_kept_is_not_looked_up(tmp_path: Path) -> None:
    now, before = trees(tmp_path)

    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        await answer(peer, asked.request, encode_tree(now))
        words = await peer.hear(Rollback)
        report = ReplicaReport(id="one", status="rolled_back", generation=2, reason="it ended", exit_code=1)
        await peer.say(Outcome(push_id=words.push_id, status="rolled_back", replicas=(report,)))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=(at(now, entry("p1", before)),)) as fake:
        result = await roll_back(fake, tmp_path, "p1")
        assert fake.connections == 1
    assert (result.status, result.generation, result.restores, result.ok) == ("rolled_back", 2, "p1", False)


async def test_a_connection_that_is_lost_is_taken_up_with_the_same_push_id(tmp_path: Path) -> None:
    now, _ = trees(tmp_path)
    ids: list[str] = []

    async def breaks(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        await answer(peer, asked.request, encode_tree(now))
        ids.append((await peer.hear(Rollback)).push_id)
        peer.websocket.transport.abort()

    async def answers(peer: Peer) -> None:
        ids.append((await peer.hear(Rollback)).push_id)
        await peer.say(kept(ids[0]))
        await peer.websocket.wait_closed()

    async with fake_proxy(breaks, answers, states=(at(now),)) as fake:
        assert (await roll_back(fake, tmp_path)).status == "healthy"
    assert ids[0] == ids[1]


async def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    now, _ = trees(tmp_path)

    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        await answer(peer, asked.request, encode_tree(now))
        words = await peer.hear(Rollback)
        await peer.say(Error(code="unknown_push", message="it remembers p1", push_id=words.push_id))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, states=(at(now),)) as fake:
        with pytest.raises(ClientError, match="it remembers p1") as caught:
            await roll_back(fake, tmp_path, "p9")
    assert caught.value.code == "unknown_push"


async def undone(peer: Peer, push_id: str) -> None:
    await peer.say(Error(code="cancelled", message="cancelled", push_id=push_id))


async def too_late(peer: Peer, push_id: str) -> None:
    await peer.say(replace(kept(push_id), status="stored"))


@pytest.mark.parametrize(("end", "last"), [(undone, ("cancelled", 0)), (too_late, ("kept", 3))])
async def test_a_rollback_that_is_cancelled_is_undone_or_told_to_be_kept(
    tmp_path: Path, end: Callable[[Peer, str], Awaitable[None]], last: tuple[str, int]
) -> None:
    now, _ = trees(tmp_path)
    reached = asyncio.Event()
    told: list[client.Progress] = []

    async def script(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        await answer(peer, asked.request, encode_tree(now))
        words = await peer.hear(Rollback)
        await peer.say(Progress(push_id=words.push_id, stage="health", done=0, total=0, replica="one"))
        await peer.hear(Cancel)
        await end(peer, words.push_id)
        await peer.websocket.wait_closed()

    def progress(report: client.Progress) -> None:
        told.append(report)
        if report.stage == "health":
            reached.set()

    async with fake_proxy(script, states=(at(now),)) as fake:
        task = asyncio.create_task(client.rollback(fake.settings(tmp_path), progress=progress))
        await asyncio.wait_for(reached.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), 10)
        await fake.all_ended(1)
    assert [report.stage for report in told] == ["health", "cancelling", last[0]]
    assert told[-1].done == last[1]


@pytest.mark.parametrize(
    ("push_id", "description", "words", "code"),
    [
        ("no no", "", "'no no' is no push_id; history lists them", "unknown_push"),
        ("..", "", "'..' is no push_id", "unknown_push"),
        ("x" * 5000, "", "'x+' is no push_id", "unknown_push"),
        (None, "x" * 65537, "the description has 65537 characters, more than 65536", "too_large"),
    ],
)
async def test_what_cannot_be_asked_for_is_one_line(
    tmp_path: Path, push_id: str | None, description: str, words: str, code: str
) -> None:
    async with fake_proxy() as fake:
        with pytest.raises(ClientError, match=words) as caught:
            await client.rollback(fake.settings(tmp_path), push_id=push_id, description=description)
        assert fake.connections == 0
    assert caught.value.code == code
    assert len(str(caught.value)) < 300


async def test_one_that_is_cancelled_while_its_numbers_are_looked_up_is_told_to_be_kept(
    tmp_path: Path,
) -> None:
    now, _ = trees(tmp_path)
    looking = asyncio.Event()
    told: list[client.Progress] = []

    async def first(peer: Peer) -> None:
        asked = await peer.hear(GetManifest)
        await answer(peer, asked.request, encode_tree(now))
        words = await peer.hear(Rollback)
        fake.states = (at(now, entry("p1", now), entry(words.push_id, now)),)
        await peer.say(kept(words.push_id))
        await peer.websocket.wait_closed()

    async def second(peer: Peer) -> None:
        looking.set()
        await peer.websocket.wait_closed()

    states = (replace(at(now), tree=TreeRef("0" * 64, "1" * 64)),)
    async with fake_proxy(first, second, states=states) as fake:
        call = client.rollback(fake.settings(tmp_path), progress=told.append)
        task = asyncio.create_task(call)
        await asyncio.wait_for(looking.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert told[-1] == client.Progress("kept", "", 3, 0)
