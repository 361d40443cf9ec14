"""A manifest made from another one: the same value as one made anew, and what is worked out for it too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesync.delta import Entry, ManifestError
from codesync.delta.manifest import Manifest, Skipped, difference, tree_id
from tests.delta.test_manifest import directory, file, manifests


@given(manifests(), manifests())
def test_a_manifest_that_was_edited_is_like_one_made_anew(base: Manifest, target: Manifest) -> None:
    for warm in (False, True):
        if warm:
            assert base.tree_id == tree_id(base)
        found = difference(base, target, exact=True)
        new = [target[path] for path in target.paths if base.get(path) != target[path]]
        gone = [path for path in base.paths if path not in target]
        edited = base.changed(new, [*gone, b"never there"], target.skipped)
        assert edited == target
        assert edited.paths == target.paths
        assert edited.skipped == target.skipped
        assert edited.columns == Manifest.of(target).columns
        assert edited.entries == target.entries
        assert edited.tree_id == target.tree_id == tree_id(target)
        assert edited.total_size == sum(entry.size for entry in target)
        assert difference(base, edited, exact=True) == found


def test_a_manifest_that_nothing_is_done_to_stays_the_same_object() -> None:
    manifest = Manifest.of([file(b"a")], [Skipped(b"odd", "fifo")])
    assert manifest.changed((), [b"b"], manifest.skipped) is manifest
    assert manifest.changed((), ()).skipped == ()


PATHS = (b"a", b"a/b", b"a/b/c", b"a-b", b"a/b-c", b"d/e")


def made_of(path: bytes, kind: str) -> Entry:
    if kind == "directory":
        return directory(path)
    return file(path) if kind == "file" else file(path, mode=-1 if len(path) % 2 else 0o1000)


@given(
    st.dictionaries(st.sampled_from(PATHS), st.sampled_from(["file", "directory"])),
    st.dictionaries(st.sampled_from(PATHS), st.sampled_from(["file", "directory", "malformed"])),
    st.sets(st.sampled_from(PATHS)),
)
def test_what_has_changed_is_checked_as_the_whole_would_be(
    base: dict[bytes, str], new: dict[bytes, str], gone: set[bytes]
) -> None:
    try:
        tree = Manifest.of(made_of(path, kind) for path, kind in base.items())
    except ManifestError:
        return
    entries = [made_of(path, kind) for path, kind in new.items()]
    try:
        Manifest.of([*(entry for entry in tree if entry.path not in {*gone, *new}), *entries])
    except ManifestError:
        with pytest.raises(ManifestError):
            tree.changed(entries, gone - new.keys()).check(new)
    else:
        tree.changed(entries, gone - new.keys()).check(new)
