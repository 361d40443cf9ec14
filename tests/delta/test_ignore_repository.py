"""What a repository brings along: git's settings, the index, and other repositories within it."""

from pathlib import Path

import pytest

from codesync.delta.errors import ScanError
from codesync.delta.ignore import Rules
from codesync.delta.manifest import scan
from tests.delta.files import open_to_all, without_privileges
from tests.delta.gitrepo import Git, write


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "home")


@pytest.fixture
def root(git: Git, tmp_path: Path) -> Path:
    return git.init(tmp_path / "root")


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
            git.counted(root)
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
