"""Rollbacks: to the tree before, or to what a push left."""

from codesync.protocol import (
    GENERATION_0,
    Error,
    StageTree,
)
from tests.proxy.peers import IMAGE, ref
from tests.proxy.world import World, kinds, push_all


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
