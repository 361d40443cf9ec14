"""What is told is made small enough for a message, the newest of it first."""

from dataclasses import replace

import pytest

from codesync.protocol import (
    MAX_MESSAGE,
    MAX_REPLICAS,
    DeploymentState,
    Hello,
    HookReport,
    LastPush,
    ReplicaState,
    State,
    Undone,
    Welcome,
    encode,
    fit_deployment,
    fit_report,
    fit_state,
    size_of,
)
from tests.protocol.examples import CRASH, CRASHING_REPLICA, HOOKED, OLD, REPLICA, REPORT

LONG = "é" * 60_000
HUGE: ReplicaState = replace(
    REPLICA,
    image="i" * 512,
    gen0="g" * 512,
    app={str(number): "x" * 1000 for number in range(300)},
    notes=(LONG,) * 30,
    crash=replace(CRASH, log_tail=tuple(f"line {number}" for number in range(50_000))),
    history=tuple(
        replace(REPLICA.history[1], push_id=f"p{n}", description=LONG, source=LONG) for n in range(40)
    ),
    results=tuple(replace(REPLICA.results[0], push_id=f"p{n}", reason=LONG) for n in range(100)),
)


def test_what_is_small_stays_as_it_is() -> None:
    assert fit_report(REPORT) == REPORT
    assert fit_report(HOOKED) == HOOKED
    assert fit_state(REPLICA) == REPLICA
    assert fit_state(CRASHING_REPLICA) == CRASHING_REPLICA


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


OUTPUT = tuple(f"line {number}" for number in range(5_000))
HOOK = HookReport(run="ü" * 4096, moment="after_healthy", exit_code=1, ms=2**40, output=OUTPUT, reason=LONG)


@pytest.mark.parametrize("room", [7 * 1024, 64 * 1024])
@pytest.mark.parametrize("hooks", [1, 3, 32])
def test_hooks_leave_room_for_the_log(room: int, hooks: int) -> None:
    logs = tuple(f"line {number}" for number in range(50_000))
    drift = tuple(b"path %d" % number for number in range(50_000))
    fitted = fit_report(replace(REPORT, log_tail=logs, drift=drift, reason=LONG, hooks=(HOOK,) * hooks), room)
    assert size_of(fitted) < room
    assert fitted.log_tail[-1] == "line 49999"
    assert len(fitted.log_tail) > 100
    assert fitted.hooks[-1].run.startswith("ü")
    assert fitted.hooks[-1].exit_code == 1
    encode(Undone(push_id="p", report=fitted))


def test_of_hooks_the_last_lines_stay() -> None:
    fitted = fit_report(replace(REPORT, hooks=(replace(HOOK, run="make"),)), 64 * 1024)
    assert fitted.hooks[0].output[-1] == "line 4999"
    assert len(fitted.hooks[0].output) > 300


def test_one_talkative_hook_has_what_the_others_do_not_need() -> None:
    short = HookReport(run="true", moment="before_stop", exit_code=0)
    fitted = fit_report(replace(REPORT, hooks=(*[short] * 20, replace(HOOK, run="make", reason=""))))
    assert fitted.hooks[:20] == (short,) * 20
    assert fitted.hooks[20].output[-1] == "line 4999"
    assert len(fitted.hooks[20].output) > 1000


def test_where_there_is_little_room_the_last_hooks_are_told() -> None:
    hooks = tuple(replace(HOOK, ms=number) for number in range(32))
    fitted = fit_report(replace(REPORT, hooks=hooks), 7 * 1024)
    assert [hook.ms for hook in fitted.hooks] == list(range(32 - len(fitted.hooks), 32))


def test_texts_become_valid() -> None:
    hook = HookReport(run="\udcff", moment="before_stop", output=("a\ud800b",), reason="\udcff")
    fitted = fit_report(replace(REPORT, log_tail=("a\ud800b",), reason="\udcff", hooks=(hook,)))
    assert (fitted.log_tail, fitted.reason) == (("a?b",), "?")
    assert fitted.hooks == (replace(hook, run="?", output=("a?b",), reason="?"),)
    crash = fit_state(replace(REPLICA, crash=replace(CRASH, log_tail=("a\ud800b",)))).crash
    assert crash is not None
    assert crash.log_tail == ("a?b",)


@pytest.mark.parametrize("room", [8 * 1024, 100 * 1024, 384 * 1024])
def test_a_state_loses_the_oldest_first(room: int) -> None:
    fitted = fit_state(HUGE, room)
    assert size_of(fitted) <= room
    assert fitted.tree == HUGE.tree
    assert fitted.crash is not None
    assert fitted.crash.log_tail[-1] == "line 49999"
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
