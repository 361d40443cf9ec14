"""Manifests as text, each made from the one before it."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import Entry, Kind, Manifest
from codesync.sidecar.trees import ManifestText

NAMES = st.sampled_from([b"a", b"a-b", b"b", b"caf\xe9", b"z"])
ENTRIES = st.one_of(
    st.builds(
        Entry,
        NAMES,
        st.just(Kind.FILE),
        st.sampled_from([0o644, 0o755]),
        st.integers(-5, 5),
        st.integers(0, 9),
        st.sampled_from([b"1" * 32, b"2" * 32]),
        st.just(b""),
    ),
    st.builds(lambda path: Entry(path, Kind.DIRECTORY, 0o755, 0), NAMES),
    st.builds(lambda path: Entry(path, Kind.SYMLINK, 0o777, 0, target=b"there"), NAMES),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(ENTRIES, max_size=3), st.sets(NAMES, max_size=2)), max_size=6))
def test_every_manifest_of_a_series_is_the_text_that_it_is_alone(
    steps: list[tuple[list[Entry], set[bytes]]],
) -> None:
    text, manifest = ManifestText(), Manifest.of(())
    for entries, gone in steps:
        given = {entry.path: entry for entry in entries}
        manifest = manifest.changed(given.values(), gone - given.keys())
        assert text.of(manifest) == json.dumps(manifest.to_json()).encode()
        again = Manifest.from_json(json.loads(text.of(manifest)))
        assert again == manifest
        assert text.of(again) == text.of(manifest)


def test_only_what_has_changed_is_made_anew() -> None:
    first = Manifest.of(Entry(b"%d" % number, Kind.DIRECTORY, 0o755, 0) for number in range(100))
    text = ManifestText()
    text.of(first)
    before = {id(row) for row in text._rows}
    text.of(first.changed([Entry(b"7", Kind.DIRECTORY, 0o700, 0)], [b"8"]))
    assert len({id(row) for row in text._rows} - before) == 1
