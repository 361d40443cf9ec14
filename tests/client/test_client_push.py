"""A push against a proxy that does what a real one rarely does: guards hold, leases are given back, nothing is left."""

import asyncio
import os
import secrets
from dataclasses import asdict
from pathlib import Path

import pytest

from codesync import client
from codesync.client import NEXT_STEPS, ClientError, Progress, lease
from codesync.client.results import CRASHED, HOOKS_LATER, NO_CHANGES_CRASHED, NO_CHANGES_NOT_WELL
from codesync.plan import GuardError
from codesync.protocol import (
    Begin,
    Cancel,
    Chunk,
    Crash,
    Error,
    Hook,
    Outcome,
    Push,
    ReplicaReport,
    ReplicaState,
    TreeRef,
)
from tests.client.fake import Fake, accept, agree_to_cancel, fake_proxy, fill, push, tree_at
from tests.proxy.loopback import Peer

pytestmark = pytest.mark.anyio


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
    monkeypatch.setattr(lease, "GIVE_BACK_SECONDS", 0.1)
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


# -- what goes with it -------------------------------------------------------------------------------------------------


def hook(when: str, moment: str = "before_start") -> Hook:
    return Hook(run=f"echo {when}", moment=moment, seconds=5.0, when=when)


async def test_a_push_carries_the_hooks_that_its_changes_call_for_and_what_it_has_cost(
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"
    fill(source, 4)
    for name in ("run.sh", "moved.txt"):
        (source / name).write_text(name)
    replica = tree_at(source)
    (source / "0.txt").unlink()
    (source / "1.txt").write_text("changed")
    (source / "run.sh").chmod(0o755)
    (source / "moved.txt").rename(source / "arrived.txt")
    (source / "new" / "empty").mkdir(parents=True)
    pushes: list[Push] = []

    async def script(peer: Peer) -> None:
        begin = await fake.grant(peer)
        await fake.describe(peer)
        pushes.append(await peer.hear(Push))
        await peer.hear_batch()
        report = ReplicaReport(id="one", status="healthy", generation=1)
        await peer.say(Outcome(push_id=begin.push_id, status="healthy", replicas=(report,)))

    called_for = ["0.txt", "1.*", "run.sh", "/moved.txt", "arrived.txt", "empty/", "*"]
    others = ["2.txt", "/empty/", "*.py"]
    hooks = [hook(when) for when in (*others, *reversed(called_for))]
    async with fake_proxy(script, tree=replica) as fake:
        result = await push(fake, tmp_path, None, *hooks)
        await fake.all_ended(1)
    (sent,) = pushes
    assert [hook.run for hook in sent.batches[0].hooks] == [f"echo {when}" for when in reversed(called_for)]
    assert {hook.when for hook in sent.batches[0].hooks} == {""}
    assert set(sent.timings_ms) <= {"scan", "delta"}
    assert all(sent.timings_ms[step] <= getattr(result.timings_ms, step) for step in sent.timings_ms)


@pytest.mark.parametrize("changed", [False, True])
async def test_an_application_that_has_crashed_since_is_told_with_every_result(
    tmp_path: Path, changed: bool
) -> None:
    source = tmp_path / "source"
    fill(source, 2)
    replica = tree_at(source)
    if changed:
        (source / "0.txt").write_text("changed")
    crash = Crash(push_id="p7", at=1.0, after_ms=3210, signal=9, restarts=2, log_tail=("killed",))

    async def refuse_quietly(peer: Peer) -> None:
        begin = await fake.grant(peer)
        await fake.describe(peer)
        cancel = await peer.hear(Cancel)
        assert cancel.no_changes
        await peer.say(Error(code="cancelled", message="cancelled", push_id=begin.push_id))

    async def takes(peer: Peer) -> None:
        await accept(fake, peer)

    state = ReplicaState(id="one", tree=TreeRef(*replica.ids), crash=crash)
    script = takes if changed else refuse_quietly
    async with fake_proxy(script, tree=replica, states=(state,)) as fake:
        result = await push(fake, tmp_path)
    assert result.status == ("healthy" if changed else "no_changes")
    assert [asdict(found) for found in result.crashed_after] == [
        {
            "replica": "one",
            "push_id": "p7",
            "after_s": 3.21,
            "exit_code": -9,
            "restarts": 2,
            "log_tail": ["killed"],
        }
    ]
    assert result.next_step.endswith(CRASHED.format(push_id="p7", after_s=3.21))
    assert result.next_step.startswith(NEXT_STEPS["healthy"] if changed else NO_CHANGES_CRASHED)


async def test_the_same_tree_again_is_not_enough_where_the_application_is_not_healthy(tmp_path: Path) -> None:
    fill(tmp_path / "source", 2)
    replica = tree_at(tmp_path / "source")

    async def refuse_quietly(peer: Peer) -> None:
        begin = await fake.grant(peer)
        await fake.describe(peer)
        await agree_to_cancel(peer, begin.push_id)

    state = ReplicaState(
        id="one", tree=TreeRef(*replica.ids), launcher="ready", app={"state": "starting", "pid": 7}
    )
    async with fake_proxy(refuse_quietly, tree=replica, states=(state,)) as fake:
        result = await push(fake, tmp_path)
    assert result.status == "no_changes"
    assert result.next_step == NO_CHANGES_NOT_WELL.format(what="replica one: starting")


async def stores(fake: Fake, peer: Peer) -> None:
    """A whole push to a replica without a launcher."""
    begin = await fake.grant(peer)
    await fake.describe(peer)
    await peer.hear(Push)
    await peer.hear_batch()
    report = ReplicaReport(id="one", status="stored", generation=1)
    await peer.say(Outcome(push_id=begin.push_id, status="stored", replicas=(report,)))


@pytest.mark.parametrize(("when", "more"), [("*.py", ""), ("*.txt", f" {HOOKS_LATER}")])
async def test_hooks_that_a_stored_push_calls_for_are_told_to_be_due(
    tmp_path: Path, when: str, more: str
) -> None:
    fill(tmp_path / "source", 1)
    replica = tree_at(tmp_path / "source")
    (tmp_path / "source" / "0.txt").write_text("changed")

    async def script(peer: Peer) -> None:
        await stores(fake, peer)

    async with fake_proxy(script, tree=replica) as fake:
        assert (await push(fake, tmp_path, None, hook(when))).next_step == NEXT_STEPS["stored"] + more


async def test_a_description_that_is_too_long_is_refused_before_anything_else(tmp_path: Path) -> None:
    async with fake_proxy(tree=None) as fake:
        words = "the description has 65537 characters, more than 65536; say it in a sentence"
        with pytest.raises(ClientError, match=words) as caught:
            await client.push(fake.settings(tmp_path), description="x" * 65537)
    assert caught.value.code == "too_large"


async def test_a_description_that_is_no_utf8_is_sent_as_far_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path / "source", 1)
    replica = tree_at(tmp_path / "source")
    begun: list[Begin] = []

    async def script(peer: Peer) -> None:
        begun.append(await fake.grant(peer))
        await fake.describe(peer)
        await agree_to_cancel(peer, begun[0].push_id)

    async with fake_proxy(script, tree=replica) as fake, asyncio.timeout(20):
        await client.push(fake.settings(tmp_path), description="caf\udce9")
    assert begun[0].description == "caf?"


async def test_a_push_that_is_cancelled_after_its_outcome_is_told_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "source", 1)
    replica = tree_at(tmp_path / "source")
    (tmp_path / "source" / "0.txt").write_text("changed")
    told: list[Progress] = []
    (tmp_path / "source" / ".git").mkdir()
    (tmp_path / "bin").mkdir()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\nread line < {fifo}\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    async def script(peer: Peer) -> None:
        await accept(fake, peer)

    async with fake_proxy(script, tree=replica) as fake:
        call = client.push(fake.settings(tmp_path), description="x", progress=told.append)
        task = asyncio.create_task(call)
        await fake.all_ended(1)
        with await asyncio.to_thread(fifo.open, "w"):  # git has been asked, and is not done
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(task), 10)
    assert told[-1] == Progress("kept", "", 1, 0)
