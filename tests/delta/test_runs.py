"""Runs of equal bytes, against a plain reading of what a run is."""

from itertools import groupby, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.anchors import edges
from codesync.delta.runs import CELL, LONG, Run, runs

LENGTHS = [1, 2, 50, CELL - 1, CELL, CELL + 1, LONG - 1, LONG, LONG + 1, 2 * CELL, 3 * CELL, 1000]


@st.composite
def places(draw: st.DrawFn) -> tuple[bytes, int, int, int, int]:
    """Data of runs, and a stretch of it to search in a larger one that may be looked at."""
    parts = draw(st.lists(st.tuples(st.sampled_from(b"ab\0\xff"), st.sampled_from(LENGTHS)), max_size=12))
    data = b"".join(bytes([byte]) * length for byte, length in parts)
    numbers = sorted(draw(st.integers(0, len(data))) for _ in range(4))
    return data, numbers[1], numbers[2], numbers[0], numbers[3]


def plain_runs(data: bytes, first: int, last: int) -> list[tuple[int, int]]:
    found, at = [], first
    for _, group in groupby(data[first:last]):
        length = len(list(group))
        found.append((at, at + length))
        at += length
    return found


@settings(max_examples=300, deadline=None)
@given(places())
def test_whatever_is_called_a_run_is_one_and_they_come_in_order(
    of: tuple[bytes, int, int, int, int],
) -> None:
    data, at, stop, first, last = of
    found = list(runs(data, at, stop, first, last))
    for run in found:
        assert first <= run.start < run.stop <= last
        assert len(set(data[run.start : run.stop])) == 1
        assert not run.starts_sharp or data[run.start - 1] != data[run.start]
        assert not run.stops_sharp or data[run.stop] != data[run.start]
    assert all(one.stop <= other.start for one, other in pairwise(found))


@settings(max_examples=300, deadline=None)
@given(places())
def test_every_long_run_that_begins_there_is_found_with_both_its_edges(
    of: tuple[bytes, int, int, int, int],
) -> None:
    data, at, stop, first, last = of
    found = list(runs(data, at, stop, first, last))
    known = {edge for run in found for edge in edges(run)}
    for start, end in plain_runs(data, first, last):
        if at <= start < stop and end - start >= LONG:
            assert (start, end) in [run[:2] for run in found]
            assert start <= max(at, first) or start in known
            assert end == last or end in known


@pytest.mark.parametrize("before", range(CELL + 2))
def test_a_run_that_begins_just_before_the_end_of_the_search_is_found_whole(before: int) -> None:
    data = Random(1).randbytes(1000) + bytes(600) + b"x"
    assert list(runs(data, 500, 1000 + before, 0, len(data)))[:1] == (
        [Run(1000, 1600, True, True)] if before else []
    )


def test_a_run_goes_on_behind_the_search_but_not_behind_what_may_be_looked_at() -> None:
    data = b"x" + bytes(200_000) + b"y"
    assert list(runs(data, 0, 100, 0, len(data))) == [Run(1, 200_001, True, True)]
    assert list(runs(data, 0, 100, 0, 150_000)) == [Run(1, 150_000, True, False)]


def test_an_edge_is_sharp_only_where_another_byte_is_known() -> None:
    (run,) = runs(bytes(1000), 0, 1000, 0, 1000)
    assert list(edges(run)) == []
    (run,) = runs(bytes(1000) + b"x", 0, 1001, 0, 1001)
    assert list(edges(run)) == [1000]
    (run,) = runs(b"x" + bytes(1000), 0, 1001, 0, 1001)
    assert list(edges(run)) == [1]


def test_two_runs_that_touch_share_an_edge() -> None:
    data = b"a" * 500 + b"b" * 500
    assert [run[:2] for run in runs(data, 0, 1000, 0, 1000)] == [(0, 500), (500, 1000)]
    assert {edge for run in runs(data, 0, 1000, 0, 1000) for edge in edges(run)} == {500}


def test_data_without_runs_has_none() -> None:
    assert list(runs(Random(2).randbytes(100_000), 0, 100_000, 0, 100_000)) == []
    assert list(runs(b"", 0, 0, 0, 0)) == []
