"""A launcher that is killed at any instant: after the next start the tree is exactly the old or the committed one."""

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.launcher.world import Container, Files, Peer, World


def script(text: str) -> bytes:
    return b"#!/bin/bash\n" + text.encode()


OLD: Files = {
    "run.sh": script("trap 'sleep 0.02; exit 0' TERM\necho old\nwhile :; do sleep 0.01; done"),
    "changed": b"old",
    "removed/deep/file": b"old",
    "becomes-directory": b"old",
    "becomes-file/x": b"old",
    "link": "changed",
}
NEW: Files = {
    "run.sh": script("echo new\nexec sleep 1000\n"),
    "changed": b"new",
    "added/deep/file": b"new",
    "becomes-directory/x": b"new",
    "becomes-file": b"new",
    "link": "added",
}
STAGES = ("apply", "stop", "start", "health")


def started(world: World) -> tuple[Container, Peer]:
    container = world.container(OLD)
    container.start()
    peer = container.connect_ready()
    container.wait_for_output(b"old\n")
    return container, peer


def try_until(world: World, peer: Peer, happens: Callable[[Peer], object]) -> None:
    world.volume.plan("p1", OLD, NEW)
    peer.say("try", push_id="p1", deadline_s=60)
    happens(peer)


def restarted_holds(container: Container, files: Files, word: bytes) -> None:
    """The same container, started again, has that tree before its application says that word."""
    container.crash()
    container.out.unlink()
    container.start()
    _, hello = container.connect()
    assert hello["trial"] is None
    assert container.wait_for_output(word + b"\n") == word + b"\n"
    assert container.holds(files)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_during_a_stage_it_has_the_old_tree_again(world: World, stage: str) -> None:
    container, peer = started(world)
    try_until(world, peer, lambda peer: peer.hear("progress", stage=stage))

    restarted_holds(container, OLD, b"old")


def test_killed_after_the_verdict_it_has_the_old_tree_again(world: World) -> None:
    container, peer = started(world)
    try_until(world, peer, lambda peer: peer.hear("verdict", verdict="keep"))

    restarted_holds(container, OLD, b"old")


def test_killed_after_the_commit_it_has_the_new_tree(world: World) -> None:
    container, peer = started(world)
    try_until(world, peer, lambda peer: peer.hear("verdict", verdict="keep"))
    world.volume.commit(NEW, "p1")

    restarted_holds(container, NEW, b"new")
    assert container.applied()["push_id"] == "p1"


def test_killed_while_it_keeps_it_has_the_new_tree(world: World) -> None:
    container, peer = started(world)
    try_until(world, peer, lambda peer: peer.hear("verdict", verdict="keep"))
    world.volume.commit(NEW, "p1")
    peer.say("keep", push_id="p1")

    restarted_holds(container, NEW, b"new")


def test_killed_while_it_undoes_it_has_the_old_tree(world: World) -> None:
    container, peer = started(world)
    try_until(world, peer, lambda peer: peer.hear("verdict", verdict="keep"))
    peer.say("undo", push_id="p1")

    restarted_holds(container, OLD, b"old")


def test_killed_after_the_commit_and_another_push_stored_it_has_that_one(world: World) -> None:
    container, peer = started(world)
    try_until(world, peer, lambda peer: peer.hear("verdict", verdict="keep"))
    world.volume.commit(NEW, "p1")
    third: Files = {"run.sh": script("echo third\nexec sleep 1000\n"), "only": b"this"}
    world.volume.commit(third, "p2")

    restarted_holds(container, third, b"third")


def test_killed_at_any_moment_it_is_one_or_the_other(world: World) -> None:
    chance = random.Random(7)
    container, peer = started(world)
    big_old = {**OLD, **{f"many/{number}": b"old" for number in range(40)}}
    big_new = {**NEW, **{f"many/{number}": b"new" for number in range(20, 60)}}
    world.volume.commit(big_old, "p0")
    for number in range(6):
        peer.say("apply")
        peer.hear("applied")
        push_id = f"p{number + 1}"
        world.volume.plan(push_id, big_old, big_new)
        peer.say("try", push_id=push_id, deadline_s=60)
        peer.hear("progress", stage="stop")
        time.sleep(chance.uniform(0.0, 0.06))
        container.crash()
        container.start()
        peer, hello = container.connect()
        assert hello["trial"] is None
        assert container.holds(big_old), number


def test_killed_while_it_applies_at_the_start_the_next_start_finishes(world: World) -> None:
    chance = random.Random(8)
    container, _ = started(world)
    container.crash()
    many = {**NEW, **{f"many/{number}": os.urandom(1000) for number in range(60)}}
    world.volume.commit(many, "p1")
    for _ in range(4):
        container.start()
        time.sleep(chance.uniform(0.08, 0.16))
        container.signal(signal.SIGKILL)
        container.crash()
    container.start()
    container.connect()

    assert container.holds(many)
