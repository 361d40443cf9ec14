"""What the volume holds when the disk is full, the process killed, or the power gone: the old tree or the new one."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesync.delta import Manifest, scan
from codesync.protocol import TreeRef
from codesync.sidecar.pushes import Ending, Push
from codesync.sidecar.store import Store, StoreError
from codesync.transaction import Transaction, TransactionError
from tests.sidecar.pushing import contents, push_tree


def test_a_trial_is_not_written_into_the_state(store: Store, source: Path) -> None:
    push_tree(store, source, "p1")
    before = store.volume.state.read_bytes()
    (source / "app.py").write_text("two\n")
    push_tree(store, source, "p2", commit=False)
    assert store.state.trial is not None
    assert store.volume.state.read_bytes() == before


class Disk:
    """What is brought to the disk, in order: the names of the files and directories, and `-> name` for a rename."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        fsync, replace = os.fsync, Path.replace

        def synced(fd: int) -> None:
            self.log.append(Path(f"/proc/self/fd/{fd}").readlink().name)
            fsync(fd)

        def renamed(path: Path, target: Path) -> Path:
            self.log.append(f"-> {target.name}")
            return replace(path, target)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "replace", renamed)

    def taken(self) -> list[str]:
        """All since the last time."""
        log, self.log = self.log, []
        return log


def test_a_tree_is_on_the_disk_before_the_state_names_it_and_may_be_long_before(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_tree(store, source, "p1")
    for ahead in (True, False):
        (source / "app.py").write_text(f"two {ahead}\n")
        ref = push_tree(store, source, "p2", commit=False)
        manifest = f"{ref.tree_id}.json"
        before = [f".{manifest}.new", f"-> {manifest}", "manifest", "journal.new", "n0", "current"]
        with monkeypatch.context() as patched:
            disk = Disk(patched)
            if ahead:
                store.prepare()
                assert disk.taken() == before
            store.commit(Ending("healthy"))
            log = disk.taken()
        staging = log.pop(-5)
        assert staging.startswith(".codesync-")
        assert log == [*before * (not ahead), "current", ".state.new", "-> state", ".sidecar"]


def test_a_state_that_the_disk_has_not_confirmed_is_no_decision(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_tree(store, source, "p1")
    (source / "app.py").write_text("two\n")
    push_tree(store, source, "p2", commit=False)
    store.prepare()
    with monkeypatch.context() as patched:
        disk = Disk(patched)
        synced = os.fsync

        def failing(fd: int) -> None:
            synced(fd)
            if disk.log[-1] == ".sidecar":
                raise OSError(errno.EIO, "I/O error")

        patched.setattr(os, "fsync", failing)
        store.commit(Ending("healthy"))
        assert disk.log[-2] == ".sidecar"
        assert disk.log[-1].startswith(".codesync-")  # so the transaction itself says that it is kept
    assert contents(store.volume.current) == contents(source)


@pytest.mark.parametrize("failing", ["applied", "keep", "manifests", "objects"])
def test_what_fails_after_the_decision_is_no_failure_of_the_commit(
    store: Store, source: Path, tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_tree(store, source, "p1")
    (source / "app.py").write_text("two\n")
    push_tree(store, source, "p2", commit=False)
    store.prepare()
    with monkeypatch.context() as patched:
        if failing == "applied":
            (store.volume.launcher / "applied").write_bytes(b"[" * 60_000)
        elif failing == "keep":
            patched.setattr(Transaction, "keep", _no_memory)
        else:
            real = os.listdir
            refused = getattr(store.volume, failing)
            patched.setattr(os, "listdir", lambda path: _no_memory() if path == refused else real(path))
        store.commit(Ending("healthy"))
    assert store.state.result("p2") is not None
    assert {p: t for p, t in contents(store.volume.current).items() if ".codesync-" not in p} == contents(
        source
    )
    first = TreeRef(store.state.history[0].tree_id, store.state.history[0].tracked_id)
    (source / "app.py").write_text("three\n")
    push_tree(store, source, "p3")
    assert contents(store.volume.current) == contents(source)
    store.close()
    again = Store.open(str(tmp_path / "files"))
    again.stage_tree(Push("r", "", ""), first)  # what was displaced is all there
    again.commit(Ending("healthy"))
    assert (again.volume.current / "app.py").read_text() == "one\n"
    again.close()


def _no_memory(*_: Any, **__: Any) -> Any:
    raise MemoryError


def test_a_prepared_trial_is_no_tree_yet(store: Store, source: Path, tmp_path: Path) -> None:
    push_tree(store, source, "p1")
    old = contents(source)
    (source / "app.py").write_text("two\n")
    for end in ("drop", "close"):
        push_tree(store, source, "p2", commit=False)
        store.prepare()
        assert {p: text for p, text in contents(store.volume.current).items() if p in old} == old
        if end == "drop":
            store.drop_trial()
            assert contents(store.volume.current) == old
    store.close()
    again = Store.open(str(tmp_path / "files"))
    assert contents(again.volume.current) == old
    push_tree(again, source, "p2")
    assert contents(again.volume.current) == contents(source)
    again.close()


def test_a_push_whose_files_were_lost_in_preparing_is_refused_with_the_reason(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_tree(store, source, "p1")
    old = contents(source)
    (source / "app.py").write_text("two\n")
    push_tree(store, source, "p2", commit=False)

    def fail(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink().name == "journal.new":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(TransactionError, match="no space left"):
            store.prepare()
    with pytest.raises(StoreError, match=r"was not prepared: .*no space left.*push again"):
        store.commit(Ending("healthy"))
    assert contents(store.volume.current) == old
    push_tree(store, source, "p3")
    assert contents(store.volume.current) == contents(source)


def test_a_manifest_that_a_dead_process_has_left_is_written_anew(store: Store, source: Path) -> None:
    ref = push_tree(store, source, "p1", commit=False)
    left = store.volume.manifests / f"{ref.tree_id}.json"
    left.write_text("half")
    (store.volume.tracked / ref.tracked_id).write_text("half")
    store.prepare()
    store.commit(Ending("healthy"))
    assert Manifest.from_json(json.loads(left.read_bytes())) == store.manifest
    assert (store.volume.tracked / ref.tracked_id).read_bytes() == b"\0".join(sorted(store.committed.tracked))


def test_what_was_prepared_for_a_dropped_trial_goes_with_it(store: Store, source: Path) -> None:
    push_tree(store, source, "p1")
    manifests = os.listdir(store.volume.manifests)
    (source / "app.py").write_text("two\n")
    push_tree(store, source, "p2", commit=False)
    store.prepare()
    assert len(os.listdir(store.volume.manifests)) == 2
    store.undo(Ending("rolled_back", {}, "it ended"))
    assert os.listdir(store.volume.manifests) == manifests
    assert [result.status for result in store.state.results] == ["healthy", "rolled_back"]
    store.prepare()  # of nothing
    push_tree(store, source, "p2")
    assert store.state.result("p2") is not None


FAILING = ("fsync", "replace", "rename", "link", "mkdir", "write", "open", "unlink")


class FullDisk:
    """System calls of this process; the one that is `left` calls away finds no room, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        for name in FAILING:
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        return call


def assert_consistent(store: Store) -> None:
    """State, manifest and `current/` tell of one tree."""
    found = scan(str(store.volume.current))
    here = {
        e.path: e.digest for e in found if not e.path.startswith(b".codesync-")
    }  # recovery removes fragments
    assert here == {entry.path: entry.digest for entry in store.manifest}
    committed = store.state.committed
    assert committed is not None
    assert (committed.tree_id, committed.tracked_id) == store.tree


def test_a_disk_that_is_full_at_any_step_leaves_one_tree(tmp_path: Path, source: Path) -> None:
    outcomes = set()
    steps = 0
    while "untouched" not in outcomes:
        steps += 1
        files = str(tmp_path / f"files-{steps}")
        store = Store.open(files)
        (source / "app.py").write_text("one\n")
        push_tree(store, source, "p1")
        (source / "app.py").write_text("two\n")
        push_tree(store, source, "p2", commit=False)
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = FullDisk(monkeypatch, steps)
            try:
                store.prepare()
                store.commit(Ending("healthy"))
                outcomes.add("kept" if disk.left <= 0 else "untouched")
            except (OSError, TransactionError, StoreError):
                outcomes.add("refused")
                assert store.state.committed is not None
                assert store.state.committed.push_id == "p1"
        assert_consistent(store)
        assert store.state.result("p1") is not None
        store.drop_trial()
        (source / "app.py").write_text("three\n")
        push_tree(store, source, "p3")
        assert_consistent(store)
        store.close()
        again = Store.open(files)
        assert_consistent(again)
        again.close()
    assert outcomes == {"kept", "refused", "untouched"}
    assert steps > 20


COMMIT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tests.sidecar.pushing import push_tree
from codesync.sidecar.pushes import Ending
from codesync.sidecar.store import Store

left = int(sys.argv[3])

def dying(real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call

store = Store.open(sys.argv[1])
push_tree(store, Path(sys.argv[2]), "p2", commit=False)
for name in ("rename", "replace", "link", "unlink", "fsync", "mkdir", "rmdir", "open"):
    setattr(os, name, dying(getattr(os, name)))
store.prepare()
store.commit(Ending("healthy"))
left = 0
sys.exit(7)
"""


def test_a_commit_that_is_killed_at_any_step_leaves_the_old_or_the_new_tree(
    tmp_path: Path, source: Path
) -> None:
    trees = {}
    steps = finished = 0
    while not finished:
        steps += 3  # every third step, to stay quick; neighbours differ little
        files = tmp_path / f"files-{steps}"
        store = Store.open(str(files))
        (source / "app.py").write_text("one\n")
        push_tree(store, source, "p1")
        trees["old"] = contents(source)
        store.close()
        (source / "app.py").write_text("two\n")
        (source / "new.py").write_text("new\n")
        trees["new"] = contents(source)
        command = [sys.executable, "-c", COMMIT_AND_DIE, str(files), str(source), str(steps)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
        assert done.returncode in (7, -signal.SIGKILL)
        finished = done.returncode == 7
        again = Store.open(str(files))
        which = "new" if again.state.committed and again.state.committed.push_id == "p2" else "old"
        assert contents(again.volume.current) == trees[which]
        assert {e.path.decode() for e in again.manifest if e.size} == set(trees[which])
        if which == "new":  # and the old one can be had back
            again.stage_tree(
                Push("r", "", ""), TreeRef(again.state.history[0].tree_id, again.state.history[0].tracked_id)
            )
            again.commit(Ending("healthy"))
            assert contents(again.volume.current) == trees["old"]
        again.close()
        (source / "new.py").unlink()
    assert steps > 20
