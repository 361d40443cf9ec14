import os
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128

from codesync.delta.errors import PatchError
from codesync.delta.ops import Copy, Literal, Op, Window
from codesync.delta.patch import Delta, DeltaReader, patch, write_delta
from codesync.delta.signature import signature
from codesync.delta.writing import WRITE_SIZE
from tests.delta.material import READ_SIZES, dribble, little_memory, pairs

BASIS = b"".join(n.to_bytes(2, "big") for n in range(3000))
LARGE = Random(1).randbytes(3 * WRITE_SIZE + 1000)


def some_delta() -> tuple[bytes, Delta]:
    target = BASIS[3000:] + b"something new" + BASIS[:2000]
    return target, Delta.of(signature(BASIS, 1000), target)


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


def test_a_file_cut_short_while_it_is_copied_is_a_patch_error(tmp_path: Path) -> None:
    (tmp_path / "basis").write_bytes(LARGE)

    def ops() -> list[Op]:
        os.truncate(tmp_path / "basis", 100)
        return [Copy(0, 200)]

    with (tmp_path / "basis").open("rb") as basis, pytest.raises(PatchError, match="ends 100 bytes before"):
        patch(basis, (op for _ in "1" for op in ops()), BytesIO())


def test_a_damaged_window_is_a_patch_error() -> None:
    with pytest.raises(PatchError):
        patch(b"0123456789", [Window(10, b"\xff" * 20)], BytesIO())


def test_the_wrong_basis_is_noticed_by_the_digest() -> None:
    _, delta = some_delta()
    with pytest.raises(PatchError, match=r"XXH3-128 is .* not .* right basis"):
        patch(BASIS[::-1], delta, BytesIO())
    with pytest.raises(PatchError, match="SHA-256"):
        patch(BASIS, delta.ops, BytesIO(), digest=b"\0" * 32)
    with pytest.raises(PatchError, match="XXH3-128"):
        patch(BASIS, delta.ops, BytesIO(), digest=b"\0" * 16)
    with pytest.raises(ValueError, match="16 or 32"):
        patch(BASIS, delta.ops, BytesIO(), digest=b"\0" * 20)


def test_both_digests_are_checked_where_both_are_known() -> None:
    target, delta = some_delta()
    assert patch(BASIS, delta, BytesIO(), digest=sha256(target).digest()) == len(target)
    with pytest.raises(PatchError, match="SHA-256"):
        patch(BASIS, delta, BytesIO(), digest=sha256(b"other").digest())
    with pytest.raises(PatchError, match="XXH3-128"):
        patch(BASIS, Delta(delta.ops, b"\0" * 16), BytesIO(), digest=sha256(target).digest())
    assert patch(BASIS, delta.ops, BytesIO(), digest=xxh3_128(target).digest()) == len(target)


@pytest.mark.parametrize("held", [True, False])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, *, held: bool) -> None:
    path = tmp_path / "basis"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    ops: list[Op] = [Copy(0, 64 << 20), Literal(b"end"), Copy(0, 32 << 20)]
    with path.open("rb") as basis, (tmp_path / "out").open("wb") as out, little_memory(4 << 20):
        assert patch(basis, ops, out if held else BytesIOSink()) == (96 << 20) + 3  # type: ignore[arg-type]


class BytesIOSink:
    def write(self, data: memoryview, /) -> int:
        return len(data)


@settings(max_examples=60, deadline=None)
@given(pairs(), st.integers(1, 1000), READ_SIZES)
def test_bytes_round_trip_and_still_make_the_target(
    pair: tuple[bytes, bytes], block_size: int, read_size: int
) -> None:
    basis, target = pair
    delta = Delta.of(signature(basis, block_size), dribble(target, read_size))
    read = Delta.from_bytes(delta.to_bytes())
    out = BytesIO()
    assert read == delta
    assert hash(read) == hash(delta)
    assert delta.digest == xxh3_128(target).digest()
    assert patch(dribble(basis, read_size), read, out) == len(target)
    assert out.getvalue() == target


@settings(max_examples=60, deadline=None)
@given(pairs(), READ_SIZES, st.booleans(), st.booleans())
def test_a_delta_streams_from_file_to_file(
    pair: tuple[bytes, bytes], read_size: int, held: bool, whole: bool
) -> None:
    basis, target = pair
    file, out = BytesIO(), BytesIO()
    source = target if whole else dribble(target, read_size)
    assert write_delta(file, basis if held else signature(basis, 100), source) == len(target)
    reader = DeltaReader(dribble(file.getvalue(), read_size))
    patch(basis, reader, out)
    assert out.getvalue() == target
    assert (reader.length, reader.digest) == (len(target), xxh3_128(target).digest())


@pytest.mark.parametrize("held", [True, False])
def test_a_target_that_can_only_be_read_is_enough(*, held: bool) -> None:
    class OnlyRead:
        def __init__(self, data: bytes) -> None:
            self.read = BytesIO(data).read

    file, out = BytesIO(), BytesIO()
    write_delta(file, LARGE if held else signature(LARGE), OnlyRead(LARGE[5000:]))
    patch(LARGE, DeltaReader(BytesIO(file.getvalue())), out)
    assert out.getvalue() == LARGE[5000:]


def test_a_patch_without_windows_and_packing_needs_no_zstandard() -> None:
    code = """
import sys
from io import BytesIO
from codesync.delta.patch import patch
from codesync.delta.ops import Copy
patch(b"0123456789", [Copy(0, 3)], BytesIO())
assert "zstandard" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_delta_without_a_digest_is_applied_unchecked() -> None:
    out = BytesIO()
    assert patch(b"0123456789", Delta((Copy(2, 3),), b""), out) == 3
    assert out.getvalue() == b"234"
