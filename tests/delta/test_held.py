import tracemalloc
from collections.abc import Iterable, Iterator
from io import BytesIO
from random import Random
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import held
from codesync.delta.held import held_delta, search
from codesync.delta.held.compare import common_prefix, common_suffix, first_run
from codesync.delta.held.pack import pack_window
from codesync.delta.ops import Copy, Literal, Op, Window
from codesync.delta.reading import RandomAccess, random_access
from codesync.delta.window import Step, unpack_window
from tests.delta.material import dribble, pairs

READ_SIZES = 1, 2, 3, 7, 15, 100, 10_000, 200_000
RANDOM = Random(1).randbytes(300_000)
SOURCE = b"".join(
    b"def function_%d(first, second):\n    return first * %d + second[%d]\n\n\n" % (n, n * n, n % 17)
    for n in range(2000)
)


def pieces(basis: bytes, ops: Iterable[Op]) -> Iterator[bytes]:
    for op in ops:
        if isinstance(op, Copy):
            yield basis[op.offset : op.offset + op.length]
        elif isinstance(op, Window):
            made = b"".join(unpack_window(op, random_access(basis)))
            assert len(made) == op.size
            yield made
        else:
            yield op.data


def patched(basis: bytes, ops: Iterable[Op]) -> bytes:
    return b"".join(pieces(basis, ops))


def cost(ops: Iterable[Op]) -> int:
    """Bytes, a little more than a delta file has for these operations."""
    return sum(12 if isinstance(op, Copy) else 6 + len(op.data) for op in ops)


def made(basis: bytes, target: bytes) -> int:
    """The cost of the delta, which has been seen to make the target."""
    ops = list(held_delta(basis, target))
    assert patched(basis, ops) == target
    return cost(ops)


def steps_of(basis: bytes, target: bytes) -> int:
    taken: list[Step] = []

    def packed(steps: list[Step], leftovers: bytes, source: RandomAccess) -> Window:
        taken.extend(steps)
        return pack_window(steps, leftovers, source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held, "pack_window", packed)
        made(basis, target)
    return len(taken)


@settings(max_examples=250, deadline=None)
@given(pairs(), st.sampled_from(READ_SIZES))
def test_a_delta_makes_the_target_from_the_basis(pair: tuple[bytes, bytes], read_size: int) -> None:
    basis, target = pair
    assert patched(basis, held_delta(basis, dribble(target, read_size))) == target


@pytest.mark.parametrize("seed", range(40))
def test_a_delta_of_longer_files_makes_the_target_too(seed: int) -> None:
    random = Random(seed)
    source = random.choice(
        [RANDOM, SOURCE, bytes(100_000), b"ab" * 70_000 + SOURCE, bytes(b & 1 for b in RANDOM)]
    )
    basis, target = source[: random.randrange(200_000)], source[random.randrange(100_000) :]
    for _ in range(random.randrange(30)):
        start, stop = sorted((random.randint(0, len(target)), random.randint(0, len(target))))
        stop = min(stop, start + random.choice([3, 100, 70_000]))
        piece = target[start:stop]
        fresh = random.randbytes(random.choice([0, 1, 40, 3000]))
        at = random.randint(0, len(target))
        target = (
            target[:at] + random.choice([fresh, piece, piece * 20, piece[::-1]]) + target[at + len(fresh) :]
        )
    read_size = random.choice(READ_SIZES[4:])
    assert patched(basis, held_delta(BytesIO(basis), dribble(target, read_size))) == target


@pytest.mark.parametrize("read_size", READ_SIZES)
def test_the_delta_is_the_same_however_the_target_is_read(read_size: int) -> None:
    target = SOURCE[:20_000] + b"some new text" + SOURCE[25_000:]
    assert list(held_delta(SOURCE, dribble(target, read_size))) == list(held_delta(SOURCE, target))


def test_an_identical_target_is_one_copy_and_an_empty_one_nothing() -> None:
    assert list(held_delta(RANDOM, RANDOM)) == [Copy(0, len(RANDOM))]
    assert list(held_delta(RANDOM, b"")) == []
    assert list(held_delta(b"", b"")) == []


def test_a_basis_in_a_file_is_read_past_its_position(tmp_path: object) -> None:
    with open(f"{tmp_path}/basis", "w+b") as file:
        file.write(RANDOM)
        assert list(held_delta(file, RANDOM[5:])) == [Copy(5, len(RANDOM) - 5)]


@pytest.mark.parametrize("at", [0, 1, 20, 21, 60_000, len(SOURCE) - 30, len(SOURCE)])
@pytest.mark.parametrize("gone", [0, 1, 10])
@pytest.mark.parametrize("fresh", [b"", b"x", b"some new text"])
def test_an_edit_costs_itself_and_a_few_bytes(at: int, gone: int, fresh: bytes) -> None:
    assert made(SOURCE, SOURCE[:at] + fresh + SOURCE[at + gone :]) <= 12 + 12 + len(fresh)


def test_an_edited_line_costs_less_than_sixty_bytes() -> None:
    target = SOURCE.replace(b"first * 1000000 + second[14]", b"second * first[3] + 999999 # was + second")
    assert target != SOURCE
    assert made(SOURCE, target) < 60


@pytest.mark.parametrize("size", [300_000, 6_000_000])
def test_text_that_has_moved_far_is_copied(size: int) -> None:
    basis = Random(2).randbytes(size)
    moved = basis[size // 5 : size // 5 + 20_000]
    target = basis[: size // 2] + moved + basis[size // 2 :]
    assert made(basis, target) < 100


def test_shuffled_pieces_cost_a_few_bytes_each() -> None:
    parts = [SOURCE[at : at + 3000] for at in range(0, len(SOURCE), 3000)]
    Random(3).shuffle(parts)
    assert made(SOURCE, b"".join(parts)) < 7 * len(parts)


def test_every_tenth_piece_edited_in_its_place_costs_what_is_new() -> None:
    basis = Random(4).randbytes(1_000_000)
    target = bytearray(basis)
    for at in range(500, len(basis), 5000):
        target[at : at + 8] = b"overlaid"
    assert made(basis, bytes(target)) < 200 * 12


def test_a_run_that_no_basis_has_is_not_written_out() -> None:
    assert made(RANDOM, b"ab" * 1_000_000) < 40
    assert made(RANDOM, RANDOM + RANDOM[:777][::-1] * 3000 + RANDOM) < 777 + 60


def test_a_repetition_that_begins_where_a_window_is_full_is_still_one() -> None:
    fresh = Random(5).randbytes(600_000)
    for length in (524_288, 524_288 - 1000, 400_000):
        target = fresh[:length] + fresh[-70_000:] * 20
        assert made(b"basis", target) < length + 70_000 + 70_000


def test_noise_costs_itself() -> None:
    fresh = Random(6).randbytes(2_000_000)
    assert made(RANDOM, fresh) < len(fresh) + 200


def test_runs_shifted_by_an_insertion_cost_no_more_than_it() -> None:
    random = Random(7)
    basis = b"".join(bytes([random.randrange(256)]) * random.randrange(1, 4000) for _ in range(2000))
    target = basis[:100_000] + b"twenty bytes of text" + basis[100_000:]
    assert made(basis, target) < 200


def test_a_short_copy_gives_way_to_a_longer_one_found_behind_it() -> None:
    heads = [Random(seed).randbytes(600) for seed in range(6)]
    parts = [heads[seed % 6] + Random(seed).randbytes(5000) for seed in range(100, 160)]
    basis = b"".join(parts)
    Random(9).shuffle(parts)
    assert steps_of(basis, b"".join(parts)) <= len(parts) + 6


def test_the_end_of_both_files_is_copied_however_short_it_is() -> None:
    assert made(RANDOM, RANDOM[:-25] + b"\0" + RANDOM[-24:]) < 17


def test_a_little_text_that_has_moved_within_a_basis_of_some_mib_is_copied() -> None:
    basis = Random(11).randbytes(3_000_000)
    assert made(basis, basis[:2_000_000] + basis[400_000:400_200] + basis[2_000_000:]) < 40


def test_a_repetition_longer_than_what_is_read_at_once_is_one() -> None:
    fresh = Random(12).randbytes(70_000)
    ops = list(held_delta(b"basis", BytesIO(fresh * 100)))
    assert patched(b"basis", ops) == fresh * 100
    assert cost(ops) < 70_000 + 70_000


class _Counted(BytesIO):
    """Counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


HOSTILE = {
    "a difference in every 40 bytes": (
        RANDOM * 7,
        bytes(0 if n % 40 == 39 else b for n, b in enumerate(RANDOM * 7)),
    ),
    "an insertion in every 100 bytes": (
        RANDOM,
        b"x".join(RANDOM[at : at + 100] for at in range(0, len(RANDOM), 100)),
    ),
    "60 bytes that come again and again": (
        b"".join(RANDOM[:60] + RANDOM[at : at + 20] for at in range(0, 200_000, 20)),
        b"".join(RANDOM[:60] + RANDOM[at : at + 20] for at in range(200_000, 20, -20)),
    ),
    "noise of two symbols": (bytes(b & 1 for b in RANDOM * 4), bytes(b >> 7 for b in RANDOM * 4)),
    "zeros against zeros with a few ones": (bytes(2_000_000), (bytes(50) + b"\1") * 40_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_is_bounded_for_any_content(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    basis, target = HOSTILE[name]
    monkeypatch.setattr(search, "_FREE", 1 << 18)
    monkeypatch.setattr(search, "_FREE_WORK", 1 << 20)
    monkeypatch.setattr(held, "_SMALL", 0)
    file = _Counted(basis)
    assert patched(basis, held_delta(file, target)) == target
    assert file.count < 24 * len(target) + (4 << 20)
    assert steps_of(basis, target) < (len(target) + (1 << 18)) // 700 + 100


class _Edited:
    """Reads like a file as long as a basis of so many equal MiB, each with an edit, that nobody ever held."""

    def __init__(self, piece: bytes, count: int) -> None:
        self._pieces = (piece[:1000] + b"%d" % n + piece[1003:] for n in range(count))
        self._left = b""

    def read(self, size: int, /) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        data, self._left = self._left[:size], self._left[size:]
        return data


def test_a_large_target_is_never_held(large_basis: BinaryIO) -> None:
    piece = large_basis.read(1 << 20)
    tracemalloc.start()
    try:
        size = sum(
            op.length if isinstance(op, Copy) else len(op.data) if isinstance(op, Literal) else op.size
            for op in held_delta(large_basis, _Edited(piece, 64))
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 63 << 20
    assert peak < 40 << 20


@pytest.fixture
def large_basis(tmp_path: object) -> Iterator[BinaryIO]:
    with open(f"{tmp_path}/basis", "w+b") as file:
        file.writelines(Random(seed).randbytes(1 << 20) for seed in range(64))
        file.seek(0)
        yield file


# --- comparing ---------------------------------------------------------------------------------------------------

ALIKE = st.lists(st.sampled_from(b"ab"), max_size=1500).map(bytes)


@settings(max_examples=100, deadline=None)
@given(ALIKE, st.integers(0, 1500), st.integers(0, 1500))
def test_common_prefixes_and_suffixes_are_as_long_as_can_be(text: bytes, one: int, other: int) -> None:
    changed = bytearray(text)
    for at in {one, other}:
        if at < len(text):
            changed[at] ^= 3
    differing = [at for at in range(len(text)) if text[at] != changed[at]] or [len(text)]
    assert common_prefix(text, bytes(changed)) == differing[0]
    assert common_suffix(text, bytes(changed)) == len(text) - (
        differing[-1] + 1 if differing[0] < len(text) else 0
    )


def test_the_first_run_in_common_is_found() -> None:
    assert first_run(b"abcdefgh", b"abXdefgh", 3) == 3
    assert first_run(b"abcdefgh", b"abXdefgh", 2) == 0
    assert first_run(b"abcdefgh", b"abXdefgh", 6) == -1
    assert first_run(b"", b"", 1) == -1
