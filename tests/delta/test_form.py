"""The delta's form, version 2: frozen, strict, bounded."""

import tracemalloc
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128

from codesync.delta.errors import PatchError
from codesync.delta.form import DeltaReader, DeltaWriter, length_of
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op, Window
from codesync.delta.patch import Delta, patch
from tests.delta.material import READ_SIZES, dribble, little_memory

GOLDEN = Path(__file__).parents[1] / "golden" / "delta-2.bin"
HEAD = b"csdelt\r\n\x02\x00"
BASIS = b"".join(b"%06d\n" % number for number in range(2000))
TEXT = b"".join(b"and a line with number %d in it\n" % number for number in range(3000))
NOISE = Random(1).randbytes(3000)


def written(ops: list[Op], digest: bytes = b"d" * 16) -> bytes:
    out = BytesIO()
    writer = DeltaWriter(out)
    for op in ops:
        writer.put(op)
    assert writer.finish(digest) == sum(map(length_of, ops))
    return out.getvalue()


def read(data: bytes) -> list[Op]:
    return list(DeltaReader(BytesIO(data)))


def ended(ops: bytes, length: int) -> bytes:
    """A delta of these bytes, whose target is so long (below 128)."""
    return HEAD + ops + b"\0" + bytes([length]) + b"d" * 16


def packed(ops: bytes, frame: bytes | None = None, size: int | None = None) -> bytes:
    frame = zstandard.compress(ops) if frame is None else frame
    return b"\4" + number(len(ops) if size is None else size) + number(len(frame)) + frame


def number(value: int) -> bytes:
    low = bytes([value & 0x7F])
    return low if value < 128 else bytes([value & 0x7F | 0x80]) + number(value >> 7)


def refused(data: bytes, why: str = "") -> None:
    with little_memory(2 << 20), pytest.raises(PatchError, match=why):
        Delta.from_bytes(data)


def test_a_small_delta_is_these_bytes() -> None:
    ops: list[Op] = [Copy(200, 300), Literal(b"new"), Copy(510, 5), Copy(0, 1), Window(9, b"w")]
    body = (
        b"\1\x90\x03\xac\x02"  # 200 on from the start
        b"\2\x03new"
        b"\1\x14\x05"  # 10 on from 500
        b"\1\x85\x08\x01"  # 515 back
        b"\3\x09\x01w"
        b"\0\xbe\x02"  # 318 bytes in all
    )
    assert written(ops) == HEAD + body + b"d" * 16
    assert read(written(ops)) == ops


COPIES = st.tuples(st.integers(0, 1 << 40), st.integers(1, 1 << 40)).map(lambda pair: Copy(*pair))
LITERALS = st.one_of(
    st.binary(min_size=1, max_size=50),
    st.tuples(st.sampled_from([TEXT, NOISE]), st.integers(0, 2000), st.integers(1, 900)).map(
        lambda cut: cut[0][cut[1] : cut[1] + cut[2]]
    ),
    st.just(TEXT * 2),
    st.just(bytes(MAX_LITERAL)),
).map(Literal)
WINDOWS = st.tuples(st.integers(1, 1 << 40), st.binary(min_size=1, max_size=9)).map(
    lambda pair: Window(*pair)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(COPIES, LITERALS, LITERALS, WINDOWS), max_size=20), READ_SIZES)
def test_what_was_written_is_read(ops: list[Op], read_size: int) -> None:
    data = written(ops)
    reader = DeltaReader(dribble(data, read_size))
    assert list(reader) == ops
    assert reader.digest == b"d" * 16
    assert reader.length == sum(map(length_of, ops))


@pytest.mark.parametrize(
    "op",
    [Literal(b""), Literal(bytes(MAX_LITERAL + 1)), Copy(3, 0), Window(5, b""), Window(5, bytes(2 << 20))],
)
def test_what_could_not_be_read_is_not_written(op: Op) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        DeltaWriter(BytesIO()).put(op)


def test_text_is_packed_and_many_small_literals_together() -> None:
    lines = TEXT.splitlines(keepends=True)
    ops: list[Op] = [op for at, line in enumerate(lines) for op in (Literal(line), Copy(at, 1))]
    assert len(written(ops)) < len(TEXT) // 4
    assert len(written([Literal(TEXT)] * 10)) < len(written([Literal(TEXT)])) * 1.5


def test_noise_costs_no_more_than_its_heads() -> None:
    noise = Random(2).randbytes(MAX_LITERAL)
    assert len(written([Literal(noise)] * 4)) < 4 * (len(noise) + 4) + 40


def test_much_text_is_packed_quickly_and_read_all_the_same() -> None:
    random = Random(3)
    words = [random.randbytes(random.randrange(2, 9)).hex().encode() for _ in range(3000)]
    ops: list[Op] = [Literal(b" ".join(random.choices(words, k=20_000))) for _ in range(16)]
    assert read(written(ops)) == ops


def test_memory_is_bounded_both_ways() -> None:
    class Counting:
        size = 0

        def write(self, data: bytes, /) -> int:
            self.size += len(data)
            return len(data)

    noise = Random(2).randbytes(MAX_LITERAL)
    tracemalloc.start()
    try:
        writer = DeltaWriter(Counting())  # type: ignore[arg-type]
        for turn in range(100):
            writer.put(Literal(noise[turn:] if turn % 2 else TEXT))
        writer.finish(b"d" * 16)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_every_truncation_is_refused_and_every_flip_by_the_patch_at_last() -> None:
    ops: list[Op] = [Copy(5, 60), Literal(TEXT[:500]), Copy(7, 30), Literal(NOISE[:40])]
    target = BytesIO()
    patch(BASIS, ops, target)
    data = written(ops, xxh3_128(target.getvalue()).digest())
    assert b"\4" in data
    for end in range(len(data)):
        with pytest.raises(PatchError):
            read(data[:end])
    for at in range(len(data)):
        for mask in (0x01, 0x10, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            out = BytesIO()
            try:
                patch(BASIS, DeltaReader(BytesIO(damaged)), out)
            except PatchError:
                continue
            assert out.getvalue() == target.getvalue()  # bits of a zstd frame that mean nothing


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), st.booleans())
def test_only_patch_errors_escape(data: bytes, after_head: bool) -> None:
    with pytest.raises(PatchError):
        read(HEAD + data if after_head else data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5))
def test_only_patch_errors_escape_from_what_is_nearly_a_delta(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOLDEN.read_bytes())
    for at, byte in changes:
        data[at % len(data)] = byte
    try:
        patch(BASIS, DeltaReader(BytesIO(data)), BytesIO())
    except PatchError:
        pass


def test_what_follows_the_end_is_refused() -> None:
    refused(written([Copy(0, 1)]) + b"\0", "follows")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no delta"),
        (b"rs\x026", "no delta"),
        (HEAD[:8], "too early"),
        (HEAD[:9], "too early"),
        (HEAD, "too early"),
        (ended(b"\5", 0), "no operation is called 5"),
        (ended(b"\1\1\5", 5), "before the basis"),
        (ended(b"\1\0\0", 0), "of nothing"),
        (ended(b"\1\0\5", 4), "another length"),
        (ended(b"\2\0", 0), "a number that cannot be"),
        (ended(b"\2\x81\x80\x10", 1), "a number that cannot be"),  # 256 KiB and 1
        (ended(b"\2\x81\0a", 1), "a number that cannot be"),  # longer than need be
        (ended(b"\1\0" + b"\xff" * 9 + b"\1", 1), "a number that cannot be"),
        (ended(b"\3\0\1w", 0), "a number that cannot be"),
        (ended(b"\3\1\0", 1), "a number that cannot be"),
        (ended(b"\4\0\0", 0), "a number that cannot be"),
        (ended(b"\4\x10\x04abcd", 16), "Unknown frame|Frame|frame|prefix"),
        (ended(packed(b"\4\1\1a"), 1), "no operation is called 4"),
        (ended(packed(b"\0"), 0), "no operation is called 0"),
        (ended(packed(b"\2\5abc"), 5), "too early"),
        (ended(packed(b"\2\3abc", size=9), 3), "another size"),
        (ended(packed(b"\2\3abc") + b"\2\1a", 3), "another length"),
    ],
)
def test_what_contradicts_itself_is_refused(data: bytes, why: str) -> None:
    refused(data, why)


def test_a_bomb_is_refused_without_memory() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 30))
    refused(ended(packed(b"", bomb, size=100_000), 0), "another size|no operation")
    skipping = b"\x50\x2a\x4d\x18\xff\xff\xff\x7f"
    refused(ended(packed(b"", skipping, size=100_000), 0), "another size")


def test_a_frame_that_looks_back_too_far_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = frame.compress(b"\2\3abc") + frame.flush()
    refused(ended(packed(b"\2\3abc", data), 3), "memory")


def test_version_1_is_refused_and_a_foreign_version_named() -> None:
    refused((GOLDEN.parent / "delta-1.bin").read_bytes(), "version 1 is not known here, only 2; make it anew")
    refused(HEAD[:8] + b"\x09\x00", "version 9")


def test_the_format_is_frozen() -> None:
    """All operations are in it; how zstd packs them may differ from one of its versions to the next."""
    out = BytesIO()
    reader = DeltaReader(BytesIO(GOLDEN.read_bytes()))
    ops = list(reader)
    patch(BASIS, Delta(ops, reader.digest), out)
    assert {type(op) for op in ops} == {Copy, Literal, Window}
    assert b"\4" in GOLDEN.read_bytes()
    assert xxh3_128(out.getvalue()).hexdigest() == FROZEN
    assert read(written(ops, reader.digest)) == ops


FROZEN = "af521c39342778330bef9545c1dbe9e0"
