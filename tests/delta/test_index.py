"""What is looked up of a signature: single blocks, rows of them, the short last one."""

from array import array
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Signature, signature
from codesync.delta.anchors import VALUE_BITS
from codesync.delta.index import Index

NOISE = Random(3).randbytes(4096)


def index_of(basis: bytes, block_size: int) -> Index:
    return Index(signature(basis, block_size))


def marked(values: list[int], anchored: bytes) -> Index:
    """An index of blocks with these marks, whatever they are in truth."""
    sig = signature(NOISE[: 64 * len(values)], 64)
    return Index(sig._replace(marks=array("I", values), anchored=anchored))


def test_a_basis_shorter_than_its_block_is_one_block() -> None:
    index = index_of(NOISE[:100], 512)
    assert (index.size, index.count, index.tail) == (100, 1, 0)
    assert index.stands(memoryview(b"x" + NOISE), 1, 0)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(0, 20), st.integers(0, 20), st.integers(0, 200))
def test_blocks_are_followed_as_long_as_they_are_the_basiss(
    size: int, block: int, count: int, wrong: int
) -> None:
    """One byte is wrong, maybe behind what is looked at."""
    basis = NOISE[: 16 * size]
    index = index_of(basis, size)
    target = bytearray(b"xy" + basis[block * size :] + NOISE[2000:2200])
    if wrong < len(target):
        target[wrong] ^= 1
    stop = min(len(target), 2 + count * size)
    most = max(0, min(16 - block, count))
    whole = most if not 2 <= wrong < 2 + most * size else (wrong - 2) // size
    assert index.follow(memoryview(target), 2, stop, block) == whole


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(0, 16), st.integers(0, 150), st.integers(0, 150))
def test_blocks_are_preceded_as_long_as_they_are_the_basiss(
    size: int, block: int, start: int, wrong: int
) -> None:
    basis = NOISE[: 16 * size]
    index = index_of(basis, size)
    target = bytearray(basis)
    if wrong < len(target):
        target[wrong] ^= 1
    at = block * size
    start = min(start, at)
    whole = (at - start) // size
    if start <= wrong < at:
        whole = min(whole, (at - wrong - 1) // size)
    assert index.precede(memoryview(target), start, at, block) == whole


def test_the_short_last_block_stands_where_its_bytes_do() -> None:
    index, view = index_of(NOISE[:1030], 100), memoryview(NOISE)
    assert index.is_tail(view, 1000, 1030)
    assert index.is_tail(view, 1000, 4000)
    assert not index.is_tail(view, 1000, 1029)
    assert not index.is_tail(view, 1001, 4000)
    assert not index_of(NOISE[:1000], 100).is_tail(view, 1000, 4000)


def test_blocks_with_an_anchor_are_told_by_it_and_others_by_their_sums() -> None:
    index = marked([5 << VALUE_BITS | 7, 1234, 9 << VALUE_BITS | 8], b"\1\0\1")
    assert index.anchors == {7: (5, 0), 8: (9, 2)}
    assert index.weak == {1234}
    assert list(index.by_strong.values()) == [1]
    assert index.unanchored == 1
    assert index.sharing(7) == [(5, 0)]


def test_of_blocks_that_share_an_anchor_the_first_few_are_compared() -> None:
    index = marked([number << VALUE_BITS | 7 for number in range(40)], b"\1" * 40)
    assert index.sharing(7) == [(number, number) for number in range(8)]
    assert index.unanchored == 0


def test_a_short_last_block_is_no_block_whatever_it_claims_to_be() -> None:
    sig = signature(NOISE[:1030], 100)
    index = Index(sig._replace(anchored=b"\0" * 10 + b"\1"))
    assert index.anchors == {}
    assert sorted(index.by_strong.values()) == list(range(10))
    index = Index(sig._replace(anchored=b"\1" * 11))
    assert {block for value in index.anchors for _, block in index.sharing(value)} <= set(range(10))


@pytest.mark.parametrize("seed", [0, 5])
def test_constant_blocks_are_known_by_their_byte(seed: int) -> None:
    basis = b"a" * 600 + NOISE[:300] + b"\0" * 300 + b"a" * 300
    sig = signature(basis, 300, seed=seed)
    index = Index(sig)
    assert index.constants == {ord("a"): 0, 0: 3}
    assert [index.stands_anywhere(block) for block in range(5)] == [True, True, False, True, True]
    assert not set(index.by_strong.values()) & {0, 1, 3, 4}


def test_equal_blocks_are_one_the_first() -> None:
    index = index_of(NOISE[:100] * 3, 100)
    assert list(index.by_strong.values()) == [0]


def test_strong_sums_of_eight_bytes_are_compared_whole() -> None:
    sig = signature(NOISE[:1000], 100)
    wide = Signature(*sig)._replace(strong=array("Q", sig.strong))
    assert not Index(wide).stands(memoryview(NOISE), 0, 0)  # only the lower halves are right
