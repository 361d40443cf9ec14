"""Reading a tree from the disk: everything in it, nothing outside it, whatever happens meanwhile."""

import hashlib
import os
import resource
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from codesync.delta.errors import ScanError
from codesync.delta.ignore import Rules
from codesync.delta.manifest import Entry, Kind, Skipped, scan
from codesync.delta.manifest.memory import Past
from codesync.transaction import MAGIC, Root
from tests.delta.files import without_privileges, write

WhenLookedAt = Callable[[Callable[[], object]], None]


def replace(path: Path, make: Callable[[Path], object]) -> Callable[[], None]:
    """Something else in the place of a file, once called."""

    def action() -> None:
        path.unlink()
        make(path)

    return action


@pytest.fixture
def when_looked_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Runs something between the moment a file is looked at and the moment it would be opened."""

    def prepare(action: Callable[[], object]) -> None:
        actions = [action]
        lookup = Past.lookup

        def disturbed(past: Past, path: bytes, status: os.stat_result) -> bytes | None:
            if actions:
                actions.pop()()
            return lookup(past, path, status)

        monkeypatch.setattr(Past, "lookup", disturbed)

    return prepare


def test_every_kind_of_entry_is_found_as_it_is(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside/secret").parent
    root = tmp_path / "root"
    write(root / "d/run", b"#!", 0o750)
    (root / "empty").mkdir(mode=0o700)
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to(b"\xff".decode(errors="surrogateescape"))
    os.utime(root / "d/run", ns=(0, -1))
    os.utime(root / "link", ns=(0, 123456789), follow_symlinks=False)
    os.utime(root / "d", ns=(0, 7_258_118_400_000_000_000))
    found = scan(str(root))
    assert found.paths == (b"d", b"d/run", b"dangling", b"empty", b"link")
    assert found[b"d/run"] == Entry(b"d/run", Kind.FILE, 0o750, -1, 2, hashlib.sha256(b"#!").digest())
    assert found[b"link"] == Entry(b"link", Kind.SYMLINK, 0o777, 123456789, target=os.fsencode(outside))
    assert found[b"dangling"].target == b"\xff"
    assert found[b"d"] == Entry(
        b"d", Kind.DIRECTORY, (root / "d").stat().st_mode & 0o777, 7_258_118_400_000_000_000
    )
    assert found[b"empty"].mode == 0o700
    assert found.skipped == ()


def test_set_id_and_sticky_bits_are_no_part_of_a_mode(tmp_path: Path) -> None:
    write(tmp_path / "f").chmod(0o4755)
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o3777)
    assert [entry.mode for entry in scan(str(tmp_path))] == [0o777, 0o755]


def test_without_rules_everything_counts_and_git_too(tmp_path: Path) -> None:
    write(tmp_path / ".git/config")
    write(tmp_path / ".gitignore", b"*\n")
    assert b".git/config" in scan(tmp_path.__fspath__())


def test_any_bytes_make_a_name(tmp_path: Path) -> None:
    names = [
        b"\xff\xfe",
        b"caf\xe9",
        b"a\nb",
        b"\x01",
        b"\xed\xa0\x80",
        "\u00e9".encode(),
        b"e\xcc\x81",
        b" ",
        b"-rf",
    ]
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(name)
    found = scan(os.fsencode(tmp_path))
    assert found.paths == tuple(sorted(names))
    assert found[b"caf\xe9"].digest == hashlib.sha256(b"caf\xe9").digest()


def test_special_files_are_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.chdir(here)
    expected = [Skipped(b"fifo", "fifo"), Skipped(b"socket", "socket")]
    if not os.geteuid():
        os.mknod(tmp_path / "block", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
        os.mknod(tmp_path / "char", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        expected += [Skipped(b"block", "device"), Skipped(b"char", "device")]
    found = scan(str(tmp_path))
    assert found.skipped == tuple(sorted(expected))
    assert len(found) == 0


def test_what_may_not_be_read_is_named_and_the_rest_is_scanned(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    write(tmp_path / "closed/inside").parent.chmod(0)
    write(tmp_path / "listed/inside").parent.chmod(0o444)
    write(tmp_path / "secret", mode=0)
    write(tmp_path / "z")
    with Root(str(tmp_path)) as root, without_privileges():
        found = scan(root)
    reason = "unreadable: Permission denied"
    assert found.skipped == tuple(Skipped(path, reason) for path in (b"closed", b"listed/inside", b"secret"))
    assert found.paths == (b"listed", b"z")
    (tmp_path / "closed").chmod(0o755)
    (tmp_path / "listed").chmod(0o755)


@pytest.mark.parametrize("make", [lambda path: None, write, lambda path: path.symlink_to("nowhere")])
def test_a_root_that_is_no_directory_is_an_error_that_names_it(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "root")
    with pytest.raises(ScanError, match=r"root.*check the path") as raised:
        scan(str(tmp_path / "root"))
    assert "\n" not in str(raised.value)


def test_a_root_that_may_not_be_listed_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with without_privileges(), pytest.raises(ScanError, match="Permission denied"):
        scan(str(tmp_path))
    tmp_path.chmod(0o700)


def test_the_root_itself_may_be_reached_through_a_symlink(tmp_path: Path) -> None:
    write(tmp_path / "real/f")
    (tmp_path / "link").symlink_to("real")
    assert scan(str(tmp_path / "link")).paths == (b"f",)


def test_a_callers_root_stays_open(tmp_path: Path) -> None:
    write(tmp_path / "f")
    with Root(str(tmp_path)) as root:
        assert scan(root) == scan(root)


def descend(start: Path, names: list[str]) -> None:
    """Make directories one in the other, whatever their path's length, with a file beside each."""
    at = os.open(start, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=at)
        os.close(os.open("z", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def remove_deep(start: Path) -> None:
    """Pull what hangs deep up, level by level, since no path leads there."""
    at = os.open(start, os.O_RDONLY)
    while True:
        below = [name for name in os.listdir(at) if name != "z"]
        if not below:
            break
        deeper = os.open(below[0], os.O_RDONLY, dir_fd=at)
        inner = [name for name in os.listdir(deeper) if name != "z"]
        if inner:
            os.rename(inner[0], f"{inner[0]}-up", src_dir_fd=deeper, dst_dir_fd=at)
        for name in os.listdir(deeper):
            os.unlink(name, dir_fd=deeper)
        os.close(deeper)
        os.rmdir(below[0], dir_fd=at)
        if inner:
            os.rename(f"{inner[0]}-up", inner[0], src_dir_fd=at, dst_dir_fd=at)
    os.close(at)


@pytest.mark.parametrize(
    "names", [["d" * 100] * 60, ["e"] * 1200], ids=["longer than PATH_MAX", "deeper than any stack"]
)
def test_a_path_of_any_length_is_scanned_with_few_descriptors(tmp_path: Path, names: list[str]) -> None:
    descend(tmp_path, names)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, hard))
    try:
        found = scan(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        remove_deep(tmp_path)
    assert max(found.paths, key=len) == b"/".join(os.fsencode(name) for name in names)
    assert len(found) == 2 * len(names)
    assert not found.skipped


def test_a_deep_tree_with_branches_everywhere_is_scanned_with_few_descriptors(tmp_path: Path) -> None:
    at = tmp_path
    expected = 0
    for _ in range(150):
        for name in "abc":
            (at / name).mkdir()
        write(at / "c/file")
        expected += 4
        at /= "b"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (130, hard))
    try:
        found = scan(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(found) == expected
    assert not found.skipped


def test_want_of_descriptors_is_an_error_and_no_gap_in_the_tree(tmp_path: Path) -> None:
    write(tmp_path / "a/b/c")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Root(str(tmp_path)) as root:
        resource.setrlimit(resource.RLIMIT_NOFILE, (root.fd + 1, hard))
        try:
            with pytest.raises(ScanError, match="Too many open files"):
                scan(root)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_staging_directories_are_left_out_and_what_only_looks_like_one_is_not(tmp_path: Path) -> None:
    write(tmp_path / ".codesync-0123456789abcdef/magic", MAGIC)
    write(tmp_path / ".codesync-0123456789abcdee/magic", b"something else")
    write(tmp_path / ".codesync-0123456789abcdeF/magic", MAGIC)
    write(tmp_path / "d/.codesync-0123456789abcdef/n0")
    assert [path for path in scan(str(tmp_path)).paths if b"magic" in path or b"n0" in path] == [
        b".codesync-0123456789abcdeF/magic",
        b".codesync-0123456789abcdee/magic",
        b"d/.codesync-0123456789abcdef/n0",
    ]


# ------------------------------------------------------------------------------------- while the tree changes


def test_a_directory_that_vanishes_was_never_there(tmp_path: Path) -> None:
    write(tmp_path / "a/f")
    (tmp_path / "z").mkdir()
    found = scan(
        str(tmp_path), progress=lambda _: (tmp_path / "z").rmdir() if (tmp_path / "z").exists() else None
    )
    assert found.paths == (b"a", b"a/f")
    assert not found.skipped


def test_a_directory_that_becomes_a_symlink_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside/secret")
    (tmp_path / "root/d").mkdir(parents=True)

    def change(_: int) -> None:
        if not (tmp_path / "root/d").is_symlink():
            (tmp_path / "root/d").rmdir()
            (tmp_path / "root/d").symlink_to("../outside")

    found = scan(str(tmp_path / "root"), progress=change)
    assert [(entry.path, entry.kind) for entry in found] == [(b"d", Kind.SYMLINK)]


def test_a_directory_that_becomes_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()

    def change(_: int) -> None:
        (tmp_path / "d").rmdir()
        write(tmp_path / "d", b"now")

    assert scan(str(tmp_path), progress=change)[b"d"].size == 3


def test_a_file_that_vanishes_was_never_there(tmp_path: Path, when_looked_at: WhenLookedAt) -> None:
    write(tmp_path / "root/f")
    when_looked_at((tmp_path / "root/f").unlink)
    found = scan(str(tmp_path / "root"))
    assert (found.paths, found.skipped) == ((), ())


def test_a_file_that_becomes_a_fifo_does_not_block_the_scan(
    tmp_path: Path, when_looked_at: WhenLookedAt
) -> None:
    file = write(tmp_path / "root/f")
    when_looked_at(replace(file, os.mkfifo))
    assert scan(str(tmp_path / "root")).skipped == (Skipped(b"f", "fifo"),)


def test_a_file_that_becomes_a_symlink_is_not_read_through(
    tmp_path: Path, when_looked_at: WhenLookedAt
) -> None:
    secret = write(tmp_path / "secret")
    file = write(tmp_path / "root/f")
    when_looked_at(replace(file, lambda path: path.symlink_to(secret)))
    assert scan(str(tmp_path / "root"))[b"f"].target == os.fsencode(secret)


def test_a_file_that_becomes_a_directory_over_and_over_is_given_up(
    tmp_path: Path, when_looked_at: WhenLookedAt
) -> None:
    file = write(tmp_path / "root/f")
    when_looked_at(replace(file, Path.mkdir))
    (skipped,) = scan(str(tmp_path / "root")).skipped
    assert skipped.path == b"f"
    assert skipped.reason.startswith("changing")


@pytest.mark.parametrize("size", [10, 1_000_000])
@pytest.mark.parametrize("share", [0.5, 2], ids=["truncated", "grown"])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, share: float
) -> None:
    file = write(tmp_path / "f", bytes(size))
    read = os.read
    changes = iter([bytes(int(size * share)), b"final"])

    def disturbed(descriptor: int, length: int) -> bytes:
        data = read(descriptor, length)
        if (content := next(changes, None)) is not None:
            file.write_bytes(content)
        return data

    monkeypatch.setattr(os, "read", disturbed)
    found = scan(str(tmp_path))
    assert found[b"f"].digest == hashlib.sha256(b"final").digest()
    assert found[b"f"].size == 5


def test_a_file_that_never_holds_still_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "f")
    read = os.read

    def disturbed(descriptor: int, length: int) -> bytes:
        with file.open("ab") as log:
            log.write(b"more")
        return read(descriptor, length)

    monkeypatch.setattr(os, "read", disturbed)
    found = scan(str(tmp_path))
    assert len(found) == 0
    assert [skipped.path for skipped in found.skipped] == [b"f"]
    assert found.skipped[0].reason.startswith("changing")


def test_a_file_replaced_by_rename_is_wholly_old_or_wholly_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "root/f", b"old" * 200_000)
    new = write(tmp_path / "new", b"new")
    read = os.read

    def disturbed(descriptor: int, length: int) -> bytes:
        if new.exists():
            new.replace(file)
        return read(descriptor, length)

    monkeypatch.setattr(os, "read", disturbed)
    assert scan(str(tmp_path / "root"))[b"f"].digest == hashlib.sha256(b"new").digest()


# ------------------------------------------------------------------------------------- what it is told and tells


def test_progress_grows_to_the_number_of_entries(tmp_path: Path) -> None:
    for name in ("a/1", "b/2", "b/c/3", "4"):
        write(tmp_path / name)
    told: list[int] = []
    found = scan(str(tmp_path), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == len(found)
    assert len(told) == 4


def test_an_ignored_directory_is_not_even_opened(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    write(tmp_path / ".codesyncignore", b"closed/\n")
    write(tmp_path / "closed/f").parent.chmod(0)
    with Root(str(tmp_path)) as root:
        rules = Rules.for_root(str(tmp_path), home=str(tmp_path))
        with without_privileges():
            found = scan(root, rules=rules)
    assert found.paths == (b".codesyncignore",)
    assert not found.skipped
    (tmp_path / "closed").chmod(0o755)


def test_a_special_file_that_the_rules_ignore_is_not_mentioned(tmp_path: Path) -> None:
    write(tmp_path / ".gitignore", b"*.sock\n")
    os.mkfifo(tmp_path / "x.sock")
    assert not scan(str(tmp_path), rules=Rules.for_root(str(tmp_path), home=str(tmp_path))).skipped
