from collections.abc import Iterator
from io import BytesIO
from random import Random

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesync.delta.errors import PatchError
from codesync.delta.held.pack import pack_window
from codesync.delta.ops import Window
from codesync.delta.reading import random_access
from codesync.delta.window import (
    MAX_DATA,
    MAX_LEFTOVERS,
    Step,
    unpack_window,
)
from tests.delta.material import little_memory

TEXT = b"".join(b"    self.value_%d = value_%d * %d\n" % (n, n * 7, n * n) for n in range(800))
BASIS = random_access(TEXT)
NOISE = Random(1).randbytes(5000)


def unpacked(window: Window, basis: bytes = TEXT) -> bytes:
    return b"".join(unpack_window(window, random_access(basis)))


def outcome(steps: list[Step], leftovers: bytes, basis: bytes = TEXT) -> bytes:
    """What steps mean, said as plainly as can be."""
    out, taken = b"", 0
    for gap, offset, length in steps:
        out += leftovers[taken : taken + gap]
        taken += gap
        if offset >= 0:
            out += basis[offset : offset + length]
        else:
            period = leftovers[taken + offset : taken]
            out += (period * (length // len(period) + 1))[:length]
    return out


@st.composite
def windows(draw: st.DrawFn) -> tuple[list[Step], bytes]:
    steps, taken = [], 0
    for _ in range(draw(st.integers(1, 40))):
        gap = draw(st.integers(0, 60))
        taken += gap
        if taken and draw(st.booleans()):
            steps.append(Step(gap, -draw(st.integers(1, taken)), draw(st.integers(0, 300))))
        else:
            offset = draw(st.integers(0, len(TEXT)))
            steps.append(Step(gap, offset, draw(st.integers(0, min(3000, len(TEXT) - offset)))))
    source = draw(st.sampled_from([TEXT[7000:], NOISE, bytes(5000)]))
    return steps, source[:taken]


@settings(max_examples=150, deadline=None)
@given(windows())
def test_a_window_makes_what_its_steps_say(packed: tuple[list[Step], bytes]) -> None:
    steps, leftovers = packed
    window = pack_window(steps, leftovers, BASIS)
    assert unpacked(window) == outcome(steps, leftovers)
    assert window.size == len(outcome(steps, leftovers))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 8192, 8193, 100_000])
@pytest.mark.parametrize("length", [1, 12, 13, 5000, 70_000, 131_072, 131_073, MAX_LEFTOVERS])
def test_leftovers_of_any_length_come_back_beside_a_basis_of_any_size(size: int, length: int) -> None:
    basis = (TEXT * 5)[:size]
    for source in (TEXT * 30, bytes(MAX_LEFTOVERS), Random(2).randbytes(MAX_LEFTOVERS)):
        steps = [Step(length, size // 2, 0)]
        window = pack_window(steps, source[:length], random_access(basis))
        assert unpacked(window, basis) == source[:length]


def test_a_basis_that_looks_like_a_dictionary_of_zstd_is_text_all_the_same() -> None:
    basis = bytes.fromhex("37a430ec 00000000") + TEXT
    window = pack_window([Step(600, 0, 100)], TEXT[300:900], random_access(basis))
    assert len(window.data) < 100
    assert unpacked(window, basis) == TEXT[300:900] + basis[:100]


def test_one_changed_word_costs_little_more_than_itself() -> None:
    steps = [Step(0, 0, 9000), Step(4, 9004, len(TEXT) - 9004)]
    assert len(pack_window(steps, b"word", BASIS).data) <= 8 + 4


def test_text_like_that_beside_its_place_costs_much_less_than_itself() -> None:
    line = b"    self.value_301 = value_2107 * 90602 + value_2114\n"
    steps = [
        Step(0, 0, TEXT.index(b"    self.value_302")),
        Step(len(line), TEXT.index(b"    self.value_303"), 100),
    ]
    assert len(pack_window(steps, line, BASIS).data) < len(line) - 10


def test_noise_costs_a_few_bytes_more_than_itself() -> None:
    noise = Random(3).randbytes(MAX_LEFTOVERS)
    assert len(pack_window([Step(len(noise), 0, 0)], noise, BASIS).data) <= len(noise) + 8


def test_many_like_steps_are_packed() -> None:
    steps = [Step(1, 20 * n + 1, 19) for n in range(1000)]
    window = pack_window(steps, bytes(1000), BASIS)
    assert len(window.data) < 100
    assert unpacked(window) == outcome(steps, bytes(1000))


def test_copies_of_any_length_are_made_in_pieces() -> None:
    basis = Random(4).randbytes(4 << 20)
    window = pack_window([Step(0, 0, 4 << 20), Step(3, 0, 4 << 20)], b"and", random_access(basis))
    with little_memory(3 << 20):
        assert sum(map(len, unpack_window(window, random_access(basis)))) == (8 << 20) + 3
        assert max(map(len, unpack_window(window, random_access(basis)))) <= 1 << 18


def test_a_repetition_of_any_length_is_made_in_pieces() -> None:
    window = pack_window([Step(3, -3, 1 << 30)], b"abc", BASIS)
    assert len(window.data) < 20
    with little_memory(4 << 20):
        pieces = unpack_window(window, BASIS)
        assert [next(pieces), next(pieces)[:7]] == [b"abc", b"abcabca"]
        assert 6 + sum(map(len, pieces)) > 1 << 29


# --- hostile bytes -----------------------------------------------------------------------------------------------


def refused(data: bytes, size: int = 100, why: str | None = None, basis: bytes = TEXT) -> None:
    with little_memory(8 << 20), pytest.raises(PatchError, match=why):
        for _ in unpack_window(Window(size, data), random_access(basis)):
            pass


def harmless(window: Window) -> None:
    """Refused, or exactly as long as it says."""
    try:
        length = sum(map(len, unpack_window(window, BASIS)))
    except PatchError:
        return
    assert length == window.size


def samples() -> Iterator[Window]:
    line = b"    self.value_999 = value_999 * 999999 - self.value_998\n" * 3
    yield pack_window([Step(0, 0, 9000), Step(4, 9004, 1000)], b"word", BASIS)
    yield pack_window([Step(0, 100, 700), Step(len(line), 900, 900)], line, BASIS)
    yield pack_window([Step(5, 40, 700), Step(len(line) - 5, -9, 900)], line, BASIS)
    yield pack_window([Step(2, (37 * n) % 9000, n) for n in range(60)], NOISE[:120], BASIS)
    yield pack_window([Step(2, 30 * n + 5, 28) for n in range(60)], TEXT[500:620], BASIS)
    yield pack_window([Step(len(TEXT), 0, 0)], TEXT[::-1], BASIS)
    yield pack_window([Step(140_000, 0, 0)], (TEXT[::-1] * 8)[:140_000], BASIS)  # more than one block


@pytest.mark.parametrize("window", list(samples()))
def test_a_window_cut_short_or_made_longer_is_refused(window: Window) -> None:
    for stop in range(min(len(window.data), 400)):
        harmless(Window(window.size, window.data[:stop]))
    refused(window.data + b"\0", window.size)
    refused(window.data[:-1], window.size)
    harmless(Window(window.size + 1, window.data))
    harmless(Window(window.size - 1, window.data))


@pytest.mark.parametrize("window", list(samples()))
def test_a_flipped_bit_is_refused_or_changes_nothing_about_the_size(window: Window) -> None:
    for bit in range(min(8 * len(window.data), 2000)):
        data = bytearray(window.data)
        data[bit // 8] ^= 1 << bit % 8
        harmless(Window(window.size, bytes(data)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 1 << 20))
@example(b"\x10", 1)
def test_arbitrary_bytes_are_refused_or_make_what_they_say(data: bytes, size: int) -> None:
    harmless(Window(size, data))


def test_no_step_reaches_outside_the_basis() -> None:
    refused(
        b"\x10" + b"\x84\x7d", len(TEXT) + 1, "outside the basis"
    )  # one copy, from 8000 on, of more than there is
    refused(b"\x10" + b"\x02", 1, "outside the basis")  # from -1 on


def test_a_repetition_must_repeat_what_has_been_taken() -> None:
    refused(b"\x11" + b"\x03" + b"\x09" + b"abc", 10, "outside")
    refused(b"\x11" + b"\x03" + b"\x01" + b"abc", 10, "outside")
    assert unpacked(Window(10, b"\x11" + b"\x03" + b"\x07" + b"abc")) == b"abcabcabca"


def test_a_window_makes_no_more_than_it_says() -> None:
    refused(b"\x20" + b"\x00\x0b" + b"\x00\x00", 10, "more than it says")


def test_leftovers_are_bounded_before_memory_is_taken() -> None:
    refused(b"\x13" + b"\x80\x80\x80\x80\x08" + b"\x00" + b"x", 1 << 32, "more than it says")


def test_numbers_are_bounded() -> None:
    refused(b"\x10" + b"\xff" * 12, 10, "does not end")
    refused(b"\x00" + b"\xfe\xff\x7f" + b"\x00" * 100, 10, f"a window of {(1 << 20) - 1} steps")
    refused(b"\x00\x00", 10, "0 steps")
    refused(b"", 10, "0 bytes")
    refused(bytes(MAX_DATA + 1), 10, "cannot be")


def test_an_unknown_form_of_leftovers_is_refused() -> None:
    refused(b"\x17" + b"\x03\x00" + b"abc", 3, "form")
    refused(b"\x12" + b"\x00" + b"abc", 3, "form")  # compressed leftovers, but none are taken


def test_packed_steps_are_as_long_as_the_window_says() -> None:
    window = pack_window([Step(0, 20 * n, 19) for n in range(1000)], b"", BASIS)
    assert window.data[3] + 4 == len(window.data)  # flags, two bytes of count, one of length
    refused(window.data[:3] + bytes([window.data[3] + 1]) + window.data[4:], window.size, "as long as")
    refused(window.data[:3] + bytes([window.data[3] - 1]) + window.data[4:], window.size)
    longer = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(4))[
        6:
    ]  # three columns, and a byte
    refused(b"\x00\x03" + bytes([len(longer)]) + longer, 1, "as long as")


def test_packed_steps_that_swell_are_refused() -> None:
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    packed = (stream.compress(bytes(100 << 20)) + stream.flush())[
        6:
    ]  # without zstd's magic, flags and window
    count = b"\x81\x80\x01"  # 8192 steps, packed
    length = bytes([len(packed) & 127 | 128, len(packed) >> 7 & 127 | 128, len(packed) >> 14])
    refused(b"\x00" + count + length + packed, 10, "zstd says")


def test_a_basis_that_has_shrunk_is_an_error() -> None:
    window = pack_window([Step(0, 0, len(TEXT))], b"", BASIS)
    file = BytesIO(TEXT)
    basis = random_access(file)
    file.truncate(1000)
    with pytest.raises(PatchError, match="the basis ends"):
        list(unpack_window(window, basis))
