"""What a copy has gained, brought back: nothing removed, nothing of another kind replaced, nothing half."""

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from codesync.launcher.changes import Cancelled
from codesync.launcher.mirror import carry
from codesync.launcher.mirror.carry import DRAFT
from codesync.launcher.mirror.content import CHUNK, SMALL
from codesync.transaction import TransactionError
from tests.launcher.test_launcher_mirror import (
    NEVER,
    TREE,
    TREES,
    After,
    consistent,
    copied,
    everything,
    identities,
    rewritten,
    volume,
)
from tests.launcher.world import Files, write_tree
from tests.users import as_user


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    write_tree(tmp_path / "app", TREE)
    return tmp_path / "app"


@pytest.fixture
def copy(app: Path, tmp_path: Path) -> Path:
    copied(app, tmp_path / "copy")
    return tmp_path / "copy"


def carried(copy: Path, app: Path) -> list[bytes]:
    return carry(str(copy), str(app), NEVER)


def test_all_that_is_new_or_different_is_brought(app: Path, copy: Path) -> None:
    write_tree(copy, {"node_modules/.bin/run": "../run.js", "node_modules/run.js": b"run", "empty/er": None})
    (copy / "node_modules/run.js").chmod(0o755)
    (copy / "node_modules/large").write_bytes(os.urandom(SMALL + 1))
    (copy / "node_modules").chmod(0o555)
    (copy / "app.py").write_bytes(b"compiled()")
    (copy / "lib/a.py").chmod(0o700)
    (copy / "link").unlink()
    (copy / "link").symlink_to("app.py")
    assert carried(copy, app) == []

    def without_times(root: Path) -> dict[str, tuple[int, bytes]]:
        return {path: (mode, content) for path, (mode, _, content) in everything(root).items()}

    assert without_times(app) == without_times(copy)
    for path in ("app.py", "node_modules/run.js"):
        assert (app / path).stat().st_mtime_ns == (copy / path).stat().st_mtime_ns
        assert (app / path).stat().st_ino != (copy / path).stat().st_ino
    before = everything(app)
    assert carried(copy, app) == []
    assert everything(app) == before


def test_a_content_of_the_same_size_and_mtime_is_brought(app: Path, copy: Path) -> None:
    rewritten(copy / "app.py", b"PRINT()")
    assert carried(copy, app) == []
    assert (app / "app.py").read_bytes() == b"PRINT()"
    before = identities(app)
    assert carried(copy, app) == []
    assert identities(app) == before


def test_nothing_is_removed_and_what_is_replaced_is_not_written_in_place(
    app: Path, copy: Path, tmp_path: Path
) -> None:
    os.link(app / "app.py", tmp_path / "open elsewhere")
    write_tree(app, {"data/mine": b"mine"})
    shutil.rmtree(copy / "lib")
    (copy / "app.py").write_bytes(b"other()")
    assert carried(copy, app) == []

    assert (tmp_path / "open elsewhere").read_bytes() == b"print()"
    assert (app / "app.py").read_bytes() == b"other()"
    assert (app / "lib/a.py").read_bytes() == b"a"
    assert (app / "data/mine").read_bytes() == b"mine"


def test_nothing_is_replaced_by_another_kind(app: Path, copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    write_tree(app, {"one": b"file", "two": "lib", "three/in": b"in", "four": str(outside), "six": "one"})
    (copy / "one").symlink_to("lib")
    write_tree(copy, {"two/in": b"", "three": b"file", "four/in": b"", "five": b"new", "six": b"file"})
    before = everything(app)
    assert carried(copy, app) == [b"four", b"one", b"six", b"three", b"two"]

    after = everything(app)
    assert after.pop("five")[2] == b"new"
    assert after == before
    assert list(outside.iterdir()) == []


def test_the_launchers_own_bytecode_and_special_files_stay_behind(app: Path, copy: Path) -> None:
    write_tree(
        copy,
        {
            ".codesync-instance": b"mark",
            ".codesync-0123456789abcdef/magic": b"codesync staging 1\n",
            ".codesync-fedcba9876543210/only": b"looks alike",
            "lib/__pycache__/a.pyc": b"compiled",
        },
    )
    os.mkfifo(copy / "fifo")
    before = everything(app)
    assert carried(copy, app) == []

    new = everything(app).keys() - before.keys()
    assert new == {".codesync-fedcba9876543210", ".codesync-fedcba9876543210/only"}
    assert not (app / "lib/__pycache__").exists()


def test_bytecode_of_what_is_replaced_goes(app: Path, copy: Path) -> None:
    write_tree(app, {"lib/__pycache__/a.cpython-311.pyc": b"old", "lib/__pycache__/b.cpython-311.pyc": b""})
    (copy / "lib/a.py").write_bytes(b"A")
    assert carried(copy, app) == []
    assert os.listdir(app / "lib/__pycache__") == ["b.cpython-311.pyc"]


def test_a_link_to_what_is_mounted_is_not_carried_over_the_mount(app: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with volume(app / "data", "size=1m"), volume(app / "other", "size=1m"):
        copied(app, copy)
        assert (copy / "data").is_symlink()
        (copy / "other").unlink()
        write_tree(copy, {"other/file": b"not for there", "more": b"more"})
        assert carried(copy, app) == [b"other"]
        assert list((app / "data").iterdir()) == list((app / "other").iterdir()) == []
        assert os.path.ismount(app / "data")
    assert (app / "more").read_bytes() == b"more"
    (app / "data").rmdir()
    shutil.rmtree(copy / "other")
    assert carried(copy, app) == []  # and no link to itself is left when the mount has gone
    assert not (app / "data").is_symlink()


def test_a_copy_that_is_a_symlink_is_not_followed(app: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "new").touch()
    (tmp_path / "link").symlink_to(copy)
    with pytest.raises(TransactionError):
        carried(tmp_path / "link", app)
    assert not (app / "new").exists()


def test_what_may_not_be_written_or_read_is_named(app: Path, copy: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are root's alone
        shutil.move(app, f"{place}/app")
        shutil.move(copy, f"{place}/copy")
        app, copy = Path(place, "app"), Path(place, "copy")
        write_tree(copy, {"lib/new": b"", "secret": b"", "hidden/in": b"", "fine": b"fine"})
        subprocess.run(["chown", "-R", "12345:12345", place], check=True)
        (app / "lib").chmod(0o555)
        (copy / "secret").chmod(0)
        (copy / "hidden").chmod(0)
        with as_user(12345):
            assert carried(copy, app) == [b"hidden", b"lib/new", b"secret"]
        assert (app / "fine").read_bytes() == b"fine"
        (copy / "hidden").chmod(0o700)


def test_owners_stay_and_what_is_new_gets_its_directorys(app: Path, copy: Path) -> None:
    os.chown(app / "app.py", 12345, 12346)
    os.chown(app / "lib", 12347, 12348)
    (copy / "app.py").write_bytes(b"other()")
    write_tree(copy, {"lib/new/file": b"", "lib/new/link": "file"})
    assert carried(copy, app) == []

    def owner(path: str) -> tuple[int, int]:
        found = (app / path).lstat()
        return found.st_uid, found.st_gid

    assert owner("app.py") == (12345, 12346)
    assert {owner(path) for path in ("lib/new", "lib/new/file", "lib/new/link")} == {(12347, 12348)}


def test_what_is_as_it_was_copied_overwrites_nothing(app: Path, copy: Path) -> None:
    made = {found.st_ino: found.st_ctime_ns for found in (path.lstat() for path in copy.rglob("*"))}
    (copy / "lib/a.py").write_bytes(b"made")
    for path in ("app.py", "lib/a.py"):
        rewritten(app / path, b"changed here since")
    assert carry(str(copy), str(app), NEVER, made) == []

    assert (app / "app.py").read_bytes() == b"changed here since"
    assert (app / "lib/a.py").read_bytes() == b"made"


def test_a_file_that_is_being_written_is_not_brought_half(app: Path, copy: Path) -> None:
    log, brought = copy / "log", app / "log"
    outcomes = set()
    for looks in range(1, 12):
        log.write_bytes(bytes(CHUNK))
        writer = After(looks, lambda: log.write_bytes(os.urandom(CHUNK + 1)), sets=False)
        left_out = carry(str(copy), str(app), writer)
        assert not (app / DRAFT).exists()
        assert brought.exists() == (left_out == [])
        outcomes.add(tuple(left_out))
        if not left_out:
            assert brought.read_bytes() in (bytes(CHUNK), log.read_bytes())
            brought.unlink()
    assert outcomes == {(), (b"log",)}


def test_it_can_be_cancelled_at_any_moment_and_goes_on_from_there(app: Path, copy: Path) -> None:
    write_tree(copy, {"a/b": b"b", "c/d/e": b"e"})
    (copy / "a/large").write_bytes(os.urandom(CHUNK * 2 + 1))
    (copy / "app.py").write_bytes(b"other()")
    (app / DRAFT).write_bytes(b"a crash has left it")
    looks = 1
    while True:
        with contextlib.suppress(Cancelled):
            assert carry(str(copy), str(app), After(looks)) == []
            break
        for path in app.rglob("*"):
            if path.is_file() and path.name != DRAFT:
                there = copy / path.relative_to(app)
                assert path.read_bytes() in (there.read_bytes(), b"print()")
        looks += 1
    assert looks > 5
    assert not any(path.name == DRAFT for path in app.rglob("*"))
    assert {path: value[2] for path, value in everything(app).items()} == {
        path: value[2] for path, value in everything(copy).items()
    }


@hypothesis_settings(deadline=None, max_examples=60)
@given(TREES, TREES)
def test_all_is_there_afterwards_or_named(
    tmp_path_factory: pytest.TempPathFactory, theirs: Files, ours: Files
) -> None:
    directory = tmp_path_factory.mktemp("trees")
    for name, files in (("copy", theirs), ("app", ours)):
        (directory / name).mkdir()
        write_tree(directory / name, {"x": None, **consistent(dict(files))})
    before = everything(directory / "app")
    left_out = {os.fsdecode(path) for path in carried(directory / "copy", directory / "app")}
    after = everything(directory / "app")

    for path, (mode, _, content) in everything(directory / "copy").items():
        if left_out.isdisjoint((path, *(str(parent) for parent in Path(path).parents))):
            assert (stat.S_IFMT(after[path][0]), after[path][2]) == (stat.S_IFMT(mode), content)
    for path, (mode, _, content) in before.items():
        assert stat.S_IFMT(after[path][0]) == stat.S_IFMT(mode)
        if path in left_out:
            assert after[path][2] == content
