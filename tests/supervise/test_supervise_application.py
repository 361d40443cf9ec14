"""One application: started, stopped, started again."""

import os
import signal
from pathlib import Path

import pytest

from codesync.supervise import Exit
from codesync.supervise.application import stop_ladder
from tests.supervise.stage import Stage


def test_an_application_that_stays_alive_is_running_and_stops_on_term(stage: Stage) -> None:
    app, process = stage.start("echo up; exec sleep 100")
    stage.wait(lambda: process.passed)
    assert app.describe()["state"] == "running"
    app.stop()

    assert process.exit == Exit(None, signal.SIGTERM)
    assert stage.states == ["starting", "running", "stopping", "exited"]
    assert app.describe() | {"since": 0} == {
        "state": "exited",
        "pid": process.pid,
        "exit_code": None,
        "signal": signal.SIGTERM,
        "since": 0,
    }


def test_an_application_with_a_check_is_healthy_once_it_passes(stage: Stage) -> None:
    app, process = stage.start("sleep 0.05; touch up; exec sleep 100", health="cmd:test -e up")
    stage.wait(lambda: process.passed)

    assert app.state == "healthy"


def test_its_own_exit_is_seen_at_once(stage: Stage) -> None:
    app, process = stage.start("exit 5")
    stage.wait(lambda: process.exit)

    assert (app.state, process.exit, process.passed) == ("exited", Exit(5, None), False)
    app.stop()  # harmless


def test_what_traps_term_may_take_its_time_and_choose_its_status(stage: Stage) -> None:
    app, process = stage.start(
        "trap 'sleep 0.05; echo bye; exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    )
    stage.wait_for_line(process, "ready")
    app.stop()

    assert process.exit == Exit(9, None)
    assert stage.output() == b"ready\nbye\n"


def test_what_ignores_term_is_killed_after_the_bounded_wait(stage: Stage) -> None:
    app, process = stage.start("trap '' TERM; echo ready; while :; do sleep 1; done", stop_seconds=0.1)
    stage.wait_for_line(process, "ready")
    app.stop()

    assert process.exit == Exit(None, signal.SIGKILL)
    assert stage.children.sent[:2] == [signal.SIGTERM, signal.SIGKILL]


def test_a_stop_waits_for_the_whole_group_and_kills_what_stays(stage: Stage) -> None:
    app, process = stage.start(
        "(trap '' TERM; echo ready; while :; do sleep 1; done) & wait", stop_seconds=0.1
    )
    stage.wait_for_line(process, "ready")
    app.stop()

    assert process.exit == Exit(None, signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_after_its_exit_a_stop_clears_away_what_it_left(stage: Stage) -> None:
    app, process = stage.start("sleep 100 & echo ready; exit 0")
    stage.wait(lambda: process.exit)
    assert not process.gone
    app.stop()

    assert process.exit == Exit(0, None)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_an_interrupt_reaches_those_who_listen_for_it_and_term_the_others(stage: Stage) -> None:
    app, process = stage.start("trap 'exit 7' INT; echo ready; while :; do sleep 0.01; done")
    stage.wait_for_line(process, "ready")
    app.stop(signal.SIGINT)
    assert process.exit == Exit(7, None)

    assert [number for number, _ in stop_ladder(signal.SIGINT, 10)] == [
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGKILL,
    ]
    assert stop_ladder(signal.SIGTERM, 10)[0] == (signal.SIGTERM, 10)
    assert sum(seconds for _, seconds in stop_ladder(signal.SIGINT, 10)[:2]) == 10


def test_output_goes_through_byte_for_byte_each_stream_to_its_own(
    stage: Stage, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    data = bytes(range(256)) * 4096  # 1 MiB
    (Path(stage.cwd) / "data").write_bytes(data)
    app, process = stage.start("cat data; echo problem >&2")
    stage.wait(lambda: process.exit)
    app.stop()

    out, err = capfdbinary.readouterr()
    assert (out == data, err) == (True, b"problem\n")
    assert len(process.tail.lines()) <= 200
    assert "problem" in process.tail.lines()


def test_each_run_has_its_own_tail(stage: Stage) -> None:
    app, first = stage.start("echo $N; exec sleep 100")
    stage.wait_for_line(first, "")
    app.stop()
    second = app.start({**os.environ, "N": "second"})
    stage.wait_for_line(second, "second")

    assert (first.tail.lines(), second.tail.lines()) == ([""], ["second"])
    assert app.process is second


def test_signals_are_forwarded_to_the_first_process(stage: Stage) -> None:
    app, process = stage.start("trap 'echo got it' USR1; echo ready; while :; do sleep 0.01; done")
    stage.wait_for_line(process, "ready")
    app.forward(signal.SIGUSR1)
    stage.wait_for_line(process, "got it")


def test_nothing_to_run_is_an_error_that_leaks_nothing(stage: Stage) -> None:
    before = set(os.listdir("/proc/self/fd"))
    app = stage.app("", shell="/no/such/program")
    with pytest.raises(FileNotFoundError):
        app.start(os.environ)

    assert app.process is None
    stage.wait(lambda: set(os.listdir("/proc/self/fd")) == before)
    app.stop()
