"""The search with signatures made to mislead it, and targets made to tire it: wrong copies at worst, never endless work."""

import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Copy, Literal, Signature, delta, signature
from codesync.delta.anchors import EDGE, VALUE_BITS, VALUE_MASK, Delimiter, edge_value, hash32
from codesync.delta.checksum import strong, sums
from codesync.delta.ops import MAX_LITERAL
from codesync.delta.rolling import Rolling
from codesync.delta.runs import Run, runs
from tests.delta.edited import KINDS, edited

NOISE = Random(8).randbytes(1 << 18)


class Work:
    """Bytes that have been touched, by whatever may touch them more than once; far too many of them stop the search."""

    def __init__(self) -> None:
        self.most = 1 << 40
        self.begin()

    def begin(self) -> None:
        self.hashed = self.summed = self.rolled = self.scanned = 0

    def check(self) -> None:
        assert self.hashed + self.summed + self.rolled + self.scanned < self.most, "this may go on for ever"


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    counted = Work()

    def hashing(data: memoryview, seed: int = 0) -> int:
        counted.hashed += len(data) + 64
        counted.check()
        return strong(data, seed)

    def summing(block: bytes) -> tuple[int, int]:
        counted.summed += len(block)
        counted.check()
        return sums(block)

    def anchor(text: bytes) -> int:
        counted.hashed += len(text)
        counted.check()
        return hash32(text)

    roll = Rolling._roll

    def rolling(self: Rolling, data: bytearray, view: memoryview, at: int, stop: int) -> tuple[int, int]:
        found = roll(self, data, view, at, stop)
        counted.rolled += found[0] - at
        counted.check()
        return found

    def scanning(data: bytearray, at: int, stop: int, first: int, last: int) -> Iterator[Run]:
        counted.scanned += (stop - at) // 64
        for run in runs(data, at, stop, first, last):
            counted.scanned += run.stop - run.start
            counted.check()
            yield run

    monkeypatch.setattr("codesync.delta.index.strong", hashing)
    monkeypatch.setattr("codesync.delta.rolling.sums", summing)
    monkeypatch.setattr("codesync.delta.match.hash32", anchor)
    monkeypatch.setattr("codesync.delta.match.runs", scanning)
    monkeypatch.setattr(Rolling, "_roll", rolling)
    return counted


def checked(sig: Signature, target: bytes) -> list[Copy | Literal]:
    """The delta, which says no more of the basis than the signature does, and of the target nothing that is wrong."""
    ops, at = [], 0
    for op in delta(sig, target):
        if isinstance(op, Copy):
            assert 0 <= op.offset < op.offset + op.length <= sig.length
            at += op.length
        else:
            assert isinstance(op, Literal)
            assert 1 <= len(op.data) <= MAX_LITERAL
            assert target[at : at + len(op.data)] == op.data
            at += len(op.data)
        ops.append(op)
    assert at == len(target)
    return ops


def patched(basis: bytes, ops: list[Copy | Literal]) -> bytes:
    return b"".join(
        basis[op.offset : op.offset + op.length] if isinstance(op, Copy) else op.data for op in ops
    )


# --- misleading signatures, whose strong sums are right: the delta is right too ------------------------------------


def with_marks(sig: Signature, change: Callable[[int, int], int], anchored: int | None = None) -> Signature:
    """The signature with other marks: `change` has a block's number and its mark."""
    marks = array("I", (change(block, mark) & 0xFFFFFFFF for block, mark in enumerate(sig.marks)))
    flags = sig.anchored if anchored is None else bytes([anchored]) * len(marks)
    return sig._replace(marks=marks, anchored=flags)


def offset_of(mark: int) -> int:
    return mark >> VALUE_BITS


LIES: dict[str, Callable[[Signature], Signature]] = {
    "offsets beyond the block": lambda sig: with_marks(
        sig, lambda _, mark: (offset_of(mark) + sig.block_size) << VALUE_BITS | mark & VALUE_MASK
    ),
    "offsets of the block before": lambda sig: with_marks(
        sig,
        lambda block, _: (
            (sig.block_size + offset_of(sig.marks[block - 1])) << VALUE_BITS
            | sig.marks[block - 1] & VALUE_MASK
        ),
    ),
    "anchors of a block far behind": lambda sig: with_marks(
        sig,
        lambda block, mark: (
            (10 * sig.block_size + offset_of(sig.marks[block + 10])) << VALUE_BITS
            | sig.marks[block + 10] & VALUE_MASK
            if block + 10 < len(sig.marks)
            else mark
        ),
    ),
    "offsets all the last": lambda sig: with_marks(sig, lambda _, mark: mark | ~VALUE_MASK),
    "offsets all nothing": lambda sig: with_marks(sig, lambda _, mark: mark & VALUE_MASK),
    "anchors all alike": lambda sig: with_marks(sig, lambda _, __: sig.marks[0], 1),
    "marks all nothing": lambda sig: with_marks(sig, lambda _, __: 0),
    "weak sums all nothing": lambda sig: with_marks(sig, lambda _, __: 0, 0),
    "weak sums called anchors": lambda sig: with_marks(sig, lambda _, mark: mark, 1),
    "anchors called weak sums": lambda sig: with_marks(sig, lambda _, mark: mark, 0),
    "delimiters that are everywhere": lambda sig: sig._replace(
        delimiters=tuple(Delimiter(bytes([byte])) for byte in sig.delimiters[0].needle[:1] + b"\0\1\2")
        if sig.delimiters
        else (Delimiter(b"\0"),) * 4
    ),
    "delimiters that are nowhere": lambda sig: sig._replace(delimiters=(Delimiter(b"\1\2\3\4\5\6\7\0"),)),
    "no delimiters": lambda sig: sig._replace(delimiters=()),
    "no edges": lambda sig: sig._replace(edges=False),
    "edges": lambda sig: sig._replace(edges=True),
    "one symbol": lambda sig: sig._replace(delimiters=(Delimiter(b"\0" * 8),) * 4, edges=True),
}


@pytest.mark.parametrize("lie", LIES)
@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 1 << 32), st.sampled_from([None, 512, 1000, 4096]))
def test_wherever_blocks_are_said_to_be_found_the_delta_makes_the_target(
    lie: str, kind: str, seed: int, size: int | None
) -> None:
    basis, target = edited(kind, seed, 1000, 1 << 18)
    assert patched(basis, checked(LIES[lie](signature(basis, size)), target)) == target


def test_an_anchor_that_leads_back_does_not_lead_back_for_ever(work: Work) -> None:
    basis = NOISE[:200_000]
    sig, size = signature(basis), 512
    block = sig.anchored.index(1, 30)
    marks = sig.marks[:]
    marks[block - 10] = (10 * size + offset_of(marks[block])) << VALUE_BITS | marks[block] & VALUE_MASK
    anchored = bytearray(sig.anchored)
    anchored[block - 10] = 1
    end = (block + 1) * size
    target = basis[: end - 1] + bytes([basis[end - 1] ^ 1]) + NOISE[210_000:212_000]
    work.most = 1 << 24
    lying = sig._replace(marks=marks, anchored=bytes(anchored))
    assert patched(basis, checked(lying, target)) == target


# --- work ----------------------------------------------------------------------------------------------------------

HOSTILE: dict[str, Callable[[bytes, int], bytes]] = {
    "the same": lambda basis, length: (basis * (length // len(basis) + 1))[:length],
    "noise": lambda basis, length: Random(9).randbytes(length),
    "zeros": lambda basis, length: bytes(length),
    "one block again and again": lambda basis, length: (basis[512:1024] * (length // 512 + 1))[:length],
    "two blocks apart by a byte": lambda basis, length: ((basis[512:1024] + b"x") * (length // 513 + 1))[
        :length
    ],
    "blocks but for their last byte": lambda basis, length: bytes(
        byte ^ (at % 512 == 511) for at, byte in enumerate((basis * (length // len(basis) + 1))[:length])
    ),
    "beginnings of blocks": lambda basis, length: (basis[1024:1200] * (length // 176 + 1))[:length],
    "zeros and ones": lambda basis, length: ((bytes(300) + b"\1") * (length // 301 + 1))[:length],
    "runs as long as blocks": lambda basis, length: ((bytes(512) + b"\1" * 512) * (length // 1024 + 1))[
        :length
    ],
}
ALIKE: dict[str, Callable[[Signature], Signature]] = {
    "honest": lambda sig: sig,
    **LIES,
    "strong sums all alike": lambda sig: sig._replace(strong=array("I", [sig.strong[1]] * len(sig.strong))),
    "all zeros": lambda sig: sig._replace(
        strong=array("I", [strong(bytes(sig.block_size)) & 0xFFFFFFFF] * len(sig.strong)),
        anchored=bytes(len(sig.strong)),
    ),
}
BASES = {
    "noise": NOISE[:150_000],
    "a block of zeros": NOISE[: 100 * 512] + bytes(512) + NOISE[100 * 512 : 300 * 512],
    "zeros": bytes(200_000),
    "text": edited("text", 1, 1 << 17, (1 << 17) + 1)[0],
}


@pytest.mark.parametrize("lie", ALIKE)
@pytest.mark.parametrize("basis", BASES)
def test_the_work_grows_with_the_target_and_no_faster(basis: str, lie: str, work: Work) -> None:
    sig = ALIKE[lie](signature(BASES[basis], 512))
    length, work.most = 1 << 19, 1 << 25
    for name, make in HOSTILE.items():
        work.begin()
        checked(sig, make(BASES[basis], length))
        # what is allowed at first, and what each byte may cost
        assert work.hashed < 4096 * (512 + 64) + 12 * length, name
        assert work.summed < (1 << 19) + length, name
        assert work.rolled < (1 << 18) + length // 8, name
        assert work.scanned < (1 << 20) + 12 * length, name


@pytest.mark.parametrize("size", [512, 1 << 13, 1 << 17, 1 << 20])
def test_the_work_does_not_grow_with_the_blocks(size: int, work: Work) -> None:
    """The anchor of all blocks is the same, and stands everywhere in the target, but no block does."""
    text = b"x" + bytes(range(49))
    value = hash32(text) & VALUE_MASK
    blocks = 16
    sig = signature(NOISE[: 1 << 18] * (size * blocks // (1 << 18) or 1), size)
    sig = sig._replace(
        delimiters=(Delimiter(b"x"),),
        marks=array("I", [value] * len(sig.marks)),
        anchored=b"\1" * len(sig.marks),
    )
    target = text * ((4 << 20) // len(text))
    work.most = (64 << 20) + 200 * len(target)
    checked(sig, target)


def test_edges_that_are_everywhere_have_their_bounds_too(work: Work) -> None:
    run = bytes(300) + b"\1" * 300
    sig = signature(NOISE[:150_000], 512)
    values = {edge_value(run * 3, edge) for edge in range(300, 1200, 300)}
    assert EDGE < 300
    for value in values:
        lying = sig._replace(
            marks=array("I", [value | 100 << VALUE_BITS] * len(sig.marks)),
            anchored=b"\1" * len(sig.marks),
            edges=True,
        )
        target = run * 1000
        work.begin()
        work.most = (1 << 22) + 50 * len(target)
        checked(lying, target)


# --- memory --------------------------------------------------------------------------------------------------------


class Endless:
    """Reads like so many bytes of one piece again and again."""

    def __init__(self, piece: bytes, length: int) -> None:
        self._left = length
        self._piece = piece

    def read(self, size: int, /) -> bytes:
        data = self._piece[: min(size, self._left)]
        self._left -= len(data)
        return data


@pytest.mark.parametrize("lie", ["honest", "anchors all alike", "strong sums all alike", "one symbol"])
def test_memory_stays_bounded(lie: str) -> None:
    sig = ALIKE[lie](signature(NOISE[:150_000], 512))
    for piece in (bytes(1 << 16), NOISE[: sig.block_size] * 100):
        tracemalloc.start()
        try:
            made = sum(
                op.length if isinstance(op, Copy) else len(op.data)
                for op in delta(sig, Endless(piece, 2 << 20))
            )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert made == 2 << 20
        assert peak < 4 << 20


def test_matches_that_win_next_to_nothing_are_not_many() -> None:
    """Each anchor is said to stand at the end of its block, which would overlap all of what has been copied but one byte."""
    length, number = 100_000, hash32(b"a" * 50) & VALUE_MASK
    marks = array("I", [511 << VALUE_BITS | number ^ block for block in range(600)])
    strongs = array("I", [strong(b"a" * 512) & 0xFFFFFFFF] + [7] * 599)
    sig = Signature(512, 512 * 600, 0, (Delimiter(b"a"),), False, b"\1" * 600, marks, strongs)
    ops = list(delta(Signature.from_bytes(sig.to_bytes()), b"a" * length))
    assert sum(op.length if isinstance(op, Copy) else len(op.data) for op in ops) == length
    assert len(ops) < 10_000
