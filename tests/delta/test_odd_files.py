"""Small odd files, each made from each other one, read in pieces of every size, in every form a delta has."""

import zlib
from io import BytesIO
from itertools import product
from random import Random

import pytest
import zstandard

from codesync.delta import Delta, DeltaReader, Literal, delta, patch, signature, write_delta
from codesync.delta.refine import Refined, details, gaps, ranges
from tests.delta.material import dribble

READ_SIZES = 1, 2, 3, 7, 15, 100, 10_000, 200_000
NOISE = Random(14).randbytes((1 << 17) + 1)
LINES = b"".join(b"line %d of a file\n" % n for n in range(120))

FILES = {
    "empty": b"",
    "one byte": b"a",
    "another byte": b"b",
    "a block but one": NOISE[:511],
    "a block": NOISE[:512],
    "a block and one": NOISE[:513],
    "rsync's block but one": NOISE[1000:1699],
    "rsync's block": NOISE[1000:1700],
    "rsync's block and one": NOISE[1000:1701],
    "all equal": b"a" * 3000,
    "all zeros": bytes(2048),
    "two interleaved": b"ab" * 1500,
    "two blocks in turn": (b"a" * 512 + b"b" * 512) * 3,
    "lines": LINES,
    "lines with carriage returns": LINES.replace(b"\n", b"\r\n"),
    "UTF-16": LINES.decode().encode("utf-16"),
    "zlib": zlib.compress(LINES + NOISE[:1000]),
    "zstd": zstandard.ZstdCompressor().compress(LINES + NOISE[:1000]),
    "a run, then noise": b"a" * 1500 + NOISE[:1500],
    "noise, then a run": NOISE[:1500] + b"a" * 1500,
    "noise, once moved by a byte": b"a" + NOISE[:3000],
}
LARGE = {
    "128 KiB but one": NOISE[1 : 1 << 17],
    "128 KiB": NOISE[: 1 << 17],
    "128 KiB and one": NOISE,
}
PAIRS = list(product(FILES, repeat=2))


def patched(basis: bytes, ops: object) -> bytes:
    out = BytesIO()
    assert patch(basis, ops, out) == len(out.getvalue())  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("read_size", READ_SIZES)
def test_every_file_is_made_from_every_other(read_size: int) -> None:
    for one, other in PAIRS:
        basis, target = FILES[one], FILES[other]
        sig = signature(dribble(basis, read_size))
        for against in (sig, basis):
            ops = list(delta(against, dribble(target, read_size)))
            assert patched(basis, ops) == target, (one, other)


@pytest.mark.parametrize("read_size", [1, 100, 200_000])
def test_every_delta_file_makes_its_target(read_size: int) -> None:
    for one, other in PAIRS:
        basis, target = FILES[one], FILES[other]
        for against in (signature(basis), basis):
            out = BytesIO()
            assert write_delta(out, against, dribble(target, read_size)) == len(target)
            data = out.getvalue()
            assert patched(basis, DeltaReader(dribble(data, read_size))) == target, (one, other)
            assert patched(basis, Delta.from_bytes(data)) == target
            assert data == Delta.of(against, target).to_bytes()


@pytest.mark.parametrize("size", [3, 100, 511, 513, 700])
def test_blocks_of_every_size_make_every_file_from_every_other(size: int) -> None:
    for one, other in PAIRS:
        basis, target = FILES[one], FILES[other]
        sig = signature(basis, size)
        assert patched(basis, delta(sig, target)) == target, (one, other)
        found = gaps(sig, target)
        known = Refined(sig, found, details(basis, ranges(found)))
        assert patched(basis, delta(known, target)) == target, (one, other)


def test_a_file_made_from_itself_is_nothing_but_copies() -> None:
    for name, data in {**FILES, **LARGE}.items():
        for against in (signature(data), data):
            ops = list(delta(against, data))
            assert not any(isinstance(op, Literal) for op in ops), name
            assert len(ops) == (1 if data else 0), name


@pytest.mark.parametrize("read_size", [10_000, 200_000])
def test_large_files_around_the_size_where_anchors_begin_are_made_from_each_other(read_size: int) -> None:
    for one, other in [*product(LARGE, repeat=2), *product(LARGE, FILES), *product(FILES, LARGE)]:
        basis, target = {**FILES, **LARGE}[one], {**FILES, **LARGE}[other]
        for against in (signature(basis), basis):
            out = BytesIO()
            write_delta(out, against, dribble(target, read_size))
            out.seek(0)
            assert patched(basis, DeltaReader(out)) == target, (one, other)
            if one in LARGE and other in LARGE:
                assert len(out.getvalue()) < 1200  # a block at each end at most
