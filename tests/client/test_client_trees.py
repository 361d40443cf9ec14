"""A replica's tree is read whole and exact, or refused in one line; what a process knows of trees is bounded and true."""

import os
import threading
from pathlib import Path

import msgpack
import pytest
import zstandard

from codesync.client import ClientError
from codesync.client.source import Source
from codesync.client.trees import (
    MAX_TREE,
    RECENT,
    RECENT_ENTRIES,
    WRITER,
    KnownTrees,
    Recent,
    decode_tree,
    encode_tree,
)
from codesync.config import Settings
from codesync.delta import Manifest
from codesync.plan import ReplicaTree
from codesync.protocol import TreeRef
from tests.client.fake import fill, tree_at

EMPTY = Manifest.of(()).to_bytes()
NOWHERE = TreeRef("0" * 64, "0" * 64)


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def test_a_tree_is_read_as_it_was_written(tmp_path: Path) -> None:
    fill(tmp_path / "source", 3)
    tree = tree_at(tmp_path / "source")
    assert decode_tree(encode_tree(tree), TreeRef(*tree.ids)) == tree


def test_another_tree_than_the_one_named_is_refused() -> None:
    with pytest.raises(ClientError, match="another tree"):
        decode_tree(encode_tree(ReplicaTree(Manifest.of(()))), NOWHERE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zstd",
        frame(b""),
        frame(b"\xc1"),
        frame(b"\x91" * 5000 + b"\xc0"),
        frame(msgpack.packb([1, 2])),
        frame(msgpack.packb({"manifest": 7, "tracked": []})),
        frame(msgpack.packb({"manifest": EMPTY, "tracked": 7})),
        frame(msgpack.packb({"manifest": EMPTY, "tracked": ["text"]})),
        frame(msgpack.packb({"manifest": EMPTY, "tracked": [[b"nested"]]})),
        frame(msgpack.packb({"manifest": EMPTY, "tracked": [b"x"]})[:-1]),
        frame(b"\x81\xa7tracked\xdd\xff\xff\xff\xff"),
        frame(b"\x91" * 3_000_000),
        frame(bytes(MAX_TREE + 1)),
    ],
    ids=range(14),
)
def test_what_is_no_tree_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ClientError) as caught:
        decode_tree(data, NOWHERE)
    assert caught.value.code == "bad_message"
    assert "\n" not in str(caught.value)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownTrees:
    """Trees of a process that has just started."""
    forget(monkeypatch)
    return KnownTrees(str(tmp_path / "trees"))


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for thread in threading.enumerate():
        if thread.name == WRITER:
            thread.join(10)
    monkeypatch.setattr(KnownTrees, "_recent", Recent(lambda tree: len(tree.manifest)))


def test_a_tree_is_known_to_this_process_at_once_and_to_the_next_one(
    tmp_path: Path, known: KnownTrees, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "source", 3)
    tree = tree_at(tmp_path / "source")
    known.add(tree)
    assert known.find(TreeRef(*tree.ids)) is tree
    forget(monkeypatch)
    again = known.find(TreeRef(*tree.ids))
    assert again == tree
    assert again is not tree
    assert known.find(TreeRef(*tree.ids)) is again


def test_a_damaged_file_of_the_cache_is_not_known(
    tmp_path: Path, known: KnownTrees, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "source", 1)
    tree = tree_at(tmp_path / "source")
    known.add(tree)
    forget(monkeypatch)
    for path in (tmp_path / "trees").iterdir():
        path.write_bytes(b"damaged")
    assert known.find(TreeRef(*tree.ids)) is None


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path, known: KnownTrees) -> None:
    (tmp_path / "trees").write_bytes(b"in the way")
    tree = ReplicaTree(Manifest.of(()))
    known.add(tree)
    assert known.find(TreeRef(*tree.ids)) is tree


def test_only_the_last_few_values_are_kept() -> None:
    recent: Recent[int, list[None]] = Recent(len)
    for number in range(RECENT):
        recent.put(number, [])
    assert recent.find(0) == []  # and so is the latest
    assert recent.get(RECENT, list) == []
    assert [recent.find(number) for number in range(RECENT + 1)] == [[], None, [], [], []]


def test_large_values_push_out_all_others_but_never_the_last() -> None:
    recent: Recent[int, list[None]] = Recent(len)
    large = [None] * (RECENT_ENTRIES + 1)
    recent.put(1, [])
    recent.put(2, large)
    assert recent.find(1) is None
    assert recent.find(2) is large
    recent.put(3, [])
    assert recent.find(2) is None
    assert recent.find(3) == []


def test_scans_of_one_root_in_one_process_share_what_they_know_and_notice_every_edit(tmp_path: Path) -> None:
    fill(tmp_path / "source", 3)
    settings = Settings(
        "",
        "",
        "",
        "",
        app_root=str(tmp_path / "source"),
        cache_dir=str(tmp_path / "cache"),
        config_home=str(tmp_path),
    )
    first = Source(settings).scan()
    file = tmp_path / "source/1.txt"
    times = file.stat().st_mtime_ns
    file.write_bytes(b"!" * file.stat().st_size)
    os.utime(file, ns=(0, times))
    (tmp_path / "source/.gitignore").write_bytes(b"2.txt\n")
    source = Source(settings)
    second = source.scan()
    assert second == tree_at(tmp_path / "source").manifest.changed((), [b"2.txt"])
    assert second[b"0.txt"] is first[b"0.txt"]
    assert second[b"1.txt"] != first[b"1.txt"]
    assert source.ignored(b"2.txt", False)


def test_git_is_not_asked_where_there_is_no_work_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source/below").mkdir(parents=True)
    settings = Settings(
        "", "", "", "", app_root=str(tmp_path / "source/below"), cache_dir=str(tmp_path / "cache")
    )
    script = tmp_path / "bin/git"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho ' 1 file changed'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.delenv("GIT_WORK_TREE", raising=False)
    assert Source(settings).git_summary() == ""
    (tmp_path / "source/.git").mkdir()
    assert Source(settings).git_summary() == "1 file changed"
    (tmp_path / "source/.git").rmdir()
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    assert Source(settings).git_summary() == "1 file changed"
