import errno
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import (
    BatchError,
    BatchSummary,
    Entry,
    Kind,
    Manifest,
    Signature,
    SourceChanged,
    TrackedChange,
    apply_batch,
    inspect_batch,
    read_batch,
    scan,
    signature,
    tracked_id,
    unpack_batch,
    write_batch,
)
from codesync.transaction import DELETE, DIRECTORY, FILE, SYMLINK, Change, Root
from tests.delta.material import Tree, plant, trees

LONG = Random(5).randbytes(20_000)


@contextmanager
def two_trees(base: Tree, target: Tree) -> Iterator[tuple[bytes, bytes]]:
    with tempfile.TemporaryDirectory() as place:
        top = os.fsencode(place)
        yield plant(top + b"/base", base), plant(top + b"/target", target, mtime_ns=1_600_000_000_123_456_789)


def signatures(root: bytes, block_size: int | None = None) -> dict[bytes, Signature]:
    files = (entry for entry in scan(root) if entry.kind is Kind.FILE)
    return {entry.path: signature(read(root, entry.path), block_size) for entry in files}


def read(root: bytes, path: bytes) -> bytes:
    return Path(os.fsdecode(root + b"/" + path)).read_bytes()


def written(base: bytes, target: bytes, **options: object) -> tuple[BatchSummary, bytes]:
    out = BytesIO()
    summary = write_batch(out, target, scan(base), scan(target), **options)  # type: ignore[arg-type]
    return summary, out.getvalue()


def entries(manifest: Manifest, *, times: bool) -> list[Entry | tuple[object, ...]]:
    if times:
        return list(manifest)
    return [(e.path, e.kind, e.mode, e.size, e.digest, e.target) for e in manifest]


@settings(max_examples=120, deadline=None)
@given(trees(), trees(), st.sampled_from([None, 1, 100, 4096]), st.booleans())
def test_a_batch_makes_the_target_of_its_base(
    base: Tree, target: Tree, block_size: int | None, exact: bool
) -> None:
    with two_trees(base, target) as (old, new):
        wanted = scan(new)
        _, data = written(old, new, signatures=signatures(old, block_size), exact=exact)
        told = apply_batch(BytesIO(data), old, durable=False)
        found = scan(old)
        assert told.tree_id == found.tree_id == wanted.tree_id
        assert entries(found, times=exact) == entries(wanted, times=exact)
        assert entries(told, times=exact) == entries(wanted, times=exact)


@settings(max_examples=60, deadline=None)
@given(trees(), trees())
def test_inspection_counts_what_the_writer_counted(base: Tree, target: Tree) -> None:
    with two_trees(base, target) as (old, new):
        summary, data = written(old, new, signatures=signatures(old, 100))
    info = inspect_batch(BytesIO(data))
    assert (info.literal_bytes, info.copied_bytes) == (summary.literal_bytes, summary.copied_bytes)
    assert info.wire_bytes == summary.wire_bytes == len(data)
    assert sum(path.literal_bytes for path in info.paths) == summary.literal_bytes
    assert sum(info.counts.values()) == len(info.paths)


def test_an_edited_line_in_a_large_tree_is_a_few_hundred_bytes(tmp_path: Path) -> None:
    text = b"".join(b"line %d of some text that is edited now and then\n" % n for n in range(300))
    (tmp_path / "edited.py").write_bytes(text.replace(b"line 123 ", b"the line 123 "))
    many = [Entry(b"%04d.py" % n, Kind.FILE, 0o644, n, n, sha256(b"%d" % n).digest()) for n in range(7000)]
    before = Entry(b"edited.py", Kind.FILE, 0o644, 1, len(text), sha256(text).digest())
    base, target = Manifest.of([*many, before]), Manifest.of([*many, *scan(str(tmp_path))])
    summary = write_batch(
        BytesIO(),
        str(tmp_path),
        base,
        target,
        push_id="20250101-120000-0123456789",
        signatures={b"edited.py": signature(text)},
        tracked=TrackedChange.between(base.paths, target, target.paths),
    )
    assert summary.modified == 1
    assert summary.literal_bytes <= 720
    assert summary.wire_bytes < 600


def test_a_renamed_directory_of_50_files_costs_no_content() -> None:
    files = {b"/%d" % n: ("f", Random(n).randbytes(10_000), 0o644) for n in range(50)}
    base: Tree = {b"old": ("d", b"", 0o755)} | {b"old" + path: node for path, node in files.items()}
    target: Tree = {b"new": ("d", b"", 0o755)} | {b"new" + path: node for path, node in files.items()}
    with two_trees(base, target) as (old, new):
        summary, data = written(old, new)
        assert apply_batch(BytesIO(data), old, durable=False).tree_id == scan(new).tree_id
    assert (summary.renamed, summary.literal_bytes, summary.copied_bytes) == (50, 0, 0)
    assert [tuple(path)[:2] for path in inspect_batch(BytesIO(data)).paths] == [(b"new", "move")]
    assert len(data) < 150


def test_content_the_base_has_anywhere_is_not_sent_again() -> None:
    base: Tree = {b"a": ("f", LONG, 0o644), b"b": ("f", LONG[::-1], 0o644)}
    target: Tree = {b"a": ("f", LONG[::-1], 0o644), b"b": ("f", LONG, 0o644), b"c": ("f", LONG, 0o755)}
    with two_trees(base, target) as (old, new):
        summary, data = written(old, new)
        assert apply_batch(BytesIO(data), old, durable=False).tree_id == scan(new).tree_id
    assert summary.literal_bytes == 0


def test_a_moved_and_edited_file_can_be_a_delta_against_its_old_path() -> None:
    base: Tree = {b"old": ("f", LONG, 0o644)}
    target: Tree = {b"new": ("f", LONG + b"appended", 0o644)}
    with two_trees(base, target) as (old, new):
        summary, data = written(old, new, signatures=signatures(old), sources={b"new": b"old"})
        assert apply_batch(BytesIO(data), old, durable=False).tree_id == scan(new).tree_id
    assert summary.literal_bytes == 8


def test_a_signature_of_some_other_file_is_not_used() -> None:
    base: Tree = {b"a": ("f", LONG, 0o644)}
    target: Tree = {b"a": ("f", LONG + b"appended", 0o644)}
    with two_trees(base, target) as (old, new):
        summary, data = written(old, new, signatures={b"a": signature(LONG[1:])})
    assert summary.copied_bytes == 0
    assert inspect_batch(BytesIO(data)).paths[0].what == "put"


def test_an_mtime_alone_is_no_change_unless_asked_for() -> None:
    tree: Tree = {b"a": ("f", b"x", 0o644), b"d": ("d", b"", 0o755), b"l": ("l", b"a", 0)}
    with two_trees(tree, tree) as (old, new):
        assert inspect_batch(BytesIO(written(old, new)[1])).paths == ()
        exact = inspect_batch(BytesIO(written(old, new, exact=True)[1]))
    assert exact.counts == {"attributes": 3}


def test_an_executable_bit_travels_without_content() -> None:
    with two_trees({b"a": ("f", LONG, 0o644)}, {b"a": ("f", LONG, 0o755)}) as (old, new):
        summary, data = written(old, new)
        before = os.stat(old + b"/a").st_mtime_ns
        apply_batch(BytesIO(data), old, durable=False)
        assert (os.stat(old + b"/a").st_mode & 0o777, os.stat(old + b"/a").st_mtime_ns) == (0o755, before)
    assert (summary.literal_bytes, summary.copied_bytes) == (0, 0)


def test_open_roots_do_as_well_as_paths_and_stay_open() -> None:
    with two_trees({b"a": ("f", b"1", 0o644)}, {b"a": ("f", b"2", 0o644)}) as (old, new):
        with Root(old) as base, Root(new) as target:
            out = BytesIO()
            write_batch(out, target, scan(base), scan(target))
            told = apply_batch(BytesIO(out.getvalue()), base, durable=False)
            assert told == scan(base) == scan(target)


def test_an_unpacked_batch_tells_its_changes_in_a_safe_order(tmp_path: Path) -> None:
    base: Tree = {b"d": ("d", b"", 0o755), b"d/e": ("d", b"", 0o755), b"d/e/f": ("f", b"1", 0o644)}
    target: Tree = {b"d": ("f", b"2", 0o644), b"n": ("d", b"", 0o755), b"n/m": ("l", b"x", 0)}
    with two_trees(base, target) as (old, new), Root(old) as root:
        _, data = written(old, new)
        made: dict[bytes, Path] = {}

        def create(change: Change) -> BinaryIO:
            made[change.path] = tmp_path / str(len(made))
            return open(made[change.path], "xb")

        unpacked = unpack_batch(read_batch(BytesIO(data)), root, create)
        assert [(change.kind, change.path) for change in unpacked.changes] == [
            (DELETE, b"d/e/f"),
            (DELETE, b"d/e"),
            (FILE, b"d"),
            (DIRECTORY, b"n"),
            (SYMLINK, b"n/m"),
        ]
        assert made[b"d"].read_bytes() == b"2"
        assert unpacked.target(scan(old)) == scan(new)
        with pytest.raises(BatchError, match="made against tree"):
            unpacked.target(scan(new))
        assert scan(old).tree_id == unpacked.header.base


def test_a_place_that_cannot_be_written_to_says_so_itself() -> None:
    class Full(BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, "no space left")

    with two_trees({}, {b"a": ("f", b"2", 0o644)}) as (old, new), Root(old) as root:
        _, data = written(old, new)
        with pytest.raises(OSError, match="no space left"):
            unpack_batch(read_batch(BytesIO(data)), root, lambda change: Full())


def test_the_header_says_what_the_batch_is_for() -> None:
    with two_trees({b"a": ("f", b"1", 0o644)}, {b"a": ("f", b"2", 0o644)}) as (old, new):
        _, data = written(old, new, push_id="the push")
        reader = read_batch(BytesIO(data))
        assert (reader.header.base, reader.header.target) == (scan(old).tree_id, scan(new).tree_id)
        assert (reader.header.push_id, reader.header.version) == ("the push", 2)


def test_a_batch_for_another_tree_is_refused_and_changes_nothing() -> None:
    with two_trees({b"a": ("f", b"1", 0o644)}, {b"a": ("f", b"2", 0o644)}) as (old, new):
        _, data = written(old, new)
        with pytest.raises(BatchError, match="made against tree"):
            apply_batch(BytesIO(data), new, durable=False)
        assert read(new, b"a") == b"2"


def test_a_base_that_is_not_what_its_manifest_says_is_refused_and_changes_nothing() -> None:
    base: Tree = {b"a": ("f", LONG, 0o644), b"b": ("f", b"1", 0o644)}
    with two_trees(base, {b"b": ("f", LONG, 0o644)}) as (old, new):
        manifest = scan(old)
        _, data = written(old, new)
        Path(os.fsdecode(old + b"/a")).write_bytes(LONG[::-1])
        with pytest.raises(BatchError, match="another SHA-256") as caught:
            apply_batch(BytesIO(data), old, base=manifest, durable=False)
        assert caught.value.path == b"b"
        os.unlink(old + b"/a")
        with pytest.raises(BatchError, match="does not fit its base") as caught:
            apply_batch(BytesIO(data), old, base=manifest, durable=False)
        assert caught.value.path == b"a"
        assert os.listdir(old) == [b"b"]


@pytest.mark.parametrize("change", ["grow", "shrink", "same size", "gone", "directory", "symlink", "fifo"])
def test_a_source_that_changed_after_the_scan_is_told(change: str, tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    file = tmp_path / "a"
    file.write_bytes(LONG)
    manifest = scan(root)
    file.unlink()
    match change:
        case "grow":
            file.write_bytes(LONG + b"x")
        case "shrink":
            file.write_bytes(LONG[:-1])
        case "same size":
            file.write_bytes(LONG[::-1])
        case "directory":
            file.mkdir()
        case "symlink":
            file.symlink_to("/dev/zero")
        case "fifo":
            os.mkfifo(file)
    for sigs in ({}, {b"a": signature(LONG[:700])}):
        with pytest.raises(SourceChanged) as caught:
            write_batch(BytesIO(), root, Manifest.of(()), manifest, signatures=sigs)
        assert caught.value.path == b"a"


def test_a_source_that_never_ends_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    manifest = scan(str(tmp_path))
    with open(tmp_path / "a", "r+b") as file:
        file.truncate(1 << 40)  # sparse: whoever reads to the end does not come back
    with pytest.raises(SourceChanged):
        write_batch(BytesIO(), str(tmp_path), Manifest.of(()), manifest)


def test_writing_and_applying_take_no_memory_for_large_files(tmp_path: Path) -> None:
    base, target = tmp_path / "base", tmp_path / "target"
    base.mkdir()
    target.mkdir()
    with open(base / "large", "wb") as old, open(target / "large", "wb") as new:
        new.write(LONG)
        for n in range(24):
            block = Random(n).randbytes(1 << 20)
            old.write(block)
            new.write(block)
    with open(base / "large", "rb") as file:
        sig = signature(file)
    old_manifest, new_manifest = scan(str(base)), scan(str(target))
    with open(tmp_path / "batch", "w+b") as batch:
        tracemalloc.start()
        try:
            write_batch(batch, str(target), old_manifest, new_manifest, signatures={b"large": sig})
            batch.seek(0)
            apply_batch(batch, str(base), base=old_manifest, durable=False)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert scan(str(base)).tree_id == new_manifest.tree_id
    assert peak < 8 << 20


PATHS = st.frozensets(st.sampled_from([b"a", b"b", b"c/d", b"c/e", b"f"]))


@given(PATHS, PATHS, PATHS)
def test_tracked_paths_go_from_one_set_to_the_other(
    base: frozenset[bytes], tree: frozenset[bytes], target: frozenset[bytes]
) -> None:
    manifest = Manifest.of(Entry(path, Kind.FILE, 0o644, 0, 0, b"\0" * 32) for path in tree)
    change = TrackedChange.between(base, manifest, target)
    assert change.apply(base, manifest) == target
    assert len(change.add) + len(change.remove) <= min(len(base ^ target), len(tree ^ target))


def test_tracked_paths_travel_with_the_batch() -> None:
    base: Tree = {b"a": ("f", b"1", 0o644), b"b": ("f", b"1", 0o644)}
    target: Tree = {b"b": ("f", b"1", 0o644), b"c": ("f", b"1", 0o644)}
    with two_trees(base, target) as (old, new):
        for tracked in (TrackedChange.between({b"a", b"x"}, scan(new), {b"b", b"x", b"y"}), None):
            _, data = written(old, new, tracked=tracked)
            reader = read_batch(BytesIO(data))
            assert [type(record).__name__ for record in reader][-3:] == (
                ["Untrack", "Track", "Track"] if tracked else ["Move"]
            )
            assert reader.header.base_tracked == (tracked_id({b"a", b"x"})[:16] if tracked else "")


def test_a_wrong_set_of_tracked_paths_is_refused() -> None:
    manifest = Manifest.of(())
    change = TrackedChange.between({b"a"}, manifest, {b"a", b"b"})
    with pytest.raises(BatchError, match="another set"):
        change.apply({b"c"}, manifest)
    with pytest.raises(BatchError, match="does not lead"):
        change._replace(add=()).apply({b"a"}, manifest)


def test_a_push_id_of_any_length_is_not_accepted() -> None:
    empty = Manifest.of(())
    with pytest.raises(BatchError, match="push_id"):
        write_batch(BytesIO(), "/", empty, empty, push_id="x" * 129)
