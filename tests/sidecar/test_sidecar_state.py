"""What the proxy is told of a replica: how its launcher brings code in, what is missing, what crashed; and its history."""

import json
from pathlib import Path
from typing import Any

import pytest

from codesync.protocol import (
    MAX_CHUNK,
    Answer,
    Crash,
    EndRequest,
    GetHistory,
    GetManifest,
    Keep,
    Kept,
    Message,
    ReplicaState,
    Trial,
    Tried,
    Try,
)
from codesync.sidecar.reports import present_trial
from codesync.sidecar.store import Store
from tests.sidecar.played import PlayedWorld, played_world
from tests.sidecar.pushing import push_tree
from tests.sidecar.test_store import gen0

pytestmark = pytest.mark.anyio
CRASH = {
    "push_id": "p1",
    "at": 1.5,
    "after_ms": 800,
    "exit_code": 1,
    "signal": None,
    "restarts": 2,
    "log_tail": ["Traceback", "ValueError: x"],
}


def crashed(state: ReplicaState) -> bool:
    return state.crash is not None


async def test_the_way_of_restarting_and_what_is_missing_are_told(tmp_path: Path) -> None:
    async with played_world(
        tmp_path, reload="signal:HUP", notes=["the application's user cannot write"]
    ) as world:
        state = world.replica.state
        assert state.reload == "signal:HUP"
        assert state.notes[-1] == "the application's user cannot write"
        world.end_launcher()
        gone = await world.told_state(lambda state: state.launcher == "absent")
        assert (gone.reload, gone.notes) == ("", state.notes[:-1])


async def test_of_a_restart_the_application_s_last_state_is_told_once(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        for state in ("stopping", "exited", "starting", "healthy"):
            world.launcher.say({"type": "app", "app": {"state": state, "pid": 9}})
        told = await world.told_state(lambda state: state.app.get("pid") == 9)
        assert told.app["state"] == "healthy"
        world.launcher.say({"type": "app", "app": {"state": "exited", "pid": 9}})
        told = await world.told_state(lambda state: state.app.get("pid") == 9)
        assert told.app["state"] == "exited"


async def test_a_crash_is_told_until_a_newer_push_is_committed(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        await world.push("p1", "one\n")
        world.launcher.say({"type": "crashed", **CRASH})
        state = await world.told_state(crashed)
        assert state.crash == Crash(
            push_id="p1",
            at=1.5,
            after_ms=800,
            exit_code=1,
            restarts=2,
            log_tail=("Traceback", "ValueError: x"),
        )
        await world.push("p2", "two\n")
        assert world.replica.state.crash is None
        world.launcher.say({"type": "crashed", **CRASH})  # late, of the push before
        world.launcher.say({"type": "app", "app": {"state": "starting", "pid": 11}})
        state = await world.told_state(lambda state: state.app.get("pid") == 11)
        assert state.crash is None


async def test_a_crash_that_a_launcher_tells_at_its_hello_is_told(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        await world.push("p1", "one\n")
        committed = world.store.state.committed
        assert committed is not None
        world.launcher.hello |= {"crash": CRASH, "applied": committed.tree_id}
        world.launcher.leave()
        assert (await world.told_state(crashed)).launcher == "ready"


async def test_a_launcher_that_knows_nothing_of_a_crash_does_not_make_it_forgotten(tmp_path: Path) -> None:
    async with played_world(tmp_path, image="i" * 64) as world:
        await world.push("p1", "one\n")
        world.launcher.say({"type": "crashed", **CRASH})
        await world.told_state(crashed)
        committed = world.store.state.committed
        assert committed is not None
        world.launcher.hello |= {"applied": committed.tree_id, "crash": None}
        world.launcher.leave()
        await world.told_state(lambda state: state.launcher == "absent")
        assert crashed(await world.told_state(lambda state: state.launcher == "ready"))
        await world.push("p2", "two\n")
        assert not crashed(world.replica.state)


async def test_a_crash_of_another_image_is_forgotten(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        gen0(world.store, {"a.txt": b"a"})
        world.store.adopt_generation0()
        world.launcher.say({"type": "crashed", **CRASH, "push_id": ""})
        await world.told_state(crashed)
        for image, known in (("i" * 64, True), ("j" * 64, False)):
            world.launcher.hello |= {"image": image, "applied": world.store.tree.tree_id}
            world.launcher.leave()
            await world.told_state(lambda state: state.launcher == "absent")
            assert crashed(await world.told_state(lambda state: state.launcher == "ready")) == known


def test_a_push_that_is_committed_is_no_trial_any_more(store: Store, source: Path) -> None:
    push_tree(store, source, "p1")
    trials = [Trial(push_id=push_id, phase="trying") for push_id in ("p1", "p2")]
    assert [present_trial(trial, store.state) for trial in (*trials, None)] == [None, trials[1], None]


async def test_a_push_without_changes_does_not_hide_a_crash(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        await world.push("p1", "one\n")
        world.launcher.say({"type": "crashed", **CRASH})
        await world.told_state(crashed)
        await world.stage("p2")
        await no_changes(world, "p2")
        assert world.replica.state.generation == 1
        assert crashed(world.replica.state)


async def no_changes(world: PlayedWorld, push_id: str) -> None:
    await world.replica.handle(Try(push_id=push_id, deadline_s=60))
    assert (await world.told(Tried)).report.status == "no_changes"
    await world.replica.handle(Keep(push_id=push_id))
    await world.told(Kept)


async def asked(world: PlayedWorld, question: Message) -> bytes:
    await world.replica.handle(question)
    data = b""
    while True:
        answer = await world.told(Answer)
        assert len(answer.data) <= MAX_CHUNK
        data += answer.data
        if answer.last:
            return data


async def history(world: PlayedWorld) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await asked(world, GetHistory(request=5, replica="r")))
    return found


async def test_the_history_is_answered_oldest_first(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        assert await history(world) == []
        await world.push("p1", "one\n", description="é", timings_ms={"scan": 3})
        await world.push("p2", "two\n")
        first, second = await history(world)
        assert list(first) == [
            "push_id",
            "generation",
            "status",
            "at",
            "source",
            "description",
            "restores",
            "bytes",
            "timings_ms",
            "reason",
        ]
        assert (first["push_id"], first["generation"], first["status"]) == ("p1", 1, "healthy")
        assert (first["source"], first["description"], first["timings_ms"]) == ("s", "é", {"scan": 3})
        assert (second["push_id"], second["generation"]) == ("p2", 2)


async def test_a_question_that_nobody_waits_for_is_not_answered(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        await world.replica.handle(GetManifest(request=1, tree=world.store.tree))
        await world.replica.handle(EndRequest(request=1))
        await world.replica.handle(EndRequest(request=99))
        await world.replica.handle(GetHistory(request=2, replica="r"))
        assert (await world.told(Answer)).request == 2
