"""No more literal bytes than the rsync algorithm has: judged by one that is plain, slow and obviously right.

The search may need 1 % of the target and one block more: of several equal blocks it may have taken another one than the
judge, and so come out of what has not matched in another place. What goes beyond the allowance of the rolling search,
256 KiB that match nowhere and 1/128 of the target, is not compared here.
"""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Copy, Literal, Op, delta, signature
from codesync.delta.anchors import VALUE_BITS, Delimiter
from codesync.delta.runs import CELL
from tests.delta.edited import KINDS, edited
from tests.delta.plain_rsync import plain_delta, plain_weak

NOISE = Random(6).randbytes(1 << 17)
BLOCK_SIZES = st.sampled_from([None, None, 512, 700, 1000, 1024, 2048, 4096])


def literal_bytes(ops: Iterable[Op]) -> int:
    return sum(len(op.data) for op in ops if isinstance(op, Literal))


def excess(basis: bytes, target: bytes, block_size: int | None) -> int:
    """Literal bytes that the search needs beyond those of the judge and what it is allowed."""
    sig = signature(basis, block_size)
    ops = list(delta(sig, target))
    assert (
        b"".join(basis[op.offset : op.offset + op.length] if isinstance(op, Copy) else op.data for op in ops)
        == target
    )
    plain = plain_delta(basis, target, sig.block_size)
    return literal_bytes(ops) - literal_bytes(plain) - len(target) // 100 - sig.block_size


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 1 << 32), BLOCK_SIZES)
def test_a_basis_too_small_for_delimiters_is_found_as_rsync_does(
    kind: str, seed: int, size: int | None
) -> None:
    assert excess(*edited(kind, seed, 1000, 1 << 17), size) <= 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 1 << 32), BLOCK_SIZES)
def test_a_basis_with_anchors_is_found_as_rsync_does(kind: str, seed: int, size: int | None) -> None:
    assert excess(*edited(kind, seed, 1 << 17, 1 << 20), size) <= 0


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 1 << 32), st.integers(64, 511))
def test_small_blocks_are_found_as_rsync_does(kind: str, seed: int, size: int) -> None:
    assert excess(*edited(kind, seed, 100, 20_000), size) <= 0


# --- the judge ---------------------------------------------------------------------------------------------------


def test_the_judge_finds_what_there_is() -> None:
    basis = NOISE[:1030]
    assert plain_delta(basis, basis, 500) == [Copy(0, 500), Copy(500, 500), Copy(1000, 30)]
    assert plain_delta(basis, b"x" + basis, 500)[0] == Literal(b"x")
    assert plain_delta(basis, basis[500:1000] + b"new" + basis[:500] + basis[1000:], 500) == [
        Copy(500, 500),
        Literal(b"new"),
        Copy(0, 500),
        Copy(1000, 30),
    ]
    assert plain_delta(basis, basis[1000:] + b"!", 500) == [Literal(basis[1000:] + b"!")]
    assert plain_delta(b"", b"abc", 4) == [Literal(b"abc")]
    assert plain_delta(b"ab" * 8, b"ab" * 3, 4) == [Copy(0, 4), Literal(b"ab")]


def test_the_judges_weak_sum_is_that_of_the_definition() -> None:
    assert plain_weak(b"abc") == (0x126, 0x24A)
    assert plain_weak(bytes(range(256)) * 100) == (0xCE00, 0x9A00)


# --- what has been missed once -----------------------------------------------------------------------------------


def only(basis: bytes, target: bytes, size: int) -> list[tuple[int, int]]:
    """Of the delta's operations the copies."""
    return [tuple(op) for op in delta(signature(basis, size), target) if isinstance(op, Copy)]  # type: ignore[misc]


@pytest.mark.parametrize("before", [1, 50, CELL - 1, CELL, CELL + 1, 300])
def test_a_block_of_one_byte_is_found_at_the_targets_end(before: int) -> None:
    basis = bytes(512) + NOISE[:2000]
    assert only(basis, NOISE[5000 : 5000 + before] + bytes(512), 512) == [(0, 512)]


@pytest.mark.parametrize("before", [0, 1, 50, 300])
def test_a_block_whose_anchor_is_an_edge_is_found_at_the_targets_end(before: int) -> None:
    block = NOISE[:100] + bytes(300) + NOISE[100:212]
    basis = NOISE[4000:5536] + block + NOISE[6000:7536]
    assert only(basis, NOISE[9000 : 9000 + before] + block, 512) == [(1536, 512)]


@pytest.mark.parametrize("size", [1, 2, 100, 254, 255])
def test_blocks_of_one_byte_are_found_however_small_they_are(size: int) -> None:
    assert only(bytes(10 * size), b"x" + bytes(10 * size), size) == [(0, 10 * size)]
    assert only(bytes(size), b"x" + bytes(size) + b"y", size) == [(0, size)]


@pytest.mark.parametrize("at", range(200, 1100, 37))
def test_a_run_is_copied_from_where_it_begins_wherever_that_is(at: int) -> None:
    basis = bytes(3000) + NOISE[:9000]
    assert list(delta(signature(basis, 1000), NOISE[20_000 : 20_000 + at] + bytes(3000) + NOISE[:5000]))[
        :2
    ] == [
        Literal(NOISE[20_000 : 20_000 + at]),
        Copy(0, 8000),
    ]


def test_what_goes_on_within_a_short_last_block_is_found() -> None:
    period = NOISE[:4099]
    basis, target = (period * 21)[:82_896], (period * 21)[5:82_900]
    assert excess(basis, target, 4096) <= 0


def test_the_short_last_block_is_not_taken_for_a_match_wherever_the_search_stands() -> None:
    basis = NOISE[:5120] + b"\0"  # a block of one byte stands nearly everywhere
    target = NOISE[6000:9000] + bytes(3000) + NOISE[9000:9500]
    assert only(basis, target, 512) == []


def test_in_periodic_data_an_edit_costs_what_it_costs_rsync() -> None:
    assert excess(*edited("periodic", 27, 10_000, 60_000), 512) <= 0


def anchored(basis: bytes) -> tuple[int, Delimiter, bytes]:
    """Where a block of 512 bytes begins, the delimiter of its anchor, and the anchor's text."""
    sig = signature(basis, 512)
    for block in range(300, len(sig.marks)):
        start = block * 512 + (sig.marks[block] >> VALUE_BITS)
        delimiter = sig.delimiters[0]
        near = start < block * 512 + 150
        if near and sig.anchored[block] and delimiter.pattern().match(basis, start):
            return block * 512, delimiter, basis[start : start + delimiter.span]
    raise AssertionError("no block has an anchor")


def test_an_anchor_that_stands_elsewhere_too_is_not_followed_over_what_is_between() -> None:
    basis = Random(7).randbytes(1 << 18)
    start, delimiter, text = anchored(basis)
    # it is seen, although it is not isolated: the delimiter before it is hidden by another one
    hiding = (delimiter.needle + bytes(29) + delimiter.needle).ljust(delimiter.span, b"\0")
    target = bytes(10) + hiding + text + bytes(100) + basis[512:5120] + basis[start:]
    assert only(basis, target, 512)[0] == (512, 5120 - 512)


def test_a_text_that_stands_twice_within_a_span_is_tried_in_both_places() -> None:
    basis = Random(7).randbytes(1 << 18)
    start, delimiter, text = anchored(basis)
    # the search jumps over the first place, hidden by the delimiter before it, and must not take it for the second
    target = bytes(150) + delimiter.needle + bytes(20) + text + basis[start : start + 512] + bytes(100)
    assert only(basis, target, 512) == [(start, 512)]
