"""Replicas that come late are brought to the present tree, push by push."""

from codesync.protocol import (
    GENERATION_0,
    BatchRef,
    Chunk,
    HistoryEntry,
    Keep,
    Push,
    Stage,
    State,
    Welcome,
)
from codesync.proxy.chain import Chain
from tests.proxy.peers import IMAGE, ref
from tests.proxy.world import World, judge, kinds, push_all


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


def test_a_late_replica_with_files_of_its_own_is_brought_to_its_own_tree(world: World) -> None:
    first, second = world.sidecar("r1"), world.sidecar("r2", tree=ref(5))
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.run()
    ide.say(
        Push(
            push_id="p1", batches=(BatchRef(base=IMAGE, target=ref(1)), BatchRef(base=ref(5), target=ref(6)))
        )
    )
    for batch in (0, 1):
        ide.say(Chunk(push_id="p1", data=b"", last=True, batch=batch))
    while Keep not in [type(message) for message in second.inbox]:
        for end in world.all:
            if end.outbox:
                world.deliver(end)
            elif end.inbox and end is not second:
                end.hear_one()
            elif second.inbox and not isinstance(second.inbox[0], Keep):
                second.hear_one()
    second.cut()
    world.wait(40)
    assert (ide.outcome.status, ide.outcome.tree) == ("partial", ref(1))
    second.trial = second.deadline = None
    second.connect()
    third = world.sidecar("r3", tree=ref(5))
    world.run()
    assert (first.tree, second.tree, third.tree) == (ref(1), ref(6), ref(6))
