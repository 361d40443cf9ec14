"""What the launcher is told of the tree that it has."""

import json

import pytest

from codesync.delta import Entry, Kind, Manifest
from codesync.launcher.records import read_manifest
from codesync.sidecar.launcher_plan import touched
from codesync.transaction import DELETE, DIRECTORY, SYMLINK, Change


def entry(path: bytes, kind: Kind = Kind.FILE) -> Entry:
    digest = b"d" * 32 if kind == Kind.FILE else b""
    return Entry(path, kind, 0o755, 7, 3 if digest else 0, digest, b"x" if kind == Kind.SYMLINK else b"")


BASE = Manifest.of(
    [
        *(entry(path) for path in (b"a/b/c/f", b"a/b/other", b"far/away", b"top")),
        *(entry(path, Kind.DIRECTORY) for path in (b"a", b"a/b", b"a/b/c", b"far")),
        entry(b"link", Kind.SYMLINK),
    ]
)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([], []),
        ([Change(b"top", DELETE)], [b"top"]),
        ([Change(b"a/b/c/f", DELETE)], [b"a", b"a/b", b"a/b/c", b"a/b/c/f"]),
        ([Change(b"a/b/new/deep", DIRECTORY)], [b"a", b"a/b"]),
        (
            [
                Change(b"link", SYMLINK, target=b"y"),
                Change(b"far/new", DIRECTORY),
                Change(b"nowhere", DELETE),
            ],
            [b"far", b"link"],
        ),
    ],
)
def test_the_changed_paths_and_the_directories_above_them_are_told(
    changes: list[Change], told: list[bytes]
) -> None:
    data = touched(BASE, changes)
    assert json.loads(data)["tree_id"] == BASE.tree_id
    read = read_manifest(data, BASE.tree_id)
    assert list(read) == told
    whole = read_manifest(json.dumps(BASE.to_json()).encode(), BASE.tree_id)
    assert read == {path: whole[path] for path in told}
