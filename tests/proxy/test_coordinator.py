"""Histories of one deployment, replayed without I/O: pushes, lost connections, lost clients, waits that end."""

from dataclasses import replace

import pytest

from codesync.protocol import (
    GENERATION_0,
    Answer,
    AnswerError,
    BatchRef,
    Cancel,
    Chunk,
    Close,
    Code,
    Error,
    GetManifest,
    GetSignatures,
    Hello,
    HistoryEntry,
    Keep,
    Message,
    Outcome,
    Progress,
    Push,
    Stage,
    Staged,
    StageTree,
    State,
    Step,
    Timeouts,
    Try,
    Undo,
    Welcome,
)
from codesync.proxy.chain import Chain
from codesync.proxy.events import DiskFailed, DropSpool, Garbled, KeepSpool, Stop
from tests.proxy.world import IMAGE, Ide, Sidecar, World, ref


@pytest.fixture
def world() -> World:
    return World()


def kinds(sidecar: Sidecar) -> list[type]:
    return [type(message) for message in sidecar.heard if not isinstance(message, Chunk)]


# -- a push ----------------------------------------------------------------------------------------------------------


def test_a_push_is_staged_tried_and_kept(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    ide.begin("p1", 1)
    world.run()
    assert kinds(sidecar) == [Welcome, Stage, Try, Keep]
    assert b"".join(sidecar.received) == b"p1 0 Falsep1 0 True"
    assert (ide.outcome.status, ide.outcome.tree, ide.outcome.error) == ("healthy", ref(1), None)
    assert [report.generation for report in ide.outcome.replicas] == [1]
    assert not world.deployment.busy


def test_progress_reaches_the_client_with_the_replicas_name(world: World) -> None:
    world.sidecar("r7")
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    assert ide.progress == [Progress(push_id="p1", stage="apply", done=1, total=1, replica="r7")]


def test_each_replica_gets_the_batch_that_starts_at_its_tree(world: World) -> None:
    first, second, third = world.sidecar("r1"), world.sidecar("r2", tree=ref(5)), world.sidecar("r3")
    ide = world.ide()
    ide.begin("p1", 9)
    world.run()
    assert ide.outcome.status == "healthy"
    assert {first.tree, second.tree, third.tree} == {ref(9)}
    assert first.received == third.received != second.received


def test_the_worst_of_the_replicas_statuses_is_the_outcomes(world: World) -> None:
    for name, status in (("r1", "healthy"), ("r2", "stored"), ("r3", "no_changes"), ("r4", "running")):
        world.sidecar(name).status = status
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    assert ide.outcome.status == "stored"


def test_an_unhealthy_replica_undoes_the_push_on_all(world: World) -> None:
    good, bad = world.sidecar("r1"), world.sidecar("r2", plan="unhealthy")
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    assert ide.outcome.status == "rolled_back"
    assert ide.outcome.error is None
    assert [report.status for report in ide.outcome.replicas] == ["rolled_back", "rolled_back"]
    assert (good.tree, bad.tree, ide.outcome.tree) == (IMAGE, IMAGE, None)
    assert Keep not in kinds(good)
    assert Undo in kinds(bad)


def test_a_replica_that_cannot_stage_fails_the_push_before_any_is_tried(world: World) -> None:
    good = world.sidecar("r1")
    world.sidecar("r2", plan="fail")
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    assert ide.outcome.status == "failed"
    assert ide.outcome.error is not None
    assert ide.outcome.error.code == "stage_failed"
    assert "r2" in ide.outcome.error.message
    assert "the disk is full" in ide.outcome.error.message
    assert Try not in kinds(good)


def test_the_next_push_is_planned_on_what_the_last_one_left(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    for number in (1, 2, 3):
        ide.begin(f"p{number}", number)
        world.run()
    assert [outcome.status for outcome in ide.ends if isinstance(outcome, Outcome)] == ["healthy"] * 3
    assert sidecar.tree == ref(3)


def test_a_replica_nobody_sends_a_batch_for_fails_the_push(world: World) -> None:
    world.sidecar("r1")
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.say(Push(push_id="p1", batches=(BatchRef(base=ref(7), target=ref(1)),)))
    world.run()
    assert ide.error.code == "stage_failed"
    assert not world.deployment.busy


# -- asking ----------------------------------------------------------------------------------------------------------


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
    while slow.pending:
        slow.send_one()
        world.run()
    assert (slow.outcome.status, ide.outcome.status) == ("healthy", "healthy")


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


# -- the same push again ---------------------------------------------------------------------------------------------


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


# -- clients that leave ----------------------------------------------------------------------------------------------


def test_a_client_that_cancels_in_planning_frees_the_lease(world: World) -> None:
    world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.cancel()
    world.run()
    assert ide.error.code == "cancelled"
    assert not world.deployment.busy


def test_a_client_that_cancels_halfway_has_it_undone(world: World) -> None:
    sidecar = world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.send_one()
    ide.send_one()
    world.run()
    ide.cancel()
    world.run()
    assert ide.error.code == "cancelled"
    assert kinds(sidecar) == [Welcome, Stage, Undo]
    assert DropSpool("p1") in world.commands


def test_a_client_that_cancels_after_all_have_staged_gets_the_outcome(world: World) -> None:
    sidecar, ide = world.sidecar(plan="hang"), world.ide()
    ide.begin("p1", 1)
    world.run()
    ide.say(Cancel(push_id="p1"))
    world.run()
    sidecar.plan = "healthy"
    sidecar.judge()
    world.run()
    assert ide.outcome.status == "healthy"


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


# -- replicas that leave ---------------------------------------------------------------------------------------------


def halfway(world: World, *names: str) -> tuple[list[Sidecar], Ide]:
    """A push whose chunks are half sent."""
    sidecars = [world.sidecar(name, plan="hang") for name in names]
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.send_one()
    ide.send_one()
    world.run()
    return sidecars, ide


def on_trial(world: World, *names: str) -> tuple[list[Sidecar], Ide]:
    """A push that all replicas are trying."""
    sidecars, ide = halfway(world, *names)
    ide.send_one()
    world.run()
    return sidecars, ide


def judge(world: World, *sidecars: Sidecar, plan: str = "healthy") -> None:
    for sidecar in sidecars:
        sidecar.plan = plan
        sidecar.judge()
    world.run()


def test_a_replica_that_reconnects_while_it_stages_gets_the_batch_from_its_start(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    sidecar.cut()
    sidecar.connect()
    world.run()
    ide.send_one()
    world.run()
    judge(world, sidecar)
    assert b"".join(sidecar.received) == b"p1 0 Falsep1 0 True"
    assert ide.outcome.status == "healthy"


def test_a_replica_that_reconnects_when_it_has_staged_is_not_sent_it_again(world: World) -> None:
    (first, second), ide = halfway(world, "r1", "r2")
    second.plan = "healthy"
    second.cut()
    ide.send_one()
    world.run()
    first.cut()
    first.connect()
    world.run()
    second.connect()
    world.run()
    judge(world, first)
    assert ide.outcome.status == "healthy"
    assert kinds(first).count(Stage) == 1
    assert kinds(second).count(Stage) == 2


def test_a_replica_that_is_lost_while_it_stages_fails_the_push(world: World) -> None:
    (first, second), ide = halfway(world, "r1", "r2")
    second.cut()
    world.wait(20)
    assert ide.outcome.status == "failed"
    assert ide.outcome.error is not None
    assert (ide.outcome.error.code, "reconnect" in ide.outcome.error.message) == ("replica_lost", True)
    assert Undo in kinds(first)
    assert [report.status for report in ide.outcome.replicas] == ["rolled_back", "failed"]


def test_a_replica_that_comes_back_with_another_tree_fails_the_push(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    sidecar.cut()
    sidecar.tree = ref(77)
    sidecar.connect()
    world.run()
    assert ide.outcome.status == "failed"
    assert not world.deployment.busy


def test_a_replica_that_reconnects_on_trial_goes_on_where_it_was(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    first.cut()
    first.connect()
    world.run()
    judge(world, first, second)
    assert ide.outcome.status == "healthy"
    assert kinds(first).count(Try) == 1


def test_a_verdict_that_was_lost_with_the_connection_is_said_again(world: World) -> None:
    (sidecar,), ide = on_trial(world, "r1")
    sidecar.connection = 0  # it has lost the proxy, which does not know yet
    judge(world, sidecar, plan="unhealthy")
    sidecar.connect()
    world.run()
    assert ide.outcome.status == "rolled_back"


def test_a_healthy_replica_that_is_lost_is_waited_for_before_any_keeps(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    judge(world, first)
    first.cut()
    judge(world, second)
    assert Keep not in kinds(second)
    first.connect()
    world.run()
    assert ide.outcome.status == "healthy"


def test_a_healthy_replica_that_stays_lost_undoes_the_push(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    judge(world, first)
    first.cut()
    judge(world, second)
    world.wait(200)
    assert ide.outcome.status == "rolled_back"
    assert ide.outcome.error is not None
    assert ide.outcome.error.code == "replica_lost"
    assert second.tree == IMAGE


def test_a_replica_that_comes_back_without_its_trial_undoes_the_push(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    first.cut()
    first.trial = None
    first.connect()
    world.run()
    assert ide.outcome.status == "rolled_back"
    assert Undo in kinds(second)


def test_a_replica_that_gives_no_verdict_undoes_the_push(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    first.deadline = second.deadline = None  # neither gives up by itself
    world.wait(135)
    assert ide.outcome.status == "rolled_back"
    assert ide.outcome.error is not None
    assert "try_margin" in ide.outcome.error.message


def test_a_replica_that_undoes_by_itself_undoes_the_push_on_all(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    first.undo("p1")
    world.run()
    assert ide.outcome.status == "rolled_back"
    assert Undo in kinds(second)


def test_a_replica_lost_when_told_to_keep_is_asked_again(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    judge(world, first)
    second.plan = "healthy"
    second.judge()
    while Keep not in [type(message) for message in first.inbox]:
        for end in (second,):
            if end.outbox:
                world.deliver(end)
    first.cut()
    first.connect()
    world.run()
    assert ide.outcome.status == "healthy"


def test_a_replica_that_kept_and_was_lost_before_it_could_say_so_counts(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    judge(world, second)
    first.plan = "healthy"
    first.judge()
    while first.outbox:
        world.deliver(first)
    while first.inbox:
        first.hear_one()
    assert first.tree == ref(1)
    first.cut()
    first.connect()
    world.run()
    assert ide.outcome.status == "healthy"


def test_a_replica_lost_when_told_to_keep_makes_it_partial_and_is_brought_up_to_date_later(
    world: World,
) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    judge(world, second)
    first.plan = "healthy"
    first.judge()
    while first.outbox:
        world.deliver(first)
    first.cut()
    world.wait(300)
    assert ide.outcome.status == "partial"
    assert ide.outcome.error is not None
    assert [report.status for report in ide.outcome.replicas] == ["failed", "healthy"]
    assert (first.tree, second.tree) == (IMAGE, ref(1))
    first.plan = "healthy"
    first.connect()
    world.run()
    assert first.tree == ref(1)


def test_a_replica_that_does_not_answer_an_undo_is_given_up_and_sent_away(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    first.deadline = None
    first.hear = lambda message: None  # type: ignore[method-assign]
    judge(world, second, plan="unhealthy")
    world.wait(45)
    assert ide.outcome.status == "rolled_back"
    assert [report.status for report in ide.outcome.replicas] == ["failed", "rolled_back"]
    assert first.closed is not None
    assert first.closed[0] == Close.TIMEOUT


def test_a_second_connection_of_a_replica_replaces_the_first(world: World) -> None:
    (sidecar,), ide = on_trial(world, "r1")
    old = Sidecar(world, sidecar.side, name="r1")
    old.connection, old.link = sidecar.connection, sidecar.link
    world.ends[old.connection] = old
    sidecar.connect()
    world.run()
    assert world.deployment.replicas == 1
    assert old.closed is None or old.closed[0] == Close.REPLACED
    judge(world, sidecar)
    assert ide.outcome.status == "healthy"


def test_a_trial_of_a_push_nobody_knows_is_undone(world: World) -> None:
    (sidecar,), _ = on_trial(world, "r1")
    world.restart()
    sidecar.connect()
    world.run()
    assert sidecar.trial is None
    ide = world.ide()
    ide.begin("p2", 2)
    sidecar.plan = "healthy"
    world.run()
    assert ide.outcome.status == "healthy"


def test_a_replica_that_comes_during_a_push_takes_no_part_and_is_brought_up_to_date(world: World) -> None:
    (first,), ide = on_trial(world, "r1")
    late = world.sidecar("r2")
    world.run()
    judge(world, first)
    assert [report.id for report in ide.outcome.replicas] == ["r1"]
    assert late.tree == ref(1)
    assert late.history[-1].push_id == "p1"


# -- late replicas ---------------------------------------------------------------------------------------------------


def push_all(world: World, *numbers: int) -> Ide:
    ide = world.ide()
    for number in numbers:
        ide.begin(f"p{number}", number)
        world.run()
    assert all(isinstance(end, Outcome) and end.status == "healthy" for end in ide.ends)
    return ide


def test_a_late_replica_is_given_the_kept_pushes_in_order(world: World) -> None:
    world.sidecar()
    push_all(world, 1, 2, 3)
    late = world.sidecar("r2")
    world.run()
    assert late.tree == ref(3)
    assert [entry.push_id for entry in late.history] == [GENERATION_0, "p1", "p2", "p3"]


def test_a_late_replica_is_brought_up_to_date_after_a_restart_of_the_proxy(world: World) -> None:
    first = world.sidecar()
    push_all(world, 1, 2)
    world.restart()
    first.connect()
    late = world.sidecar("r2")
    world.run()
    assert late.tree == ref(2)


def test_a_late_replica_of_another_image_is_left_alone(world: World) -> None:
    world.sidecar()
    push_all(world, 1)
    late = world.sidecar("r2", tree=ref(50))
    world.run()
    assert kinds(late) == [Welcome]


def test_a_replay_that_fails_is_not_tried_for_ever(world: World) -> None:
    world.sidecar()
    ide = push_all(world, 1)
    late = world.sidecar("r2", plan="unhealthy")
    world.run()
    assert kinds(late).count(Stage) == 1
    late.plan = "healthy"
    ide.begin("p2", 2)
    world.run()
    assert late.tree == ref(2)


def test_a_push_waits_for_a_replay(world: World) -> None:
    world.sidecar()
    ide = push_all(world, 1)
    late = world.sidecar("r2", plan="hang")
    world.run()
    ide.begin("p2", 2)
    world.run()
    assert len(ide.ends) == 1
    judge(world, late)
    assert late.tree == ref(2)
    assert len(ide.ends) == 2


def test_a_replay_survives_a_reconnection(world: World) -> None:
    world.sidecar()
    push_all(world, 1)
    late = world.sidecar("r2", plan="hang")
    world.run()
    late.cut()
    late.connect()
    judge(world, late)
    assert late.tree == ref(1)


def test_what_another_proxy_kept_is_learnt_from_the_replicas(world: World) -> None:
    entry = HistoryEntry(push_id="elsewhere", generation=1, tree=ref(4), at=5.0, source="you")
    sidecar = world.sidecar(tree=ref(4))
    sidecar.history = (*sidecar.history, entry)
    sidecar.say(State(replica=sidecar.state))
    world.run()
    ide = world.ide()
    world.run()
    welcome = ide.heard[0]
    assert isinstance(welcome, Welcome)
    assert welcome.deployment is not None
    assert welcome.deployment.last_push is not None
    assert welcome.deployment.last_push.push_id == "elsewhere"


def test_only_so_many_batches_are_stored() -> None:
    world = World(chain=Chain(max_pushes=2))
    world.sidecar()
    push_all(world, 1, 2, 3)
    assert len(world.stored) == 2
    late = world.sidecar("r2")
    world.run()
    assert kinds(late) == [Welcome]


def test_a_batch_that_leads_nowhere_is_not_stored(world: World) -> None:
    world.sidecar()
    ide = world.ide()
    ide.begin("p1", 0)
    world.run()
    assert ide.outcome.status == "healthy"
    assert world.stored == {}


# -- rollbacks -------------------------------------------------------------------------------------------------------


def test_a_rollback_brings_the_tree_before_the_present_one(world: World) -> None:
    first, second = world.sidecar("r1"), world.sidecar("r2")
    push_all(world, 1, 2)
    ide = world.ide()
    ide.roll_back("b1")
    world.run()
    assert (ide.outcome.status, ide.outcome.tree) == ("healthy", ref(1))
    assert first.tree == second.tree == ref(1)
    assert first.history[-1].restores == "p1"


def test_a_rollback_of_a_rollback_goes_further_back(world: World) -> None:
    sidecar = world.sidecar()
    push_all(world, 1, 2)
    ide = world.ide()
    for number in (1, 2):
        ide.roll_back(f"b{number}")
        world.run()
    assert sidecar.tree == IMAGE
    assert sidecar.history[-1].restores == GENERATION_0
    ide.roll_back("b3")
    world.run()
    assert isinstance(ide.ends[-1], Error)
    assert ide.ends[-1].code == "unknown_push"


def test_a_rollback_to_a_push_brings_the_tree_it_left(world: World) -> None:
    sidecar = world.sidecar()
    push_all(world, 1, 2, 3)
    ide = world.ide()
    ide.roll_back("b1", "p1")
    world.run()
    assert sidecar.tree == ref(1)


def test_a_rollback_to_a_push_nobody_remembers_names_those_that_are(world: World) -> None:
    world.sidecar()
    push_all(world, 1)
    ide = world.ide()
    ide.roll_back("b1", "p9")
    world.run()
    assert ide.error.code == "unknown_push"
    assert "generation-0, p1" in ide.error.message


def test_a_rollback_that_is_not_healthy_is_undone(world: World) -> None:
    sidecar = world.sidecar()
    push_all(world, 1)
    sidecar.plan = "unhealthy"
    ide = world.ide()
    ide.roll_back("b1")
    world.run()
    assert ide.outcome.status == "rolled_back"
    assert sidecar.tree == ref(1)


def test_a_rollback_that_is_sent_again_is_answered_from_the_record(world: World) -> None:
    sidecar = world.sidecar()
    push_all(world, 1)
    for _ in range(2):
        ide = world.ide()
        ide.roll_back("b1")
        world.run()
        assert ide.outcome.status == "healthy"
    assert kinds(sidecar).count(StageTree) == 1


def test_a_late_replica_is_brought_to_where_a_rollback_went(world: World) -> None:
    first = world.sidecar()
    push_all(world, 1, 2)
    away = world.sidecar("r2")
    world.run()
    away.cut()
    ide = world.ide()
    ide.roll_back("b1")
    world.run()
    fresh = world.sidecar("r3")
    away.connect()
    world.run()
    assert first.tree == away.tree == fresh.tree == ref(1)


# -- questions -------------------------------------------------------------------------------------------------------


def test_a_question_is_answered_by_a_replica_that_has_the_tree(world: World) -> None:
    first, second = world.sidecar("r1"), world.sidecar("r2", tree=ref(5))
    ide = world.ide()
    world.run()
    questions: list[Message] = []
    second.hear = questions.append  # type: ignore[method-assign,assignment]
    ide.say(GetManifest(request=4, tree=ref(5)))
    ide.say(GetSignatures(request=5, tree_id=ref(5).tree_id, paths=(b"a",)))
    world.run()
    assert kinds(first) == [Welcome]
    for number, last in ((0, False), (1, True), (0, True)):
        question = questions[number]
        assert isinstance(question, GetManifest | GetSignatures)
        second.say(Answer(request=question.request, data=b"x", last=last))
    world.run()
    answers = [(m.request, m.last) for m in ide.heard if isinstance(m, Answer)]
    assert answers == [(4, False), (5, True), (4, True)]


def test_a_question_about_a_tree_nobody_has_is_refused(world: World) -> None:
    world.sidecar()
    ide = world.ide()
    ide.say(GetManifest(request=1, tree=ref(9)))
    world.run()
    assert isinstance(ide.heard[-1], AnswerError)
    assert ide.heard[-1].code == "no_replica"


@pytest.mark.parametrize("how", ["lost", "silent"])
def test_a_question_that_is_not_answered_ends_with_an_error(world: World, how: str) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    sidecar.hear = lambda message: None  # type: ignore[method-assign]
    ide.say(GetManifest(request=1, tree=IMAGE))
    world.run()
    if how == "lost":
        sidecar.cut()
    world.wait(60)
    assert isinstance(ide.heard[-1], AnswerError)
    assert ide.heard[-1].code == ("replica_lost" if how == "lost" else "timeout")


def test_an_answer_for_a_client_that_left_is_ignored(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    sidecar.hear = lambda message: None  # type: ignore[method-assign]
    ide.say(GetManifest(request=1, tree=IMAGE))
    world.run()
    ide.cut()
    sidecar.say(Answer(request=1, data=b"", last=True))
    world.run()
    assert sidecar.connected


def test_a_client_may_not_ask_without_end(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    sidecar.hear = lambda message: None  # type: ignore[method-assign]
    for number in range(20):
        ide.say(GetManifest(request=number, tree=IMAGE))
    world.run()
    refused = [m for m in ide.heard if isinstance(m, AnswerError)]
    assert [m.code for m in refused] == ["busy"] * 4


# -- peers that break the protocol -----------------------------------------------------------------------------------


def raw(world: World, end: Ide | Sidecar, *messages: object) -> None:
    """Say it, legal or not."""
    end.outbox.extend(messages)  # type: ignore[arg-type]
    world.run()


def closed(end: Ide | Sidecar) -> tuple[str, str]:
    assert not end.connected
    assert end.closed is not None
    assert isinstance(end.heard[-1], Error)
    return end.heard[-1].code, end.heard[-1].message


@pytest.mark.parametrize(
    "message",
    [
        Chunk(push_id="p1", data=b"", last=True),
        Push(push_id="p1", batches=(BatchRef(base=IMAGE, target=ref(1)),)),
        Cancel(push_id="p1"),
        Hello(versions=(1,), software="test"),
        Staged(push_id="p1"),
        Keep(push_id="p1"),
    ],
)
def test_a_client_that_says_what_it_may_not_say_now_is_told_so_and_closed(
    world: World, message: object
) -> None:
    world.sidecar()
    ide = world.ide()
    world.run()
    raw(world, ide, message)
    code, words = closed(ide)
    assert code == "bad_message"
    assert "ready" in words


def test_a_client_that_breaks_the_protocol_in_its_push_has_it_undone(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    raw(world, ide, Chunk(push_id="p1", data=b"", last=True, batch=3))
    closed(ide)
    assert Undo in kinds(sidecar)
    assert not world.deployment.busy


@pytest.mark.parametrize(
    "batches",
    [
        (BatchRef(base=IMAGE, target=ref(1)), BatchRef(base=ref(2), target=ref(3))),
        (BatchRef(base=IMAGE, target=ref(1)), BatchRef(base=IMAGE, target=ref(1))),
    ],
)
def test_batches_that_make_no_sense_are_a_broken_protocol(
    world: World, batches: tuple[BatchRef, ...]
) -> None:
    world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    raw(world, ide, Push(push_id="p1", batches=batches))
    assert closed(ide)[0] == "bad_message"
    assert not world.deployment.busy


def test_a_replica_that_breaks_the_protocol_in_a_push_is_closed_and_the_push_undone(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    raw(world, first, Staged(push_id="p1"))
    assert closed(first)[0] == "bad_message"
    world.wait(200)
    assert ide.outcome.status == "rolled_back"
    assert second.trial is None


def test_a_replica_may_not_change_its_name(world: World) -> None:
    sidecar = world.sidecar()
    world.run()
    raw(world, sidecar, State(replica=replace(sidecar.state, id="r9")))
    assert closed(sidecar)[0] == "bad_message"


def test_a_replica_may_not_answer_what_was_not_asked(world: World) -> None:
    sidecar = world.sidecar()
    world.run()
    raw(world, sidecar, Answer(request=1, data=b"", last=True))
    assert closed(sidecar)[0] == "bad_message"


@pytest.mark.parametrize("side", ["ide", "sidecar"])
def test_without_a_common_version_nobody_is_welcome(world: World, side: str) -> None:
    end: Ide | Sidecar = world.ide(greet=False) if side == "ide" else world.sidecar(greet=False)
    hello = end.outbox.pop()
    assert isinstance(hello, Hello)
    raw(world, end, replace(hello, versions=(7,)))
    assert closed(end)[0] == "version"


def test_garbage_closes_the_connection(world: World) -> None:
    ide = world.ide()
    world.run()
    connection = ide.connection
    world.feed(Garbled(connection, Code.TOO_LARGE, "far too much"))
    world.run()
    assert closed(ide) == ("too_large", "far too much")


def test_who_does_not_say_hello_is_closed(world: World) -> None:
    ide = world.ide(greet=False)
    ide.outbox.clear()
    world.wait(10)
    assert closed(ide)[0] == "timeout"


def test_there_are_only_so_many_replicas(world: World) -> None:
    for number in range(64):
        world.sidecar(f"r{number}")
    world.run()
    late = world.sidecar("late")
    world.run()
    assert closed(late)[0] == "unsupported"
    assert world.deployment.replicas == 64


# -- the proxy's own troubles ----------------------------------------------------------------------------------------


def test_a_full_disk_fails_the_push(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    world.feed(DiskFailed("p1", "no space left on device"))
    world.run()
    assert ide.outcome.status == "failed"
    assert ide.outcome.error is not None
    assert (ide.outcome.error.code, "no space" in ide.outcome.error.message) == ("too_large", True)
    assert sidecar.trial is None


def test_a_kept_batch_that_cannot_be_read_ends_the_replay(world: World) -> None:
    world.sidecar()
    push_all(world, 1)
    world.stored["00000001.batch"] = []
    late = world.sidecar("r2")
    world.run()
    world.feed(DiskFailed("p1", "it is gone"))
    world.run()
    assert not world.deployment.busy
    assert late.tree == IMAGE


def test_a_proxy_that_stops_sends_undecided_clients_away_and_finishes_the_rest(world: World) -> None:
    (sidecar,), ide = on_trial(world, "r1")
    waiting, idle = world.ide(), world.ide()
    waiting.begin("p2", 2)
    world.run()
    world.feed(Stop())
    world.run()
    assert (waiting.connected, idle.connected, ide.connected) == (False, False, True)
    judge(world, sidecar)
    assert ide.outcome.status == "healthy"
    assert not world.deployment.busy


def test_a_proxy_that_stops_undoes_what_is_not_staged(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    world.feed(Stop())
    world.run()
    assert not ide.connected
    assert Undo in kinds(sidecar)
    assert not world.deployment.busy


def test_a_deployment_without_connections_is_idle(world: World) -> None:
    sidecar = world.sidecar()
    world.run()
    assert not world.deployment.idle
    sidecar.cut()
    assert world.deployment.idle
    assert world.deployment.next_deadline is None


def test_the_outcome_of_many_talkative_replicas_fits_into_a_message() -> None:
    world = World(timeouts=Timeouts())
    for number in range(64):
        sidecar = world.sidecar(f"r{number}", plan="unhealthy")
        report = replace(sidecar.report("rolled_back"), log_tail=("x" * 300,) * 200)
        sidecar.report = lambda status, told=report: told  # type: ignore[method-assign,misc]
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    assert ide.outcome.status == "rolled_back"
    assert sum(len(report.log_tail) for report in ide.outcome.replicas) > 64


def test_kept_batches_are_handed_to_the_store_by_name(world: World) -> None:
    world.sidecar("r1")
    world.sidecar("r2", tree=ref(5))
    push_all(world, 9)
    (kept,) = [command for command in world.commands if isinstance(command, KeepSpool)]
    assert kept.names == {0: "00000001.batch", 1: "00000002.batch"}
    assert Chain.from_json(kept.index).names() == {"00000001.batch", "00000002.batch"}
