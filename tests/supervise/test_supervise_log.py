"""The output of all runs: what is kept, from where on it is told, and who is told."""

import itertools
import threading
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from codesync.supervise import Line, Log


def texts(log: Log, count: int = 100, since: str = "") -> list[str]:
    return [line.text for line in log.lines(count, since).lines]


def test_each_line_has_its_time_its_stream_and_its_run() -> None:
    log = Log(clock=itertools.count(1000.0).__next__)
    log.add(1, b"one\n", "p1")
    log.add(2, b"t\xffo\r\n", "p1")
    log.note("restarted\nfor the second time", "p2")

    assert log.lines(10).lines == [
        Line(1000.0, "stdout", "p1", "one"),
        Line(1001.0, "stderr", "p1", "t\ufffdo"),
        Line(1002.0, "codesync", "p2", "restarted"),
        Line(1002.0, "codesync", "p2", "for the second time"),
    ]


def test_an_unfinished_line_is_shown_last_and_goes_on_where_it_was_begun() -> None:
    log = Log()
    log.add(1, b"one\nna", "p1")
    log.add(2, b"problem\n", "p1")
    log.add(1, b"other run\n", "p2")
    assert texts(log) == ["one", "problem", "other run", "na"]
    log.add(1, b"me\n", "p1")

    assert texts(log) == ["one", "problem", "other run", "name"]


def test_the_end_of_a_stream_ends_its_line() -> None:
    log = Log()
    log.add(1, b"name: ", "p1")
    log.add(2, b"oops", "p1")
    log.add(1, b"", "p1")
    log.add(1, b"", "p1")
    log.add(1, b"next run\n", "p1")

    assert texts(log) == ["name: ", "next run", "oops"]


def test_lines_that_nobody_finishes_do_not_pile_up() -> None:
    log = Log()
    for number in range(20):
        log.add(1, b"%d" % number, f"p{number}")

    assert texts(log) == [str(number) for number in range(20)]


def test_a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() -> None:
    log = Log()
    for _ in range(16):
        log.add(1, b"x" * 65536)
    log.add(1, b"\n" + b"y" * 70000 + b"\nend\n")

    assert [(line[:1], len(line)) for line in texts(log)] == [("x", 65536), ("y", 65536), ("e", 3)]


def test_only_the_newest_lines_are_kept() -> None:
    few, small = Log(max_lines=3), Log(max_bytes=10)
    for log in (few, small):
        log.add(1, b"".join(b"%d\n" % number for number in range(1000, 1005)))

    assert texts(few) == ["1002", "1003", "1004"]
    assert texts(small) == ["1003", "1004"]
    assert texts(few, 1) == ["1004"]
    assert texts(few, 0) == []


def test_since_a_run_means_from_its_first_line_on() -> None:
    log = Log()
    for run, text in (("p1", b"a\n"), ("p2", b"b\n"), ("p1", b"c\n"), ("p3", b"d\n"), ("p2", b"e\n")):
        log.add(1, text, run)

    assert texts(log, since="p2") == ["b", "c", "d", "e"]
    assert texts(log, since="p1") == ["a", "b", "c", "d", "e"]
    assert texts(log, 2, since="p2") == ["d", "e"]
    assert [log.lines(9, run).known for run in ("", "p1", "p3", "p4")] == [True, True, True, False]
    assert texts(log, since="p4") == ["a", "b", "c", "d", "e"]


def test_who_follows_gets_what_was_and_then_every_line_once() -> None:
    log = Log()
    batches: list[list[str]] = []
    log.add(1, b"one\ntwo\nthr", "p1")
    token = log.follow(lambda lines: batches.append([line.text for line in lines]), 1)
    log.add(1, b"ee\nfour\nfi", "p1")
    log.note("word")
    log.unfollow(token)
    log.unfollow(token)
    log.add(1, b"ve\n", "p1")

    assert batches == [["two"], ["three", "four"], ["word"]]


def test_who_follows_may_stop_when_it_is_called() -> None:
    log = Log()
    heard: list[Line] = []
    tokens: list[int] = []

    def once(lines: Sequence[Line]) -> None:
        heard.extend(lines)
        log.unfollow(tokens[0])

    tokens.append(log.follow(once))
    log.note("one")
    log.note("two")

    assert [line.text for line in heard] == ["one"]


def test_streams_that_write_at_once_lose_nothing_and_are_told_in_one_order() -> None:
    log = Log(max_lines=2500)
    told: list[Line] = []
    log.follow(told.extend)

    def write(run: str) -> None:
        for number in range(1000):
            log.add(1, b"%d " % number, run)
            log.add(1, b"%d\n" % number, run)

    writers = [threading.Thread(target=write, args=(run,)) for run in ("p1", "p2", "p3")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert log.lines(5000).lines == told[-2500:]
    for run in ("p1", "p2", "p3"):
        assert [line.text for line in told if line.label == run] == [f"{n} {n}" for n in range(1000)]


@given(st.lists(st.sampled_from([b"a", b"b\n", b"\n", b"cd\ne", b"\n\nf\n"]), max_size=30), st.integers(1, 8))
def test_however_it_is_cut_the_lines_are_those_of_the_whole(chunks: list[bytes], count: int) -> None:
    log = Log()
    for chunk in chunks:
        log.add(1, chunk)
    log.add(1, b"")

    assert texts(log, count) == b"".join(chunks).decode().splitlines()[-count:]
