"""Entries, tree_id, the written forms and the difference of two trees."""

import hashlib
import itertools
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.errors import ManifestError
from codesync.delta.manifest import (
    Difference,
    Entry,
    Kind,
    Manifest,
    Skipped,
    difference,
    tracked_id,
    tree_id,
    unlike,
)

EXAMPLES = settings(max_examples=150, deadline=None)


def file(path: bytes, content: bytes = b"", mode: int = 0o644, mtime_ns: int = 0) -> Entry:
    return Entry(path, Kind.FILE, mode, mtime_ns, len(content), hashlib.sha256(content).digest())


def directory(path: bytes, mode: int = 0o755, mtime_ns: int = 0) -> Entry:
    return Entry(path, Kind.DIRECTORY, mode, mtime_ns)


def symlink(path: bytes, target: bytes = b"t", mtime_ns: int = 0) -> Entry:
    return Entry(path, Kind.SYMLINK, 0o777, mtime_ns, target=target)


names = st.one_of(
    st.sampled_from([b"a", b"b", b"a-", b"a.", b"a0", b"...", b" "]),
    st.binary(min_size=1, max_size=4).filter(
        lambda name: not {0, 0x2F} & set(name) and name not in {b".", b".."}
    ),
)
contents = st.sampled_from([b"", b"x", b"y", b"same length"])
modes = st.integers(0, 0o777)
times = st.integers(-(2**63), 2**63 - 1)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    entries: dict[bytes, Entry] = {}
    parents = [b""]
    for name in draw(st.lists(names, max_size=12)):
        path = draw(st.sampled_from(parents)) + name
        if path in entries:
            continue
        kind = draw(st.sampled_from(Kind))
        if kind is Kind.DIRECTORY:
            parents.append(path + b"/")
            entries[path] = directory(path, draw(modes), draw(times))
        elif kind is Kind.FILE:
            entries[path] = file(path, draw(contents), draw(modes), draw(times))
        else:
            entries[path] = symlink(path, draw(names), draw(times))
    return Manifest.of(draw(st.permutations(list(entries.values()))), [Skipped(b"odd", "fifo")])


# ------------------------------------------------------------------------------------------------ the value


def test_a_manifest_reads_like_a_mapping_in_path_order() -> None:
    manifest = Manifest.of([file(b"b", b"12"), directory(b"a"), file(b"a/x", b"345"), file(b"a-x")])
    assert [entry.path for entry in manifest] == [b"a", b"a-x", b"a/x", b"b"]
    assert manifest.paths == (b"a", b"a-x", b"a/x", b"b")
    assert manifest[b"b"].size == 2
    assert manifest.get(b"c") is None
    assert b"a/x" in manifest
    assert len(manifest) == 4
    assert manifest.total_size == 5
    with pytest.raises(KeyError):
        manifest[b"c"]


def test_a_reason_with_a_nul_in_it_is_refused() -> None:
    with pytest.raises(ManifestError):
        Manifest.of([], [Skipped(b"a", "fi\0fo")])


def test_the_first_path_with_some_content_is_found() -> None:
    manifest = Manifest.of([file(b"a", b"1"), file(b"b", b"2"), file(b"c", b"2"), directory(b"d")])
    two, three = (hashlib.sha256(content).digest() for content in (b"2", b"3"))
    assert manifest.first_with([two, three]) == {two: b"b"}
    assert manifest.first_with([]) == manifest.first_with([bytes(32)]) == {}


def test_many_questions_are_answered_like_few() -> None:
    manifest = Manifest.of([directory(b"d"), *(file(b"d/%03d" % number) for number in range(100))])
    for _ in range(2):
        for number in range(100):
            assert manifest[b"d/%03d" % number].path == b"d/%03d" % number
            assert b"d/%03dx" % number not in manifest
    assert "d" not in manifest


def test_two_manifests_are_equal_when_their_entries_are() -> None:
    assert Manifest.of([file(b"a")]) == Manifest.of([file(b"a")], [Skipped(b"s", "socket")])
    assert Manifest.of([file(b"a")]) != Manifest.of([file(b"a", mtime_ns=1)])
    assert len({Manifest.of([]), Manifest.of([]), Manifest.of([file(b"a")])}) == 2


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"/a",
        b"a/",
        b"a//b",
        b".",
        b"..",
        b"./a",
        b"a/.",
        b"a/../b",
        b"a/..",
        b"a\0b",
        b"x" * 65537,
    ],
)
def test_a_path_that_could_leave_its_root_is_refused(path: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.of([file(path)])
    with pytest.raises(ManifestError):
        Manifest.of([], [Skipped(path, "fifo")])


@pytest.mark.parametrize(
    "path", [b"...", b".a", b"..a", b"a..", b"a/...", b"\xff\n", b"a\\b", b" ", b"x" * 65536]
)
def test_a_path_that_only_looks_odd_is_fine(path: bytes) -> None:
    assert path in Manifest.of([file(path)])


@pytest.mark.parametrize(
    "entries",
    [
        [file(b"a"), file(b"a")],
        [file(b"a"), file(b"a/b")],
        [symlink(b"a"), file(b"a/b/c")],
        [file(b"a"), file(b"a-b"), file(b"a/b")],
    ],
    ids=["a path twice", "below a file", "below a symlink", "below a file with another between"],
)
def test_entries_that_cannot_stand_in_one_tree_are_refused(entries: list[Entry]) -> None:
    for order in itertools.permutations(entries):
        with pytest.raises(ManifestError):
            Manifest.of(order)


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": 0o1000},
        {"mode": -1},
        {"mode": True},
        {"mtime_ns": 2**63},
        {"mtime_ns": 1.5},
        {"size": -1},
        {"digest": b"short"},
        {"digest": "text"},
        {"target": b"x"},
        {"kind": "f"},
        {"kind": Kind.DIRECTORY},
        {"kind": Kind.SYMLINK},
        {"kind": Kind.SYMLINK, "digest": b"", "size": 0, "target": b"a\0b"},
        {"kind": Kind.DIRECTORY, "digest": b"", "size": 1},
        {"path": "a"},
    ],
    ids=str,
)
def test_a_field_that_does_not_fit_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        Manifest.of([file(b"a", b"1")._replace(**fields)])


# ------------------------------------------------------------------------------------------------ identity


def test_the_ids_are_pinned_for_good() -> None:
    entries = [directory(b"d"), file(b"d/f", b"1"), file(b"d/x", b"1", 0o755), symlink(b"l", b"d/f")]
    assert tree_id(entries) == Manifest.of(entries).tree_id == Manifest.of(reversed(entries)).tree_id
    assert tree_id(entries) == "10d5cd7cb3ad4141f675d10773580687998efd4a81b40f9e7b57069b9f63d5c3"
    assert tree_id([]) == "826712011e30b5da08712a4a24b91352181fdadfae162bcf75e201fdf3791b55"
    assert (
        tracked_id([b"b", b"a", b"b"])
        == tracked_id([b"a", b"b"])
        == "e0fa18fd61f9ded920dc3f1f1d9c44ae8beefcf36e99df568b8cbeca342bfa22"
    )


def test_tree_id_is_built_as_documented() -> None:
    expected = hashlib.sha256(b"codesync tree 1\n")
    expected.update(b"d" + b"\0\0\0\1" + b"d")
    expected.update(b"x" + b"\0\0\0\3" + b"d/x" + hashlib.sha256(b"1").digest())
    expected.update(b"l" + b"\0\0\0\1" + b"l" + b"\0\0\0\3" + b"d/x")
    assert (
        tree_id([symlink(b"l", b"d/x"), directory(b"d"), file(b"d/x", b"1", 0o700)]) == expected.hexdigest()
    )


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (file(b"a", b"1"), file(b"a", b"1", mode=0o600, mtime_ns=7), True),
        (directory(b"a"), directory(b"a", mode=0o600), True),
        (file(b"a", b"1"), file(b"a", b"1", mode=0o744), False),
        (file(b"a", b"1"), file(b"a", b"2"), False),
        (file(b"a"), directory(b"a"), False),
        (symlink(b"a", b"x"), symlink(b"a", b"y"), False),
        (symlink(b"a", b"x"), symlink(b"a", b"x", mtime_ns=1), True),
    ],
)
def test_tree_id_tells_what_a_push_carries_and_nothing_else(before: Entry, after: Entry, same: bool) -> None:
    assert (tree_id([before]) == tree_id([after])) is same
    assert any(difference(Manifest.of([before]), Manifest.of([after]))) is not same


@EXAMPLES
@given(manifests(), manifests())
def test_two_trees_have_one_id_exactly_when_they_do_not_differ(a: Manifest, b: Manifest) -> None:
    assert (a.tree_id == b.tree_id) is not any(difference(a, b))


# ------------------------------------------------------------------------------------------------ difference


def test_every_path_of_a_difference_stands_in_one_place() -> None:
    base = Manifest.of(
        [file(b"gone", b"g"), file(b"same"), file(b"mod", b"1"), file(b"was/n", b"moved"), file(b"t")]
    )
    target = Manifest.of(
        [
            file(b"new", b"n"),
            file(b"same", mtime_ns=1),
            file(b"mod", b"2"),
            file(b"is/n", b"moved"),
            directory(b"t"),
        ]
    )
    assert difference(base, target) == Difference(
        (b"new",), (b"mod", b"t"), (b"gone",), ((b"was/n", b"is/n"),), ()
    )
    assert difference(base, target, exact=True).attributes == (b"same",)
    assert not any(difference(base, base, exact=True))


def test_only_exact_looks_at_modes_and_times_and_never_at_a_symlinks_mode() -> None:
    base = Manifest.of([file(b"f"), directory(b"d"), symlink(b"l"), symlink(b"m")])
    odd = symlink(b"l")._replace(mode=0o700)
    target = Manifest.of(
        [file(b"f", mode=0o600), directory(b"d", mtime_ns=1), odd, symlink(b"m", mtime_ns=2)]
    )
    assert not any(difference(base, target))
    assert difference(base, target, exact=True).attributes == (b"d", b"f", b"m")


def test_a_rename_prefers_the_same_name_and_uses_each_path_once() -> None:
    base = Manifest.of([file(b"a/1", b"c"), file(b"a/2", b"c"), file(b"a/3", b"c")])
    target = Manifest.of([file(b"b/0", b"c"), file(b"b/2", b"c"), file(b"b/4", b"c"), file(b"b/5", b"c")])
    found = difference(base, target)
    assert found.renamed == ((b"a/1", b"b/0"), (b"a/2", b"b/2"), (b"a/3", b"b/4"))
    assert (found.added, found.deleted) == ((b"b/5",), ())


def test_empty_files_directories_and_links_are_not_renamed() -> None:
    base = Manifest.of([file(b"a"), directory(b"d"), symlink(b"l")])
    target = Manifest.of([file(b"b"), directory(b"e"), symlink(b"m")])
    assert difference(base, target) == Difference((b"b", b"e", b"m"), (), (b"a", b"d", b"l"), (), ())


@EXAMPLES
@given(manifests(), manifests())
def test_what_is_unlike_in_a_tree_is_what_makes_another_id(base: Manifest, target: Manifest) -> None:
    found = unlike(base, target)
    assert found == [entry for entry in target if not like(base.get(entry.path), entry)]
    gone = [path for path in base.paths if path not in target]
    assert base.changed(found, gone).tree_id == target.tree_id


def like(old: Entry | None, new: Entry) -> bool:
    return old is not None and tree_id([old]) == tree_id([new])


@EXAMPLES
@given(manifests(), manifests())
def test_a_difference_accounts_for_every_path(base: Manifest, target: Manifest) -> None:
    found = difference(base, target, exact=True)
    old, new = [a for a, _ in found.renamed], [b for _, b in found.renamed]
    assert sorted([*found.added, *new]) == sorted(set(target.paths) - set(base.paths))
    assert sorted([*found.deleted, *old]) == sorted(set(base.paths) - set(target.paths))
    both = set(base.paths) & set(target.paths)
    assert {*found.modified, *found.attributes} == {path for path in both if base[path] != target[path]}
    assert all(base[a].digest == target[b].digest and base[a].size for a, b in found.renamed)
    for part in found:
        assert list(part) == sorted(set(part))  # type: ignore[type-var]


# ------------------------------------------------------------------------------------------------ written forms


@EXAMPLES
@given(manifests())
def test_both_written_forms_bring_a_manifest_back(manifest: Manifest) -> None:
    for again in (
        Manifest.from_bytes(manifest.to_bytes()),
        Manifest.from_json(json.loads(json.dumps(manifest.to_json()))),
    ):
        assert again == manifest
        assert again.skipped == manifest.skipped
        assert again.tree_id == manifest.tree_id


def test_the_json_form_is_plain_rows() -> None:
    manifest = Manifest.of([directory(b"d"), file(b"d/f", b"1", mtime_ns=5), symlink(b"l", b"\xff")])
    assert manifest.to_json() == {
        "version": 1,
        "tree_id": manifest.tree_id,
        "entries": [
            ["ZA==", "d", 0o755, 0, 0, ""],
            ["ZC9m", "f", 0o644, 5, 1, hashlib.sha256(b"1").hexdigest()],
            ["bA==", "l", 0o777, 0, 0, "/w=="],
        ],
        "skipped": [],
    }


def test_json_of_another_tree_is_refused() -> None:
    form = Manifest.of([file(b"a")]).to_json()
    with pytest.raises(ManifestError, match="names"):
        Manifest.from_json(form | {"tree_id": "0" * 64})
    with pytest.raises(ManifestError, match="version"):
        Manifest.from_json(form | {"version": 2})


def test_json_without_skipped_paths_is_read() -> None:
    form = Manifest.of([file(b"a")]).to_json()
    del form["skipped"]
    assert Manifest.from_json(form).paths == (b"a",)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=3)
    | st.sampled_from(["YQ==", "f", "d", "l"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


@EXAMPLES
@given(st.dictionaries(st.sampled_from(["entries", "skipped", "tree_id"]), json_values))
def test_any_json_is_a_manifest_or_a_manifest_error(obj: dict[str, Any]) -> None:
    with suppress(ManifestError):
        Manifest.from_json(obj | {"version": 1})
