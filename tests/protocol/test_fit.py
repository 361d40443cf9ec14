"""What is told is made small enough for a message, the newest of it first."""

from dataclasses import replace

import pytest

from codesync.protocol import (
    MAX_MESSAGE,
    MAX_REPLICAS,
    DeploymentState,
    Hello,
    LastPush,
    ReplicaState,
    State,
    Welcome,
    encode,
    fit_deployment,
    fit_report,
    fit_state,
    size_of,
)
from tests.protocol.examples import OLD, REPLICA, REPORT

LONG = "é" * 60_000
HUGE: ReplicaState = replace(
    REPLICA,
    image="i" * 512,
    gen0="g" * 512,
    app={str(number): "x" * 1000 for number in range(300)},
    notes=(LONG,) * 30,
    history=tuple(
        replace(REPLICA.history[1], push_id=f"p{n}", description=LONG, source=LONG) for n in range(40)
    ),
    results=tuple(replace(REPLICA.results[0], push_id=f"p{n}", reason=LONG) for n in range(100)),
)


def test_what_is_small_stays_as_it_is() -> None:
    assert fit_report(REPORT) == REPORT
    assert fit_state(REPLICA) == REPLICA


@pytest.mark.parametrize("room", [8 * 1024, 64 * 1024])
def test_a_report_keeps_the_last_lines_and_the_first_paths(room: int) -> None:
    report = replace(
        REPORT,
        log_tail=tuple(f"line {number}" for number in range(50_000)),
        drift=tuple(b"path %d" % number for number in range(50_000)),
        reason=LONG,
    )
    fitted = fit_report(report, room)
    assert size_of(fitted) < room
    assert fitted.log_tail[-1] == "line 49999"
    assert fitted.drift[0] == b"path 0"
    assert len(fitted.log_tail) > 100


def test_texts_become_valid() -> None:
    fitted = fit_report(replace(REPORT, log_tail=("a\ud800b",), reason="\udcff"))
    assert (fitted.log_tail, fitted.reason) == (("a?b",), "?")


@pytest.mark.parametrize("room", [8 * 1024, 100 * 1024, 384 * 1024])
def test_a_state_loses_the_oldest_first(room: int) -> None:
    fitted = fit_state(HUGE, room)
    assert size_of(fitted) <= room
    assert fitted.tree == HUGE.tree
    if fitted.results:
        assert fitted.results[-1] == HUGE.results[-1]
    if fitted.history:
        assert fitted.history[-1].push_id == HUGE.history[-1].push_id


def test_a_huge_state_fits_into_a_message() -> None:
    encode(Hello(versions=(1,), software="x", replica=fit_state(HUGE)))
    encode(State(replica=fit_state(HUGE)))


@pytest.mark.parametrize("replicas", [1, 3, MAX_REPLICAS])
def test_a_deployment_of_huge_states_fits_into_a_message(replicas: int) -> None:
    last = LastPush(push_id="p", source=LONG, description=LONG, at=0.0, tree=OLD)
    states = tuple(replace(HUGE, id=f"r{number}") for number in range(replicas))
    deployment = fit_deployment(
        DeploymentState(app_id="a", deployment_id="b", replicas=states, last_push=last)
    )
    data = encode(Welcome(version=1, software="x", deployment=deployment))
    assert len(data) <= MAX_MESSAGE
    assert [state.id for state in deployment.replicas] == [state.id for state in states]
    assert not any(state.results for state in deployment.replicas)
