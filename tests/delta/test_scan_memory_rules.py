"""A scan that remembers the one before obeys the rules of now: of every file of git's and ours that says some."""

import os

import pytest

from tests.delta.files import write
from tests.delta.scanned import Scanned


@pytest.mark.parametrize("name", [".gitignore", ".codesyncignore", "d/.gitignore"])
def test_edited_rules_hold_at_once(scanned: Scanned, later: None, name: str) -> None:
    write(scanned.root / "d/x.log")
    write(scanned.root / "d/y.txt")
    write(scanned.root / "d/deep/x.log")
    assert b"d/x.log" in scanned.check()
    write(scanned.root / name, b"*.log\n")
    assert b"d/x.log" not in scanned.check()
    stamp = (scanned.root / name).stat()
    (scanned.root / name).write_bytes(b"*.txt\n")
    os.utime(scanned.root / name, ns=(0, stamp.st_mtime_ns))
    found = scanned.check()
    assert b"d/x.log" in found
    assert b"d/y.txt" not in found
    (scanned.root / name).unlink()
    assert b"d/y.txt" in scanned.check()


def test_rules_for_directories_hold_when_a_directory_becomes_a_file_and_back(
    scanned: Scanned, later: None
) -> None:
    write(scanned.root / ".gitignore", b"build/\n")
    write(scanned.root / "build/out")
    assert b"build" not in scanned.check()
    elsewhere = scanned.root.with_name("elsewhere")
    (scanned.root / "build").rename(elsewhere)
    write(scanned.root / "build")
    assert b"build" in scanned.check()
    (scanned.root / "build").unlink()
    elsewhere.rename(scanned.root / "build")
    assert b"build" not in scanned.check()


def test_what_git_has_beside_gitignore_files_holds_at_once(scanned: Scanned, later: None) -> None:
    git = scanned.git
    git.init(scanned.root)
    write(scanned.root / "sub/x.log")
    write(scanned.root / "sub/y.txt")
    scanned.check()
    write(scanned.root / ".git/info/exclude", b"*.log\n")
    assert b"sub/x.log" not in scanned.check()
    git.track(scanned.root, b"sub/x.log")
    assert b"sub/x.log" in scanned.check()
    git(scanned.root, "rm", "--cached", "-q", "sub/x.log")
    assert b"sub/x.log" not in scanned.check()
    write(git.home / "excludes", b"*.txt\n")
    git(scanned.root, "config", "core.excludesFile", str(git.home / "excludes"))
    assert b"sub/y.txt" not in scanned.check()
    write(git.home / "excludes", b"*.tx_\n")
    assert b"sub/y.txt" in scanned.check()
    git(scanned.root, "config", "core.ignorecase", "true")
    write(git.home / "excludes", b"*.TXT\n")
    assert b"sub/y.txt" not in scanned.check()


def test_ignoring_case_holds_at_once(scanned: Scanned, later: None) -> None:
    git = scanned.git
    git.init(scanned.root)
    write(scanned.root / ".gitignore", b"*.LOG\n")
    write(scanned.root / "d/x.log")
    git(scanned.root, "config", "core.ignorecase", "false")
    assert b"d/x.log" in scanned.check()
    git(scanned.root, "config", "core.ignorecase", "true")
    assert b"d/x.log" not in scanned.check()


def test_an_index_that_is_written_anew_with_the_same_paths_costs_no_other_entry(
    scanned: Scanned, later: None
) -> None:
    git = scanned.git
    git.init(scanned.root)
    write(scanned.root / "d/f")
    git.track(scanned.root, b"d/f")
    first = scanned.check()
    os.utime(scanned.root / "d/f", ns=(0, 5))
    git(scanned.root, "update-index", "--refresh")
    os.utime(scanned.root / "d/f", ns=(0, first[b"d/f"].mtime_ns))
    second = scanned.check()
    assert second[b"d"] is first[b"d"]


def test_a_split_index_is_always_read(scanned: Scanned, later: None) -> None:
    git = scanned.git
    git.init(scanned.root)
    write(scanned.root / ".gitignore", b"*.log\n")
    for name in ("a.log", "b.log"):
        write(scanned.root / name)
    git.track(scanned.root, b"a.log")
    git(scanned.root, "update-index", "--split-index")
    assert b"a.log" in scanned.check()
    git.track(scanned.root, b"b.log")
    found = scanned.check()
    assert {b"a.log", b"b.log"} <= set(found.paths)


def test_a_nested_repository_that_comes_changes_and_goes(scanned: Scanned, later: None) -> None:
    git = scanned.git
    write(scanned.root / ".gitignore", b"*.log\n")
    write(scanned.root / "sub/x.log")
    write(scanned.root / "sub/y.txt")
    assert b"sub/x.log" not in scanned.check()
    git.init(scanned.root / "sub")
    assert b"sub/x.log" in scanned.check()
    write(scanned.root / "sub/.git/info/exclude", b"*.txt\n")
    assert b"sub/y.txt" not in scanned.check()
    git.track(scanned.root / "sub", b"y.txt")
    assert b"sub/y.txt" in scanned.check()
    (scanned.root / "sub/.git").rename(scanned.root / ".git")
    assert b"sub/x.log" not in scanned.check()
