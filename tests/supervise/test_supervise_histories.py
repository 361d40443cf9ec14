"""What happens when, by a clock and with processes that are written down: seconds pass here, and nobody waits for them."""

import signal

from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.supervise import Exit
from codesync.supervise.application import DRAIN_SECONDS, KILL_SECONDS, POLL_SECONDS
from tests.supervise.world import Fate, ScriptedCheck, World

INT, TERM, KILL, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP
DEAF: dict[int, float] = {}


# --- start and judge -----------------------------------------------------------------------------------------


def test_it_is_healthy_when_its_check_passes_and_that_is_measured() -> None:
    world = World()
    _app, process = world.start(passes_after=2.5)
    world.let(2.4)
    assert (process.passed, process.healthy_ms) == (False, None)
    world.let(1)

    assert (process.passed, process.healthy_ms) == (True, 2500)
    assert world.states == [(0.0, "starting"), (2.5, "healthy")]


def test_an_exit_with_0_is_an_exit() -> None:
    world = World()
    _app, process = world.start(Fate(exits=(3.0, 0)), passes_after=5.0)
    world.let(100)

    assert (process.exit, process.passed) == (Exit(0, None), False)
    assert world.states == [(0.0, "starting"), (3.0, "exited")]


def test_a_death_by_signal_is_told_with_the_signal_and_no_later_pass_hides_it() -> None:
    world = World()
    app, process = world.start(passes_after=2.0)
    world.script.after(1.9, world.table.end, process.pid, Exit(None, signal.SIGSEGV))
    world.let(5)

    assert (process.exit, process.passed) == (Exit(None, signal.SIGSEGV), False)
    assert app.describe()["signal"] == signal.SIGSEGV


def test_a_reload_has_the_process_judged_anew() -> None:
    world = World()
    app, process = world.start(passes_after=2.0)
    world.table.write(process.pid, 1, b"old\nhalf a li")
    world.let(10)
    app.judge_anew({})
    world.table.write(process.pid, 1, b"new\n")
    assert (app.state, process.passed, process.healthy_ms) == ("starting", False, None)
    world.let(10)

    assert (app.state, process.passed, process.healthy_ms) == ("healthy", True, 2000)
    assert process.tail.lines() == ["new"]
    assert app.process is process


def test_what_passed_before_the_reload_does_not_count_for_it() -> None:
    world = World()
    app, process = world.start(passes_after=2.0)
    world.let(1)
    app.judge_anew({})
    world.let(1.5)  # now the first prober has passed, the second not yet
    assert not process.passed
    world.let(1)

    assert process.healthy_ms == 2000


def test_the_check_may_wait_until_the_old_code_has_gone() -> None:
    world = World()
    app, process = world.start(passes_after=0.0)
    world.let(1)
    app.judge_anew({}, probe=False)
    world.let(3)
    assert not process.passed
    app.start_probing({})
    world.let(1)

    assert process.healthy_ms == 3000
    assert isinstance(app.check, ScriptedCheck)
    assert app.check.asked == 2


def test_who_has_exited_is_not_judged_anew() -> None:
    world = World()
    app, process = world.start(Fate(exits=(1.0, 1)), passes_after=0.5)
    world.let(2)
    app.judge_anew({})
    app.start_probing({})
    world.let(10)

    assert app.state == "exited"
    assert app.process is process


# --- stop ----------------------------------------------------------------------------------------------------


def test_who_needs_a_while_to_stop_is_given_it_and_not_longer() -> None:
    world = World()
    app, process = world.start(Fate(dies={TERM: 3.0}))
    app.stop()

    assert (world.now, process.exit) == (3.0, Exit(None, TERM))
    assert world.table.sent == [(0.0, TERM)]
    assert world.states == [(0.0, "starting"), (0.0, "stopping"), (3.0, "exited")]


def test_who_ignores_term_is_killed_on_the_second() -> None:
    world = World()
    app, process = world.start(Fate(dies=DEAF))
    app.stop()

    assert (world.now, process.exit) == (10.0, Exit(None, KILL))
    assert [(round(at, 6), number) for at, number in world.table.sent] == [(0.0, TERM), (10.0, KILL)]


def test_who_ignores_an_interrupt_gets_term_at_half_time() -> None:
    world = World()
    app, process = world.start(Fate(dies={TERM: 1.0}))
    app.stop(INT)

    assert (world.now, process.exit) == (6.0, Exit(None, TERM))
    assert [(round(at, 6), number) for at, number in world.table.sent] == [(0.0, INT), (5.0, TERM)]


def test_a_worker_may_finish_after_its_master_and_nobody_tells_us() -> None:
    world = World()
    app, process = world.start()
    world.table.fork(process.pid, Fate(dies={TERM: 4.0}))
    app.stop()

    assert 4.0 <= world.now <= 4.0 + POLL_SECONDS
    assert world.table.sent == [(0.0, TERM)]


def test_workers_are_the_members_but_the_first_process() -> None:
    world = World()
    app, process = world.start()
    assert app.members() == frozenset()
    workers = {world.table.fork(process.pid, Fate()) for _ in range(3)}
    world.table.fork(process.pid, Fate(), daemon=True)
    assert app.members() == workers
    app.stop()

    assert app.members() == frozenset()


def test_what_is_forked_while_the_session_is_killed_is_killed_too() -> None:
    world = World()
    app, process = world.start(Fate(dies=DEAF, forks_when_killed=True))
    app.stop()

    assert not world.table.session_lives(process.pid)
    assert [number for _, number in world.table.sent][:3] == [TERM, KILL, KILL]


def test_what_even_kill_does_not_end_is_given_up_after_a_while() -> None:
    world = World()
    app, _process = world.start(Fate(dies=DEAF, unkillable=True))
    app.stop()

    assert world.now == 10.0 + KILL_SECONDS + DRAIN_SECONDS
    assert app.state == "exited"
    app.stop()  # and not waited for again
    assert world.now == 10.0 + KILL_SECONDS + DRAIN_SECONDS


def test_nobody_signals_a_session_that_is_gone() -> None:
    world = World()
    app, _process = world.start(Fate(exits=(1.0, 0)))
    world.let(2)
    app.stop()
    app.stop()
    app.forward(HUP)

    assert world.table.sent == []
    assert world.now == 2.0


def test_two_applications_live_and_stop_apart() -> None:
    world = World()
    blue, old = world.start(Fate(dies={TERM: 8.0}))
    world.table.fork(old.pid, Fate(dies={TERM: 2.0}))
    green, new = world.start(Fate(exits=(3.0, 7)), passes_after=1.0)
    blue.stop()

    assert (world.now, blue.state, old.exit) == (8.0, "exited", Exit(None, TERM))
    assert (green.state, new.exit, new.healthy_ms) == ("exited", Exit(7, None), 1000)


# --- output --------------------------------------------------------------------------------------------------


def test_a_daemon_that_keeps_the_output_open_is_waited_for_a_moment_and_still_heard() -> None:
    world = World()
    app, first = world.start()
    daemon = world.table.fork(first.pid, Fate(), daemon=True)
    app.stop()
    assert world.now == DRAIN_SECONDS
    second = world.start_again(app)
    world.table.write(daemon, 2, b"late\n")
    world.table.end(daemon, Exit(0, None))

    assert (first.tail.lines(), second.tail.lines()) == (["late"], [])
    assert world.heard == [(2, b"late\n"), (1, b""), (2, b"")]


def test_who_closes_its_output_runs_on() -> None:
    world = World()
    app, process = world.start(Fate(dies={TERM: 1.0}), passes_after=2.0)
    world.table.close_output(process.pid)
    world.let(5)
    assert (app.state, process.open_streams) == ("healthy", 0)
    app.stop()

    assert world.now == 6.0


# --- anything ------------------------------------------------------------------------------------------------

moments = st.sampled_from([0.0, 0.01, 1.0, 4.9, 5.0, 9.99, 10.0, 30.0])
fates = st.builds(
    Fate,
    dies=st.dictionaries(st.sampled_from([INT, TERM]), moments),
    exits=st.none() | st.tuples(moments, st.integers(0, 255)),
    forks_when_killed=st.booleans(),
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(fates, st.lists(fates, max_size=3), moments), min_size=1, max_size=4),
    st.sampled_from([INT, TERM, HUP]),
    st.sampled_from([None, 0.0, 0.5, 6.0]),
)
def test_whatever_they_do_a_stop_is_bounded_and_leaves_nothing(
    runs: list[tuple[Fate, list[Fate], float]], first: int, passes_after: float | None
) -> None:
    world = World()
    app = world.app(passes_after=passes_after)
    for master, workers, seconds in runs:
        process = world.start_again(app, master)
        for worker in workers:
            world.table.fork(process.pid, worker)
        world.let(seconds)
        asked = world.script.now
        app.stop(first)

        assert world.script.now - asked <= 10.0 + KILL_SECONDS + 1e-6
        assert not world.table.session_lives(process.pid)
        assert process.exit is not None
        assert process.open_streams == 0
        assert (app.state, app.exit) == ("exited", process.exit)
        assert process.passed == (process.healthy_ms is not None)
