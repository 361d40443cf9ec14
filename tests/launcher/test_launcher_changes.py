"""From one tree to another."""

import io
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.launcher.changes import (
    Cancelled,
    drifted,
    missing_changes,
    missing_parents,
    rename,
    stage,
    tree_changes,
)
from codesync.launcher.records import Entry, Planned
from codesync.transaction import DELETE, DIRECTORY, Change, Root
from tests.launcher.world import Files, entries, read_tree, with_parents, write_tree

NEVER = threading.Event()
CONTENT = st.sampled_from([b"one", b"two", b"three"])
NAMES = st.sampled_from(["a", "b", "c"])


def manifest(files: Files) -> dict[bytes, Entry]:
    return {entry.path: entry for entry in map(Entry.from_json, entries(files))}


@st.composite
def trees(draw: st.DrawFn) -> dict[str, bytes | str | None]:
    """Small trees in which paths are files here and directories there."""
    paths = draw(st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=8, unique=True))
    files: dict[str, bytes | str | None] = {}
    for path in sorted(paths):
        parents = {str(parent) for parent in Path(path).parents}
        if not any(files.get(parent) is not None for parent in parents):
            files[path] = draw(st.one_of(CONTENT, st.just(None), st.just("target")))
    return with_parents(files)


@settings(max_examples=40, deadline=None)
@given(trees(), trees())
def test_the_changes_between_two_trees_make_one_of_the_other(
    tmp_path_factory: pytest.TempPathFactory, old: Files, new: Files
) -> None:
    directory = tmp_path_factory.mktemp("tree")
    write_tree(directory, old)
    contents = {
        Entry.from_json(row).path: data
        for row, (_, data) in zip(entries(new), sorted(new.items()), strict=True)
    }
    planned = [Planned(change) for change in tree_changes(manifest(old), manifest(new))]
    with Root(str(directory)) as root:

        def source(each: Planned) -> io.BytesIO:
            data = contents[each.change.path]
            assert isinstance(data, bytes)
            return io.BytesIO(data)

        staged = stage(root, "test", planned, known=manifest(old), source=source, cancelled=NEVER)
        assert staged.drift == []
        rename(root, staged)
        staged.transaction.keep()

    assert read_tree(directory) == new


def test_equal_trees_need_no_change_and_a_time_alone_is_none() -> None:
    old = {
        b"f": Entry(b"f", "f", 0o644, 1, 1, "00"),
        b"d": Entry(b"d", "d", 0o755),
        b"l": Entry(b"l", "l", 0o777),
    }
    later = {**old, b"f": old[b"f"]._replace(mtime_ns=2), b"l": old[b"l"]._replace(mode=0o644)}

    assert tree_changes(old, later) == []
    assert [change.path for change in tree_changes(old, {**old, b"f": old[b"f"]._replace(mode=0o755)})] == [
        b"f"
    ]


def test_a_tree_of_unknown_content_gets_only_what_it_lacks(tmp_path: Path) -> None:
    write_tree(tmp_path, {"same": b"1", "other": b"1", "kind": b"1", "extra": b"1", "l": "x"})
    wanted = manifest({"same": b"1", "other": b"2", "kind/x": b"1", "l": "x", "new": None})
    with Root(str(tmp_path)) as root:
        changes = missing_changes(root, wanted)

    assert [change.path for change in changes] == [b"kind", b"kind/x", b"new", b"other"]


DRIFT_TREE: Files = {"file": b"old", "link": "old", "dir/x": b"old"}


@pytest.mark.parametrize(
    ("there", "drift"),
    [
        ({"file": b"old"}, False),
        ({"file": b"new"}, False),  # somebody has made the change already
        ({"file": b"owl"}, True),
        ({"file": b"older"}, True),
        ({"file": "old"}, True),
        ({"file": None}, True),
        ({}, True),
    ],
)
def test_a_file_that_is_not_as_it_was_applied_has_drifted(tmp_path: Path, there: Files, drift: bool) -> None:
    write_tree(tmp_path, there)
    (change,) = (c for c in tree_changes(manifest({}), manifest({"file": b"new"})) if c.path == b"file")
    with Root(str(tmp_path)) as root:
        assert drifted(root, change, manifest(DRIFT_TREE)) is drift


@pytest.mark.parametrize(
    ("there", "drift"), [({"file": b"old"}, False), ({"file": b"my"}, True), ({}, False)]
)
def test_what_is_deleted_may_have_drifted_too(tmp_path: Path, there: Files, drift: bool) -> None:
    write_tree(tmp_path, there)
    with Root(str(tmp_path)) as root:
        assert drifted(root, Change(b"file", DELETE), manifest(DRIFT_TREE)) is drift


def test_what_nobody_knew_of_has_drifted_unless_it_is_the_same(tmp_path: Path) -> None:
    write_tree(tmp_path, {"mine": b"mine", "twin": b"same", "d/x": b""})
    changes = {
        c.path: c
        for c in tree_changes({}, manifest({"mine": b"push", "twin": b"same", "d": None, "free": b""}))
    }
    with Root(str(tmp_path)) as root:
        found = {path: drifted(root, change, {}) for path, change in changes.items()}

    assert found == {b"mine": True, b"twin": False, b"d": False, b"free": False}


def test_a_link_on_the_way_is_drift_and_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_bytes(b"old")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/dir").symlink_to("../outside")
    known = manifest({"dir/x": b"old"})
    planned = [Planned(change) for change in tree_changes(known, manifest({"dir/x": b"new"}))]
    with Root(str(tmp_path / "app")) as root:
        assert drifted(root, planned[0].change, known)
        assert [each.change for each in missing_parents(root, planned, known)] == [
            Change(b"dir", DIRECTORY, mode=0o755)
        ]
        staged = stage(root, "t", planned, known=known, source=lambda _: io.BytesIO(b"new"), cancelled=NEVER)
        rename(root, staged)
        staged.transaction.keep()

    assert staged.drift == [b"dir", b"dir/x"]
    assert read_tree(tmp_path / "app") == {"dir": None, "dir/x": b"new"}
    assert (tmp_path / "outside/x").read_bytes() == b"old"


def test_staging_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": b"old"})
    cancelled = threading.Event()

    def source(_: Planned) -> io.BytesIO:
        cancelled.set()
        return io.BytesIO(b"new")

    planned = [Planned(change) for change in tree_changes({}, manifest({"a": b"new", "b": b"new"}))]
    with Root(str(tmp_path)) as root, pytest.raises(Cancelled):
        stage(root, "t", planned, known=None, source=source, cancelled=cancelled)

    assert read_tree(tmp_path) == {"a": b"old"}
