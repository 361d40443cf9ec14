"""Applications that do not behave, as real processes: what the kernel makes of them."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from codesync.supervise import Exit, Process
from tests.supervise.stage import Stage
from tests.supervise.test_supervise_children import run

TERM, KILL = signal.SIGTERM, signal.SIGKILL
PATIENT = 60.0  # seconds to stop in, far beyond what a test is given: a wait for it would fail


def python(stage: Stage, code: str) -> str:
    """The command of a shell that runs it."""
    path = Path(stage.cwd, "application.py")
    path.write_text("import os, signal, sys, time\n" + textwrap.dedent(code))
    return f"exec {sys.executable} -S {path}"


def state_of(pid: int) -> str:
    """As ps shows it; nothing when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except FileNotFoundError:
        return ""


def number_from(stage: Stage, process: Process) -> int:
    """The first line that it writes, a pid."""
    stage.look(process.tail.lines)
    return int(process.tail.lines()[0])


def test_orphans_of_the_session_end_with_it(stage: Stage) -> None:
    app, process = stage.start("(sleep 100 & echo $!) ; exec sleep 100", stop_seconds=PATIENT)
    orphan = number_from(stage, process)
    stage.look(lambda: app.members() == {orphan})  # what made it an orphan has gone
    app.stop()

    assert state_of(orphan) == ""
    assert stage.children.sent == [TERM]


def test_workers_outlive_their_master_no_longer_than_they_need(stage: Stage) -> None:
    script = "(trap 'sleep 0.05; echo done; exit 0' TERM; echo ready; while :; do sleep 0.01; done) & wait"
    app, process = stage.start(script, stop_seconds=PATIENT)
    stage.wait_for_line(process, "ready")
    app.stop()

    assert stage.output() == b"ready\ndone\n"
    assert stage.children.sent == [TERM]


def test_a_zombie_that_nobody_reaps_holds_nothing_up(stage: Stage) -> None:
    # the zombie belongs to the session, its parent has left it and goes on
    parent = """
        parent = os.fork()
        if parent:
            signal.pause()
        zombie = os.fork()
        if zombie == 0:
            os._exit(0)
        os.setsid()
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
        os.write(1, b"%d\\n%d\\n" % (zombie, os.getpid()))
        os.close(1), os.close(2)
        signal.pause()
    """
    app, process = stage.start(python(stage, parent), stop_seconds=PATIENT)
    stage.look(lambda: len(process.tail.lines()) == 2)
    zombie, parent_pid = map(int, process.tail.lines())
    assert (state_of(zombie), os.getsid(zombie)) == ("Z", process.pid)
    assert app.members() == set()
    app.stop()

    assert (process.exit, stage.children.sent) == (Exit(None, TERM), [TERM])
    os.kill(parent_pid, KILL)
    stage.look(lambda: not state_of(zombie) and not state_of(parent_pid))


def test_a_daemon_forked_twice_is_not_the_applications_any_more_but_reaped_by_us(stage: Stage) -> None:
    app, process = stage.start("setsid sh -c 'sleep 100 & echo $!'; exec sleep 100", stop_seconds=PATIENT)
    daemon = number_from(stage, process)
    assert app.members() == set()
    app.stop()

    assert state_of(daemon) == "S"
    os.kill(daemon, KILL)
    stage.look(lambda: not state_of(daemon))


def test_a_crowd_of_children_ends_with_one_signal(stage: Stage) -> None:
    crowd = """
        for _ in range(150):
            if os.fork() == 0:
                signal.pause()
        os.write(1, b"ready\\n")
        signal.pause()
    """
    app, process = stage.start(python(stage, crowd), stop_seconds=PATIENT)
    stage.wait_for_line(process, "ready")
    assert len(app.members()) == 150
    app.stop()

    assert stage.children.sent == [TERM]
    assert stage.children.members(process.pid) == set()


def test_children_that_answer_term_with_more_children_are_all_killed(stage: Stage) -> None:
    hydra = """
        def more(*_):
            if os.fork() == 0:
                os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, more)
        for _ in range(4):
            if os.fork() == 0:
                break
        os.write(1, b"ready\\n")
        while True:
            signal.pause()
    """
    app, process = stage.start(python(stage, hydra), stop_seconds=0.1)
    stage.look(lambda: process.tail.lines() == ["ready"] * 5)
    app.stop()

    assert stage.children.sent[:2] == [TERM, KILL]
    assert stage.children.members(process.pid) == set()


def test_a_stopped_process_is_told_to_go_on_so_that_it_can_end_in_order(stage: Stage) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
    app, process = stage.start(script, stop_seconds=PATIENT)
    stage.wait_for_line(process, "ready")
    os.kill(process.pid, signal.SIGSTOP)
    stage.look(lambda: state_of(process.pid) == "T")
    app.stop()

    assert (process.exit, stage.output()) == (Exit(3, None), b"ready\nbye\n")


@pytest.mark.parametrize(
    ("script", "expected"), [("exit 0", Exit(0, None)), ("kill -SEGV $$", Exit(None, signal.SIGSEGV))]
)
def test_an_exit_with_0_and_a_death_by_signal_are_told_apart(
    stage: Stage, script: str, expected: Exit
) -> None:
    app, process = stage.start(script)
    stage.wait(lambda: process.exit)

    assert (app.state, process.exit) == ("exited", expected)


def test_what_has_no_newline_is_in_the_tail_and_passed_on(stage: Stage) -> None:
    app, process = stage.start("printf 'name: '; printf oops >&2; exit 1")
    stage.wait(lambda: process.exit)
    app.stop()

    assert sorted(process.tail.lines()) == ["name: ", "oops"]
    assert (stage.output(1), stage.output(2)) == (b"name: ", b"oops")


def test_a_megabyte_in_one_write_is_heard_whole_and_the_tail_stays_small(stage: Stage) -> None:
    app, process = stage.start(python(stage, "os.write(1, b'x' * 1048576); os.write(1, b'\\nend')"))
    stage.wait(lambda: process.exit)
    app.stop()

    assert stage.output() == b"x" * 1048576 + b"\nend"
    assert process.tail.lines()[-1] == "end"
    assert sum(map(len, process.tail.lines())) <= 65536


def test_output_after_the_exit_belongs_to_the_run_that_left_the_writer_behind(stage: Stage) -> None:
    Path(stage.cwd, "go").unlink(missing_ok=True)
    late = "setsid sh -c 'echo $$; while ! test -e go; do sleep 0.01; done; echo late' & read -t 0.05; exit 0"
    app, first = stage.start(late)
    number_from(stage, first)
    stage.wait(lambda: first.exit)
    app.stop()
    second = app.start(os.environ)
    stage.look(second.tail.lines)
    Path(stage.cwd, "go").touch()
    stage.wait(lambda: not first.open_streams)

    assert first.tail.lines()[1:] == ["late"]


def test_who_closes_its_output_is_neither_ended_nor_forgotten(stage: Stage) -> None:
    app, process = stage.start("exec >&- 2>&-; touch closed; exec sleep 100", health="cmd:test -e closed")
    stage.wait(lambda: process.passed and not process.open_streams)

    assert (app.state, process.exit) == ("healthy", None)
    assert (1, b"") in stage.heard
    assert (2, b"") in stage.heard


def test_two_applications_share_one_table_and_stop_apart(stage: Stage) -> None:
    blue, old = stage.start("sleep 100 & sleep 101 & echo ready; wait", stop_seconds=PATIENT)
    green, new = stage.start("sleep 100 & echo ready; wait", stop_seconds=PATIENT)
    for process in (old, new):
        stage.wait_for_line(process, "ready")
    assert (len(blue.members()), len(green.members())) == (2, 1)
    blue.stop()

    assert (blue.state, old.exit) == ("exited", Exit(None, TERM))
    assert blue.members() == set()
    assert (len(green.members()), new.exit) == (1, None)


def test_nobody_listening_to_us_is_no_reason_for_an_application_to_fail() -> None:
    run("""
        from codesync.supervise import Application, parse_check
        source, sink = os.pipe()
        os.close(source)
        os.dup2(sink, 1)
        code = "import os; os.write(1, b'x' * 1048576); os.write(1, b'y')"
        app = Application(loop, children, command=[sys.executable, "-c", code], cwd="/",
                          check=parse_check(None, 60, "/", children), stop_seconds=5)
        process = app.start(os.environ)
        wait(lambda: process.exit and not process.open_streams)
        assert process.exit.code == 0, process.exit
    """)
