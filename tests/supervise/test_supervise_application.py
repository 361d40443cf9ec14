"""One application: started, stopped, started again."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codesync.supervise import (
    Application,
    Children,
    Exit,
    Loop,
    Process,
    Signals,
    become_subreaper,
    parse_check,
)
from codesync.supervise.application import stop_ladder


class Stage:
    """A loop whose children are reaped, and applications on it."""

    def __init__(self, cwd: Path) -> None:
        self.loop = Loop()
        self.children = Children()
        self.cwd = str(cwd)
        self.states: list[str] = []
        self.apps: list[Application] = []

    def app(
        self, script: str, *, health: str | None = None, stop_seconds: float = 5.0, shell: str = "bash"
    ) -> Application:
        check = parse_check(health, 0.02, self.cwd, self.children)
        app = Application(
            self.loop,
            self.children,
            command=[shell, "-c", script],
            cwd=self.cwd,
            check=check,
            stop_seconds=stop_seconds,
        )
        app.changed = lambda: self.states.append(app.state)
        self.apps.append(app)
        return app

    def start(self, script: str, **options: Any) -> tuple[Application, Process]:
        app = self.app(script, **options)
        return app, app.start(os.environ)

    def wait(self, ready: Callable[[], Any]) -> None:
        assert self.loop.wait(ready, self.loop.clock() + 10), "waited in vain"

    def wait_for_line(self, process: Process, line: str) -> None:
        until = self.loop.clock() + 10
        while line not in process.tail.lines():
            assert self.loop.clock() < until, process.tail.lines()
            self.loop.wait(lambda: False, self.loop.clock() + 0.002)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    signals = Signals(made.loop)
    signals.on(signal.SIGCHLD, lambda _: made.children.reap())
    become_subreaper()
    yield made
    for app in made.apps:
        app.stop(signal.SIGKILL)
    signals.close()
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans of other tests are not ours


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
    assert process.tail.lines()[-1] == "bye"


def test_what_ignores_term_is_killed_after_the_bounded_wait(stage: Stage) -> None:
    app, process = stage.start("trap '' TERM; echo ready; while :; do sleep 1; done", stop_seconds=0.1)
    stage.wait_for_line(process, "ready")
    start = time.monotonic()
    app.stop()

    assert process.exit == Exit(None, signal.SIGKILL)
    assert 0.1 <= time.monotonic() - start < 2


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


def test_a_daemon_that_keeps_the_output_open_delays_a_stop_by_a_bounded_time(stage: Stage) -> None:
    app, process = stage.start("setsid sleep 3 & echo ready; exit 0")
    stage.wait(lambda: process.exit)
    start = time.monotonic()
    app.stop()

    assert time.monotonic() - start < 2
    assert process.tail.lines() == ["ready"]


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

    assert set(os.listdir("/proc/self/fd")) == before
    assert app.process is None
    app.stop()


def test_a_restart_costs_a_few_milliseconds(stage: Stage) -> None:
    app, process = stage.start("exec sleep 100", shell="sh")
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        app.stop()
        process = app.start(os.environ)
        spent.append(time.perf_counter() - start)
        assert process.exit is None

    assert min(spent) < 0.05, spent
