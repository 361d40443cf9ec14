"""The packed form of a manifest: bytes that come from somewhere else, and are looked into as late as possible."""

import hashlib
import struct
import tracemalloc
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from codesync.delta.errors import ManifestError
from codesync.delta.manifest import Entry, Kind, Manifest, Skipped, difference, tree_id
from codesync.delta.manifest.packed import MAGIC, MAX_COLUMNS
from tests.delta.test_manifest import EXAMPLES, directory, file, manifests, symlink

DIGEST = hashlib.sha256(b"1").digest()


def sealed(body: bytes, size: int | None = None, frame: bytes | None = None) -> bytes:
    """The checksum is right, whatever else is."""
    rest = (len(body) if size is None else size).to_bytes(8, "big")
    rest += zstandard.compress(body) if frame is None else frame
    return MAGIC + xxh3_128_digest(rest) + rest


def body(  # noqa: PLR0917 - the columns, in their order
    paths: bytes = b"a\0b\0c",
    kinds: bytes = b"fdl",
    modes: tuple[int, ...] = (0o644, 0o755, 0o777),
    mtimes: tuple[int, ...] = (0, 0, 0),
    sizes: tuple[int, ...] = (1, 0, 0),
    digests: bytes = DIGEST + bytes(64),
    targets: bytes = b"t",
    skipped: bytes = b"s\0fifo",
) -> bytes:
    """As docs/tree-formats.md has it."""
    return b"".join(
        [
            struct.pack(">4Q", len(kinds), len(paths), len(targets), len(skipped)),
            kinds,
            struct.pack(f"<{len(modes)}H", *modes),
            struct.pack(f"<{len(mtimes)}q", *mtimes),
            struct.pack(f"<{len(sizes)}q", *sizes),
            digests,
            paths,
            targets,
            skipped,
        ]
    )


def files(*paths: bytes) -> bytes:
    count = len(paths)
    return body(
        b"\0".join(paths),
        b"f" * count,
        (0o644,) * count,
        (0,) * count,
        (1,) * count,
        DIGEST * count,
        b"",
        b"",
    )


def test_the_columns_are_as_documented() -> None:
    read = Manifest.from_bytes(sealed(body()))
    assert list(read) == [file(b"a", b"1"), directory(b"b"), symlink(b"c")]
    assert read.skipped == (Skipped(b"s", "fifo"),)
    assert zstandard.decompress(read.to_bytes()[len(MAGIC) + 24 :]) == body()


@EXAMPLES
@given(manifests())
def test_everything_can_be_asked_of_a_manifest_that_was_read(manifest: Manifest) -> None:
    packed = manifest.to_bytes()
    asked = (
        len,
        list,
        hash,
        repr,
        tree_id,
        lambda m: m.paths,
        lambda m: m.tree_id,
        lambda m: m.total_size,
        lambda m: m.entries,
        lambda m: m.skipped,
        lambda m: [m.get(path) for path in (*manifest.paths, b"none")],
        lambda m: m == manifest,
        lambda m: manifest == m,
        lambda m: difference(m, manifest, exact=True),
        lambda m: m.changed([file(b"zzzz")], [b"a"]).tree_id,
        lambda m: m.to_bytes(),
        lambda m: m.to_json(),
    )
    for ask in asked:  # each the first question
        assert ask(Manifest.from_bytes(packed)) == ask(manifest)


@pytest.mark.parametrize("version", [1, 3])
def test_another_version_is_refused_by_its_number_and_says_who_is_to_blame(version: int) -> None:
    other = sealed(body()).replace(MAGIC, b"codesync manifest %d\n" % version)
    blamed = "wrote it" if version < 2 else "reads it"
    with pytest.raises(ManifestError, match=f"version {version}.*update the codesync that {blamed}"):
        Manifest.from_bytes(other)
    with pytest.raises(ManifestError, match="no manifest"):
        Manifest.from_bytes(b"")


@pytest.mark.parametrize(
    "paths",
    [
        (b"b", b"a"),
        (b"a", b"a"),
        (b"", b"a"),
        (b"a", b"", b"b"),
        (b"/",),
        (b"/a",),
        (b"a/",),
        (b"a/", b"b"),
        (b"a", b"a/"),
        (b"a//b",),
        (b".",),
        (b"..",),
        (b".", b"a"),
        (b"./a",),
        (b"a/.",),
        (b"a/..",),
        (b"a/..", b"b"),
        (b"a/../b",),
        (b"a/./b",),
        (b"../a", b"b"),
        (b"a//..",),
        (b"a/b", b"a/c/..", b"a/d"),
        (b"x" * 65537,),
        (b"a", b"x" * 65537, b"y"),
        (b"a", b"a/b"),
        (b"a", b"a-b", b"a/b/c"),
        (b"a/b", b"a/b/c/d"),
    ],
    ids=lambda paths: b" ".join(path[:9] for path in paths).decode(),
)
def test_paths_that_cannot_be_a_trees_are_refused_when_the_first_is_needed(paths: tuple[bytes, ...]) -> None:
    read = Manifest.from_bytes(sealed(files(*paths)))
    assert len(read) == len(paths)
    for _ in range(2):  # the second question gets no other answer
        for ask in (
            lambda: read.tree_id,
            lambda: read.get(b"b"),
            lambda: list(read),
            read.to_bytes,
        ):
            with pytest.raises(ManifestError):
                ask()


@pytest.mark.parametrize(
    "paths",
    [
        (b"...",),
        (b".a", b"..a", b"a.", b"a..", b"a/...", b"a/.b"),
        (b"-", b"a-", b"a.", b"a0"),
        (b"a\n", b"b/\xff\n"),
        (b"x" * 65536,),
        (b"d/" + b"x" * 40000, b"d/" + b"y" * 40000),
    ],
    ids=str,
)
def test_paths_that_only_look_odd_are_fine(paths: tuple[bytes, ...]) -> None:
    assert Manifest.from_bytes(sealed(files(*sorted(paths)))).paths == tuple(sorted(paths))


PIECES = st.sampled_from([b"a", b"b", b"", b".", b"..", b"a.", b"...", b"-"])


@EXAMPLES
@given(st.lists(st.lists(PIECES, min_size=1, max_size=4).map(b"/".join), min_size=1, max_size=6), st.data())
def test_paths_are_refused_exactly_where_entries_would_be(paths: list[bytes], data: st.DataObject) -> None:
    paths.sort()
    kinds = bytes(data.draw(st.lists(st.sampled_from(b"fd"), min_size=len(paths), max_size=len(paths))))
    entries = [
        file(p, b"1") if k == ord("f") else directory(p, 0o644) for p, k in zip(paths, kinds, strict=True)
    ]
    count = len(paths)
    packed = body(
        b"\0".join(paths),
        kinds,
        (0o644,) * count,
        (0,) * count,
        tuple(entry.size for entry in entries),
        b"".join(entry.digest or bytes(32) for entry in entries),
        b"",
        b"",
    )
    if paths == [b""]:  # the same bytes as no path at all, and refused for their number
        return
    assert accepts(lambda: Manifest.from_bytes(sealed(packed)).entries) == accepts(
        lambda: Manifest.of(entries).entries
    )


def accepts(read: object) -> tuple[Entry, ...] | None:
    try:
        return read()  # type: ignore[operator, no-any-return]
    except ManifestError:
        return None


@pytest.mark.parametrize(
    "columns",
    [
        {"kinds": b"fdx"},
        {"kinds": b"fdd"},
        {"kinds": b"fll"},
        {"modes": (0o1644, 0o755, 0o777)},
        {"sizes": (-1, 0, 0)},
        {"sizes": (1, 1, 0)},
        {"digests": DIGEST + DIGEST + bytes(32)},
        {"digests": DIGEST + bytes(64) + b"x"},
        {"paths": b"a\0b"},
        {"paths": b"a\0b\0c\0d"},
        {"paths": b""},
        {"kinds": b"f", "paths": b""},
        {"mtimes": (0, 0)},
        {"targets": b""},
        {"targets": b"t\0u"},
        {"targets": b"x" * 65537},
        {"skipped": b"s"},
        {"skipped": b"../s\0fifo"},
        {"skipped": b"s\0fifo\0t"},
    ],
    ids=lambda columns: str(columns)[:60],
)
def test_columns_that_contradict_each_other_are_refused_at_once(columns: dict[str, bytes]) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_bytes(sealed(body(**columns)))  # type: ignore[arg-type]


def test_counts_beyond_what_there_is_take_no_memory() -> None:
    for counts in ((2**63, 0, 0, 0), (0, 2**63, 0, 0), (1_000_001, 0, 0, 0), (2**63, 2**63, 2**63, 2**63)):
        with pytest.raises(ManifestError):
            Manifest.from_bytes(sealed(struct.pack(">4Q", *counts)))


@EXAMPLES
@given(st.binary(max_size=200))
def test_any_body_is_a_manifest_or_a_manifest_error(data: bytes) -> None:
    for read in (data, body()[: len(data)] + data, body() + data):
        with suppress(ManifestError):
            list(Manifest.from_bytes(sealed(read)))


@EXAMPLES
@given(manifests(), st.data())
def test_damaged_bytes_are_refused(manifest: Manifest, data: st.DataObject) -> None:
    whole = manifest.to_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    altered = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for damaged in (altered, whole[:at], whole + b"x"):
        with pytest.raises(ManifestError):
            Manifest.from_bytes(damaged)


def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(ManifestError, match="limit"):
        Manifest.from_bytes(sealed(b"", MAX_COLUMNS + 1))
    with pytest.raises(ManifestError):
        Manifest.from_bytes(sealed(bytes(10_000_000), 100))
    lying = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10_000_000))
    with pytest.raises(ManifestError):
        Manifest.from_bytes(sealed(b"", 100, lying))
    with pytest.raises(ManifestError):
        Manifest.from_bytes(sealed(b"", 10, zstandard.compress(body()) * 2))
    with pytest.raises(ManifestError):
        Manifest.from_bytes(sealed(body(), None, zstandard.compress(body()) + b"more"))
    with pytest.raises(ManifestError):
        Manifest.from_bytes(sealed(body(), None, b"no frame"))


def test_one_path_too_many_is_an_error_when_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codesync.delta.manifest.packed.MAX_ENTRIES", 1)
    with pytest.raises(ManifestError, match="2 paths"):
        Manifest.of([file(b"a"), file(b"b")]).to_bytes()


@pytest.mark.parametrize("which", [2, 3])
def test_millions_of_empty_targets_or_names_are_counted_before_they_are_made(which: int) -> None:
    counts = [0, 0, 0, 0]
    counts[which] = size = 8 << 20
    data = sealed(struct.pack(">4Q", *counts) + bytes(size))
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError):
            Manifest.from_bytes(data)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_path_of_thousands_of_components_is_refused_at_once() -> None:
    deep = b"a/" * 3000 + b"a"
    with pytest.raises(ManifestError, match="components"):
        Manifest.of([Entry(deep, Kind.DIRECTORY, 0o755, 0)])
    body = struct.pack(">4Q", 1, len(deep), 0, 0) + b"d" + bytes(2 + 16 + 32) + deep
    with pytest.raises(ManifestError, match="components"):
        list(Manifest.from_bytes(sealed(body)))
