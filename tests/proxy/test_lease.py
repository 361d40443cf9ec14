"""Whose turn it is: who waits, who is refused, who asks twice, who leaves."""

from codesync.protocol import (
    Error,
    GetManifest,
    Progress,
    Stage,
    State,
    Step,
    Undo,
    Welcome,
)
from codesync.proxy.coordinator import RETURN_SECONDS
from codesync.proxy.events import DiskFailed
from tests.proxy.peers import ref
from tests.proxy.world import World, halfway, kinds, push_all

# -- asking -------------------------------------------------------------------------------------------------------


def test_without_a_replica_a_push_is_refused_with_what_is_there_instead(world: World) -> None:
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    assert ide.error.code == "no_replica"
    assert "shop/dev" in ide.error.message
    assert "codesync sidecar" in ide.error.message


def test_a_second_push_waits_for_the_first(world: World) -> None:
    world.sidecar()
    slow, ide = world.ide(eager=False), world.ide()
    slow.begin("p1", 1)
    world.run()
    ide.begin("p2", 2)
    world.run()
    assert ide.ends == []
    assert ide.progress == [Progress(push_id="p2", stage="wait", done=0, total=0)]
    while slow.pending:
        slow.send_one()
        world.run()
    assert (slow.outcome.status, ide.outcome.status) == ("healthy", "healthy")


def test_a_rollback_that_waits_is_told_so_once(world: World) -> None:
    world.sidecar()
    slow, first, second = world.ide(eager=False), world.ide(), world.ide()
    slow.begin("p1", 1)
    world.run()
    first.roll_back("b1")
    second.roll_back("b2")
    world.wait(10)
    assert slow.progress == []
    assert [progress.stage for progress in first.progress] == ["wait"]
    assert [progress.stage for progress in second.progress] == ["wait"]
    again = world.ide()
    again.roll_back("b2")
    world.run()
    assert [progress.stage for progress in again.progress] == ["wait"]


def test_a_push_that_waits_for_replicas_to_return_is_not_behind_another(world: World) -> None:
    sidecar = world.sidecar()
    push_all(world, 1)
    world.restart()
    ide, other = world.ide(), world.ide()
    ide.begin("p2", 2)
    world.run()
    other.begin("p3", 3)
    world.run()
    assert ide.progress == []
    assert [progress.stage for progress in other.progress] == ["wait"]
    sidecar.connect()
    world.run()
    assert (ide.outcome.status, other.outcome.status) == ("healthy", "healthy")


def test_a_push_that_waits_too_long_is_told_who_is_in_the_way(world: World) -> None:
    world.sidecar()
    slow, ide = world.ide(eager=False), world.ide()
    slow.begin("p1", 1)
    world.run()
    ide.begin("p2", 2)
    world.wait(30)
    assert ide.error.code == "busy"
    assert "p1 of me@here:/app since" in ide.error.message


def test_a_push_waits_while_a_launcher_starts(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    world.run()
    sidecar.launcher = "starting"
    sidecar.say(State(replica=sidecar.state))
    world.run()
    ide.begin("p1", 1)
    world.wait(5)
    assert ide.link.step is Step.WAITING
    sidecar.launcher = "ready"
    sidecar.say(State(replica=sidecar.state))
    world.run()
    assert ide.outcome.status == "healthy"


def test_a_launcher_that_starts_for_ever_is_not_waited_for_that_long(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    world.run()
    sidecar.launcher = "starting"
    sidecar.say(State(replica=sidecar.state))
    ide.begin("p1", 1)
    world.wait(30)
    assert ide.outcome.status == "healthy"


def test_a_welcome_shows_who_is_busy_and_what_was_pushed_last(world: World) -> None:
    world.sidecar()
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    other = world.ide(eager=False)
    other.begin("p2", 2)
    world.run()
    watcher = world.ide()
    world.run()
    welcome = watcher.heard[0]
    assert isinstance(welcome, Welcome)
    assert welcome.deployment is not None
    assert welcome.deployment.last_push is not None
    assert welcome.deployment.last_push.push_id == "p1"
    assert welcome.deployment.busy is not None
    assert welcome.deployment.busy.push_id == "p2"
    assert [replica.tree for replica in welcome.deployment.replicas] == [ref(1)]


# -- clients that leave -------------------------------------------------------------------------------------------


def test_a_client_that_is_lost_before_all_have_staged_has_it_undone(world: World) -> None:
    sidecar = world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.send_one()
    world.run()
    ide.cut()
    world.run()
    assert kinds(sidecar) == [Welcome, Stage, Undo]
    assert not world.deployment.busy
    again = world.ide()
    again.begin("p1", 1)
    world.run()
    assert again.outcome.status == "healthy"


def test_a_push_is_finished_without_its_client_once_all_have_staged(world: World) -> None:
    sidecar, ide = world.sidecar(plan="hang"), world.ide()
    ide.begin("p1", 1)
    world.run()
    ide.cut()
    sidecar.plan = "healthy"
    sidecar.judge()
    world.run()
    assert sidecar.tree == ref(1)


def test_a_client_that_is_lost_while_it_waits_is_forgotten(world: World) -> None:
    sidecar = world.sidecar()
    slow, ide = world.ide(eager=False), world.ide()
    slow.begin("p1", 1)
    world.run()
    ide.begin("p2", 2)
    world.run()
    ide.cut()
    slow.cancel()
    world.run()
    assert not world.deployment.busy
    assert Stage not in kinds(sidecar)


def test_a_client_that_plans_for_ever_loses_the_lease(world: World) -> None:
    world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.wait(60)
    assert ide.error.code == "timeout"
    assert "plan_idle" in ide.error.message


def test_a_client_that_asks_replicas_is_not_idle(world: World) -> None:
    world.sidecar(plan="hang")
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.wait(50)
    ide.say(GetManifest(request=1, tree=ref(99)))
    world.wait(50)
    assert not [end for end in ide.ends if isinstance(end, Error)]


def test_a_client_that_stops_sending_has_it_undone(world: World) -> None:
    sidecar = world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.send_one()
    ide.send_one()
    world.wait(60)
    assert ide.outcome.status == "failed"
    assert ide.outcome.error is not None
    assert "chunk_idle" in ide.outcome.error.message
    assert Undo in kinds(sidecar)


def test_chunks_after_the_end_are_ignored(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    world.feed(DiskFailed("p1", "full"))
    while sidecar.inbox:
        sidecar.hear_one()
    while sidecar.outbox:
        world.deliver(sidecar)
    assert ide.inbox
    ide.send_one()
    world.deliver(ide)
    world.run()
    assert ide.outcome.status == "failed"
    assert ide.connected


def test_after_a_restart_of_the_proxy_a_client_may_be_faster_than_the_replicas(world: World) -> None:
    sidecar = world.sidecar()
    push_all(world, 1)
    world.restart()
    ide = world.ide()
    ide.begin("p2", 2)
    world.wait(RETURN_SECONDS - 1)
    sidecar.connect()
    world.run()
    assert ide.outcome.status == "healthy"


def test_after_a_restart_of_the_proxy_replicas_that_do_not_come_are_not_waited_for_long(world: World) -> None:
    world.sidecar()
    push_all(world, 1)
    world.restart()
    ide = world.ide()
    ide.begin("p2", 2)
    world.wait(RETURN_SECONDS)
    assert ide.error.code == "no_replica"
    ide.begin("p3", 3)
    world.run()
    assert len(ide.ends) == 2
