import tracemalloc
from collections.abc import Iterable
from io import BytesIO
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Copy, Literal, Op, delta, patch, signature
from codesync.delta.ops import MAX_LITERAL
from tests.delta.material import READ_SIZES, dribble, pairs

BLOCK_SIZES = st.one_of(st.integers(1, 64), st.sampled_from([100, 700, 2999, 3000, 5000, 1 << 24]))


def patched(basis: bytes, ops: Iterable[Op]) -> bytes:
    out = BytesIO()
    patch(basis, ops, out)
    return out.getvalue()


def literal_bytes(ops: Iterable[Op]) -> int:
    return sum(len(op.data) for op in ops if isinstance(op, Literal))


@settings(max_examples=150, deadline=None)
@given(pairs(), BLOCK_SIZES, READ_SIZES)
def test_a_delta_makes_the_target_from_the_basis(
    pair: tuple[bytes, bytes], block_size: int, read_size: int
) -> None:
    basis, target = pair
    ops = list(delta(signature(basis, block_size), dribble(target, read_size)))
    assert patched(basis, ops) == target


@settings(max_examples=60, deadline=None)
@given(pairs(), BLOCK_SIZES, READ_SIZES)
def test_the_delta_is_the_same_however_the_target_is_read(
    pair: tuple[bytes, bytes], block_size: int, read_size: int
) -> None:
    sig = signature(pair[0], block_size)
    assert list(delta(sig, dribble(pair[1], read_size))) == list(delta(sig, pair[1]))


@settings(max_examples=80, deadline=None)
@given(pairs(), BLOCK_SIZES)
def test_no_two_neighbours_could_be_one_operation(pair: tuple[bytes, bytes], block_size: int) -> None:
    for first, second in pairwise(delta(signature(pair[0], block_size), pair[1])):
        if isinstance(first, Copy) and isinstance(second, Copy):
            assert first.offset + first.length != second.offset
        if isinstance(first, Literal) and isinstance(second, Literal):
            assert len(first.data) == MAX_LITERAL


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000), BLOCK_SIZES, READ_SIZES)
def test_an_identical_target_is_one_copy(basis: bytes, block_size: int, read_size: int) -> None:
    ops = list(delta(signature(basis, block_size), dribble(basis, read_size)))
    assert ops == ([Copy(0, len(basis))] if basis else [])


def test_an_empty_basis_gives_literals_of_at_most_256_kib() -> None:
    data = Random(1).randbytes(MAX_LITERAL * 2 + 5)
    ops = list(delta(signature(b""), dribble(data, 1000)))
    assert ops == [Literal(data[:MAX_LITERAL]), Literal(data[MAX_LITERAL:-5]), Literal(data[-5:])]


def test_long_literals_between_copies_are_cut_at_256_kib() -> None:
    basis = Random(1).randbytes(200_000)
    fresh = Random(2).randbytes(MAX_LITERAL + 100)
    ops = list(delta(signature(basis, 1000), basis[:100_000] + fresh + basis[100_000:]))
    assert ops == [
        Copy(0, 100_000),
        Literal(fresh[:MAX_LITERAL]),
        Literal(fresh[MAX_LITERAL:]),
        Copy(100_000, 100_000),
    ]


def test_an_insertion_costs_only_what_is_inserted_when_it_falls_between_blocks() -> None:
    basis = Random(1).randbytes(10_000)
    ops = list(delta(signature(basis, 1000), basis[:3000] + b"new" + basis[3000:]))
    assert ops == [Copy(0, 3000), Literal(b"new"), Copy(3000, 7000)]


@pytest.mark.parametrize("at", [0, 500, 999, 1000, 4321, 9_999])
@pytest.mark.parametrize("gone", [0, 1, 300])
@pytest.mark.parametrize("fresh", [b"", b"x", b"some new text"])
def test_an_edit_costs_at_most_the_blocks_it_touches(at: int, gone: int, fresh: bytes) -> None:
    basis = Random(1).randbytes(10_000)
    target = basis[:at] + fresh + basis[at + gone :]
    ops = list(delta(signature(basis, 1000), target))
    assert patched(basis, ops) == target
    assert literal_bytes(ops) <= 2000 + len(fresh)


def test_a_byte_changed_in_its_place_costs_its_block() -> None:
    basis = Random(1).randbytes(10_000)
    target = basis[:4500] + bytes([basis[4500] ^ 1]) + basis[4501:]
    ops = list(delta(signature(basis, 1000), target))
    assert ops == [Copy(0, 4000), Literal(target[4000:5000]), Copy(5000, 5000)]


def test_text_appended_costs_only_itself_although_the_last_block_is_short() -> None:
    basis = Random(1).randbytes(10_300)
    assert list(delta(signature(basis, 1000), basis + b"more")) == [Copy(0, 10_300), Literal(b"more")]


def test_text_put_in_front_costs_only_itself_although_the_last_block_is_short() -> None:
    basis = Random(1).randbytes(10_300)
    assert list(delta(signature(basis, 1000), b"more" + basis)) == [Literal(b"more"), Copy(0, 10_300)]


def test_the_short_last_block_is_found_at_the_end_behind_something_new() -> None:
    basis = Random(1).randbytes(10_300)
    target = basis[:9000] + Random(2).randbytes(5000) + basis[10_000:]
    assert list(delta(signature(basis, 1000), target))[-1] == Copy(10_000, 300)


def test_a_basis_shorter_than_a_block_is_found_anywhere() -> None:
    basis = Random(1).randbytes(300)
    ops = list(delta(signature(basis), b"before" + basis + b"after"))
    assert ops == [Literal(b"before"), Copy(0, 300), Literal(b"after")]


def test_swapped_halves_are_two_copies() -> None:
    basis = Random(1).randbytes(10_000)
    assert list(delta(signature(basis, 1000), basis[5000:] + basis[:5000])) == [
        Copy(5000, 5000),
        Copy(0, 5000),
    ]


def test_repeated_content_goes_on_where_the_basis_goes_on() -> None:
    basis = b"a" * 5000 + b"b" * 5000
    assert list(delta(signature(basis, 1000), basis)) == [Copy(0, 10_000)]


def test_equal_weak_sums_do_not_make_a_match() -> None:
    basis, target = b"\x01\x00\x00\x01" * 10, b"\x00\x01\x01\x00" * 10  # both sums are equal block by block
    sig = signature(basis, 4)
    assert signature(target, 4).marks == sig.marks
    assert patched(basis, delta(sig, target)) == target


class _Endless:
    """Reads like a file of `length` bytes that nobody ever held."""

    def __init__(self, length: int) -> None:
        self._left = length
        self._piece = Random(7).randbytes(1 << 20)

    def read(self, size: int, /) -> bytes:
        data = self._piece[: min(size, self._left)]
        self._left -= len(data)
        return data


def test_a_large_target_is_never_held() -> None:
    sig = signature(Random(7).randbytes(1 << 20) * 4)
    tracemalloc.start()
    try:
        length = sum(
            op.length if isinstance(op, Copy) else len(op.data) for op in delta(sig, _Endless(64 << 20))
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == 64 << 20
    assert peak < 4 << 20


def test_a_long_run_behind_much_that_is_new_is_copied_from_its_first_block() -> None:
    basis, fresh = Random(1).randbytes(100_000), Random(2).randbytes(100_003)
    assert list(delta(signature(basis, 1000), fresh + basis)) == [Literal(fresh), Copy(0, 100_000)]


def test_a_long_run_between_much_that_is_new_loses_at_most_the_blocks_at_its_ends() -> None:
    basis, fresh = Random(1).randbytes(1_000_000), Random(2).randbytes(1_000_003)
    ops = list(delta(signature(basis, 1000), fresh + basis[300_500:700_500] + fresh))
    assert [op for op in ops if isinstance(op, Copy)] == [Copy(301_000, 399_000)]
