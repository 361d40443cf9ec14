"""One deployment and its peers: a push when all goes well, peers that break the protocol, the proxy's own troubles."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.protocol import (
    Answer,
    BatchRef,
    Cancel,
    Chunk,
    Code,
    Error,
    Hello,
    Keep,
    Message,
    Outcome,
    Progress,
    Push,
    ReplicaState,
    Side,
    Stage,
    Staged,
    State,
    Timeouts,
    Trial,
    Try,
    Undo,
    Welcome,
    encode,
)
from codesync.proxy.chain import Chain
from codesync.proxy.coordinator import Deployment
from codesync.proxy.events import (
    DiskFailed,
    Event,
    Garbled,
    KeepSpool,
    Lost,
    Opened,
    Received,
    Send,
    Stop,
    Woken,
)
from tests.protocol.examples import EXAMPLES, OLD
from tests.proxy.peers import IMAGE, Ide, Sidecar, ref
from tests.proxy.world import World, halfway, judge, kinds, on_trial, push_all

# -- a push -------------------------------------------------------------------------------------------------------


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


# -- peers that break the protocol --------------------------------------------------------------------------------


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
        (BatchRef(base=IMAGE, target=ref(1)), BatchRef(base=IMAGE, target=ref(1))),
        (BatchRef(base=IMAGE, target=ref(1)), BatchRef(base=IMAGE, target=ref(2))),
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


# -- the proxy's own troubles -------------------------------------------------------------------------------------


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


# -- anybody says anything -------------------------------------------------------------------------------------------

HELLOS: list[Message] = [
    Hello(versions=(1,), software="x", source="me"),
    *(Hello(versions=(1,), software="x", replica=ReplicaState(id=name, tree=OLD)) for name in ("a", "b")),
    Hello(
        versions=(1,),
        software="x",
        replica=ReplicaState(id="a", tree=OLD, trial=Trial(push_id="p8", phase="staged")),
    ),
]
steps = st.one_of(
    st.tuples(st.just("open"), st.sampled_from([Side.IDE, Side.SIDECAR])),
    st.tuples(st.just("say"), st.integers(0, 5), st.sampled_from([*EXAMPLES.values(), *HELLOS])),
    st.tuples(st.just("say"), st.integers(0, 5), st.sampled_from(HELLOS)),
    st.tuples(st.just("lose"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 20.0, 70.0])),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=40))
def test_whatever_is_said_by_whom_is_answered(history: list[tuple[Any, ...]]) -> None:
    deployment = Deployment("shop", "dev", software="x", epoch=0.0)
    now, connections = 0.0, 0
    for step in history:
        match step:
            case ("open", side):
                connections += 1
                event: Event = Opened(connections, side)
            case ("say", number, message):
                event = Received(number, message)
            case ("lose", number):
                event = Lost(number)
            case (_, seconds):
                now += seconds
                event = Woken()
        for command in deployment.receive(event, now):
            if isinstance(command, Send):
                encode(command.message)
