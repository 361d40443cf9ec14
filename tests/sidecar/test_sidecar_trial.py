"""A push between a proxy and a launcher, both played: what the launcher is given, what becomes of its verdict."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from codesync.protocol import (
    Failed,
    Hook,
    HookReport,
    Keep,
    Kept,
    Progress,
    StageTree,
    Tried,
    Try,
    Undo,
    Undone,
)
from codesync.sidecar import launcher_link
from codesync.sidecar.store import Store
from tests.sidecar.played import PlayedLauncher, PlayedWorld, played_world

pytestmark = pytest.mark.anyio
INSTALL = Hook(run="pip install -r requirements.txt", moment="before_start", seconds=90.0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PlayedWorld]:
    async with played_world(tmp_path) as world:
        yield world


def plan(store: Store) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((store.volume.trial / "plan.json").read_bytes())
    return loaded


async def test_a_launcher_that_was_lost_a_moment_ago_is_waited_for(world: PlayedWorld) -> None:
    await world.stage("p1")
    world.launcher.leave()  # and still listens
    await world.told_state(lambda state: state.launcher == "absent")
    tried = await world.attempt("p1")
    assert tried.report.status == "healthy"


async def test_a_launcher_that_listens_and_has_not_said_hello_is_waited_for(
    world: PlayedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.stage("p1")
    hello, world.launcher.hello = world.launcher.hello, {}
    await world.launcher.hears("hello")
    world.launcher.leave()
    await world.launcher.hears("hello")
    monkeypatch.setattr(launcher_link, "LOST_SECONDS", 0)
    await world.replica.handle(Try(push_id="p1", deadline_s=60))
    world.launcher.say(hello)
    await world.launcher.hears("try")
    world.launcher.say({"type": "verdict", "push_id": "p1", "verdict": "keep"})
    assert (await world.told(Tried)).report.status == "healthy"


async def test_a_push_is_stored_when_the_launcher_does_not_come_back(
    world: PlayedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_link, "BACK_SECONDS", 0.01)
    await world.stage("p1")
    world.end_launcher()
    await world.told_state(lambda state: state.launcher == "absent")
    await world.replica.handle(Try(push_id="p1", deadline_s=60))
    assert (await world.told(Tried)).report.status == "stored"


async def test_a_push_called_off_while_the_launcher_is_waited_for_is_not_stored(world: PlayedWorld) -> None:
    await world.stage("p1")
    world.end_launcher()
    await world.told_state(lambda state: state.launcher == "absent")
    await world.replica.handle(Try(push_id="p1", deadline_s=60))
    await world.replica.handle(Undo(push_id="p1", reason="cancelled"))
    await world.told(Undone)
    assert world.store.state.result("p1") is not None
    assert world.store.state.committed is None


async def test_a_launcher_that_was_lost_long_ago_is_not_waited_for(
    world: PlayedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_link, "BACK_SECONDS", 3600)
    monkeypatch.setattr(launcher_link, "LOST_SECONDS", 0)
    await world.stage("p1")
    world.end_launcher()
    await world.told_state(lambda state: state.launcher == "absent")
    await world.replica.handle(Try(push_id="p1", deadline_s=60))
    assert (await world.told(Tried)).report.status == "stored"


async def test_a_launcher_that_never_was_is_not_waited_for(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_link, "BACK_SECONDS", 3600)
    world = PlayedWorld(store, PlayedLauncher(), source)
    running = asyncio.create_task(world.replica.launcher.run())
    await world.replica.launcher.looked.wait()
    await world.stage("p1")
    await world.replica.handle(Try(push_id="p1", deadline_s=60))
    assert (await world.told(Tried)).report.status == "stored"
    running.cancel()


async def test_the_launcher_is_given_the_generation_and_the_hooks_of_a_push(world: PlayedWorld) -> None:
    await world.push("p1", "one\n")
    (world.source / "app.py").write_text("two\n")
    await world.stage("p2", hooks=(INSTALL,))
    told = plan(world.store)
    assert told["generation"] == 2
    assert told["hooks"] == [{"run": INSTALL.run, "moment": "before_start", "seconds": 90.0}]


async def test_a_rollback_runs_the_hooks_that_what_it_changes_calls_for(world: PlayedWorld) -> None:
    (world.source / "lib").mkdir()
    (world.source / "lib" / "a.py").write_text("a\n")
    await world.push("p1", "one\n")
    first = world.store.tree
    (world.source / "lib" / "a.py").unlink()
    (world.source / "lib").rmdir()
    await world.push("p2", "two\n")
    hooks = tuple(
        Hook(run=when, moment="before_start", seconds=1.0, when=when)
        for when in ("app.py", "*.txt", "lib/", "/other/")
    )
    message = StageTree(push_id="r", tree=first, restores="p1", source="s", description="d", hooks=hooks)
    await world.replica.handle(message)
    async with asyncio.timeout(10):
        while world.store.staged is None:
            await world.said.get()
    assert [hook["run"] for hook in plan(world.store)["hooks"]] == ["app.py", "lib/"]
    assert plan(world.store)["generation"] == 3


async def test_a_report_tells_what_the_verdict_tells(world: PlayedWorld) -> None:
    await world.stage("p1")
    hook = {"run": "make", "moment": "after_healthy", "exit_code": 3, "signal": None, "ms": 12}
    tried = await world.attempt(
        "p1", pid=42, healthy_ms=250, hooks=[{**hook, "output": ["oh"], "reason": "ended with 3"}]
    )
    report = tried.report
    assert tried.healthy
    assert (report.status, report.pid, report.healthy_ms) == ("healthy", 42, 250)
    assert report.hooks == (
        HookReport(
            run="make", moment="after_healthy", exit_code=3, ms=12, output=("oh",), reason="ended with 3"
        ),
    )


@pytest.mark.parametrize(("told", "back"), [({}, True), ({"back": True}, True), ({"back": False}, False)])
async def test_whether_the_old_code_is_back_is_told(
    world: PlayedWorld, told: dict[str, Any], back: bool
) -> None:
    await world.stage("p1")
    tried = await world.attempt("p1", verdict="undone", reason="it ended", **told)
    assert (tried.report.status, tried.report.back) == ("rolled_back", back)
    await world.replica.handle(Undo(push_id="p1", reason="it failed"))
    assert (await world.told(Undone)).report.back == back


async def test_a_push_that_failed_and_is_to_stay_is_kept_as_unhealthy(world: PlayedWorld) -> None:
    await world.stage("p1")
    world.launcher.say({"type": "app", "app": {"state": "exited", "pid": 9, "exit_code": 1}})
    tried = await world.attempt(
        "p1", failed=True, pid=9, exit_code=1, reason="it ended", log_tail=["ValueError: x"]
    )
    assert tried.healthy
    world.launcher.say({"type": "app", "app": {"state": "exited", "pid": 9, "exit_code": 1}})
    kept = await world.keep("p1")
    assert (kept.report.status, kept.report.generation, kept.report.exit_code) == ("unhealthy", 1, 1)
    assert kept.report.log_tail == ("ValueError: x",)
    result = world.store.state.result("p1")
    assert result is not None
    assert (result.status, result.reason) == ("unhealthy", "it ended")
    await world.replica.handle(Keep(push_id="p1"))  # said again
    assert (await world.told(Kept)).report.status == "unhealthy"


async def test_an_application_that_is_down_prevents_no_push(world: PlayedWorld) -> None:
    world.launcher.say({"type": "app", "app": {"state": "exited", "pid": 7, "exit_code": 1}})
    await world.told_state(lambda state: state.app.get("state") == "exited")
    kept = await world.push("p1", "one\n")
    assert kept.report.status == "healthy"


async def test_the_end_of_another_process_than_the_one_judged_does_not_matter(world: PlayedWorld) -> None:
    await world.stage("p1")
    await world.attempt("p1", pid=8)
    world.launcher.say({"type": "app", "app": {"state": "exited", "pid": 7, "exit_code": 0}})
    await world.told_state(lambda state: state.app.get("state") == "exited")
    assert (await world.keep("p1")).report.status == "healthy"


async def test_a_healthy_trial_whose_application_then_ends_is_not_kept(world: PlayedWorld) -> None:
    await world.stage("p1")
    await world.attempt("p1", pid=8)
    world.launcher.say({"type": "app", "app": {"state": "exited", "pid": 8, "exit_code": 1}})
    await world.told_state(lambda state: state.app.get("state") == "exited")
    keeping = asyncio.create_task(world.replica.handle(Keep(push_id="p1")))
    await world.launcher.hears("undo")
    world.launcher.say({"type": "undone", "push_id": "p1"})
    await keeping
    assert "ended before" in (await world.told(Undone)).report.reason
    assert (await world.told(Failed)).code == "crashed"
    assert world.store.state.committed is None


async def test_kept_and_undone_pushes_are_remembered_with_what_they_cost(world: PlayedWorld) -> None:
    await world.stage("p1", description="x" * 600, timings_ms={"scan": 3, "delta": 4})
    await world.attempt("p1", timings_ms={"apply": 5, "stop": 6, "start": 7, "health": 8})
    await world.keep("p1")
    (world.source / "app.py").write_text("two\n")
    await world.stage("p2", timings_ms={"scan": 1})
    verdict = {"verdict": "undone", "reason": "it ended with 1", "timings_ms": {"apply": 2}}
    assert not (await world.attempt("p2", **verdict)).healthy
    await world.replica.handle(Undo(push_id="p2", reason="another replica failed"))
    await world.told(Undone)
    kept, undone = world.store.state.results
    assert kept.timings_ms == {"scan": 3, "delta": 4, "apply": 5, "stop": 6, "start": 7, "health": 8}
    assert (kept.source, kept.description, kept.status) == ("s", "x" * 500, "healthy")
    assert kept.bytes > 0
    assert kept.at > 0
    assert (undone.status, undone.generation, undone.timings_ms) == (
        "rolled_back",
        1,
        {"scan": 1, "apply": 2},
    )
    assert undone.reason == "it ended with 1"


async def test_a_commit_is_prepared_while_the_application_starts_and_not_before(world: PlayedWorld) -> None:
    await world.stage("p1")
    assert world.store.staged is not None
    manifest = world.store.volume.manifests / f"{world.store.staged.target.ids[0]}.json"
    content = world.store.staged.files[b"app.py"]
    await world.replica.handle(Try(push_id="p1", deadline_s=60))
    await world.launcher.hears("try")
    for stage in ("apply", "stop", "start", "health"):
        await world.replica.tasks.disk(lambda: None)  # after what was asked for before
        assert not manifest.exists()
        assert content.exists()  # the launcher may still read it
        world.launcher.say({"type": "progress", "push_id": "p1", "stage": stage})
        assert (await world.told(Progress)).stage == stage
    await world.replica.tasks.disk(lambda: None)
    assert manifest.exists()
    assert not content.exists()
    world.launcher.say({"type": "verdict", "push_id": "p1", "verdict": "undone"})
    await world.told(Tried)
    await world.replica.handle(Undo(push_id="p1", reason="x"))
    await world.told(Undone)
    assert not manifest.exists()
    assert os.listdir(world.store.volume.current) == []
