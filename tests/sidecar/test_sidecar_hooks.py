"""Which hooks the state remembers for containers to come, as the launcher reads them there."""

import io
from pathlib import Path

import pytest

from codesync.launcher.records import PlannedHook, read_state
from codesync.protocol import Hook, TreeRef
from codesync.sidecar.pushes import Ending, Push
from codesync.sidecar.state import StartHook, State
from codesync.sidecar.store import Store
from tests.sidecar.played import played_world
from tests.sidecar.pushing import make_batch
from tests.sidecar.test_store import gen0


def start(run: str, when: str = "") -> Hook:
    return Hook(run=run, moment="before_start", seconds=5.0, when=when)


def push(store: Store, source: Path, push_id: str, *hooks: Hook, ending: str = "healthy") -> TreeRef:
    """A kept push of the source, with one file changed."""
    (source / "app.py").write_text(push_id)
    return push_again(store, source, push_id, *hooks, ending=ending)


def push_again(store: Store, source: Path, push_id: str, *hooks: Hook, ending: str = "no_changes") -> TreeRef:
    data, ref = make_batch(store, source, push_id)
    store.stage_batch(Push(push_id, "", "", hooks=hooks), io.BytesIO(data), ref)
    store.commit(Ending(ending))
    return ref


def remembered(store: Store) -> list[tuple[str, str]]:
    """Pushes and commands, as a launcher finds them on the volume."""
    found = read_state(store.volume.state.read_bytes()).hooks
    assert all((hook.moment, hook.seconds) == ("before_start", 5.0) for _, hook in found)
    return [(push_id, hook.run) for push_id, hook in found]


def test_the_hooks_before_the_start_of_all_kept_pushes_are_remembered(store: Store, source: Path) -> None:
    others = [Hook(run="x", moment=moment, seconds=5.0) for moment in ("before_stop", "after_healthy")]
    push(store, source, "p1", *others, start("make"), start("npm ci"))
    push(store, source, "p2", *others)
    push(store, source, "p3", start("pip install -r r.txt"), ending="stored")
    push(store, source, "p4", start("make"), ending="unhealthy")
    assert remembered(store) == [("p1", "npm ci"), ("p3", "pip install -r r.txt"), ("p4", "make")]
    state = read_state(store.volume.state.read_bytes())
    assert state.hooks_since("p3") == [PlannedHook("make", "before_start", 5.0)]


def test_what_was_not_kept_or_has_started_nothing_is_not_remembered(store: Store, source: Path) -> None:
    push(store, source, "p1", start("make"))
    before = store.volume.state.read_bytes()
    (source / "app.py").write_text("two")
    data, ref = make_batch(store, source, "p2")
    store.stage_batch(Push("p2", "", "", hooks=(start("rm -r x"),)), io.BytesIO(data), ref)
    assert store.volume.state.read_bytes() == before
    store.undo(Ending("rolled_back"))
    (source / "app.py").write_text("p1")
    push_again(store, source, "p3", start("late"))
    assert remembered(store) == [("p1", "make")]


def test_a_rollback_s_hooks_are_remembered_too(store: Store, source: Path) -> None:
    first = push(store, source, "p1", start("make"))
    push(store, source, "p2", start("npm ci"))
    hooks = (start("make", "app.py"), start("other", "*.txt"))
    store.stage_tree(Push("r1", "", "", restores="p1", hooks=hooks), first)
    store.commit(Ending("healthy"))
    assert remembered(store) == [("p2", "npm ci"), ("r1", "make")]


def test_they_outlast_the_history_and_a_restart(store: Store, source: Path, tmp_path: Path) -> None:
    push(store, source, "p0", start("make"))
    for number in range(1, 25):
        push(store, source, f"p{number}")
    store.close()
    again = Store.open(str(tmp_path / "files"))
    assert "p0" not in [commit.push_id for commit in again.state.history]
    assert remembered(again) == [("p0", "make")]
    again.close()


def test_only_the_newest_are_remembered() -> None:
    hooks = [StartHook("p1", f"echo {number}", "before_start", 1.0) for number in range(70)]
    state = State("replica", hooks=State("replica").with_hooks(hooks[:40]))
    assert state.with_hooks(hooks[30:]) == tuple(hooks[6:])


def test_another_image_has_not_been_pushed_to(store: Store, source: Path) -> None:
    push(store, source, "p1", start("make"))
    gen0(store, {"a.txt": b"a"})
    store.adopt_generation0()
    assert b"hooks" not in store.volume.state.read_bytes()
    assert remembered(store) == []


@pytest.mark.anyio
async def test_a_push_that_is_tried_is_remembered_with_its_hooks(tmp_path: Path) -> None:
    async with played_world(tmp_path) as world:
        await world.push("p1", "two\n", hooks=(start("make"),))
        assert remembered(world.store) == [("p1", "make")]
