import os
import tracemalloc
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Signature, SignatureError, signature
from codesync.delta.anchors import VALUE_BITS, VALUE_MASK, Delimiter, hash32
from codesync.delta.checksum import strong, weak
from codesync.delta.signature import MAX_BLOCK_SIZE, default_block_size
from tests.delta.material import READ_SIZES, dribble

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("length", "block_size"),
    [
        (0, 512),
        (1 << 18, 512),
        (768 * 768 - 1, 512),
        (768 * 768, 768),
        (1_000_000, 768),
        (1 << 20, 1024),
        (50_000_000, 6144),
        (100_000_000, 8192),
        (1 << 30, 32768),
        (1 << 40, 131072),
    ],
)
def test_the_block_size_is_a_round_number_just_below_the_square_root(length: int, block_size: int) -> None:
    assert default_block_size(length) == block_size


def test_every_block_of_a_small_basis_has_its_two_checksums() -> None:
    sig = signature(b"aaaabbbbcc", 4)
    assert (sig.block_size, sig.length, sig.delimiters) == (4, 10, ())
    assert list(sig.marks) == [weak(b"aaaa"), weak(b"bbbb"), weak(b"cc")]
    assert list(sig.strong) == [strong(block) & 0xFFFFFFFF for block in (b"aaaa", b"bbbb", b"cc")]
    assert sig.anchored == b"\0\0\0"


def test_a_seed_changes_every_strong_sum_and_no_mark() -> None:
    basis = Random(1).randbytes(200_000)
    one, other = signature(basis), signature(basis, seed=7)
    assert one.marks == other.marks
    assert not any(a == b for a, b in zip(one.strong, other.strong, strict=True))
    assert Signature.from_bytes(other.to_bytes()) == other != one


def test_anchors_stand_where_their_marks_say_and_are_isolated() -> None:
    basis = Random(1).randbytes(1 << 20)
    sig = signature(basis, 4096)
    assert sum(sig.anchored) >= 250
    (delimiter,) = sig.delimiters
    pattern, span = delimiter.pattern(), delimiter.span
    for block, (mark, anchored) in enumerate(zip(sig.marks, sig.anchored, strict=True)):
        start, offset = block * 4096, mark >> VALUE_BITS
        if anchored:
            found = pattern.match(basis, start + offset)
            assert found is not None
            assert hash32(found[0]) & VALUE_MASK == mark & VALUE_MASK
            before = (
                pattern.match(basis, at)
                for at in range(max(start, start + offset - span + 1), start + offset)
            )
            assert offset >= span - 1
            assert not any(before)


def test_a_signature_is_at_most_eight_bytes_and_a_bit_for_each_block() -> None:
    data = signature(Random(1).randbytes(1 << 20), 1024).to_bytes()
    assert len(data) <= 1024 * 8.125 + 64


def test_an_empty_basis_has_no_blocks() -> None:
    sig = signature(b"")
    assert (sig.length, list(sig.marks), list(sig.strong)) == (0, [], [])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 4000), READ_SIZES)
def test_it_does_not_matter_how_little_a_read_returns(basis: bytes, block_size: int, read_size: int) -> None:
    assert signature(dribble(basis, read_size), block_size) == signature(basis, block_size)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 3000))
def test_bytes_round_trip(basis: bytes, block_size: int) -> None:
    sig = signature(basis, block_size)
    assert Signature.from_bytes(sig.to_bytes()) == sig


def test_a_pipe_can_be_signed_when_the_block_size_is_given() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file:
        with open(writing, "wb") as end:
            end.write(b"x" * 3000)
        assert signature(file, 700) == signature(b"x" * 3000, 700)


def test_a_file_is_read_whole_wherever_it_stands() -> None:
    file = BytesIO(b"x" * 5000)
    file.seek(4000)
    assert signature(file) == signature(b"x" * 5000)


@pytest.mark.parametrize("block_size", [0, -1, MAX_BLOCK_SIZE + 1])
def test_an_impossible_block_size_is_refused(block_size: int) -> None:
    with pytest.raises(SignatureError, match="block size"):
        signature(b"abc", block_size)


def test_every_truncation_and_every_flip_is_refused() -> None:
    data = signature(bytes(range(250)) * 2, 100).to_bytes()
    for end in range(len(data)):
        with pytest.raises(SignatureError):
            Signature.from_bytes(data[:end])
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            with pytest.raises(SignatureError):
                Signature.from_bytes(bytes(damaged))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100), st.booleans())
def test_only_signature_errors_escape(data: bytes, after_magic: bool) -> None:
    if after_magic:
        data = b"cssign\r\n\x02\x00" + data
    with pytest.raises(SignatureError):
        Signature.from_bytes(data)


@pytest.mark.parametrize(("at", "byte"), [(0, 0), (0, 9), (0, 255), (1, 1), (4, 1), (10, 1)], ids=str)
def test_a_delimiter_that_cannot_be_is_refused(at: int, byte: int) -> None:
    """Size, the bounds of the byte behind, and eight bytes that begin with the needle."""
    sig = signature(Random(1).randbytes(1 << 18))
    assert len(sig.delimiters[0].needle) == 1
    data = bytearray(sig._replace(delimiters=(Delimiter(b"x", 0, 0),)).to_bytes()[:-8])
    data[27 + at] = byte
    with pytest.raises(SignatureError, match="delimiter"):
        Signature.from_bytes(bytes(data) + strong(bytes(data)).to_bytes(8, "little"))


def test_more_delimiters_than_are_looked_for_are_refused() -> None:
    sig = signature(Random(1).randbytes(1 << 18))
    assert Signature.from_bytes(sig._replace(delimiters=(Delimiter(b"x"),) * 4).to_bytes()).delimiters
    with pytest.raises(SignatureError, match="4 delimiters at most, not 5"):
        Signature.from_bytes(sig._replace(delimiters=(Delimiter(b"x"),) * 5).to_bytes())


def test_a_length_that_cannot_be_takes_no_memory() -> None:
    data = bytearray(signature(b"abc").to_bytes())
    data[14:22] = b"\xff" * 8
    tracemalloc.start()
    try:
        with pytest.raises(SignatureError, match="long"):
            Signature.from_bytes(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_foreign_version_is_named() -> None:
    data = bytearray(signature(b"abc").to_bytes())
    data[8] = 9
    with pytest.raises(SignatureError, match="version 9"):
        Signature.from_bytes(bytes(data))


def test_the_version_before_is_refused_with_what_to_do() -> None:
    with pytest.raises(SignatureError, match="version 1 is not known here, only 2; make it anew"):
        Signature.from_bytes(b"cssign\r\n\x01\x00" + bytes(50))


def frozen_basis() -> bytes:
    """Blocks with anchors, blocks without, blocks that are alike, a short last one."""
    random = Random(20260101)
    varied = bytes(random.choices(range(256), k=300_000))
    return varied + bytes(50_000) + varied[:10_000] + b"end"


def test_the_format_is_frozen() -> None:
    basis = frozen_basis()
    golden = (GOLDEN / "signature-2.bin").read_bytes()
    assert signature(basis, seed=3).to_bytes() == golden
    read = Signature.from_bytes(golden)
    assert (read.block_size, read.length, read.seed) == (512, 360_003, 3)
    assert 400 < sum(read.anchored) < len(read.anchored) == 704
