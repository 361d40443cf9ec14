import os
import tracemalloc
from array import array
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Signature, SignatureError, signature
from codesync.delta.checksum import strong, weak
from codesync.delta.signature import MAX_BLOCK_SIZE, default_block_size
from tests.delta.material import READ_SIZES, dribble

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("length", "block_size"),
    [
        (0, 700),
        (700 * 700, 700),
        (704 * 704 - 1, 700),
        (704 * 704, 704),
        (1_000_000, 1000),
        (1 << 30, 32768),
        (1 << 40, 131072),
    ],
)
def test_the_block_size_grows_with_the_square_root(length: int, block_size: int) -> None:
    assert default_block_size(length) == block_size


def test_every_block_has_its_two_checksums() -> None:
    sig = signature(b"aaaabbbbcc", 4)
    assert (sig.block_size, sig.length) == (4, 10)
    assert list(sig.weak) == [weak(b"aaaa"), weak(b"bbbb"), weak(b"cc")]
    assert list(sig.strong) == [strong(b"aaaa"), strong(b"bbbb"), strong(b"cc")]


def test_an_empty_basis_has_no_blocks() -> None:
    sig = signature(b"")
    assert (sig.length, list(sig.weak), list(sig.strong)) == (0, [], [])


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
        data = b"cssign\r\n\x01\x00" + data
    with pytest.raises(SignatureError):
        Signature.from_bytes(data)


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


def test_the_format_is_frozen() -> None:
    basis = b"".join(n.to_bytes(2, "big") for n in range(3000))
    golden = (GOLDEN / "signature-1.bin").read_bytes()
    assert signature(basis, 1000).to_bytes() == golden
    read = Signature.from_bytes(golden)
    assert (read.block_size, read.length) == (1000, 6000)
    assert read.weak == array("I", [weak(basis[at : at + 1000]) for at in range(0, 6000, 1000)])
