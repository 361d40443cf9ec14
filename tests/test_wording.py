"""Progress and errors, a line each."""

import pytest

from codesync.client import Progress
from codesync.config import ConfigError
from codesync.delta import ScanError
from codesync.transaction import TransactionError
from codesync.wording import Milestones, error_line, size


def lines(*reports: Progress) -> list[str]:
    milestones = Milestones()
    return [line for report in reports if (line := milestones.line(report))]


def test_each_stage_of_each_replica_is_told_once() -> None:
    reports = [Progress("scan", "", 0, 0)] * 3 + [Progress("start", name, 0, 0) for name in ("a", "b", "a")]
    assert lines(*reports) == [
        "reading the tree",
        "a: starting the application",
        "b: starting the application",
    ]


def test_what_a_push_waits_for_and_how_a_cancelled_one_ends_is_told_in_words() -> None:
    stages = ["wait", "hook", "cancelling", "cancelled", "kept", "something new"]
    assert lines(*(Progress(stage, "", 0, 0) for stage in stages)) == [
        "waiting behind another push",
        "running a hook",
        "undoing the push",
        "the push is undone, the old code runs",
        "the push was kept before that",
        "something new",
    ]


def test_a_long_stage_is_told_by_tenths() -> None:
    told = lines(*(Progress("apply", "one", done, 1000) for done in range(1001)))
    words = "one: putting files in place"
    assert told == [words, *(f"{words} ({tenth * 10}%)" for tenth in range(1, 11))]


def test_what_is_sent_is_told_with_its_rate_and_the_time_that_is_left() -> None:
    now = 100.0
    milestones = Milestones(lambda: now)
    told = []
    for spent in (0.0, 0.1, 3.0, 6.0, 10.0):
        now = 100.0 + spent
        told.append(milestones.line(Progress("transfer", "", round(3_000_000 * spent), 30_000_000)))
    assert told == [
        "sending 0 B of 30.0 MB",
        None,
        "sending 9.0 MB of 30.0 MB, 3.0 MB/s, 7 s left",
        "sending 18.0 MB of 30.0 MB, 3.0 MB/s, 4 s left",
        "sending 30.0 MB of 30.0 MB, 3.0 MB/s",
    ]


def test_a_rate_is_not_told_before_there_is_one() -> None:
    milestones = Milestones(lambda: 5.0)
    told = [milestones.line(Progress("transfer", "", done, 1000)) for done in (200, 1000)]
    assert told == ["sending 200 B of 1.0 kB", "sending 1.0 kB of 1.0 kB"]


def test_the_position_grows_with_every_line_whatever_comes() -> None:
    milestones = Milestones()
    stages = ["scan", "transfer", "scan", "health", "something new", "commit", "delta"]
    reports = [Progress(stage, replica, 1, 2) for replica in ("", "a", "b") for stage in stages]
    positions = [milestones.position for report in reports if milestones.line(report)]
    assert len(positions) == 18
    assert positions == sorted(set(positions))
    assert positions[-1] <= Milestones.total + 0.1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("set it"), "set it"),
        (ScanError("no such tree"), "no such tree"),
        (TransactionError("somebody else's"), "somebody else's"),
        (FileNotFoundError(2, "No such file or directory", "x"), "x: No such file or directory"),
        (OSError(9, "Bad file descriptor", 7), "Bad file descriptor"),
        (FileNotFoundError(2, "No such file or directory", b"\xff"), "\udcff: No such file or directory"),
        (ExceptionGroup("tasks", [ConfigError("one"), ConfigError("two")]), "one"),
        (ExceptionGroup("tasks", [ConfigError("one"), KeyError("a defect")]), None),
        (KeyError("a defect"), None),
    ],
)
def test_an_expected_error_is_a_line_and_a_defect_is_not(error: Exception, line: str | None) -> None:
    assert error_line(error) == line


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_are_told_in_decimal_units(count: int, text: str) -> None:
    assert size(count) == text
