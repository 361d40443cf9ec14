"""What is fuzzed: one function for each form that comes from elsewhere, and real examples of it to begin with.

A target takes any bytes, makes the checksum right where the form has one, so that damage gets past it, reads them and
does with them what the product does. It lets the errors of `codesync.delta.errors` pass; whatever else comes out of it
is a crash. Everything is bounded: no example may take more than `MOST_MEMORY`, or make more than `MOST_MADE` bytes.
"""

import os
import shutil
import signal
import struct
import tempfile
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from types import FrameType
from typing import BinaryIO, NamedTuple, cast

import msgpack
import zstandard
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from codesync.delta import (
    Copy,
    Delta,
    DeltaError,
    DeltaReader,
    Limits,
    Literal,
    Manifest,
    Op,
    Signature,
    delta,
    inspect_batch,
    patch,
    read_batch,
    scan,
    signature,
    unpack_batch,
    write_batch,
    write_delta,
)
from codesync.delta.form import length_of
from codesync.delta.manifest import packed as manifest_form
from codesync.delta.ops import MAX_LITERAL, Window
from codesync.delta.reading import random_access
from codesync.delta.refine import Details, Range, Refined, details, gaps, ranges
from codesync.delta.window import unpack_window
from codesync.transaction import Change, Root

MOST_MEMORY = 96 << 20  # bytes; blocks may have 16 MiB, and the search holds some
MOST_MADE = 8 << 20  # bytes
MOST_SECONDS = 60  # whoever takes longer hangs

NOISE = Random(15).randbytes(1 << 18)
TEXT = b"".join(b"line %d: %d\n" % (n, n * n) for n in range(3000))
BASIS = NOISE[:20_000] + bytes(3000) + TEXT[:30_000]
TARGET = NOISE[:7000] + b"edit" + NOISE[7000:20_000] + bytes(2000) + TEXT[5000:40_000] + NOISE[30_000:36_000]


class Target(NamedTuple):
    """`read` takes any bytes, and raises DeltaError or, for a defect, anything else; it has nothing against the first example."""

    read: Callable[[bytes], None]
    examples: Callable[[], list[bytes]]

    def run(self, data: bytes) -> None:
        """Raises for a defect only, and that is also whatever takes too much."""
        with (
            _clocked(),
            _weighed() if len(data) % 4 == 0 else nullcontext(),
        ):  # to weigh takes ten times as long
            try:
                self.read(data)
            except DeltaError:
                pass


@contextmanager
def _clocked() -> Iterator[None]:
    """Ends what would never end; nothing else depends on the clock."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _hung)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _weighed() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < MOST_MEMORY, f"{peak} bytes of memory"
    finally:
        tracemalloc.stop()


def _hung(signum: int, frame: FrameType | None) -> None:
    raise AssertionError(f"it hangs in {frame.f_code.co_qualname if frame else '?'}")


def _sealed(body: bytes) -> bytes:
    return body + xxh3_64_intdigest(body).to_bytes(8, "little")


def _body(form: bytes) -> bytes:
    """Without magic, version and checksum."""
    return form[10:-8]


# --- signatures and details ----------------------------------------------------------------------------------------


def _found(ops: Iterable[Op], target: bytes) -> None:
    """Whatever the signature says: the operations are such as a patch can do, and make as many bytes as the target has."""
    at = 0
    for op in ops:
        if isinstance(op, Literal):
            assert 1 <= len(op.data) <= MAX_LITERAL
            assert op.data == target[at : at + len(op.data)]
            at += len(op.data)
        else:
            assert isinstance(op, Copy)
            assert op.offset >= 0
            assert op.length >= 1
            at += op.length
    assert at == len(target)


def _whole_signature(data: bytes) -> bytes:
    """With what stands before and behind it, and as long as it says, unless that is very long."""
    if len(data) >= _SIGNED.size:
        block_size, length, _, kinds = _SIGNED.unpack_from(data)
        count = -(-length // max(1, block_size))
        size = _SIGNED.size + (kinds & 127) * 11 + -(-count // 8) + (8 if length < 1 << 32 else 12) * count
        if size < 1 << 14:
            data = data[:size].ljust(size, b"\x55")
    return _sealed(_SIGNATURE + data)


_SIGNATURE = b"cssign\r\n\2\0"
_SIGNED = struct.Struct("<IQIB")


def _signature(data: bytes) -> None:
    sig = Signature.from_bytes(_whole_signature(data))
    assert Signature.from_bytes(sig.to_bytes()) == sig
    for target in (TARGET, NOISE[:20_000], bytes(3000), b"x"):
        _found(delta(sig, target), target)


def _signatures() -> list[bytes]:
    bases = [
        BASIS,
        NOISE[:140_000],
        TEXT,
        bytes(5000),
        b"",
        b"abc",
        NOISE[:700] + bytes(1000) + NOISE[700:1400],
    ]
    sigs = [signature(basis) for basis in bases] + [signature(BASIS, 4096, seed=3), signature(NOISE, 512)]
    return [_body(sig.to_bytes()) for sig in sigs]


@cache
def _known() -> Refined:
    sig = signature(BASIS, 2048)
    found = gaps(sig, TARGET)
    return Refined(sig, found, details(BASIS, ranges(found)))


def _details(data: bytes) -> None:
    """The signature of the orphans stands first here, without its length; its checksum is made right too."""
    size = int.from_bytes(data[:2], "little")
    orphans = _whole_signature(data[2 : 2 + size]) if size else b""
    rest = data[2 + size :]
    body = (
        b"csdetl\r\n\1\0" + rest[:8].ljust(8, b"\0") + len(orphans).to_bytes(4, "little") + orphans + rest[8:]
    )
    read = Details.from_bytes(_sealed(body))
    assert Details.from_bytes(read.to_bytes()) == read
    _found(delta(_known()._replace(details=read), TARGET), TARGET)


def _some_details() -> list[bytes]:
    other = details(BASIS, [Range(0, 5000), Range(9000, 9000, orphan=True)], seed=7)
    made = []
    for some in (_known().details, other, details(BASIS, [])):
        orphans, body = _body(some.orphans.to_bytes()) if some.orphans else b"", _body(some.to_bytes())
        length = int.from_bytes(body[8:12], "little")
        made.append(len(orphans).to_bytes(2, "little") + orphans + body[:8] + body[12 + length :])
    return made


# --- deltas and windows --------------------------------------------------------------------------------------------


_DELTA = b"csdelt\r\n\2\0"


class _Full(Exception):
    """As much as a test wants to see made."""


class _Bounded(BytesIO):
    """A place for some bytes."""

    def write(self, data: object, /) -> int:
        if self.tell() > MOST_MADE:
            raise _Full
        return super().write(cast("bytes", data))


def _delta(data: bytes) -> None:
    """A delta but for its magic and version. It may be for another basis."""
    data = _DELTA + data
    try:
        patch(BASIS, DeltaReader(BytesIO(data)), cast("BinaryIO", _Bounded()))
    except (DeltaError, _Full):
        pass
    read = Delta.from_bytes(data)
    assert Delta.from_bytes(read.to_bytes()) == read


def _deltas() -> list[bytes]:
    made = []
    for against in (signature(BASIS), BASIS, signature(b""), b""):
        for target in (TARGET, BASIS, b"", TEXT, NOISE[:2000]):
            out = BytesIO()
            write_delta(out, against, target)
            made.append(out.getvalue()[len(_DELTA) :])
    return made


def _number(value: int) -> bytes:
    """Unsigned LEB128."""
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _packed_group(data: bytes) -> None:
    """Operations that zstd has packed: `data` is what it unpacks. The end says how long the target is."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    packed = b"\4" + _number(len(data)) + _number(len(frame)) + frame
    length = 0
    try:
        for op in DeltaReader(BytesIO(_DELTA + packed)):
            length += length_of(op)
    except DeltaError:
        pass
    _delta(packed + b"\0" + _number(length) + bytes(16))


def _groups() -> list[bytes]:
    return [b"\1\0\5", b"\2\3abc\1\4\2", b"\1\x88\1\x88\2\2\1x" * 30, b"\3\x05\3\x10\0\0"]


def _window(data: bytes) -> None:
    """The first bytes say how many the window makes, which may be very many."""
    size = int.from_bytes(data[:3], "little") << (data[3] % 41 if len(data) > 3 else 0)
    made, basis = 0, random_access(BASIS)
    for piece in unpack_window(Window(size, data[4:]), basis):
        assert 1 <= len(piece) <= 1 << 18
        made += len(piece)
        if made > MOST_MADE:
            return
    assert made == size


def _windows() -> list[bytes]:
    made = []
    edits = [TARGET, TEXT[:9000] + b"!" + TEXT[9001:], BASIS[::-1][:3000] * 9, TEXT.replace(b"7", b"seven")]
    for target in edits:
        windows = [op for op in delta(BASIS, target) if isinstance(op, Window)]
        made += [op.size.to_bytes(3, "little") + b"\0" + op.data for op in windows]
    assert len(made) > 3
    return made


# --- batches and manifests -----------------------------------------------------------------------------------------

LIMITS = Limits(max_files=2000, max_path_bytes=1 << 16, max_total_bytes=1 << 22, max_record=1 << 20)
_BATCH = b"csbatc\r\n\2\0"


class _Trees:
    """Two trees on disk, for as long as somebody needs them."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="codesync-fuzz-"))
        weakref.finalize(self, shutil.rmtree, self.place)
        for name, text, noise in (
            ("base", TEXT, NOISE[:9000]),
            ("target", TEXT[:9000] + TEXT[9010:], NOISE[:9900]),
        ):
            tree = self.place / name
            (tree / "d/e").mkdir(parents=True)
            for path, data in (("text", text), ("d/noise", noise), (f"d/e/{name}", TEXT[:500])):
                (tree / path).write_bytes(data)
                os.utime(tree / path, (0, 0))
            (tree / "link").symlink_to(name)
        os.rename(self.place / "target/d/e", self.place / "target/moved")
        (self.place / "target/d/new").write_bytes(b"new")
        for found in sorted(self.place.rglob("*"), reverse=True):
            os.utime(found, (0, 0), follow_symlinks=False)
        self.base, self.target = scan(str(self.place / "base")), scan(str(self.place / "target"))
        self.root = Root(str(self.place / "base"))


_trees = cache(_Trees)


def _read_batch(data: bytes) -> None:
    for reader in (
        lambda: list(read_batch(BytesIO(data), LIMITS)),
        lambda: inspect_batch(BytesIO(data), LIMITS),
    ):
        try:
            reader()
        except DeltaError:
            pass
    trees = _trees()

    def create(change: Change) -> BinaryIO:
        return cast("BinaryIO", _Bounded())

    batch = read_batch(BytesIO(data), LIMITS)
    try:
        unpack_batch(batch, trees.root, create, trees.base).target(trees.base)
    except _Full:
        pass


def _batch(data: bytes) -> None:
    """A batch but for its magic, version and checksum."""
    _read_batch(_sealed(_BATCH + data))


def _records(data: bytes) -> None:
    """A batch's records, before zstd packs them, between a header and a trailer that are right."""
    trees, count, size = _trees(), 0, 0
    unpacker = msgpack.Unpacker(BytesIO(data), strict_map_key=False)
    try:
        for record in unpacker:
            count += 1
            if isinstance(record, list) and len(record) > 5 and record[0] == 4 and isinstance(record[5], int):
                size += record[5]
    except Exception:  # whatever the rest is
        count += 1
    ids = [bytes.fromhex(tree.tree_id) for tree in (trees.base, trees.target)]
    header = msgpack.packb([0, *ids, "", 1, b"", b""])
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters)
    _read_batch(
        _sealed(_BATCH + packer.compress(header + data + msgpack.packb([10, count, size & (1 << 64) - 1])))
    )


def _batches() -> list[bytes]:
    trees, made = _trees(), []
    base = trees.place / "base"
    sigs = {b"text": signature(TEXT), b"d/noise": signature(NOISE[:9000])}
    for old, new, tree in ((trees.base, trees.target, "target"), (Manifest.of([]), trees.base, "base")):
        for options in (
            {},
            {"signatures": sigs},
            {"basis": lambda entry: open(base / os.fsdecode(entry.path), "rb"), "push_id": "p1"},
        ):
            out = BytesIO()
            write_batch(out, str(trees.place / tree), old, new, exact=True, **options)
            made.append(_body(out.getvalue()))
    return made


def _all_records() -> list[bytes]:
    """Of the batches from the one tree to the other."""
    reader = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    made = []
    for batch in _batches()[:3]:
        records = list(msgpack.Unpacker(BytesIO(reader.decompress(batch, max_output_size=1 << 22))))
        made.append(b"".join(map(msgpack.packb, records[1:-1])))
    return made


def _manifest(data: bytes) -> None:
    """A manifest's columns, before zstd packs them."""
    rest = len(data).to_bytes(8, "big") + zstandard.ZstdCompressor(level=1).compress(data)
    manifest = Manifest.from_bytes(manifest_form.MAGIC + xxh3_128_digest(rest) + rest)
    assert len(list(manifest)) == len(manifest)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def _manifests() -> list[bytes]:
    start = len(manifest_form.MAGIC) + 24
    return [
        zstandard.ZstdDecompressor().decompress(manifest.to_bytes()[start:])
        for manifest in (_trees().base, _trees().target, Manifest.of([]))
    ]


def _question(data: bytes) -> None:
    """Ranges of a basis, which the other side asks for the details of."""
    asked = [Range(*numbers) for numbers in struct.iter_unpack("<QQ?", data[: len(data) // 17 * 17])]
    trees = _trees()
    with open(trees.place / "base/text", "rb") as file:
        answer = details(file, asked)
    assert len(answer.to_bytes()) < len(TEXT) + 16 * len(asked) + 256


def _questions() -> list[bytes]:
    pack = struct.Struct("<QQ?").pack
    return [
        b"",
        pack(0, 5000, False),
        pack(100, 9000, True) + pack(20_000, 700, False),
        pack(90, 10_000, True) * 2,
    ]


TARGETS = {
    "signature": Target(_signature, cache(_signatures)),
    "details": Target(_details, cache(_some_details)),
    "question": Target(_question, cache(_questions)),
    "delta": Target(_delta, cache(_deltas)),
    "group": Target(_packed_group, cache(_groups)),
    "window": Target(_window, cache(_windows)),
    "batch": Target(_batch, cache(_batches)),
    "records": Target(_records, cache(_all_records)),
    "manifest": Target(_manifest, cache(_manifests)),
}
