"""Commands that run with a push: given to each replica with its batch, also to one that comes late; trials last longer."""

import pytest

from codesync.protocol import BatchRef, Chunk, Hook, Push, Stage, StageTree, Try, Undo
from tests.proxy.peers import IMAGE, Ide, Sidecar, ref
from tests.proxy.world import World, judge, kinds

INSTALL = Hook(run="pip install -r requirements.txt", moment="before_start", seconds=100)
MIGRATE = Hook(run="./migrate", moment="after_healthy", seconds=20)
MATCHED_THERE = Hook(run="./migrate", moment="after_healthy", seconds=20, when="/migrations/")


def told(sidecar: Sidecar, kind: type[Stage | StageTree]) -> list[tuple[Hook, ...]]:
    return [message.hooks for message in sidecar.heard if isinstance(message, kind)]


def deadlines(sidecar: Sidecar) -> list[float]:
    return [message.deadline_s for message in sidecar.heard if isinstance(message, Try)]


def push_of_two(world: World) -> tuple[Sidecar, Sidecar, Ide]:
    """A push with other hooks for each of two replicas."""
    first, second = world.sidecar("r1"), world.sidecar("r2", tree=ref(5))
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    batches = (
        BatchRef(base=IMAGE, target=ref(1), hooks=(MIGRATE,)),
        BatchRef(base=ref(5), target=ref(1), hooks=(INSTALL, MIGRATE)),
    )
    ide.say(Push(push_id="p1", batches=batches, timings_ms={"scan": 5, "delta": 7}))
    for batch in (0, 1):
        ide.say(Chunk(push_id="p1", data=b"", last=True, batch=batch))
    return first, second, ide


def test_each_replica_is_given_the_hooks_of_its_batch_and_all_the_time_of_the_longest(world: World) -> None:
    first, second, ide = push_of_two(world)
    world.run()
    assert ide.outcome.status == "healthy"
    assert told(first, Stage) == [(MIGRATE,)]
    assert told(second, Stage) == [(INSTALL, MIGRATE)]
    assert deadlines(first) == deadlines(second) == [240.0]
    timings = [message.timings_ms for message in first.heard if isinstance(message, Stage)]
    assert timings == [{"scan": 5, "delta": 7}]


@pytest.mark.parametrize("hooks", [(), (INSTALL,)])
def test_a_verdict_is_waited_for_as_long_as_the_hooks_may_take_too(
    world: World, hooks: tuple[Hook, ...]
) -> None:
    sidecar, ide = world.sidecar(plan="hang"), world.ide()
    ide.hooks = hooks
    ide.begin("p1", 1)
    world.run()
    sidecar.deadline = None  # it does not give up by itself
    world.wait(134 + sum(hook.seconds for hook in hooks))
    assert ide.ends == []
    world.wait(1)
    assert ide.outcome.status == "rolled_back"
    assert Undo in kinds(sidecar)


def test_a_replica_that_is_back_with_what_it_has_staged_gets_the_time_that_is_left(world: World) -> None:
    sidecar, ide = world.sidecar(plan="hang"), world.ide()
    ide.hooks = (INSTALL,)
    ide.begin("p1", 1)
    while not any(isinstance(message, Try) for message in sidecar.inbox):
        for end in (ide, sidecar):
            if end.inbox:
                end.hear_one()
            elif end.outbox:
                world.deliver(end)
    sidecar.cut()
    world.wait(15)
    sidecar.connect()
    world.run()
    assert deadlines(sidecar) == [205.0]
    judge(world, sidecar)
    assert ide.outcome.status == "healthy"


def test_a_rollbacks_hooks_reach_every_replica(world: World) -> None:
    sidecars = [world.sidecar("r1"), world.sidecar("r2")]
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    ide.hooks = (MATCHED_THERE,)
    ide.roll_back("b1")
    world.run()
    assert [told(sidecar, StageTree) for sidecar in sidecars] == [[(MATCHED_THERE,)]] * 2
    assert deadlines(sidecars[0]) == [120.0, 140.0]


@pytest.mark.parametrize("restart", [False, True])
def test_a_late_replica_is_given_the_hooks_of_what_it_has_missed(world: World, restart: bool) -> None:
    first, away = world.sidecar("r1"), world.sidecar("r2")
    ide = world.ide()
    ide.hooks = (INSTALL,)
    ide.begin("p1", 1)
    world.run()
    away.cut()
    ide.hooks = (MATCHED_THERE,)
    ide.roll_back("b1")
    world.run()
    ide.hooks = (MIGRATE,)
    ide.begin("p2", 2)
    world.run()
    if restart:
        world.restart()
        first.connect()
    away.connect()
    late = world.sidecar("r3")
    world.run()
    assert first.tree == away.tree == late.tree == ref(2)
    assert told(away, Stage) == [(INSTALL,), (MIGRATE,)]
    assert told(away, StageTree) == [(MATCHED_THERE,)]
    assert (told(late, Stage), told(late, StageTree)) == ([(MIGRATE,)], [])
    assert deadlines(late) == [140.0]
    assert {m.timings_ms["scan"] for m in late.heard if isinstance(m, Stage)} == {1}
