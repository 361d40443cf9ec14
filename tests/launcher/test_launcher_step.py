"""A staged step to another tree: what it knows of the one that is there, what is synced when, and what cannot be kept."""

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesync.launcher.records import Applied, State
from codesync.launcher.tree import Step, Tree
from codesync.launcher.volume import Volume
from codesync.transaction import NotEmpty, TransactionError
from tests.launcher import world
from tests.launcher.world import Files, b64, entries, name_of, read_tree, write_tree

NEVER = threading.Event()
OLD: Files = {"app.py": b"one", "d/x.py": b"x", "gone.py": b"gone"}
NEW: Files = {"app.py": b"two", "d/x.py": b"x2"}


class Place:
    """An application's directory that holds OLD, and its volume."""

    def __init__(self, directory: Path) -> None:
        self.app = directory / "app"
        self.app.mkdir()
        write_tree(self.app, OLD)
        self.sidecar = world.Volume(directory / "files")
        self.sidecar.write_manifest(OLD)
        self.volume = Volume(str(directory / "files"))
        self.notes: list[str] = []
        self.tree = Tree(str(self.app), self.volume, self.notes.append)
        self.tree.record(Applied("0" * 32, "image", name_of(OLD)))

    def stage(self, new: Files = NEW, copy: str = "") -> Step:
        self.sidecar.plan("p1", OLD, new)
        return self.tree.stage_plan(self.volume.plan(), NEVER, copy)

    def tell_only(self, *paths: str) -> None:
        """As a sidecar does: of the base only these paths, and no manifest at all."""
        rows = [row for row in entries(OLD) if row[0] in map(b64, paths)]
        record = {"version": 1, "tree_id": name_of(OLD), "entries": rows}
        trial = self.sidecar.sidecar / "trial"
        trial.mkdir(exist_ok=True)
        (trial / f"{name_of(OLD)}.json").write_text(json.dumps(record))
        for manifest in (self.sidecar.sidecar / "manifest").iterdir():
            manifest.write_text("not read")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextlib.contextmanager
def syncs(failing: bool = False) -> Iterator[list[str]]:
    """What is synced meanwhile; `failing`: nothing can be."""
    log: list[str] = []

    def synced(fd: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        log.append("staging" if name.startswith(".codesync-") else name)
        if failing:
            raise OSError(errno.EIO, "I/O error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        yield log


def test_what_the_plan_touches_is_all_that_has_to_be_known(place: Place) -> None:
    place.tell_only("app.py", "d", "d/x.py", "gone.py")
    (place.app / "app.py").write_bytes(b"my")
    (place.app / "d/x.py").unlink()
    (place.app / "d").rmdir()
    step = place.stage()
    assert step.drift == [b"app.py", b"d", b"d/x.py"]
    assert place.notes == []
    step.switch()
    assert read_tree(place.app) == read_tree_of(NEW)


def test_what_a_sidecar_does_not_tell_is_read_from_the_manifest(place: Place) -> None:
    (place.app / "gone.py").write_bytes(b"my")
    assert place.stage().drift == [b"gone.py"]


def read_tree_of(files: Files) -> dict[str, bytes | str | None]:
    return {**files, "d": None}


def test_between_stop_and_start_one_thing_is_synced(place: Place) -> None:
    step = place.stage()
    with syncs() as log:
        step.rename()
        assert log == ["staging"]
    assert read_tree(place.app).items() >= read_tree_of(NEW).items()
    with syncs() as log:
        step.sync()
        assert set(log) == {"app", "d", "staging"}
        assert log[-1] == "staging"
    with syncs() as log:
        step.keep()
        assert log == [".applied.new", ".launcher"]
    assert read_tree(place.app) == read_tree_of(NEW)


def test_where_the_record_cannot_be_written_the_transaction_itself_says_that_it_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = place.stage()
    step.rename()
    step.sync()

    def full(applied: Applied) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(place.volume, "set_applied", full)
    with syncs() as log:
        step.keep()
        assert log == ["staging"]
    assert "No space left" in place.notes[0]


def test_bytecode_that_comes_late_goes_too_and_all_comes_back(place: Place) -> None:
    cache = place.app / "__pycache__"
    cache.mkdir()
    (cache / "app.cpython-311.pyc").write_bytes(b"early")
    step = place.stage()
    (cache / "gone.cpython-311.pyc").write_bytes(b"late")
    step.rename()
    assert not cache.exists()
    step.undo()
    assert sorted(os.listdir(cache)) == ["app.cpython-311.pyc", "gone.cpython-311.pyc"]
    assert read_tree(place.app).items() >= read_tree_of(OLD).items()


def test_what_stands_in_the_way_is_found_before_anything_is_stopped(place: Place) -> None:
    (place.app / "d/unknown").write_bytes(b"mine")
    with pytest.raises(NotEmpty):
        place.stage({"app.py": b"one", "d": b"a file now"})
    assert read_tree(place.app) == {**read_tree_of(OLD), "d/unknown": b"mine"}


def test_a_tree_that_does_not_reach_the_disk_is_not_kept(place: Place) -> None:
    step = place.stage()
    with syncs(failing=True), pytest.raises(TransactionError):
        step.switch()
    place.tree.recover(State())
    assert read_tree(place.app) == read_tree_of(OLD)
    assert place.tree.applied.tree_id == name_of(OLD)


def test_a_copy_that_no_crash_outlives_is_not_synced(place: Place, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    write_tree(copy, OLD)
    with syncs() as log:
        step = place.stage(copy=str(copy))
        step.rename()
        step.sync()
        step.keep()
        assert log == []
    assert read_tree(copy) == read_tree_of(NEW)
    assert read_tree(place.app) == read_tree_of(OLD)
