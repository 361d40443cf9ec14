"""A manifest made from another one: the same value as one made anew, and what is worked out for it too."""

from hypothesis import given

from codesync.delta.manifest import Manifest, Skipped, difference, tree_id
from tests.delta.test_manifest import file, manifests


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
        assert list(edited.records.items()) == list(Manifest.of(target).records.items())
        assert edited.tree_id == target.tree_id == tree_id(target)
        assert edited.total_size == sum(entry.size for entry in target)
        assert difference(base, edited, exact=True) == found


def test_a_manifest_that_nothing_is_done_to_stays_the_same_object() -> None:
    manifest = Manifest.of([file(b"a")], [Skipped(b"odd", "fifo")])
    assert manifest.changed((), [b"b"], manifest.skipped) is manifest
    assert manifest.changed((), ()).skipped == ()
