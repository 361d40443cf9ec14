"""Where a target goes: every kind of file gets all of it, at its position, and nothing else of it changes."""

import os
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from random import Random
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.ops import Copy, Literal, Op
from codesync.delta.patch import patch
from codesync.delta.writing import WRITE_SIZE

LARGE = Random(1).randbytes(3 * WRITE_SIZE + 1000)


def made(ops: list[Op], basis: bytes = LARGE) -> bytes:
    return b"".join(basis[op.offset :][: op.length] if isinstance(op, Copy) else op.data for op in ops)


OPS = st.lists(
    st.one_of(
        st.tuples(
            st.integers(0, len(LARGE) - 1),
            st.sampled_from([1, 5, 4096, WRITE_SIZE - 1, WRITE_SIZE, len(LARGE)]),
        ).map(lambda pair: Copy(pair[0], min(pair[1], len(LARGE) - pair[0]))),
        st.sampled_from([1, 70, WRITE_SIZE - 1, WRITE_SIZE]).map(lambda size: Literal(LARGE[:size])),
    ),
    max_size=8,
)
PLACES: list[Callable[[str], BinaryIO]] = [
    lambda path: open(path, "wb"),
    lambda path: open(path, "w+b"),
    lambda path: open(path, "ab"),
    lambda path: open(path, "wb", buffering=0),
]


@settings(max_examples=30, deadline=None)
@given(OPS, st.sampled_from(range(len(PLACES))))
def test_whatever_the_sizes_a_file_gets_exactly_the_target_behind_what_it_has(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op], place: int
) -> None:
    root = tmp_path_factory.mktemp("patch")
    (root / "basis").write_bytes(LARGE)
    with (root / "basis").open("rb") as basis, PLACES[place](str(root / "out")) as out:
        out.write(b"before")
        assert patch(basis, ops, out) == len(made(ops))
        out.write(b"after")
    assert (root / "out").read_bytes() == b"before" + made(ops) + b"after"


def test_what_stands_behind_in_a_file_stays(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.write_bytes(b"x" * (len(LARGE) + 10))
    with place.open("r+b") as out:
        assert out.read(5) == b"xxxxx"
        patch(LARGE, [Copy(0, len(LARGE))], out)
        assert out.read() == b"xxxxx"
    assert place.read_bytes() == b"xxxxx" + LARGE + b"xxxxx"


def test_a_pipe_gets_the_target_too() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb", buffering=0) as out:
        assert patch(LARGE, [Copy(10, 60_000)], out) == 60_000
        out.close()
        assert source.read() == LARGE[10:60_010]


def test_an_object_that_takes_little_at_once_gets_all_of_it() -> None:
    class Small(BytesIO):
        def write(self, data: memoryview, /) -> int:  # type: ignore[override]
            return super().write(data[:1000])

    class Silent:
        data = b""

        def write(self, data: memoryview, /) -> None:
            self.data += data

    small, silent = Small(), Silent()
    patch(LARGE, [Copy(3, 10_000)], small)
    patch(LARGE, [Copy(3, 10_000)], silent)  # type: ignore[arg-type]
    assert small.getvalue() == silent.data == LARGE[3:10_003]


def test_a_file_system_that_reserves_nothing_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with (tmp_path / "out").open("wb") as out:
        patch(LARGE, [Copy(0, len(LARGE))], out)
    assert (tmp_path / "out").read_bytes() == LARGE


def test_a_full_disk_is_the_operating_systems_word() -> None:
    with pytest.raises(OSError, match="No space left"), closing(open("/dev/full", "wb", buffering=0)) as out:
        patch(LARGE, [Copy(0, len(LARGE))], out)


def test_a_file_that_has_a_descriptor_but_is_none_is_written_by_its_own_method(tmp_path: Path) -> None:
    import gzip

    with gzip.open(tmp_path / "out.gz", "wb") as out:
        patch(LARGE, [Copy(0, len(LARGE))], out)  # type: ignore[arg-type]
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == LARGE


def test_room_that_was_reserved_too_far_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved: list[int] = []
    reserve = os.posix_fallocate

    def counting(descriptor: int, offset: int, length: int) -> None:
        reserved.append(offset + length)
        reserve(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", counting)
    with (tmp_path / "out").open("wb") as out:
        patch(LARGE, [Copy(0, len(LARGE))], out)
    assert reserved
    assert max(reserved) > len(LARGE)
    assert (tmp_path / "out").stat().st_size == len(LARGE)


def test_a_write_that_takes_only_some_goes_on_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with (tmp_path / "out").open("wb") as out, monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:70_000]))
        patch(LARGE, [Copy(0, len(LARGE))], out)
    assert (tmp_path / "out").read_bytes() == LARGE
