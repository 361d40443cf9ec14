"""One tree made like another, with real rsync as the judge."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import ScanError, Skipped, SyncResult, sync
from codesync.delta.ignore import Rules
from codesync.transaction import Busy, Transaction, TransactionError
from tests.delta.files import open_to_all, without_privileges, write

NAMES = [b"a", b"b", b"c", b"a-", b"a.d", b"\xff\n"]
FILE_MODES, DIRECTORY_MODES = [0o644, 0o600, 0o755, 0o444, 0o666], [0o755, 0o700, 0o777, 0o555]
CONTENTS = [b"", b"1", b"2", b"x" * 70_000, b"x" * 69_999 + b"y"]
# rsync takes times within one second for the same
TIMES = [0, -1, 10**18, 10**18 + 10**9 + 1, 1_600_000_000_123_456_789, 7_258_118_400_000_000_000]
Node = tuple[str, Any, int, int]  # kind, children, number of a content or target, mode, mtime

leaves: st.SearchStrategy[Node] = st.one_of(
    st.tuples(
        st.just("f"),
        st.sampled_from(range(len(CONTENTS))),
        st.sampled_from(FILE_MODES),
        st.sampled_from(TIMES),
    ),
    st.tuples(
        st.just("l"), st.sampled_from([b"a", b"../x", b"/nowhere"]), st.just(0), st.sampled_from(TIMES)
    ),
)


def directories(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.tuples(
        st.just("d"),
        st.dictionaries(st.sampled_from(NAMES), children, max_size=4),
        st.sampled_from(DIRECTORY_MODES),
        st.sampled_from(TIMES),
    )


trees = directories(st.recursive(leaves, directories, max_leaves=10))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Node, Node]:
    """Two trees; often the second is the first with some branches replaced or taken away."""
    source = draw(trees)
    return source, draw(trees) if draw(st.booleans()) else _varied(draw, source)


def _varied(draw: st.DrawFn, node: Node) -> Node:
    kind, content, mode, mtime = node
    if kind != "d":
        return draw(leaves) if draw(st.integers(0, 3)) == 0 else node
    children = {name: _varied(draw, child) for name, child in content.items() if draw(st.integers(0, 4))}
    if draw(st.booleans()):
        children[draw(st.sampled_from(NAMES))] = draw(trees | leaves)
    return kind, children, mode, draw(st.sampled_from([mtime, 7 * 10**9]))


def build(path: bytes, node: Node) -> None:
    kind, content, mode, mtime = node
    if kind == "d":
        os.mkdir(path, 0o700)
        for name, child in content.items():
            build(path + b"/" + name, child)
    elif kind == "f":
        with open(path, "wb") as file:
            file.write(CONTENTS[content])
    else:
        os.symlink(content, path)
    if kind != "l":
        os.chmod(path, mode)
    os.utime(path, ns=(0, mtime), follow_symlinks=False)


def snapshot(path: bytes) -> Any:
    """Everything that a sync shall carry, as one value."""
    status = os.lstat(path)
    if os.path.islink(path):
        return "l", os.readlink(path), status.st_mtime_ns
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            return "f", file.read(), status.st_mode & 0o7777, status.st_mtime_ns
    children = {name: snapshot(path + b"/" + name) for name in sorted(os.listdir(path))}
    return "d", children, status.st_mode & 0o7777, status.st_mtime_ns


def rsync(source: bytes, destination: bytes, *options: str) -> int:
    command: list[str | bytes] = ["rsync", "-a", "--checksum", *options, source + b"/", destination + b"/"]
    return subprocess.run(command, capture_output=True, check=False).returncode


@settings(max_examples=60, deadline=None)
@given(pairs(), st.booleans())
def test_any_tree_becomes_what_rsync_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[Node, Node], mirror: bool
) -> None:
    base = os.fsencode(tmp_path_factory.mktemp("pair"))
    source, ours, theirs = base + b"/source", base + b"/ours", base + b"/theirs"
    build(source, pair[0])
    build(ours, pair[1])
    build(theirs, pair[1])
    before = snapshot(ours)
    if rsync(source, theirs, *(["--delete"] if mirror else [])):
        # a file stands where a directory with content of its own must stay
        with pytest.raises(TransactionError):
            sync(os.fsdecode(source), os.fsdecode(ours), mirror=mirror)
        assert snapshot(ours) == before
    else:
        sync(os.fsdecode(source), os.fsdecode(ours), mirror=mirror)
        assert snapshot(ours) == snapshot(theirs)
        assert not mirror or snapshot(ours) == snapshot(source)
        again = sync(os.fsdecode(source), os.fsdecode(ours), mirror=mirror)
        assert again == SyncResult((), (), (), (), (), (), 0)
    shutil.rmtree(base)


# ------------------------------------------------------------------------------------------------ what it says


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    source, destination = tmp_path / "source", tmp_path / "destination"
    source.mkdir()
    destination.mkdir()
    return source, destination


def both(pair: tuple[Path, Path], **options: Any) -> SyncResult:
    return sync(str(pair[0]), str(pair[1]), **options)


def test_the_result_names_what_was_done(pair: tuple[Path, Path]) -> None:
    source, destination = pair
    for name, old, new in [
        ("same", b"s", b"s"),
        ("mod", b"1", b"22"),
        ("new", None, b"n"),
        ("gone", b"g", None),
        ("mode", b"m", b"m"),
    ]:
        if new is not None:
            write(source / name, new, 0o755 if name == "mode" else 0o644)
            os.utime(source / name, ns=(0, 0))
        if old is not None:
            write(destination / name, old)
            os.utime(destination / name, ns=(0, 0))
    os.mkfifo(source / "fifo")
    result = both(pair, mirror=True)
    assert result == SyncResult(
        (b"new",), (b"mod",), (b"gone",), (b"", b"mode"), (Skipped(b"fifo", "fifo"),), (), 3
    )


def test_a_moved_file_is_one_added_and_one_deleted(pair: tuple[Path, Path]) -> None:
    write(pair[0] / "d/b", b"content")
    write(pair[1] / "a", b"content")
    result = both(pair, mirror=True)
    assert (result.added, result.deleted) == ((b"d", b"d/b"), (b"a",))


def test_without_mirror_nothing_is_deleted(pair: tuple[Path, Path]) -> None:
    write(pair[0] / "a/x")
    write(pair[1] / "a/y")
    write(pair[1] / "b")
    assert both(pair).deleted == ()
    assert sorted(os.listdir(pair[1] / "a")) == ["x", "y"]
    assert (pair[1] / "b").exists()


def test_a_missing_destination_is_made(pair: tuple[Path, Path]) -> None:
    write(pair[0] / "a")
    sync(str(pair[0]), str(pair[1] / "deep/er"))
    assert snapshot(os.fsencode(pair[1] / "deep/er")) == snapshot(os.fsencode(pair[0]))


@pytest.mark.parametrize("make", [lambda path: None, write], ids=["missing", "a file"])
def test_a_source_that_is_no_directory_touches_nothing(
    pair: tuple[Path, Path], make: Callable[[Path], object]
) -> None:
    write(pair[1] / "kept")
    make(pair[0] / "x")
    before = snapshot(os.fsencode(pair[1]))
    with pytest.raises(ScanError):
        sync(str(pair[0] / "x"), str(pair[1]), mirror=True)
    with pytest.raises(ScanError):
        sync(str(pair[0] / "x"), str(pair[1] / "new"), mirror=True)
    assert snapshot(os.fsencode(pair[1])) == before


def test_an_empty_source_mirrored_empties_the_destination(pair: tuple[Path, Path]) -> None:
    write(pair[1] / "a/b/c")
    assert both(pair, mirror=True).deleted == (b"a", b"a/b", b"a/b/c")
    assert os.listdir(pair[1]) == []


def test_two_trees_that_are_alike_are_not_touched(pair: tuple[Path, Path]) -> None:
    write(pair[0] / "a/b")
    both(pair)
    before = [os.stat(path).st_ctime_ns for path in (pair[1], pair[1] / "a", pair[1] / "a/b")]
    assert not any(both(pair, mirror=True))
    assert [os.stat(path).st_ctime_ns for path in (pair[1], pair[1] / "a", pair[1] / "a/b")] == before


def test_a_tree_within_itself_is_refused(pair: tuple[Path, Path]) -> None:
    write(pair[0] / "a/b")
    with pytest.raises(ScanError, match="lies in the tree"):
        sync(str(pair[0]), str(pair[0] / "a"))
    assert not any(sync(str(pair[0]), str(pair[0]), mirror=True))


def test_a_destination_in_the_source_that_is_ignored_is_fine(pair: tuple[Path, Path]) -> None:
    write(pair[0] / "f")
    write(pair[0] / ".codesyncignore", b"/out\n")
    out = pair[0] / "out/copy"
    sync(str(pair[0]), str(out), rules=Rules.for_root(str(pair[0]), home="/nowhere"))
    assert sorted(os.listdir(out)) == [".codesyncignore", "f"]


# ------------------------------------------------------------------------------------------------ what must stay


def test_what_the_rules_ignore_is_neither_sent_nor_deleted(pair: tuple[Path, Path]) -> None:
    source, destination = pair
    write(source / ".gitignore", b"*.log\nbuild/\n")
    write(source / "a.log", b"mine")
    for name in ("a.log", "build/x/y", "d/b.log", "d/e/c", "gone"):
        write(destination / name, b"theirs")
    result = both(pair, mirror=True, rules=Rules.for_root(str(source), home="/nowhere"))
    assert result.added == (b".gitignore",)
    assert result.deleted == (b"d/e", b"d/e/c", b"gone")
    assert result.left == (b"d",)
    assert (destination / "a.log").read_bytes() == b"theirs"
    assert (destination / "build/x/y").exists()


def test_what_cannot_be_read_keeps_its_copy(pair: tuple[Path, Path]) -> None:
    source, destination = pair
    open_to_all(source)
    write(source / "secret", b"new", 0)
    write(source / "closed/f", b"new").parent.chmod(0)
    write(destination / "secret", b"old")
    write(destination / "closed/f", b"old")
    destination.chmod(0o777)
    (destination / "closed").chmod(0o777)
    if not os.geteuid():
        os.chown(destination, 65534, 65534)
    with without_privileges():
        result = both(pair, mirror=True)
    assert [skipped.path for skipped in result.skipped] == [b"closed", b"secret"]
    assert (destination / "closed/f").read_bytes() == (destination / "secret").read_bytes() == b"old"
    (source / "closed").chmod(0o755)


def test_specials_at_the_destination_give_way(pair: tuple[Path, Path]) -> None:
    for name in ("file", "directory", "gone"):
        os.mkfifo(pair[1] / name)
    write(pair[0] / "file")
    write(pair[0] / "directory/f")
    both(pair, mirror=True)
    assert snapshot(os.fsencode(pair[1])) == snapshot(os.fsencode(pair[0]))


def test_nothing_is_written_through_a_symlink(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outside = write(tmp_path / "outside/secret", b"secret").parent
    (pair[1] / "d").symlink_to(outside)
    (pair[1] / "f").symlink_to(outside / "secret")
    write(pair[0] / "d/secret", b"new")
    write(pair[0] / "f", b"new")
    both(pair, mirror=True)
    assert (outside / "secret").read_bytes() == b"secret"
    assert snapshot(os.fsencode(pair[1])) == snapshot(os.fsencode(pair[0]))


# ------------------------------------------------------------------------------------------------ when it fails


def test_a_source_that_changes_meanwhile_leaves_the_destination_as_it_was(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(pair[0] / "a", b"first")
    write(pair[1] / "a", b"old")
    before = snapshot(os.fsencode(pair[1]))
    begin = Transaction.begin

    def late(*args: Any, **options: Any) -> Transaction:
        write(pair[0] / "a", b"later")
        return begin(*args, **options)

    monkeypatch.setattr(Transaction, "begin", late)
    with pytest.raises(ScanError, match="changed while"):
        both(pair, mirror=True)
    assert snapshot(os.fsencode(pair[1])) == before


def test_what_has_to_stay_below_a_new_file_stops_everything(pair: tuple[Path, Path]) -> None:
    write(pair[0] / "a")
    write(pair[0] / "z")
    write(pair[1] / "a/mine")
    before = snapshot(os.fsencode(pair[1]))
    with pytest.raises(TransactionError, match="a"):
        both(pair)
    assert snapshot(os.fsencode(pair[1])) == before


def test_a_destination_that_another_transaction_holds_is_busy(pair: tuple[Path, Path]) -> None:
    write(pair[0] / "a")
    with Transaction.begin(str(pair[1]), "other"), pytest.raises(Busy):
        both(pair)
    assert both(pair).added == (b"a",)


@pytest.mark.parametrize("inside", ["new", "there", "new/deeper"])
def test_a_destination_inside_the_source_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ScanError, match="lies in the tree"):
        sync(str(tmp_path), str(tmp_path / inside))
    assert not (tmp_path / "new").exists()


def test_a_destination_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ScanError, match="is no directory"):
        sync(str(tmp_path / "source"), str(tmp_path / "file"))
