"""What several tests of the engine are fed with."""

import os
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from random import Random
from typing import Any, BinaryIO, cast

import msgpack
import pytest
import zstandard
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from codesync.delta import BatchError, Limits, inspect_batch


class _Dribble(BytesIO):
    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._most if size is None or size < 0 else min(size, self._most))


def dribble(data: bytes, most: int) -> BinaryIO:
    """A file whose every read returns at most `most` bytes."""
    return cast("BinaryIO", _Dribble(data, most))


READ_SIZES = st.sampled_from([1, 2, 3, 7, 64, 1000, 1 << 20])


@st.composite
def pairs(draw: st.DrawFn, most: int = 3000) -> tuple[bytes, bytes]:
    """A basis and a target that come from each other by cutting, moving, doubling and overwriting."""
    alphabet = draw(st.sampled_from([b"a", b"ab", bytes(range(256))]))
    random = draw(st.randoms(use_true_random=False))
    basis = bytes(random.choices(alphabet, k=draw(st.integers(0, most))))
    target = basis
    for _ in range(draw(st.integers(0, 4))):
        start, stop = sorted((random.randint(0, len(target)), random.randint(0, len(target))))
        piece = target[start:stop]
        fresh = bytes(random.choices(alphabet, k=random.choice([0, 1, 5, 50, stop - start])))
        put = random.choice([fresh, piece + piece, piece[::-1], fresh + piece])
        target = target[:start] + put + target[stop:]
    if draw(st.booleans()):
        half = len(target) // 2
        target = target[half:] + target[:half]
    return basis, target


# --- trees -------------------------------------------------------------------------------------------------------

Node = tuple[str, bytes, int]  # "f" content mode, "l" target 0, "d" b"" mode
Tree = dict[bytes, Node]

_LONG = Random(1).randbytes(5000)
_CONTENTS = [b"", b"one", b"two\n", _LONG, _LONG[:2000] + b"an edit" + _LONG[2000:], _LONG + b"appended"]
_NAMES = st.sampled_from([b"a", b"b", b"a-b", b"a.b", b"c", b"\xff \n"])
# drawn by number: reports then stay readable
_FILES = st.tuples(
    st.just("f"),
    st.integers(0, len(_CONTENTS) - 1).map(lambda n: _CONTENTS[n]),
    st.sampled_from([0o644, 0o755, 0o600]),
)
_LINKS = st.tuples(st.just("l"), st.sampled_from([b"a", b"../out", b"/etc/passwd"]), st.just(0))
_Nested = dict[bytes, Any]


def trees() -> st.SearchStrategy[Tree]:
    """Small trees of few names and contents, so that two of them share paths, move content and change kinds."""
    leaves = st.one_of(_FILES, _FILES, _LINKS)
    nested = st.recursive(
        st.dictionaries(_NAMES, leaves, max_size=4),
        lambda inner: st.dictionaries(_NAMES, st.one_of(leaves, inner), max_size=4),
        max_leaves=6,
    )
    return nested.map(lambda tree: dict(_flat(tree, b"")))


def _flat(tree: _Nested, prefix: bytes) -> Iterator[tuple[bytes, Node]]:
    for name, node in tree.items():
        if isinstance(node, dict):
            yield prefix + name, ("d", b"", 0o755)
            yield from _flat(node, prefix + name + b"/")
        else:
            yield prefix + name, node


def plant(root: bytes, tree: Tree, mtime_ns: int = 1_700_000_000_000_000_000) -> bytes:
    """Make the tree on disk below `root`, which is made too."""
    os.mkdir(root)
    for path, (kind, content, mode) in tree.items():
        place = root + b"/" + path
        if kind == "d":
            os.mkdir(place)
        elif kind == "l":
            os.symlink(content, place)
        else:
            with open(place, "wb") as file:
                file.write(content)
        if kind != "l":
            os.chmod(place, mode)
    for path in reversed(tree):
        os.utime(root + b"/" + path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
    return root


# --- batches -----------------------------------------------------------------------------------------------------


def sealed(*records: object, window_log: int = 0) -> bytes:
    """A batch of any msgpack values, its checksum right however wrong the rest; it may claim any zstd window."""
    frame = framed(b"".join(map(msgpack.packb, records)))
    if window_log:  # the descriptor is the byte behind the frame's flags
        frame = frame[:1] + bytes([(window_log - 10) << 3]) + frame[2:]
    return closed(HEAD + frame)


HEAD = b"csbatc\r\n\x02\x00"


def framed(data: bytes, level: int = 3, **parameters: int) -> bytes:
    """The zstd frame of a batch."""
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            level, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False, **parameters
        )
    ).compress(data)


def closed(body: bytes) -> bytes:
    """Bytes with the checksum of a batch behind them."""
    return body + xxh3_64_intdigest(body).to_bytes(8, "little")


HEADER = [0, b"\x11" * 32, b"\x22" * 32, "push", 1, b"", b""]


def trailed(*records: Sequence[object]) -> bytes:
    """A batch of these records behind a header, with a trailer that is right about them."""
    return sealed(HEADER, *records, trailer(*records))


def trailer(*records: Sequence[object]) -> list[object]:
    """The trailer that is right about these records."""
    return [10, len(records), sum(cast("int", record[5]) for record in records if record[0] == 4)]


@contextmanager
def little_memory(most: int = 24 << 20) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def refused(data: bytes, why: str, limits: Limits | None = None) -> BatchError:
    with little_memory(), pytest.raises(BatchError, match=why) as caught:
        inspect_batch(BytesIO(data), limits)
    return caught.value
