"""Batches that are damaged or forged: each is a BatchError and changes nothing."""

import os
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import (
    BatchError,
    Manifest,
    TrackedChange,
    apply_batch,
    inspect_batch,
    read_batch,
    scan,
    signature,
    unpack_batch,
    write_batch,
)
from codesync.transaction import MAGIC, Root
from tests.delta.material import HEAD, HEADER, Tree, closed, dribble, plant, refused, sealed, trailed, trailer

GOLDEN = Path(__file__).parents[1] / "golden"
LONG = Random(5).randbytes(3000)
BASE: Tree = {
    b"d": ("d", b"", 0o755),
    b"d/a": ("f", LONG, 0o644),
    b"d/gone": ("f", b"gone", 0o644),
    b"d/moved": ("f", b"moved content", 0o644),
    b"held": ("f", LONG[::-1], 0o644),
    b"link": ("l", b"d", 0),
    b"mode": ("f", b"m", 0o644),
}
TARGET: Tree = {
    b"d": ("d", b"", 0o755),
    b"d/a": ("f", LONG[:100] + b"edit" + LONG[100:], 0o644),
    b"e": ("d", b"", 0o755),
    b"e/moved": ("f", b"moved content", 0o644),
    b"e/new": ("f", b"new text", 0o644),
    b"held": ("f", LONG[:0:-1] + b"edit", 0o644),
    b"link": ("l", b"e", 0),
    b"mode": ("f", b"m", 0o755),
}
DIGEST = sha256(b"data").digest()
PUT = [4, b"b", 0, 0o644, 0, 4, DIGEST, b""]
DELTA = [4, b"b", 1, 0o644, 0, 4, DIGEST, b""]
MOVE = [12, b"m", b"o"]
DATA = [5, b"data"]


@pytest.fixture
def base(tmp_path: Path) -> bytes:
    return plant(os.fsencode(tmp_path) + b"/base", BASE)


@pytest.fixture
def batch(tmp_path: Path, base: bytes) -> bytes:
    """A small batch with a record of every kind."""
    target = plant(os.fsencode(tmp_path) + b"/target", TARGET)
    tracked = TrackedChange.between({b"d", b"untracked"}, scan(target), {b"d", b"tracked"})
    sigs = {b"d/a": signature(LONG, 500)}
    out = BytesIO()
    held = {b"held": BytesIO(LONG[::-1])}
    write_batch(
        out,
        target,
        scan(base),
        scan(target),
        signatures=sigs,
        basis=lambda entry: held.pop(entry.path, None),
        tracked=tracked,
        push_id="p",
    )
    kinds = {type(record).__name__ for record in read_batch(BytesIO(out.getvalue()))}
    assert len(kinds) == 11
    return out.getvalue()


# --- accidents ---------------------------------------------------------------------------------------------------


def test_every_truncation_is_refused_and_changes_nothing(base: bytes, batch: bytes) -> None:
    before = scan(base)
    for end in range(len(batch)):
        with pytest.raises(BatchError):
            apply_batch(BytesIO(batch[:end]), base, base=before, durable=False)
    assert scan(base) == before


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF])
def test_every_flip_is_refused_and_changes_nothing(base: bytes, batch: bytes, mask: int) -> None:
    before = scan(base)
    for at in range(len(batch)):
        damaged = bytearray(batch)
        damaged[at] ^= mask
        with pytest.raises(BatchError):
            apply_batch(BytesIO(bytes(damaged)), base, base=before, durable=False)
    assert scan(base) == before


def test_what_follows_the_end_is_refused(batch: bytes) -> None:
    refused(batch + b"\0", "follows")
    refused(batch + batch, "follows")


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_it_does_not_matter_how_little_a_read_returns(base: bytes, batch: bytes, most: int) -> None:
    whole = inspect_batch(BytesIO(batch))
    assert inspect_batch(dribble(batch, most)) == whole
    assert apply_batch(dribble(batch, most), base, durable=False).tree_id == whole.header.target


def test_a_foreign_version_is_named(batch: bytes) -> None:
    refused(batch[:8] + b"\x07\x00" + batch[10:], "version 7")


def test_a_batch_of_version_1_is_refused_with_a_word_on_what_to_do() -> None:
    old = (GOLDEN / "batch-1.bin").read_bytes()
    refused(old, "version 1 is not known here, only 2: update the codesync that wrote it")


def test_a_frame_of_another_form_is_refused(batch: bytes) -> None:
    refused(closed(batch[:10] + b"\x20" + batch[11:-8]), "a form that no batch has")
    refused(
        closed(HEAD + b"\0\0" + ((1 << 17) + 1 << 3 | 1).to_bytes(3, "little") + bytes(1 << 18)), "too large"
    )


# --- forgeries: the checksums are right, the records are not -----------------------------------------------------


def test_the_forger_of_these_tests_can_make_a_good_batch() -> None:
    info = inspect_batch(BytesIO(trailed([1, b"z"], [1, b"a"], PUT, DATA, [8, b"x"], [9, b"y"])))
    assert [path.what for path in info.paths] == ["delete", "delete", "put", "untrack", "track"]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([[1, b"a"], [1, b"b"]], "out of order"),
        ([[1, b"a"], [1, b"a"]], "out of order"),
        ([PUT, DATA, PUT, DATA], "out of order"),
        ([[2, b"b", 0o755, 0], [2, b"a", 0o755, 0]], "out of order"),
        ([PUT, DATA, [1, b"a"]], "out of order"),
        ([[9, b"a"], [8, b"a"]], "out of order"),
        ([[9, b"a"], PUT, DATA], "out of order"),
        ([[1, b"b"], PUT, DATA], "both deletes and puts"),
        ([PUT, DATA, MOVE], "out of order"),
        ([MOVE, [1, b"a"]], "out of order"),
        ([MOVE, MOVE], "out of order"),
        ([[12, b"n", b"a"], MOVE], "out of order"),
        ([MOVE, [12, b"n", b"o"]], "moves a path that it moves"),
        ([[1, b"o"], MOVE], "moves a path that it moves or deletes"),
        ([[1, b"m"], MOVE], "both deletes and puts"),
        ([[1, b"m"], [12, b"m/m", b"o"]], "below what is no directory"),
        ([[12, b"b/m", b"o"], PUT, DATA], "below what is no directory"),
        ([[12, b"b-m", b"o"], [12, b"b/m", b"p"], PUT, DATA], "below what is no directory"),
        ([[1, b"a"], [2, b"a/b", 0o755, 0]], "below what is no directory"),
        ([PUT, DATA, [2, b"b/c/d", 0o755, 0]], "below what is no directory"),
        ([[3, b"a", 0, b"/tmp"], [2, b"a-b", 0o755, 0], [2, b"a/b", 0o755, 0]], "below what is no directory"),
        ([PUT], "4 bytes of a file are missing"),
        ([PUT, [5, b"dat"]], "1 bytes of a file are missing"),
        ([PUT, [5, b"dat"], [2, b"c", 0o755, 0]], "missing"),
        ([PUT, DATA, DATA], "more data than it declares"),
        ([PUT, [5, b"data!"]], "more data than it declares"),
        ([DATA], "more data than it declares"),
        ([[2, b"a", 0o755, 0], [6, 0, 1]], "more data than it declares"),
        ([PUT, [6, 0, 4]], "copies from a basis"),
        ([PUT, [11, 4, b"x"]], "copies from a basis"),
        ([DELTA, [11, 5, b"x"]], "more data than it declares"),
        ([DELTA, [11, 3, b"x"]], "1 bytes of a file are missing"),
        ([[11, 4, b"x"]], "more data than it declares"),
        ([DELTA, [11, 0, b"x"]], "a length"),
        ([DELTA, [11, 1 << 63, b"x"]], "a length"),
        ([DELTA, [11, 4, b""]], "a window's data"),
        ([DELTA, [11, 4, 5]], "a window's data"),
        ([[4, b"b", 3, 0o644, 0, 4, DIGEST, b""]], "not known here"),
        ([[4, b"b", 2, 0o644, 0, 4, DIGEST, b""]], "source does not fit"),
        ([[4, b"b", 1, 0o644, 0, 4, DIGEST, b"c"]], "source does not fit"),
        ([[4, b"b", 0, 0o4755, 0, 4, DIGEST, b""]], "a mode that cannot be"),
        ([[4, b"b", 0, -1, 0, 4, DIGEST, b""]], "a mode that cannot be"),
        ([[4, b"b", 0, True, 0, 4, DIGEST, b""]], "a mode that cannot be"),
        ([[4, b"b", 0, 0o644, 1 << 63, 4, DIGEST, b""]], "a time that cannot be"),
        ([[4, b"b", 0, 0o644, 0.5, 4, DIGEST, b""]], "a time that cannot be"),
        ([[4, b"b", 0, 0o644, 0, -4, DIGEST, b""]], "a size that cannot be"),
        ([[4, b"b", 0, 0o644, 0, 4, DIGEST[1:], b""]], "a digest that cannot be"),
        ([[4, b"b", 0, 0o644, 0, 4, DIGEST]], "7|6 fields"),
        ([PUT, [5, b""]], "a piece of data"),
        ([PUT, [6, 0, 0]], "a length"),
        ([[7, b"a", None, None]], "changes nothing"),
        ([[3, b"a", 0, b""]], "link target"),
        ([[3, b"a", 0, b"x\0y"]], "link target"),
        ([[0, *HEADER[1:]]], "second header"),
        ([[13, b"a"]], "no record"),
        ([[True, b"a"]], "no record"),
    ],
)
def test_records_that_contradict_each_other_are_refused(records: list[list[Any]], why: str) -> None:
    refused(trailed(*records), why)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"/etc/x",
        b"..",
        b"../x",
        b"a/../../x",
        b"a/..",
        b".",
        b"./a",
        b"a/.",
        b"a//b",
        b"a/",
        b"a\0",
    ],
)
def test_no_path_can_lead_out_of_the_tree(path: bytes) -> None:
    for record in (
        [1, path],
        [2, path, 0o755, 0],
        [3, path, 0, b"x"],
        [7, path, 0o644, None],
        [8, path],
        [9, path],
        [12, path, b"x"],
        [12, b"x", path],
    ):
        refused(trailed(record), "path")
    refused(trailed([4, path, 0, 0o644, 0, 4, DIGEST, b""], DATA), "path")
    refused(trailed([4, b"b", 2, 0o644, 0, 4, DIGEST, path], [6, 0, 4]), "path|source")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ([0, b"\1" * 31, *HEADER[2:]], "tree id"),
        ([0, "1" * 32, *HEADER[2:]], "tree id"),
        ([*HEADER[:3], "x" * 129, *HEADER[4:]], "push_id"),
        ([*HEADER[:4], "base", b"", b""], "start"),
        ([*HEADER[:4], 4, b"", b""], "start"),
        ([*HEADER[:4], True, b"", b""], "start"),
        ([*HEADER[:5], b"1", b""], "tree id"),
        ([*HEADER[:5], b"1" * 32, b""], "tree id"),
        (HEADER[:6], "5 fields"),
        ([1, b"a"], "does not begin with a header"),
        ([10, 0, 0], "does not begin with a header"),
    ],
)
def test_a_header_must_be_a_header(header: list[Any], why: str) -> None:
    refused(sealed(header), why)


def test_a_stream_without_records_is_refused() -> None:
    refused(sealed(), "does not begin with a header")


def test_a_trailer_must_say_what_the_records_say() -> None:
    right = [10, 2, 4]
    inspect_batch(BytesIO(sealed(HEADER, PUT, DATA, right)))
    for wrong in ([10, 3, 4], [10, 2, 5]):
        refused(sealed(HEADER, PUT, DATA, wrong), "trailer says something else")
    refused(sealed(HEADER, PUT, DATA), "too early")
    refused(sealed(HEADER, PUT, DATA, right, [1, b"a"]), "follows the trailer")
    refused(sealed(HEADER, []), "no record")


def test_paths_are_only_tracked_where_the_header_says_from_what() -> None:
    header = [*HEADER[:4], 0, b"", b""]
    refused(sealed(header, [9, b"a"], [10, 1, 0]), "no set of paths")


JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.binary(), st.text()
    ),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.integers(0, 9), inner, max_size=3),
    max_leaves=12,
)
FIELDS = st.one_of(JUNK, st.sampled_from([b"b", b"../x", 0, 1, 4, 0o644, DIGEST]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(JUNK, st.tuples(st.integers(0, 13), FIELDS, FIELDS, FIELDS)), max_size=4))
def test_only_batch_errors_escape_whatever_the_records_are(records: list[Any]) -> None:
    with pytest.raises(BatchError):
        inspect_batch(BytesIO(sealed(HEADER, *records, [10, -1, 0])))


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", HEAD, HEAD + b"\x00\x58", HEAD + b"\x00\x58\x25\x00\x00"]),
)
def test_only_batch_errors_escape_whatever_the_bytes_are(data: bytes, start: bytes) -> None:
    with pytest.raises(BatchError):
        inspect_batch(BytesIO(closed(start + data)))


# --- forgeries that only show against a tree ---------------------------------------------------------------------


def forged(base: Manifest, *records: list[Any]) -> BytesIO:
    """A batch against `base` whose records are as given; it leads to a tree nobody has."""
    header = [0, bytes.fromhex(base.tree_id), *HEADER[2:]]
    return BytesIO(sealed(header, *records, trailer(*records)))


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([PUT, [5, b"atad"]], "another SHA-256"),
        ([PUT, DATA], "does not lead to the tree"),
        ([[1, b"not there"]], "does not have"),
        ([[7, b"not there", 0o755, None]], "does not have"),
        ([[4, b"link/x", 0, 0o644, 0, 4, DIGEST, b""], DATA], "no directory"),
        ([[4, b"d", 0, 0o644, 0, 4, DIGEST, b""], DATA], "no directory"),
        ([[4, b"b", 2, 0o644, 0, 4, DIGEST, b"not there"], [6, 0, 4]], "does not fit its base"),
        ([[4, b"b", 2, 0o644, 0, 4, DIGEST, b"link/a"], [6, 0, 4]], "does not fit its base"),
        ([[4, b"b", 2, 0o644, 0, 4, DIGEST, b"link"], [6, 0, 4]], "does not fit its base"),
        ([[4, b"b", 2, 0o644, 0, 4, DIGEST, b"d"], [6, 0, 4]], "does not fit its base"),
        ([[4, b"b", 2, 0o644, 0, 4, DIGEST, b"mode/x"], [6, 0, 4]], "does not fit its base"),
        ([[4, b"d/a", 1, 0o644, 0, 4, DIGEST, b""], [6, 2999, 4]], "does not fit its base"),
        ([[4, b"d/a", 1, 0o644, 0, 4, DIGEST, b""], [6, 1 << 62, 4]], "does not fit its base"),
        ([[4, b"d/a", 1, 0o644, 0, 4, DIGEST, b""], [11, 4, b"no window"]], "does not fit its base"),
        ([[4, b"d", 1, 0o644, 0, 4, DIGEST, b""], [11, 4, b"x"]], "does not fit its base"),
        ([[12, b"new", b"not there"]], "does not have"),
        ([[12, b"new", b"d/not there"]], "does not have"),
        (
            [[12, b"d/a", b"d/gone"], [12, b"new", b"d"], [12, b"new/moved", b"mode"]],
            "two things to one path",
        ),
        ([[12, b"new", b"d"], [7, b"d/a", 0o755, None]], "moves away"),
        ([[12, b"new", b"d"], [2, b"d/sub", 0o755, 0]], "below what is no directory"),
        ([[12, b"new/x", b"mode"], [12, b"new", b"held"]], "out of order"),
        ([[12, b"new", b"held"], [12, b"new/x", b"mode"]], "below what is no directory"),
        ([[12, b"mode/x", b"d"]], "no directory"),
        ([[12, b"d", b"mode"]], "no directory"),
        ([[12, b"new", b"d"]], "does not lead to the tree"),
    ],
)
def test_a_batch_that_does_not_fit_its_tree_changes_nothing(
    base: bytes, records: list[list[Any]], why: str
) -> None:
    before = scan(base)
    with pytest.raises(BatchError, match=why):
        apply_batch(forged(before, *records), base, durable=False)
    assert scan(base) == before


STAGING = b".codesync-0123456789abcdef"


def test_nothing_is_put_that_would_count_as_a_staging_directory(base: bytes) -> None:
    before = scan(base)
    put = [4, STAGING + b"/magic", 0, 0o644, 0, len(MAGIC), sha256(MAGIC).digest(), b""]
    with pytest.raises(BatchError, match="staging"):
        apply_batch(forged(before, [2, STAGING, 0o755, 0], put, [5, MAGIC]), base, durable=False)
    assert scan(base) == before


@pytest.mark.parametrize(
    "record",
    [
        [1, STAGING + b"/journal"],
        [2, STAGING + b"/d", 0o755, 0],
        [1, STAGING],
        [12, STAGING, b"d"],
        [12, STAGING + b"/d", b"d"],
    ],
)
def test_nothing_reaches_into_a_staging_directory(base: bytes, record: list[Any]) -> None:
    data = forged(scan(base), record)
    staging = Path(os.fsdecode(base + b"/" + STAGING))
    staging.mkdir()
    (staging / "magic").write_bytes(MAGIC)
    with Root(base) as root, pytest.raises(BatchError, match="staging"):
        unpack_batch(read_batch(data), root, lambda change: BytesIO(), scan(base))


def test_names_that_only_look_like_staging_are_ordinary(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path)
    target: Tree = {STAGING: ("d", b"", 0o755), STAGING + b"/magic": ("f", b"something else", 0o644)}
    old, new = plant(top + b"/base", {}), plant(top + b"/target", target)
    out = BytesIO()
    write_batch(out, new, scan(old), scan(new))
    apply_batch(BytesIO(out.getvalue()), old, durable=False)
    assert scan(old).tree_id == scan(new).tree_id
