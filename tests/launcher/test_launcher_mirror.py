"""One directory made equal to another: no file shared, and quickly so again."""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from codesync.launcher.changes import Cancelled
from codesync.launcher.mirror import TICK_NS, mirror
from codesync.launcher.mirror.content import CHUNK, SMALL
from codesync.launcher.mirror.directory import remove
from codesync.transaction import Root
from tests.launcher.world import PATIENCE, Files, write_tree
from tests.users import as_user

TREE: Files = {"app.py": b"print()", "lib/a.py": b"a", "lib/deep/b": b"", "link": "lib/a.py", "empty": None}
NEVER = threading.Event()
MADE: dict[Path, dict[int, int]] = defaultdict(dict)  # what is remembered of each copy


class After(threading.Event):
    """When somebody looks for the nth time, it calls and is set."""

    def __init__(self, looks: int, then: Callable[[], object] = lambda: None, *, sets: bool = True) -> None:
        super().__init__()
        self.looks, self.then, self.sets = looks, then, sets

    def is_set(self) -> bool:
        self.looks -= 1
        if self.looks == 0:
            self.then()
            if self.sets:
                self.set()
        return super().is_set()


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Kind and mode, mtime, content of all below a directory; bytecode left out."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory, name)
            status = path.lstat()
            content = b""
            if stat.S_ISLNK(status.st_mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            found[str(path.relative_to(root))] = (status.st_mode & 0o170777, status.st_mtime_ns, content)
    return {path: value for path, value in found.items() if "__pycache__" not in path}


def copied(source: Path, target: Path, skip: tuple[tuple[int, int], ...] = ()) -> list[bytes]:
    return refreshed(source, target, NEVER, skip)


def refreshed(
    source: Path, target: Path, cancelled: threading.Event, skip: tuple[tuple[int, int], ...] = ()
) -> list[bytes]:
    with Root(str(target.parent)) as within:
        return mirror(str(source), within, target.name, cancelled, skip=skip, made=MADE[target])


def written_in_place(path: Path, content: bytes) -> None:
    """As an application can, which then sets the times back."""
    found = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@contextlib.contextmanager
def volume(place: Path, options: str) -> Iterator[Path]:
    """A small volume."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "codesync-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def rewritten(path: Path, content: bytes) -> None:
    """A new file under an old name and with the old mtime, as a push brings it."""
    mtime = path.lstat().st_mtime_ns
    draft = path.with_name("draft")
    draft.write_bytes(content)
    draft.chmod(stat.S_IMODE(path.stat().st_mode))
    os.utime(draft, ns=(mtime, mtime))
    draft.replace(path)


def identities(root: Path) -> dict[str, tuple[int, int]]:
    """What tells a file from another one in its place, for an inode's number may be used again."""
    found = {path: (root / path).lstat() for path in everything(root)}
    return {path: (status.st_ino, status.st_ctime_ns) for path, status in found.items()}


def wait_for_the_clock(path: Path) -> None:
    """Until what is written now is surely later than what is there: files are stamped by ticks."""
    start = path.stat().st_ctime_ns
    until = time.monotonic() + PATIENCE
    while path.stat().st_ctime_ns <= start + 2 * TICK_NS:
        assert time.monotonic() < until
        path.touch()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    write_tree(tmp_path / "app", TREE)
    (tmp_path / "app/lib/a.py").chmod(0o751)
    (tmp_path / "app/empty").chmod(0o555)
    return tmp_path / "app"


def test_a_copy_is_equal_and_shares_no_file(source: Path, tmp_path: Path) -> None:
    (source / "large").write_bytes(os.urandom(SMALL * 3))
    os.link(source / "large", source / "twin")
    assert copied(source, tmp_path / "copy") == []
    assert everything(tmp_path / "copy") == everything(source)
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700

    for path in ("app.py", "large"):
        with open(tmp_path / "copy" / path, "r+b") as file:
            file.write(b"in place")
    assert (source / "app.py").read_bytes() == b"print()"
    assert (source / "large").read_bytes() == (source / "twin").read_bytes()
    assert (tmp_path / "copy/twin").read_bytes() == (source / "twin").read_bytes()


def test_a_refresh_undoes_whatever_an_application_did_to_its_copy(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copied(source, copy)
    (copy / "app.py").write_bytes(b"changed")
    (copy / "lib/a.py").chmod(0o600)
    (copy / "link").unlink()
    (copy / "link").symlink_to("elsewhere")
    (copy / "empty").chmod(0o755)
    (copy / "empty/new/deep").mkdir(parents=True)
    (copy / "empty/new/deep/file").write_bytes(b"")
    (copy / "empty/new").chmod(0)
    shutil.rmtree(copy / "lib/deep")
    (copy / "lib/deep").write_bytes(b"a file now")
    copied(source, copy)

    assert everything(copy) == everything(source)


def test_what_is_equal_is_not_touched(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    wait_for_the_clock(tmp_path)
    copied(source, copy)
    before = identities(copy)
    copied(source, copy)
    rewritten(source / "app.py", b"other()")
    copied(source, copy)

    after = identities(copy)
    assert {path for path in before if before[path] != after[path]} == {"app.py"}
    assert (copy / "app.py").read_bytes() == b"other()"


def test_a_new_content_with_the_old_size_and_mtime_arrives(source: Path, tmp_path: Path) -> None:
    copied(source, tmp_path / "copy")
    rewritten(source / "app.py", b"PRINT()")
    copied(source, tmp_path / "copy")

    assert (tmp_path / "copy/app.py").read_bytes() == b"PRINT()"
    assert everything(tmp_path / "copy") == everything(source)


def test_what_was_written_in_place_is_undone_though_size_and_mtime_are_as_before(
    source: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    wait_for_the_clock(tmp_path)
    copied(source, copy)
    wait_for_the_clock(tmp_path)
    written_in_place(copy / "app.py", b"PRINT()")
    assert everything(copy) != everything(source)
    copied(source, copy)
    assert everything(copy) == everything(source)

    written_in_place(copy / "app.py", b"PRINT()")
    MADE.pop(copy)  # another launcher knows of no file how it was made
    copied(source, copy)
    assert everything(copy) == everything(source)


def test_bytecode_stays_but_for_the_files_that_change(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (source / "lib/gone.py").write_bytes(b"")
    copied(source, copy)
    names = (
        "a.cpython-311.pyc",
        "a.cpython-311.pyc.140",
        "aa.cpython-311.pyc",
        "gone.cpython-38.pyc",
        "late.x.pyc",
    )
    (copy / "lib/__pycache__").mkdir()
    for name in names:
        (copy / "lib/__pycache__" / name).write_bytes(b"compiled")
    rewritten(source / "lib/a.py", b"b")
    (source / "lib/gone.py").unlink()
    (source / "lib/late.py").write_bytes(b"its bytecode has outlived an earlier one")
    copied(source, copy)

    assert os.listdir(copy / "lib/__pycache__") == ["aa.cpython-311.pyc"]
    assert everything(copy) == everything(source)


def test_bytecode_of_the_image_is_copied_once(source: Path, tmp_path: Path) -> None:
    (source / "lib/__pycache__").mkdir()
    (source / "lib/__pycache__/a.cpython-311.pyc").write_bytes(b"the image's")
    wait_for_the_clock(tmp_path)
    copied(source, tmp_path / "copy")
    (tmp_path / "copy/lib/__pycache__/a.cpython-311.pyc").write_bytes(b"compiled again")
    copied(source, tmp_path / "copy")

    assert (tmp_path / "copy/lib/__pycache__/a.cpython-311.pyc").read_bytes() == b"compiled again"
    shutil.rmtree(source / "lib")
    copied(source, tmp_path / "copy")
    assert not (tmp_path / "copy/lib").exists()


def test_what_is_not_the_applications_stays_behind(source: Path, tmp_path: Path) -> None:
    expected = everything(source)
    (source / ".codesync-instance").write_bytes(b"mark")
    (source / ".codesync-0123456789abcdef").mkdir()
    (source / ".codesync-0123456789abcdef/magic").write_bytes(b"codesync staging 1\n")
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
    volume = source / "volume"
    copied(source, tmp_path / "copy")
    assert everything(tmp_path / "copy") == expected

    volume.mkdir()
    found = volume.stat()
    copied(source, volume / "copy", ((found.st_dev, found.st_ino),))
    assert everything(volume / "copy") == expected
    copied(source, source / "copy")  # and the copy is no part of itself
    assert not (source / "copy/copy").exists()


def test_names_that_only_look_like_staging_are_copied(source: Path, tmp_path: Path) -> None:
    (source / ".codesync-fedcba9876543210").mkdir()
    (source / "lib/.codesync-instance").write_bytes(b"no mark")
    (source / "\udcff").write_bytes(b"no UTF-8")
    copied(source, tmp_path / "copy")

    assert everything(tmp_path / "copy") == everything(source)


def test_a_link_in_the_copy_leads_nowhere(source: Path, tmp_path: Path) -> None:
    copy, outside = tmp_path / "copy", tmp_path / "outside"
    copied(source, copy)
    shutil.copytree(copy / "lib", outside)
    (outside / "mine").write_bytes(b"")
    before = everything(outside)
    shutil.rmtree(copy / "lib")
    (copy / "lib").symlink_to(outside)
    (copy / "empty").chmod(0o700)
    (copy / "empty/out").symlink_to(outside)
    copied(source, copy)

    assert everything(outside) == before
    assert everything(copy) == everything(source)


def test_what_is_mounted_inside_is_shared_through_a_link(source: Path, tmp_path: Path) -> None:
    (source / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "codesync-test", str(source / "data")], check=True)
    try:
        (source / "data/file").write_bytes(b"shared")
        copied(source, tmp_path / "copy")
        assert (tmp_path / "copy/data").readlink() == source / "data"
        copied(source, tmp_path / "copy")
    finally:
        subprocess.run(["umount", str(source / "data")], check=True)
    copied(source, tmp_path / "copy")
    assert (tmp_path / "copy/data").is_dir()
    assert not (tmp_path / "copy/data").is_symlink()


def test_what_cannot_be_read_is_left_out_and_named(source: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are root's alone
        shutil.move(source, f"{place}/app")
        app, copy = Path(place, "app"), Path(place, "copy")
        subprocess.run(["chown", "-R", "12345:12345", place], check=True)
        with as_user(12345):
            assert copied(app, copy) == []
            (app / "app.py").chmod(0)
            (app / "lib").chmod(0)
            assert copied(app, copy) == [b"app.py", b"lib"]
            assert sorted(everything(copy)) == ["empty", "link"]


def test_a_cancelled_copy_is_finished_by_the_next(source: Path, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        refreshed(source, tmp_path / "copy", cancelled)
    copied(source, tmp_path / "copy")

    assert everything(tmp_path / "copy") == everything(source)


@pytest.mark.parametrize("cancel", [1, 2, 3, 4, 5, 6, 7, 8, 11, 16])
def test_a_copy_can_be_cancelled_at_any_moment(source: Path, tmp_path: Path, cancel: int) -> None:
    (source / "large").write_bytes(os.urandom(CHUNK * 2 + 1))
    copy = tmp_path / "copy"
    shutil.copytree(source, copy / "lib/other")
    for _ in range(50):
        with contextlib.suppress(Cancelled):
            refreshed(source, copy, After(cancel))
            break
        cancel += 1
    assert everything(copy) == everything(source)


def test_a_source_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copied(tmp_path / "nothing", tmp_path / "copy")


@pytest.mark.parametrize("depth", [600])
def test_depth_costs_neither_stack_nor_descriptors(tmp_path: Path, depth: int) -> None:
    source = tmp_path / "app"
    source.mkdir()
    directory = os.open(source, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("deep", dir_fd=directory)
        inner = os.open("deep", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)
    copied(source, tmp_path / "copy")
    with Root(str(tmp_path)) as place:
        remove(place.fd, "copy")
        remove(place.fd, "app")
    assert list(tmp_path.iterdir()) == []


NAMES = st.sampled_from(["a", "b.py", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(
    PATHS, st.one_of(st.none(), st.sampled_from([b"", b"x", b"y", "c", "a/b.py"])), max_size=8
)


def consistent(files: dict[str, bytes | str | None]) -> dict[str, bytes | str | None]:
    """Without paths below something that is no directory."""
    leaves = {path for path, content in files.items() if content is not None}
    return {
        path: content
        for path, content in files.items()
        if not any(str(parent) in leaves for parent in Path(path).parents)
    }


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.lists(TREES, min_size=2, max_size=4))
def test_any_tree_becomes_any_other(tmp_path_factory: pytest.TempPathFactory, trees: list[Files]) -> None:
    directory = tmp_path_factory.mktemp("trees")
    for number, files in enumerate(trees):
        (directory / str(number)).mkdir()
        write_tree(directory / str(number), {"x": None, **consistent(dict(files))})
        copied(directory / str(number), directory / "copy")
        assert everything(directory / "copy") == everything(directory / str(number))
