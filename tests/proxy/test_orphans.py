"""Healthy trials that a lost proxy has left behind: kept where another replica has kept the push, else undone."""

from codesync.protocol import Failed, Keep, State, TreeRef, Trial, Undo
from codesync.proxy.coordinator import RETURN_SECONDS
from tests.proxy.peers import IMAGE, End, Sidecar, ref
from tests.proxy.world import World, kinds, on_trial


def split(world: World) -> tuple[Sidecar, Sidecar]:
    """The proxy dies between two Keeps: the first replica has kept p1, the second holds it."""
    (first, second), _ = on_trial(world, "r1", "r2")
    for sidecar in (first, second):
        sidecar.plan = "healthy"
        sidecar.judge()
        speak(world, sidecar)
    while first.inbox:
        first.hear_one()
    world.restart()
    assert (first.tree, second.tree) == (ref(1), IMAGE)
    return first, second


def speak(world: World, end: End) -> None:
    while end.outbox:
        world.deliver(end)


def where(sidecar: Sidecar) -> tuple[TreeRef, Trial | None]:
    return sidecar.tree, sidecar.trial


def push_again(world: World) -> None:
    ide = world.ide()
    ide.begin("p2", 2)
    world.run()
    assert ide.outcome.status == "healthy"
    assert {sidecar.tree for sidecar in world.sidecars} == {ref(2)}


def test_a_replica_keeps_what_another_has_kept_already(world: World) -> None:
    first, second = split(world)
    first.connect()
    world.run()
    second.connect()
    world.run()
    assert where(second) == (ref(1), None)
    assert Undo not in kinds(second)
    push_again(world)


def test_a_replica_that_comes_first_is_told_when_the_other_comes(world: World) -> None:
    first, second = split(world)
    second.connect()
    world.wait(RETURN_SECONDS - 1)
    assert second.trial is not None
    first.connect()
    world.run()
    assert where(second) == (ref(1), None)
    push_again(world)


def test_a_healthy_trial_that_nobody_has_kept_is_undone_after_a_while(world: World) -> None:
    _, second = split(world)
    second.connect()
    world.wait(RETURN_SECONDS - 1)
    assert second.trial is not None
    world.wait(1)
    assert where(second) == (IMAGE, None)
    assert Keep not in kinds(second)


def test_a_push_waits_until_it_is_decided(world: World) -> None:
    _, second = split(world)
    second.connect()
    ide = world.ide()
    ide.begin("p2", 2)
    world.run()
    assert second.trial is not None
    world.wait(RETURN_SECONDS)
    assert (ide.outcome.status, second.tree) == ("healthy", ref(2))


def test_nothing_is_planned_before_the_replica_has_said_where_it_is(world: World) -> None:
    first, second = split(world)
    ide = world.ide()
    for sidecar in (first, second):
        sidecar.connect()
        speak(world, sidecar)
    while second.inbox:
        second.hear_one()
    while len(second.outbox) > 1:
        world.deliver(second)
    assert isinstance(second.outbox[0], State)  # Kept is there, this is on its way
    ide.begin("p2", 2)
    speak(world, ide)
    assert not ide.inbox
    world.run()
    assert (ide.outcome.status, first.tree, second.tree) == ("healthy", ref(2), ref(2))


def test_a_replica_that_cannot_keep_it_is_free_again(world: World) -> None:
    first, second = split(world)
    second.connect()
    world.run()
    first.connect()
    speak(world, first)
    keep = second.inbox.popleft()
    assert isinstance(keep, Keep)
    second.link.receive(keep)
    second.trial = second.deadline = second.verdict = None
    second.say(Failed(push_id="p1", phase="keep", code="stage_failed", message="the disk is full"))
    push_again(world)
