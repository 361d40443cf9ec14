"""A client that cancels: undone on all replicas, and only then told so, until the first is told to keep it."""

import pytest

from codesync.protocol import Cancel, Keep, Stage, StageTree, Try, Undo, Welcome
from codesync.proxy.events import DropSpool
from tests.proxy.peers import IMAGE, End, Ide, ref
from tests.proxy.world import World, halfway, judge, kinds, on_trial, push_all


def hear(*ends: End) -> None:
    """They hear what was said to them; their answers are not on their way yet."""
    for end in ends:
        while end.inbox:
            end.hear_one()


def cancel(world: World, ide: Ide) -> None:
    """The proxy hears it, and nobody hears the proxy."""
    ide.cancel()
    world.deliver(ide)


def test_in_planning_it_frees_the_lease(world: World) -> None:
    world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.cancel()
    world.run()
    assert ide.error.code == "cancelled"
    assert world.notes[-1].facts["status"] == "cancelled"
    assert not world.deployment.busy


def test_where_nothing_is_to_be_pushed_the_log_says_so(world: World) -> None:
    world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.say(Cancel(push_id="p1", no_changes=True))
    world.run()
    assert ide.error.code == "cancelled"
    assert world.notes[-1].facts["status"] == "no_changes"


def test_halfway_it_is_undone(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    ide.cancel()
    world.run()
    assert ide.error.code == "cancelled"
    assert kinds(sidecar) == [Welcome, Stage, Undo]
    assert DropSpool("p1") in world.commands


def test_a_push_on_trial_is_undone_on_all_before_its_client_is_told(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    cancel(world, ide)
    hear(first, second)
    while first.outbox:
        world.deliver(first)
    hear(ide)
    assert ide.ends == []
    world.run()
    assert (ide.error.code, ide.error.message) == ("cancelled", "the push was cancelled by its client")
    assert kinds(first) == kinds(second) == [Welcome, Stage, Try, Undo]
    assert (first.trial, second.trial, first.tree) == (None, None, IMAGE)
    assert DropSpool("p1") in world.commands
    assert not world.deployment.busy


def test_a_push_that_is_healthy_on_some_is_undone_too(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    judge(world, first)
    ide.cancel()
    world.run()
    assert ide.error.code == "cancelled"
    assert (first.trial, second.trial) == (None, None)


def test_it_has_no_effect_once_a_replica_is_told_to_keep_it(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    judge(world, first)
    second.plan = "healthy"
    second.judge()
    world.deliver(second)
    assert isinstance(first.inbox[-1], Keep)
    ide.cancel()
    world.run()
    assert ide.outcome.status == "healthy"
    assert first.tree == second.tree == ref(1)


def test_what_is_being_undone_already_ends_with_its_outcome(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    second.plan = "unhealthy"
    second.judge()
    world.deliver(second)
    assert isinstance(first.inbox[-1], Undo)
    ide.cancel()
    world.run()
    assert ide.outcome.status == "rolled_back"


def test_a_replica_that_does_not_say_that_it_has_undone_it_is_waited_for_and_named(world: World) -> None:
    (first, _), ide = on_trial(world, "r1", "r2")
    first.deadline = None
    first.hear = lambda message: None  # type: ignore[method-assign]
    ide.cancel()
    world.wait(44)
    assert ide.ends == []
    world.wait(1)
    assert ide.error.code == "cancelled"
    assert ide.error.message.endswith("; replica r1: it did not say that it has undone it (undo)")


def test_a_replica_that_is_lost_meanwhile_is_told_to_undo_it_when_it_is_back(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    first.cut()
    ide.cancel()
    world.run()
    assert (ide.ends, second.trial) == ([], None)
    first.connect()
    world.run()
    assert ide.error.code == "cancelled"
    assert first.trial is None


def test_a_rollback_on_trial_is_undone(world: World) -> None:
    sidecar = world.sidecar()
    push_all(world, 1)
    sidecar.plan = "hang"
    ide = world.ide()
    ide.roll_back("b1")
    world.run()
    ide.cancel()
    world.run()
    assert ide.error.code == "cancelled"
    assert (kinds(sidecar)[-3:], sidecar.tree) == ([StageTree, Try, Undo], ref(1))


def test_a_push_that_was_cancelled_on_trial_may_be_sent_again(world: World) -> None:
    (sidecar,), ide = on_trial(world, "r1")
    ide.cancel()
    world.run()
    assert ide.error.code == "cancelled"
    sidecar.plan = "healthy"
    again = world.ide()
    again.begin("p1", 1)
    world.run()
    assert (again.outcome.status, sidecar.tree) == ("healthy", ref(1))


def test_all_who_wait_for_the_push_are_told(world: World) -> None:
    _, ide = on_trial(world, "r1")
    other = world.ide()
    other.begin("p1", 1)
    world.run()
    other.cancel()
    world.run()
    assert (ide.error.code, other.error.code) == ("cancelled", "cancelled")


@pytest.mark.parametrize("how", ["cancels", "is lost"])
def test_a_client_that_is_lost_on_trial_does_not_cancel(world: World, how: str) -> None:
    (sidecar,), ide = on_trial(world, "r1")
    if how == "cancels":
        cancel(world, ide)
    ide.cut()
    world.run()
    judge(world, sidecar)
    assert sidecar.tree == (IMAGE if how == "cancels" else ref(1))
    assert not world.deployment.busy
