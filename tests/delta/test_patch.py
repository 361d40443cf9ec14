from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Copy, Delta, DeltaReader, Literal, PatchError, patch, signature, write_delta
from tests.delta.material import READ_SIZES, dribble, pairs

GOLDEN = Path(__file__).parents[1] / "golden"


def some_delta() -> tuple[bytes, bytes, Delta]:
    basis = b"".join(n.to_bytes(2, "big") for n in range(3000))
    target = basis[3000:] + b"something new" + basis[:2000]
    return basis, target, Delta.of(signature(basis, 1000), target)


def test_copies_and_literals_are_written_in_their_order() -> None:
    out = BytesIO()
    assert patch(b"0123456789", [Copy(7, 3), Literal(b"abc"), Copy(0, 2)], out) == 8
    assert out.getvalue() == b"789abc01"


@pytest.mark.parametrize("op", [Copy(8, 3), Copy(11, 1), Copy(-1, 3), Copy(0, 0), Copy(3, -1)])
def test_a_copy_outside_the_basis_is_refused_before_it_writes(op: Copy) -> None:
    out = BytesIO()
    with pytest.raises(PatchError, match="outside the basis"):
        patch(b"0123456789", [op], out)
    assert out.getvalue() == b""


def test_a_basis_that_shrinks_meanwhile_is_a_patch_error() -> None:
    class Shrinking(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return b""

    with pytest.raises(PatchError, match="ends 4 bytes before"):
        patch(Shrinking(b"0123456789"), [Copy(2, 4)], BytesIO())


def test_the_wrong_basis_is_noticed_by_the_digest() -> None:
    basis, _, made = some_delta()
    with pytest.raises(PatchError, match="SHA-256"):
        patch(basis[::-1], made, BytesIO())
    with pytest.raises(PatchError, match="SHA-256"):
        patch(basis, made.ops, BytesIO(), digest=b"\0" * 32)


@settings(max_examples=100, deadline=None)
@given(pairs(), st.integers(1, 1000), READ_SIZES)
def test_bytes_round_trip_and_still_make_the_target(
    pair: tuple[bytes, bytes], block_size: int, read_size: int
) -> None:
    basis, target = pair
    made = Delta.of(signature(basis, block_size), dribble(target, read_size))
    read = Delta.from_bytes(made.to_bytes())
    out = BytesIO()
    assert read == made
    assert patch(dribble(basis, read_size), read, out) == len(target)
    assert out.getvalue() == target


@settings(max_examples=40, deadline=None)
@given(pairs(), READ_SIZES)
def test_a_delta_streams_from_file_to_file(pair: tuple[bytes, bytes], read_size: int) -> None:
    basis, target = pair
    file, out = BytesIO(), BytesIO()
    write_delta(file, signature(basis, 100), target)
    patch(basis, DeltaReader(dribble(file.getvalue(), read_size)), out)
    assert out.getvalue() == target


def test_every_truncation_and_every_flip_is_refused() -> None:
    data = some_delta()[2].to_bytes()
    for end in range(len(data)):
        with pytest.raises(PatchError):
            Delta.from_bytes(data[:end])
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            with pytest.raises(PatchError):
                Delta.from_bytes(bytes(damaged))


def test_what_follows_the_end_is_refused() -> None:
    with pytest.raises(PatchError, match="follows"):
        Delta.from_bytes(some_delta()[2].to_bytes() + b"\0")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100), st.booleans())
def test_only_patch_errors_escape(data: bytes, after_magic: bool) -> None:
    if after_magic:
        data = b"csdelt\r\n\x01\x00" + data
    with pytest.raises(PatchError):
        Delta.from_bytes(data)


def test_a_foreign_version_is_named() -> None:
    data = bytearray(some_delta()[2].to_bytes())
    data[8] = 9
    with pytest.raises(PatchError, match="version 9"):
        Delta.from_bytes(bytes(data))


def test_the_format_is_frozen() -> None:
    basis, target, made = some_delta()
    golden = (GOLDEN / "delta-1.bin").read_bytes()
    assert made.to_bytes() == golden
    out = BytesIO()
    patch(basis, Delta.from_bytes(golden), out)
    assert out.getvalue() == target
