"""The same push again: answered from the record, joined, taken over, begun anew, or refused."""

from functools import partial

from codesync.protocol import (
    Result,
    Stage,
    State,
)
from codesync.proxy.events import DiskFailed
from tests.proxy.peers import IMAGE, ref
from tests.proxy.world import World, halfway, kinds, push_all


def test_a_push_that_is_sent_again_is_answered_from_the_record(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    ide.begin("p1", 1)
    world.run()
    again = world.ide()
    again.begin("p1", 1)
    world.run()
    assert again.outcome == ide.outcome
    assert kinds(sidecar).count(Stage) == 1


def test_a_push_id_of_another_source_tree_is_refused(world: World) -> None:
    world.sidecar()
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    again = world.ide()
    again.begin("p1", 2)
    world.run()
    assert again.error.code == "conflict_push_id"


def test_a_push_id_of_another_source_tree_is_refused_while_the_first_runs(world: World) -> None:
    world.sidecar(plan="hang")
    ide, other = world.ide(), world.ide()
    ide.begin("p1", 1)
    world.run()
    other.begin("p1", 2)
    world.run()
    assert other.error.code == "conflict_push_id"
    assert ide.ends == []


def test_a_push_that_is_sent_again_on_trial_goes_on_waiting(world: World) -> None:
    sidecar = world.sidecar(plan="hang")
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    ide.cut()
    again, third = world.ide(), world.ide()
    again.begin("p1", 1)
    third.begin("p1", 1)
    world.run()
    sidecar.plan = "healthy"
    sidecar.judge()
    world.run()
    assert again.outcome.status == third.outcome.status == "healthy"


def test_a_push_that_is_sent_again_in_planning_moves_to_the_newer_connection(world: World) -> None:
    world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    again = world.ide()
    again.begin("p1", 1)
    world.run()
    assert ide.error.code == "replaced"
    assert again.outcome.status == "healthy"


def test_a_push_that_is_sent_again_halfway_begins_anew(world: World) -> None:
    sidecar = world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.send_one()
    ide.send_one()
    world.run()
    again = world.ide()
    again.begin("p1", 1)
    world.run()
    assert again.outcome.status == "healthy"
    assert ide.error.code == "replaced"
    assert b"".join(sidecar.received) == b"p1 0 Falsep1 0 True"


def test_a_push_that_waits_twice_waits_once(world: World) -> None:
    world.sidecar()
    slow, first, second = world.ide(eager=False), world.ide(), world.ide()
    slow.begin("p1", 1)
    world.run()
    first.begin("p2", 2)
    world.run()
    second.begin("p2", 2)
    world.run()
    assert first.error.code == "replaced"
    slow.cancel()
    world.run()
    assert second.outcome.status == "healthy"


def test_after_a_restart_of_the_proxy_a_push_is_answered_from_what_replicas_remember(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    ide.begin("p1", 1)
    world.run()
    world.index = None  # its disk is lost too
    world.restart()
    sidecar.connect()
    again, other = world.ide(), world.ide()
    world.run()
    again.begin("p1", 1)
    other.begin("p1", 2)
    world.run()
    assert (again.outcome.status, again.outcome.tree) == ("healthy", ref(1))
    assert other.error.code == "conflict_push_id"


def test_after_a_restart_of_the_proxy_a_crash_is_remembered_too(world: World) -> None:
    sidecar, ide = world.sidecar(plan="unhealthy"), world.ide()
    ide.begin("p1", 1)
    world.run()
    world.restart()
    sidecar.connect()
    again = world.ide()
    world.run()
    again.begin("p1", 1)
    world.run()
    assert again.outcome.status == "rolled_back"
    assert kinds(sidecar).count(Stage) == 1


def test_a_push_that_was_given_up_may_be_sent_again_whatever_a_replica_remembers(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    ide.cut()
    world.run()
    result = Result(push_id="p1", source_tree_id=ref(1).tree_id, status="rolled_back", tree=IMAGE)
    sidecar.results, sidecar.plan = (result,), "healthy"
    sidecar.say(State(replica=sidecar.state))
    again = world.ide()
    again.begin("p1", 1)
    world.run()
    assert again.outcome.status == "healthy"


def test_a_push_that_is_sent_again_while_it_is_undone_gets_its_outcome(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    world.feed(DiskFailed("p1", "full"))
    again = world.ide(greet=False)
    while again.outbox or again.inbox:
        step = again.hear_one if again.inbox else partial(world.deliver, again)
        step()
    again.begin("p1", 1)
    world.deliver(again)
    assert sidecar.inbox
    world.run()
    assert again.outcome == ide.outcome
    assert again.outcome.status == "failed"


def test_a_push_that_begins_anew_keeps_its_place(world: World) -> None:
    (sidecar,), _ = halfway(world, "r1")
    sidecar.plan = "healthy"
    other, again = world.ide(), world.ide()
    other.begin("p2", 2)
    world.run()
    again.begin("p1", 1)
    world.run()
    assert [entry.push_id for entry in sidecar.history[1:]] == ["p1", "p2"]


def test_what_was_told_after_a_restart_is_told_again(world: World) -> None:
    first, second = world.sidecar("r1"), world.sidecar("r2")
    push_all(world, 1)
    world.index = None
    world.restart()
    first.connect()
    outcomes = []
    for _ in range(2):
        ide = world.ide()
        ide.begin("p1", 1)
        world.run()
        outcomes.append(ide.outcome)
        second.connect()
        world.run()
    assert outcomes[0] == outcomes[1]
