"""Which rules hold where: above the root, without a work tree, .codesyncignore, and for paths that are gone."""

import os
from pathlib import Path

import pytest

from codesync.delta.errors import ScanError
from codesync.delta.manifest import scan
from tests.delta.files import open_to_all, without_privileges
from tests.delta.gitrepo import Git, write


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "home")


@pytest.fixture
def root(git: Git, tmp_path: Path) -> Path:
    return git.init(tmp_path / "root")


# ------------------------------------------------------------------------------------------------ above the root


def test_rules_above_the_root_reach_into_it(git: Git, root: Path) -> None:
    write(
        root,
        {
            b".gitignore": b"*.log\n/apps/web/secret\n/secret\nweb/x*\n!keep.log\n",
            b".git/info/exclude": b"apps/*/tmp\n",
        },
    )
    write(root, {b"apps/.gitignore": b"/web/drop\n*.tmp\n", b"apps/web/.gitignore": b"!b.tmp\n/only\n"})
    names = (
        b"a.log",
        b"keep.log",
        b"secret",
        b"drop",
        b"a.tmp",
        b"b.tmp",
        b"only",
        b"xyz",
        b"tmp",
        b"d/drop",
        b"d/only",
        b"d/xyz",
    )
    write(root, {b"apps/web/" + name: b"" for name in names})
    web = root / "apps/web"
    kept = {b".gitignore", b"keep.log", b"b.tmp", b"xyz", b"d/drop", b"d/only", b"d/xyz"}
    assert git.counted(web) == git.listed(web) == kept


def test_the_index_is_read_from_the_roots_place_in_it(git: Git, root: Path) -> None:
    write(
        root,
        {
            b".gitignore": b"*.bin\n",
            b"app/a.bin": b"",
            b"app/b.bin": b"",
            b"b.bin": b"",
            b"application/b.bin": b"",
        },
    )
    git.track(root, b"app/a.bin", b"b.bin", b"application/b.bin")
    assert git.counted(root / "app") == git.listed(root / "app") == {b"a.bin"}


@pytest.mark.parametrize("text", [b"*\n", b"build/\n", b"/build/app\n"])
def test_a_root_that_is_ignored_as_a_whole_is_no_part_of_the_work_tree(
    git: Git, root: Path, text: bytes
) -> None:
    """git would list nothing; whoever names such a root means it."""
    write(
        root,
        {
            b".gitignore": text,
            b"build/app/f": b"",
            b"build/app/g.log": b"",
            b"build/app/.gitignore": b"*.log\n",
        },
    )
    assert git.listed(root / "build/app") == set()
    assert git.counted(root / "build/app") == {b".gitignore", b"f"}


def test_of_an_ignored_root_with_tracked_files_only_these_count(git: Git, root: Path) -> None:
    write(
        root, {b".gitignore": b"build/\n", b"build/app/f": b"", b"build/app/d/g": b"", b"build/app/d/h": b""}
    )
    git.track(root, b"build/app/d/g")
    assert git.counted(root / "build/app") == git.listed(root / "build/app") == {b"d/g"}


def test_a_root_inside_a_git_directory_is_no_part_of_the_work_tree(git: Git, root: Path) -> None:
    write(root, {b".gitignore": b"*\n", b".git/hooks/mine": b""})
    assert b"mine" in git.counted(root / ".git/hooks")


def test_a_root_given_through_a_symlink_is_looked_at_where_it_really_is(
    git: Git, root: Path, tmp_path: Path
) -> None:
    write(root, {b".gitignore": b"*.log\n", b"app/f": b"", b"app/g.log": b""})
    (tmp_path / "link").symlink_to(root / "app")
    assert git.counted(tmp_path / "link") == {b"f"}


# ------------------------------------------------------------------------------------------------ no work tree


def test_without_a_work_tree_ignore_files_hold_and_nobodys_settings(git: Git, tmp_path: Path) -> None:
    write(
        git.home,
        {
            b".config/git/ignore": b"*.swp\n",
            b".gitconfig": b"[core]\nexcludesFile = ~/other\n",
            b"other": b"*.bak\n",
        },
    )
    names = (b"a.log", b"d/a.log", b"d/keep.log", b"a.swp", b"a.bak")
    write(
        tmp_path / "plain",
        {b".gitignore": b"*.log\n", b"d/.gitignore": b"!keep.log\n"} | dict.fromkeys(names, b""),
    )
    write(tmp_path, {b".gitignore": b"*\n"})
    assert git.counted(tmp_path / "plain") == {
        b".gitignore",
        b"d/.gitignore",
        b"d/keep.log",
        b"a.swp",
        b"a.bak",
    }


@pytest.mark.parametrize("pointer", [b"gitdir: ../elsewhere/.git/modules/x\n", b"gitdir: /nowhere\n"])
def test_a_git_file_that_leads_nowhere_marks_a_work_tree_without_a_repository(
    git: Git, root: Path, pointer: bytes
) -> None:
    write(root, {b".gitignore": b"*.c\n", b"copy/.git": pointer, b"copy/.gitignore": b"*.log\n"})
    write(root, {b"copy/app/f.c": b"", b"copy/app/f.log": b""})
    assert git.counted(root / "copy/app") == {b"f.c"}


def test_a_git_directory_that_is_no_repository_changes_nothing(git: Git, root: Path) -> None:
    (root / "d/.git").mkdir(parents=True)
    write(
        root,
        {
            b".gitignore": b"*.log\n",
            b"d/a.log": b"",
            b"d/f": b"",
            b"e/.git": b"no pointer",
            b"e/f": b"",
            b"e/a.log": b"",
        },
    )
    assert git.counted(root) == git.listed(root) == {b".gitignore", b"d/f", b"e/f"}
    assert git.counted(root / "d") == git.listed(root / "d") == {b"f"}


# ------------------------------------------------------------------------------------------------ .codesyncignore


def test_the_trees_own_file_wins_over_everything_of_gits(git: Git, root: Path) -> None:
    write(
        root,
        {b".gitignore": b"*.log\ndist/\n", b"d/.gitignore": b"!x.tmp\nlocal\n", b".git/info/exclude": b"z\n"},
    )
    write(root, {b".codesyncignore": b"# ours\n!dist/\n/dist/map\n*.tmp\nsecret\n!local\n!z\n!d/k.log\n"})
    names = (
        b"a.log",
        b"d/k.log",
        b"dist/js",
        b"dist/map",
        b"d/x.tmp",
        b"secret",
        b"d/secret",
        b"d/local",
        b"z",
    )
    write(root, dict.fromkeys(names, b""))
    git.track(root, b"secret", b"d/x.tmp")
    kept = {b".gitignore", b"d/.gitignore", b".codesyncignore", b"d/k.log", b"dist/js", b"d/local", b"z"}
    assert git.counted(root) == kept


def test_the_trees_own_file_holds_in_nested_repositories_too(git: Git, root: Path) -> None:
    inner = git.init(root / "inner")
    write(inner, {b".gitignore": b"*.o\n", b"a.o": b"", b"b.c": b"", b"b.d": b""})
    git.track(inner, b"b.c")
    write(root, {b".codesyncignore": b"!a.o\n/inner/b.c\n"})
    assert git.counted(root) == {b".codesyncignore", b"inner/.gitignore", b"inner/a.o", b"inner/b.d"}


def test_the_trees_own_file_takes_whole_directories_with_all_that_is_tracked(git: Git, root: Path) -> None:
    write(
        root,
        {b".codesyncignore": b"docs/\n", b"docs/a": b"", b"docs/b/c": b"", b"src/docs/a": b"", b"f": b""},
    )
    git.track(root, b"docs/a", b"docs/b/c")
    assert git.counted(root) == {b".codesyncignore", b"f"}


def test_only_the_file_at_the_root_is_read(git: Git, root: Path) -> None:
    write(
        root, {b"d/.codesyncignore": b"*\n", b"d/f": b"", b".codesyncignore": b"/x\n", b"x": b"", b"d/x": b""}
    )
    assert git.counted(root) == {b".codesyncignore", b"d/.codesyncignore", b"d/f", b"d/x"}
    assert git.counted(root / "d") == set()


def test_nothing_comes_back_below_a_directory_that_git_ignores(git: Git, root: Path) -> None:
    write(
        root,
        {b".gitignore": b"build/\n", b".codesyncignore": b"!build/a\n!a\n", b"build/a": b"", b"build/t": b""},
    )
    git.track(root, b"build/t")
    assert git.counted(root) == {b".gitignore", b".codesyncignore", b"build/t"}


# ------------------------------------------------------------------------------------------------ odd files


def test_an_ignore_file_that_is_no_file_is_none(git: Git, root: Path) -> None:
    write(root, {b"rules": b"*\n", b"d/.gitignore/x": b"", b"e/f": b""})
    (root / ".gitignore").symlink_to("rules")
    os.mkfifo(root / "e/.gitignore")
    (root / ".codesyncignore").symlink_to("rules")
    expected = {b"rules", b".gitignore", b".codesyncignore", b"d/.gitignore/x", b"e/f"}
    assert git.counted(root) == expected


def test_an_ignore_file_that_may_not_be_read_is_an_error_that_names_it(git: Git, root: Path) -> None:
    open_to_all(root)
    write(root, {b"d/.gitignore": b"*\n"})
    (root / "d/.gitignore").chmod(0)
    with without_privileges(), pytest.raises(ScanError, match=r"\.gitignore.*make it readable"):
        scan(str(root), rules=git.rules(root))


def test_a_root_that_is_no_directory_is_an_error(git: Git, tmp_path: Path) -> None:
    write(tmp_path, {b"file": b""})
    for name in ("missing", "file"):
        with pytest.raises(ScanError, match=rf"{name}.*check the path"):
            git.rules(tmp_path / name)


# ------------------------------------------------------------------------------------------------ asking about paths


@pytest.mark.parametrize("scanned", [False, True], ids=["before a scan", "after one"])
def test_paths_that_are_not_there_any_more_are_judged_too(git: Git, root: Path, scanned: bool) -> None:
    write(
        root,
        {
            b".gitignore": b"build/\n*.log\n/x/y\n",
            b"d/.gitignore": b"*.tmp\n",
            b"gone.log": b"",
            b"build/gone": b"",
        },
    )
    git.track(root, b"gone.log", b"build/gone")
    (root / "gone.log").unlink()
    (root / "build/gone").unlink()
    rules = git.rules(root)
    if scanned:
        scan(str(root), rules=rules)
    judged = {
        (b"new/a.log", False): True,
        (b"new/a", False): False,
        (b"new/sub/build/deep/a", False): True,
        (b"build", True): False,  # git tracks something in it
        (b"build/other", False): True,
        (b"build/gone", False): False,
        (b"gone.log", False): False,
        (b"gone.log/x", False): True,
        (b"build", False): False,
        (b"d/a.tmp", False): True,
        (b"d/e/a.tmp", False): True,
        (b"e/a.tmp", False): False,
        (b"x/y", True): True,
        (b"x/y/z/deep", False): True,
        (b"x", True): False,
        (b"d/.git/config", False): True,
    }
    assert {asked: rules.ignored(*asked) for asked in judged} == judged


def test_a_question_does_not_lead_through_a_symlink(git: Git, root: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside", {b".gitignore": b"*\n"})
    (root / "link").symlink_to(tmp_path / "outside")
    assert not git.rules(root).ignored(b"link/f", is_directory=False)


def test_a_scan_reads_the_rules_anew_from_the_tree(git: Git, root: Path) -> None:
    write(root, {b"d/.gitignore": b"*.a\n", b"d/x.a": b"", b"d/x.b": b""})
    rules = git.rules(root)
    assert rules.ignored(b"d/x.a", is_directory=False)
    write(root, {b"d/.gitignore": b"*.b\n"})
    assert scan(str(root), rules=rules).paths == (b"d", b"d/.gitignore", b"d/x.a")
    assert not rules.ignored(b"d/x.a", is_directory=False)
