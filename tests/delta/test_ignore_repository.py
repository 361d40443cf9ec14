"""Where rules come from: ignore files above and below, git's settings and index, nested repositories, .codesyncignore."""

import os
from pathlib import Path

import pytest

from codesync.delta.errors import ScanError
from codesync.delta.ignore import Rules
from codesync.delta.manifest import scan
from tests.delta.gitrepo import Git, write
from tests.delta.test_scan import without_privileges


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "home")


@pytest.fixture
def root(git: Git, tmp_path: Path) -> Path:
    return git.init(tmp_path / "root")


def open_to_all(root: Path) -> None:
    """Let somebody else get to the tree."""
    for directory in (root, *root.parents):
        if directory.stat().st_uid == os.geteuid() and len(directory.parts) > 2:
            directory.chmod(0o755)


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


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    "files",
    [
        {b".gitconfig": b"[core]\n\texcludesFile = ~/mine\n"},
        {b".gitconfig": b'[CORE]\n\tExcludesfile = "~/mi"ne # comment\n'},
        {b".gitconfig": b"[core] excludesfile = ~/no\n[user]\nname = x\n[core]\nexcludesfile = ~/mine"},
        {b".gitconfig": b"[include]\npath = more\n", b"more": b"[core]\nexcludesFile=~/mine\n"},
        {b".gitconfig": b"[include]\npath = ~/d/more\n", b"d/more": b"[include]\npath=x\n", b"d/x": b"[core]\nexcludesfile=~/mine\n"},
        {b".config/git/config": b"[core]\nexcludesFile = ~/mine\n"},
        {b".config/git/config": b"[core]\nexcludesFile = ~/no\n", b".gitconfig": b"[core]\nexcludesFile = ~/mine\n"},
        {b".config/git/ignore": b"*.x\n"},
        {b".config/git/ignore": b"*.x\n", b".gitconfig": b"[core]\nexcludesFile =\n"},
        {b".config/git/ignore": b"*.x\n", b".gitconfig": b"[core]\nexcludesFile = ~/missing\n"},
        {b".gitconfig": b'[core "other"]\nexcludesFile = ~/mine\n'},
    ],
    ids=lambda files: b" ".join(files).decode() + str(len(b"".join(files.values()))),
)  # fmt: skip
def test_the_users_excludes_are_found_where_git_finds_them(
    git: Git, root: Path, files: dict[bytes, bytes]
) -> None:
    write(git.home, {b"mine": b"*.x\n!b.x\n", b"no": b"*.y\n"} | files)
    write(root, dict.fromkeys([b"a.x", b"b.x", b"a.y", b"d/a.x"], b""))
    assert git.counted(root) == git.listed(root)


def test_the_repositorys_settings_win_over_the_users(git: Git, root: Path) -> None:
    write(git.home, {b".gitconfig": b"[core]\nexcludesFile = ~/mine\nignorecase = true\n", b"mine": b"*\n"})
    write(root, {b"rules": b"*.x\n", b"a.x": b"", b"A.X": b"", b"b": b""})
    git(root, "config", "core.excludesFile", str(root / "rules"))
    git(root, "config", "core.ignorecase", "false")
    assert git.counted(root) == git.listed(root) == {b"rules", b"A.X", b"b"}


def test_xdg_config_home_may_be_given(git: Git, root: Path, tmp_path: Path) -> None:
    write(tmp_path / "xdg", {b"git/ignore": b"*.x\n"})
    write(root, {b"a.x": b"", b"b": b""})
    rules = Rules.for_root(str(root), home=str(git.home), config_home=str(tmp_path / "xdg"))
    assert scan(str(root), rules=rules).paths == (b"b",)


def test_a_home_that_may_not_be_looked_into_has_no_settings(git: Git, root: Path) -> None:
    write(git.home, {b".gitconfig": b"[core]\nexcludesFile = ~/mine\n", b"mine": b"*\n"})
    write(root, {b"a": b""})
    git.home.chmod(0)
    open_to_all(root)
    with without_privileges():
        assert git.counted(root) == {b"a"}
    git.home.chmod(0o755)


def test_info_exclude_is_weaker_than_any_gitignore_and_stronger_than_the_users_excludes(
    git: Git, root: Path
) -> None:
    write(git.home, {b".config/git/ignore": b"!a.x\n*.y\n"})
    write(root, {b".git/info/exclude": b"*.x\n!b.y\n", b"d/.gitignore": b"!a.x\n"})
    write(root, dict.fromkeys([b"a.x", b"d/a.x", b"a.y", b"b.y"], b""))
    assert git.counted(root) == git.listed(root) == {b"d/.gitignore", b"d/a.x", b"b.y"}


# ------------------------------------------------------------------------------------------------ the index


def tracked_tree(git: Git, root: Path) -> None:
    write(
        root,
        {
            b".gitignore": b"*.bin\nbuild/\n",
            b"a.bin": b"",
            b"b.bin": b"",
            b"build/x/keep": b"",
            b"build/x/drop": b"",
        },
    )
    write(
        root,
        {b"build/y/drop": b"", b"d/c.bin": b"", b"caf\xe9.bin": b"", b"long/" + b"n" * 200 + b".bin": b""},
    )
    git.track(root, b"a.bin", b"build/x/keep", b"d/c.bin", b"caf\xe9.bin", b"long/" + b"n" * 200 + b".bin")


KEPT = {b".gitignore", b"a.bin", b"build/x/keep", b"d/c.bin", b"caf\xe9.bin", b"long/" + b"n" * 200 + b".bin"}


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_what_git_tracks_counts_in_every_version_of_the_index(git: Git, root: Path, version: str) -> None:
    tracked_tree(git, root)
    git(root, "update-index", "--index-version", version)
    git(root, "update-index", "--skip-worktree", "a.bin")  # makes version 3 of version 2
    assert git.counted(root) == git.listed(root) == KEPT


def test_a_split_index_is_put_together(git: Git, root: Path) -> None:
    tracked_tree(git, root)
    git(root, "config", "splitIndex.maxPercentChange", "100")
    git(root, "update-index", "--split-index")
    git.track(root, b"b.bin")
    git(root, "update-index", "--force-remove", "a.bin")
    git(root, "update-index", "--skip-worktree", "d/c.bin")
    assert git.counted(root) == git.listed(root) == KEPT - {b"a.bin"} | {b"b.bin"}
    (shared,) = (root / ".git").glob("sharedindex.*")
    shared.unlink()
    with pytest.raises(ScanError, match="split"):
        git.rules(root)


def test_a_repository_of_sha256_is_read(git: Git, tmp_path: Path) -> None:
    root = git.init(tmp_path / "other", "--object-format=sha256")
    tracked_tree(git, root)
    assert git.counted(root) == git.listed(root) == KEPT


def test_with_ignorecase_a_tracked_name_counts_in_any_case(git: Git, root: Path) -> None:
    write(root, {b".gitignore": b"*.bin\nbuild/\n", b"a.bin": b"", b"build/b": b""})
    git.track(root, b"a.bin", b"build/b")
    git(root, "config", "core.ignorecase", "true")
    (root / "a.bin").rename(root / "A.BIN")
    (root / "build").rename(root / "Build")
    write(root, {b"C.BIN": b"", b".GIT/x": b""})
    found = {entry.path for entry in scan(str(root), rules=git.rules(root))}
    assert found == {b".gitignore", b"A.BIN", b"Build", b"Build/b"}


def test_an_index_that_cannot_be_read_is_an_error_that_says_so(git: Git, root: Path) -> None:
    tracked_tree(git, root)
    index = root / ".git/index"
    whole = index.read_bytes()
    for damaged in (
        b"",
        b"DIRC",
        whole[:100],
        b"X" + whole[1:],
        whole[:7] + b"\x05" + whole[8:],
        whole[:11] + b"\xff" + whole[12:],
    ):
        index.write_bytes(damaged)
        with pytest.raises(ScanError, match="index") as raised:
            git.rules(root)
        assert "\n" not in str(raised.value)


def test_a_conflict_leaves_the_file_tracked(git: Git, root: Path) -> None:
    write(root, {b".gitignore": b"*.bin\n", b"a.bin": b""})
    blob = git(root, "hash-object", "-w", "--stdin").strip()
    stages = b"".join(b"100644 %s %d\ta.bin\n" % (blob, stage) for stage in (1, 2, 3))
    git(root, "update-index", "--index-info", stdin=stages)
    assert git.counted(root) == git.listed(root) == {b".gitignore", b"a.bin"}


# ------------------------------------------------------------------------------------------------ nested repositories


def test_a_nested_repository_is_descended_by_its_own_rules(git: Git, root: Path) -> None:
    inner = git.init(root / "lib/inner")
    write(
        root, {b".gitignore": b"*.log\n", b".git/info/exclude": b"*.tmp\n", b"a.log": b"", b"lib/b.log": b""}
    )
    write(inner, {b".gitignore": b"*.o\n", b".git/info/exclude": b"x\n"})
    write(inner, dict.fromkeys([b"c.log", b"c.tmp", b"c.o", b"t.o", b"x", b"d/.git-not"], b""))
    git.track(inner, b"t.o")
    assert git.listed(root) == {b".gitignore", b"lib/inner/"}
    expected = {b".gitignore"} | {b"lib/inner/" + path for path in git.listed(inner)}
    assert git.counted(root) == expected
    assert {b"lib/inner/c.log", b"lib/inner/t.o"} < expected
    assert git.counted(inner) == git.listed(inner)


def test_a_nested_repository_in_an_ignored_directory_does_not_count(git: Git, root: Path) -> None:
    write(git.init(root / "vendor/x"), {b"f": b""})
    write(git.init(root / "y"), {b"f": b""})
    write(root, {b".gitignore": b"vendor/\ny\n"})
    assert git.counted(root) == git.listed(root) == {b".gitignore"}


def test_a_repository_begun_where_the_outer_one_tracks_files_is_no_nested_one(git: Git, root: Path) -> None:
    write(
        root,
        {
            b".gitignore": b"*.log\n",
            b"d/kept.log": b"",
            b"d/a.log": b"",
            b"d/f": b"",
            b"d/.gitignore": b"x\n",
        },
    )
    git.track(root, b"d/kept.log")
    git.init(root / "d")
    assert git.counted(root) == git.listed(root) == {b".gitignore", b"d/.gitignore", b"d/kept.log", b"d/f"}


def test_repositories_nest_in_repositories(git: Git, root: Path) -> None:
    for depth in range(1, 4):
        inner = git.init(root / "/".join("r" * depth))
        write(inner, {b".gitignore": b"/only%d\n" % depth} | {b"only%d" % i: b"" for i in range(4)})
    kept = {b"r/" * depth + b"only%d" % i for depth in range(1, 4) for i in range(4) if i != depth}
    assert git.counted(root) == kept | {b"r/" * depth + b".gitignore" for depth in range(1, 4)}


def with_submodule(git: Git, root: Path, tmp_path: Path) -> None:
    library = git.init(tmp_path / "library")
    write(library, {b".gitignore": b"*.o\n", b"code": b"", b"kept.o": b""})
    git(library, "add", "-f", ".")
    git(library, "commit", "-qm", "m")
    git(
        root,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        "-f",
        str(library),
        "deps/sub",
    )
    assert (root / "deps/sub/.git").is_file()
    write(
        root,
        {
            b"deps/sub/new.o": b"",
            b"deps/sub/new.log": b"",
            b"deps/other": b"",
            b".gitignore": b"deps/\n*.log\n",
        },
    )
    write(root, {b".git/modules/deps/sub/info/exclude": b"*.y\n", b"deps/sub/new.y": b""})


def test_a_submodule_has_its_own_rules_and_is_tracked_itself(git: Git, root: Path, tmp_path: Path) -> None:
    with_submodule(git, root, tmp_path)
    inside = {b".gitignore", b"code", b"kept.o", b"new.log"}
    assert git.listed(root / "deps/sub") == git.counted(root / "deps/sub") == inside
    assert git.counted(root) == {b".gitignore", b".gitmodules"} | {b"deps/sub/" + path for path in inside}


def test_a_submodule_that_was_not_checked_out_is_an_empty_directory(
    git: Git, root: Path, tmp_path: Path
) -> None:
    with_submodule(git, root, tmp_path)
    git(root, "submodule", "--quiet", "deinit", "-f", "--all")
    assert [path for path in scan(str(root), rules=git.rules(root)).paths if path.startswith(b"deps")] == [
        b"deps",
        b"deps/sub",
    ]


def test_a_linked_work_tree_has_its_own_index_and_shares_the_other_rules(
    git: Git, root: Path, tmp_path: Path
) -> None:
    write(root, {b".gitignore": b"*.o\n", b"a.o": b"", b"f": b""})
    git(root, "add", "-f", ".")
    git(root, "commit", "-qm", "m")
    git(root, "worktree", "add", "-q", str(tmp_path / "linked"))
    git(root, "rm", "-q", "--cached", "a.o")
    linked = tmp_path / "linked"
    write(root, {b".git/info/exclude": b"*.tmp\n"})
    for place in (root, linked):
        write(place, {b"b.tmp": b"", b"b.o": b"", b"b": b""})
    assert git.counted(root) == git.listed(root) == {b".gitignore", b"f", b"b"}
    assert git.counted(linked) == git.listed(linked) == {b".gitignore", b"f", b"b", b"a.o"}


def test_a_work_trees_own_settings_are_read(git: Git, root: Path, tmp_path: Path) -> None:
    git(root, "commit", "-qm", "m", "--allow-empty")
    git(root, "config", "extensions.worktreeConfig", "true")
    git(root, "worktree", "add", "-q", str(tmp_path / "linked"))
    git(tmp_path / "linked", "config", "--worktree", "core.excludesFile", "~/mine")
    write(git.home, {b"mine": b"*.x\n"})
    for place in (root, tmp_path / "linked"):
        write(place, {b"a.x": b"", b"b": b""})
        assert git.counted(place) == git.listed(place)


@pytest.mark.parametrize("make", ["directory", "file", "symlink"])
def test_whatever_is_named_git_is_never_sent(git: Git, root: Path, make: str) -> None:
    write(root, {b"d/f": b"", b".github/w": b"", b"x.git/f": b"", b".gitattributes": b""})
    if make == "directory":
        write(root, {b"d/.git/f": b""})
    elif make == "file":
        write(root, {b"d/.git": b"text"})
    else:
        (root / "d/.git").symlink_to("../x.git")
    write(root, {b".codesyncignore": b"!.git\n!.git/**\n"})
    assert git.counted(root) == git.listed(root)
    assert git.rules(root).ignored(b"d/.git", is_directory=False)
    assert git.rules(root).ignored(b".git/config", is_directory=False)


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
