"""What to do when the application ends by itself: histories of ends, with made-up clock readings."""

from typing import Any

from codesync.launcher.crashes import LONGEST_PAUSE, Crashes
from codesync.supervise import Exit

FAILED, KILLED, DONE = Exit(3, None), Exit(None, 9), Exit(0, None)


def end(crashes: Crashes, ended: Exit = FAILED, **more: Any) -> float | None:
    known: dict[str, Any] = {
        "clock": 1000.0,
        "started": 999.0,
        "push_id": "p1",
        "tail": ["last words"],
        "held": False,
    }
    return crashes.ended(ended, **(known | more))


def test_what_ends_soon_after_its_push_was_kept_is_started_again_and_told() -> None:
    crashes = Crashes(10, now=lambda: 5.0)
    crashes.kept(995.0)
    assert end(crashes, KILLED) == 0.5
    assert crashes.record == {
        "push_id": "p1",
        "at": 5.0,
        "after_ms": 1000,
        "exit_code": None,
        "signal": 9,
        "restarts": 0,
        "log_tail": ["last words"],
    }


def test_an_exit_status_of_0_is_a_crash_soon_after_a_push_only() -> None:
    crashes = Crashes(10)
    assert end(crashes, DONE) is None
    crashes.kept(995.0)
    assert end(crashes, DONE) == 0.5


def test_pauses_double_up_to_a_bound_and_restarts_are_counted() -> None:
    crashes = Crashes(10)
    crashes.kept(999.0)
    pauses = [end(crashes) for _ in range(9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert crashes.record is not None
    assert crashes.record["restarts"] == 8


def test_an_application_that_has_stayed_up_ends_the_container() -> None:
    crashes = Crashes(10)
    crashes.kept(900.0)
    assert end(crashes, started=980.0) is None


def test_the_pause_is_short_again_after_it_has_stayed_up() -> None:
    crashes = Crashes(10)
    crashes.kept(995.0)
    assert [end(crashes), end(crashes)] == [0.5, 1.0]
    assert end(crashes, started=980.0, clock=1004.0) == 0.5


def test_what_has_crashed_is_started_again_however_long_it_had_stayed_up() -> None:
    crashes = Crashes(10)
    crashes.kept(995.0)
    assert [end(crashes), end(crashes)] == [0.5, 1.0]
    assert end(crashes, clock=9000.0, started=2000.0) == 0.5
    assert crashes.record is not None
    assert crashes.record["after_ms"] == 7_000_000
    assert end(crashes, DONE, clock=9100.0, started=9050.0) is None


def test_what_was_pushed_and_fails_at_each_start_is_held_for_the_next_push() -> None:
    assert end(Crashes(10)) == 0.5


def test_the_images_own_code_is_held_only_where_a_sidecar_can_mend_it() -> None:
    assert end(Crashes(10), push_id="") is None
    assert end(Crashes(10), push_id="", held=True) == 0.5


def test_without_probation_every_end_is_the_containers() -> None:
    crashes = Crashes(0)
    crashes.kept(995.0)
    assert end(crashes) is None


def test_the_next_kept_push_forgets_the_crash() -> None:
    crashes = Crashes(10)
    crashes.kept(995.0)
    end(crashes)
    crashes.kept(1001.0)
    assert crashes.record is None
    assert end(crashes, clock=1002.0, started=1001.5) == 0.5
