"""git's index, in all versions, as git itself lists it."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.errors import ScanError
from codesync.delta.ignore.index import merge, read_index
from tests.delta.gitrepo import Git

names = st.binary(min_size=1, max_size=6).filter(lambda name: not {0, 0x2F} & set(name) and name[:1] != b".")
paths = st.one_of(
    st.lists(names, min_size=1, max_size=3).map(b"/".join),
    st.integers(4080, 4120).map(
        lambda length: b"long/" + b"x" * length
    ),  # around where a length does not fit its field
    st.integers(1, 20).map(lambda length: b"x" * length),  # every padding
)


def filled(git: Git, root: Path, entries: dict[bytes, bytes]) -> None:
    """An index with these paths and modes; the objects need not exist."""
    lines = b"".join(b"%s %s 0\t%s\0" % (mode, b"12" * 20, path) for path, mode in entries.items())
    git(root, "update-index", "-z", "--index-info", stdin=lines)


def as_git_lists(git: Git, root: Path) -> list[tuple[bytes, bool]]:
    lines = git(root, "ls-files", "-s", "-z").split(b"\0")[:-1]
    return [(line.partition(b"\t")[2], line.startswith(b"160000")) for line in lines]


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(paths, st.sampled_from([b"100644", b"100755", b"120000", b"160000"]), max_size=8),
    st.data(),
)
def test_every_version_is_read_as_git_lists_it(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[bytes, bytes], data: st.DataObject
) -> None:
    git = Git(tmp_path_factory.getbasetemp() / "home")
    root = git.init(tmp_path_factory.mktemp("work"))
    filled(
        git,
        root,
        {path: mode for path, mode in entries.items() if not any(o.startswith(path + b"/") for o in entries)},
    )
    git(root, "update-index", "--force-write-index", "--index-version", data.draw(st.sampled_from("234")))
    found = read_index((root / ".git/index").read_bytes())
    assert found.entries == as_git_lists(git, root)
    assert found.link is None


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 300), st.data())
def test_a_split_index_is_merged_as_git_merges_it(
    tmp_path_factory: pytest.TempPathFactory, count: int, data: st.DataObject
) -> None:
    git = Git(tmp_path_factory.getbasetemp() / "home")
    root = git.init(tmp_path_factory.mktemp("work"))
    git(root, "config", "splitIndex.maxPercentChange", "100")
    filled(git, root, {b"p%03d" % number: b"100644" for number in range(count)})
    git(root, "update-index", "--split-index")
    some = st.sets(st.integers(0, count + 5).map(lambda number: b"p%03d" % number), max_size=count)
    filled(git, root, dict.fromkeys(sorted(data.draw(some)), b"160000"))
    filled(git, root, dict.fromkeys(sorted(data.draw(some)), b"0"))
    split = read_index((root / ".git/index").read_bytes())
    assert split.link is not None
    shared = read_index((root / f".git/sharedindex.{split.link.shared}").read_bytes())
    assert merge(shared, split) == as_git_lists(git, root)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_is_an_error_of_ours_or_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    base = tmp_path_factory.getbasetemp()
    git = Git(base / "home")
    wholes = base / "wholes"
    if not wholes.exists():
        for version in "24":
            root = git.init(wholes / version)
            filled(git, root, {b"a/b": b"100644", b"a/c/d": b"100755", b"e": b"160000"})
            git(root, "update-index", "--force-write-index", "--index-version", version)
    whole = (wholes / data.draw(st.sampled_from("24")) / ".git/index").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    altered = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    for damaged in (altered, whole[:at]):
        with suppress(ScanError):
            read_index(damaged)


def test_an_extension_that_must_be_understood_and_is_not_is_an_error(tmp_path: Path) -> None:
    git = Git(tmp_path / "home")
    root = git.init(tmp_path / "root")
    filled(git, root, {b"a": b"100644"})
    whole = (root / ".git/index").read_bytes()
    with pytest.raises(ScanError, match="extension"):
        read_index(whole[:-20] + b"what" + bytes(4) + whole[-20:])
    assert read_index(whole[:-20] + b"WHAT" + bytes(4) + whole[-20:]).entries == [(b"a", False)]
