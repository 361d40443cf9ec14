"""A push on its replicas: staged, tried, kept or undone on all, whoever is lost on the way."""

from dataclasses import replace
from functools import partial

from codesync.protocol import (
    BatchRef,
    Chunk,
    Close,
    Keep,
    Push,
    Stage,
    Trial,
    Try,
    Undo,
)
from tests.proxy.peers import IMAGE, Sidecar, ref
from tests.proxy.world import World, halfway, judge, kinds, on_trial


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
    assert world.deployment.replicas == 1


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


def test_what_is_tried_is_wholly_received(world: World) -> None:
    sidecar = world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.say(
        Push(
            push_id="p1", batches=(BatchRef(base=IMAGE, target=ref(1)), BatchRef(base=ref(8), target=ref(1)))
        )
    )
    ide.say(Chunk(push_id="p1", data=b"for r1", last=True))
    world.run()
    assert sidecar.trial is not None
    assert Try not in kinds(sidecar)
    ide.say(Chunk(push_id="p1", data=b"for a replica that may come later", last=True, batch=1))
    world.run()
    assert ide.outcome.status == "healthy"
    late = world.sidecar("r2", tree=ref(8))
    world.run()
    assert late.tree == ref(1)


def test_a_replica_that_is_lost_while_it_undoes_is_told_again(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    second.plan = "unhealthy"
    second.judge()
    world.deliver(second)
    first.cut()
    first.connect()
    world.run()
    assert ide.outcome.status == "rolled_back"
    assert [report.status for report in ide.outcome.replicas] == ["rolled_back", "rolled_back"]
    assert first.trial is None


def test_a_replica_that_comes_back_with_a_trial_that_was_given_up_is_told_to_undo_it(world: World) -> None:
    (first, second), ide = halfway(world, "r1", "r2")
    first.plan = "fail"
    ide.send_one()
    world.deliver(ide)
    while second.inbox:
        second.hear_one()  # it has staged
    second.cut()
    while first.inbox:
        first.hear_one()
    world.deliver(first)  # it has not
    second.connect()
    world.run()
    assert ide.outcome.status == "failed"
    assert second.trial is None
    assert Undo in kinds(second)


def test_what_is_kept_stays_kept_whatever_the_replica_says_later(world: World) -> None:
    (first, second), ide = on_trial(world, "r1", "r2")
    for sidecar in (first, second):
        sidecar.plan = "healthy"
        sidecar.judge()
    while first.outbox or second.outbox:
        world.deliver(first if first.outbox else second)
    while first.inbox:
        first.hear_one()
    while first.outbox:
        world.deliver(first)
    assert first.tree == ref(1)
    first.trial = Trial(push_id="p1", phase="healthy")
    first.cut()
    first.connect()
    while first.outbox or first.inbox:
        step = first.hear_one if first.inbox else partial(world.deliver, first)
        step()
    world.run()
    assert ide.outcome.status == "healthy"


def test_a_replica_that_comes_back_with_an_older_trial_goes_on_when_that_is_undone(world: World) -> None:
    (sidecar,), ide = halfway(world, "r1")
    sidecar.cut()
    sidecar.trial, sidecar.words = Trial(push_id="p0", phase="staged"), None
    sidecar.connect()
    world.run()
    assert kinds(sidecar)[-2:] == [Undo, Stage]
    ide.send_one()
    world.run()
    judge(world, sidecar)
    assert ide.outcome.status == "healthy"


def test_what_a_replica_keeps_though_it_is_unhealthy_is_the_worst_of_all(world: World) -> None:
    for name, status in (("r1", "stored"), ("r2", "unhealthy"), ("r3", "healthy")):
        world.sidecar(name).status = status
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    assert (ide.outcome.status, ide.outcome.tree, ide.outcome.error) == ("unhealthy", ref(1), None)
    assert {sidecar.tree for sidecar in world.sidecars} == {ref(1)}


def test_what_would_have_been_kept_unhealthy_tells_why_when_another_replica_undoes_it(world: World) -> None:
    keeps = world.sidecar("r1")
    keeps.status = "unhealthy"
    other = world.sidecar("r2", plan="hang")
    report, undone = keeps.report("unhealthy"), keeps.report("rolled_back")
    evidence = replace(report, generation=1, log_tail=("KeyError: 'shop'",), exit_code=1)
    keeps.report = lambda status: evidence if status == "unhealthy" else undone  # type: ignore[method-assign]
    ide = world.ide()
    ide.begin("p1", 1)
    world.run()
    judge(world, other, plan="unhealthy")
    (told, _) = ide.outcome.replicas
    assert told == replace(evidence, status="rolled_back", generation=0, reason=told.reason)
