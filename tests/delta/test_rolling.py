"""The rolling search, against looking at every place; and that it never works more than it is allowed to."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import signature
from codesync.delta.checksum import strong
from codesync.delta.index import NOWHERE, Index
from codesync.delta.rolling import Rolling

NOISE = Random(4).randbytes(1 << 16)


def first_by_definition(basis: bytes, target: bytes, size: int, at: int, stop: int) -> tuple[int, int] | None:
    """The first place that is some block of the basis."""
    blocks = [basis[start : start + size] for start in range(0, len(basis) - size + 1, size)]
    for place in range(at, stop):
        if target[place : place + size] in blocks:
            return place, blocks.index(target[place : place + size])
    return None


def rolled(rolling: Rolling, target: bytes, at: int, stop: int) -> tuple[int, int] | None:
    data = bytearray(target)
    found = rolling.find(data, memoryview(data), at, stop)
    return None if found is None or found[1] == NOWHERE else (found[0], found[1])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"ab", b"aaaaaaaaaaab", bytes(range(256))]),
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.integers(0, 60),
    st.integers(0, 200),
)
def test_the_first_block_is_found_at_every_place(
    alphabet: bytes, seed: int, size: int, at: int, length: int
) -> None:
    random = Random(seed)
    basis = bytes(random.choices(alphabet, k=size * 6))
    target = bytearray(random.choices(alphabet, k=300 + size))
    place = random.randrange(300)
    target[place : place + size] = basis[2 * size : 3 * size]
    stop = min(at + length, len(target) - size)
    found = rolled(Rolling(Index(signature(basis, size))), bytes(target), at, stop)
    assert found == first_by_definition(basis, bytes(target), size, at, stop)


def test_a_block_that_stands_at_the_last_place_is_found_and_none_behind_it() -> None:
    basis = NOISE[:512]
    target = NOISE[1000:1300] + basis + NOISE[2000:2100]
    rolling = Rolling(Index(signature(basis + NOISE[5000:6000], 512)))
    assert rolled(rolling, target, 0, 301) == (300, 0)
    assert rolled(rolling, target, 0, 300) is None
    assert rolled(rolling, target, 300, 301) == (300, 0)


@pytest.mark.parametrize("byte", [0, 1, 255])
def test_sums_that_are_as_large_as_can_be_roll_without_loss(byte: int) -> None:
    size = 70_000
    basis = bytes([byte]) * (size - 1) + b"\x80"
    target = NOISE[:333] + bytes([byte]) * 100 + basis + NOISE[:10]
    assert rolled(Rolling(Index(signature(basis, size))), target, 0, 440) == (433, 0)


def test_it_is_idle_when_every_block_has_an_anchor() -> None:
    sig = signature(NOISE[:4096], 512)
    assert not Rolling(Index(sig)).is_idle
    assert Rolling(Index(sig._replace(anchored=b"\1" * 8))).is_idle


# --- the allowance -----------------------------------------------------------------------------------------------


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many strong sums have been computed so far."""
    count = 0

    def counted(*args: object) -> int:
        nonlocal count
        count += 1
        return strong(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("codesync.delta.index.strong", counted)
    return lambda: count


def test_weak_sums_that_mislead_at_every_place_are_looked_up_no_more_than_allowed(
    looked_up: Callable[[], int],
) -> None:
    size = 600
    sig = signature(NOISE[: 40 * size], size)
    # all windows of zeros have the weak sum 0
    sig = sig._replace(marks=sig.marks[:0] + type(sig.marks)("I", [0] * 40))
    rolling, zeros, before = Rolling(Index(sig)), bytes(1_000_000), looked_up()
    found = [rolled(rolling, zeros, at, at + 100_000) for at in range(0, 900_000, 100_000)]
    assert found == [None] * 9
    assert looked_up() - before < (1 << 18) // 64 + 900_000 // 1000


def test_a_target_much_longer_than_allowed_still_shows_long_rows_of_blocks() -> None:
    size = 512
    basis = NOISE[: 200 * size]
    rolling, fresh = Rolling(Index(signature(basis, size))), Random(5).randbytes(2_000_000)
    assert rolled(rolling, fresh, 0, 1_900_000) is None
    target = fresh[:100_001] + basis + fresh[:1000]
    found = rolled(rolling, target, 0, len(target) - size)
    assert found is not None
    place, block = found
    assert target[place : place + size] == basis[block * size : (block + 1) * size]
    assert place < 100_001 + 66 * size
