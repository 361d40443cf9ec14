"""Small batches that ask for much are refused in little memory."""

import resource
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from codesync.delta import LimitExceeded, Limits, inspect_batch
from tests.delta.material import HEAD, HEADER, closed, framed, refused, sealed, trailed

DIGEST = sha256(b"data").digest()
PUT = [4, b"b", 0, 0o644, 0, 4, DIGEST, b""]
DATA = [5, b"data"]


@pytest.mark.parametrize(
    ("limit", "value", "records"),
    [
        ("max_total_bytes", 16 << 30, [[4, b"b", 0, 0o644, 0, (16 << 30) + 1, DIGEST, b""]]),
        ("max_total_bytes", 7, [PUT, DATA, [*PUT[:1], b"c", *PUT[2:]], DATA]),
        ("max_files", 2, [[1, b"c"], [1, b"b"], [1, b"a"]]),
        ("max_files", 2, [[1, b"c"], [8, b"b"], [9, b"a"]]),
        ("max_path", 100, [[1, b"x" * 101]]),
        ("max_path", 100, [[3, b"x", 0, b"y" * 101]]),
        ("max_path_bytes", 250, [[1, b"x" * 100], [3, b"w" * 100, 0, b"y" * 51]]),
        ("max_path_bytes", 250, [[4, b"x" * 100, 2, 0, 0, 0, DIGEST, b"w" * 100], [9, b"x" * 51]]),
        ("max_record", 1000, [[1, b"x" * 1100]]),
        ("max_path", 100, [[12, b"x" * 101, b"y"]]),
        ("max_path", 100, [[12, b"x", b"y" * 101]]),
        ("max_path_bytes", 250, [[12, b"x" * 100, b"y" * 100], [12, b"z", b"w" * 50]]),
        ("max_files", 1, [[12, b"x", b"y"], [12, b"z", b"w"]]),
        ("max_total_bytes", 99, [[4, b"b", 1, 0o644, 0, 100, DIGEST, b""], [11, 100, b"x"]]),
    ],
)
def test_more_than_the_limits_allow_is_refused(limit: str, value: int, records: list[list[Any]]) -> None:
    error = refused(trailed(*records), limit, Limits()._replace(**{limit: value}))
    assert isinstance(error, LimitExceeded)
    assert error.limit == limit


def test_a_huge_window_is_refused_before_it_is_allocated() -> None:
    error = refused(sealed(HEADER, window_log=27), "window")
    assert isinstance(error, LimitExceeded)
    inspect_batch(BytesIO(sealed(*unpacked(trailed()), window_log=23)))


def unpacked(batch: bytes) -> list[Any]:
    inflater = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS).decompressobj()
    frame = inflater.decompress(batch[10:])
    unpacker = msgpack.Unpacker()
    unpacker.feed(frame)
    return list(unpacker)


def zeros(start: bytes, mebibytes: int) -> bytes:
    """A batch of `start` and then zeros; a few kilobytes say so."""
    return closed(HEAD + framed(start + bytes(mebibytes << 20), 19, window_log=20))


START = msgpack.packb(HEADER)


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (b"", "no record"),
        (START, "no record"),
        (START + b"\xc6\xff\xff\xff\xff", "max_record"),  # one binary of 4 GiB
        (START + b"\x92\x05\xc6\xff\xff\xff\xff", "max_record"),
        (START + b"\xdd\xff\xff\xff\xff", "max_array_len"),  # an array of 4 Gi members
        (START + b"\xdf\xff\xff\xff\xff", "max_map_len"),
        (START + b"\xc9\xff\xff\xff\xff\x01", "max_record|max_ext_len"),
        (START + b"\x9f" * 5000, "damaged"),  # arrays within arrays
    ],
)
def test_endless_zeros_end_soon(start: bytes, why: str) -> None:
    bomb = zeros(start, 64)
    assert len(bomb) < 20_000
    refused(bomb, why)


def test_endless_data_ends_where_the_put_ends() -> None:
    piece = msgpack.packb([5, bytes(1 << 18)])
    start = START + msgpack.packb([4, b"b", 0, 0o644, 0, 1 << 20, DIGEST, b""])
    refused(zeros(start + piece * 100, 1), "more data than it declares")


CHILD = """
import resource, sys
from codesync.delta import BatchError, inspect_batch
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
for name in sys.argv[2:]:
    with open(name, "rb") as file:
        try:
            inspect_batch(file)
        except BatchError as error:
            print("refused")
"""


def test_bombs_are_refused_by_a_process_that_has_no_memory_for_them(tmp_path: Path) -> None:
    bombs = [
        zeros(START, 256),
        sealed(HEADER, window_log=27),
        zeros(START + b"\xc6\xff\xff\xff\xff", 256),
    ]
    for number, bomb in enumerate(bombs):
        (tmp_path / str(number)).write_bytes(bomb)
    used = 160 << 20  # address space of the interpreter with everything imported, and a reserve
    names = [str(tmp_path / str(number)) for number in range(len(bombs))]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(used), *names], capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["refused"] * 3, "")
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != used


def test_a_path_of_thousands_of_components_is_refused_at_once() -> None:
    refused(sealed([2, b"a/" * 3000 + b"a", 0o755, 0]), "components")
