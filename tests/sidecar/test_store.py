"""The replica's volume: staged, committed, rolled back, recovered."""

import base64
import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codesync.delta import BatchError, Manifest, TrackedChange, scan, tracked_id, write_batch
from codesync.protocol import TreeRef
from codesync.sidecar.store import Push, Store, StoreError
from codesync.transaction import TransactionError

EMPTY = TreeRef(Manifest.of(()).tree_id, tracked_id(()))


def push_tree(store: Store, source: Path, push_id: str, *, commit: bool = True) -> TreeRef:
    """What a client and the proxy do: a batch from the store's tree to `source`, staged and kept."""
    target = scan(str(source))
    file = io.BytesIO()
    tracked = TrackedChange.between(store.committed.tracked, target, target.paths)
    write_batch(file, str(source), store.manifest, target, push_id=push_id, tracked=tracked)
    file.seek(0)
    ref = TreeRef(target.tree_id, tracked_id(target.paths))
    store.stage_batch(Push(push_id, "me@here:/src", "a change", target.tree_id), file, ref)
    if commit:
        store.commit("healthy")
    return ref


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "package").mkdir(parents=True)
    (root / "app.py").write_text("one\n")
    (root / "package" / "module.py").write_text("module\n" * 100)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(str(tmp_path / "files"))
    yield store
    store.close()


def test_a_new_volume_holds_the_empty_tree(store: Store) -> None:
    assert store.tree == EMPTY
    assert store.state.committed is None


def test_a_staged_push_changes_nothing_until_it_is_committed(store: Store, source: Path) -> None:
    ref = push_tree(store, source, "p1", commit=False)
    assert contents(store.volume.current) == {}
    assert store.state.trial is not None
    store.commit("healthy")
    assert contents(store.volume.current) == contents(source)
    assert store.tree == ref
    assert store.state.trial is None
    assert not store.volume.trial.exists()


def test_the_trial_is_described_for_the_launcher(store: Store, source: Path) -> None:
    push_tree(store, source, "p1", commit=False)
    plan = json.loads((store.volume.trial / "plan.json").read_bytes())
    assert (plan["version"], plan["push_id"], plan["base"]) == (1, "p1", EMPTY.tree_id)
    files = [change["file"] for change in plan["changes"] if change["kind"] == "file"]
    assert [(store.volume.trial / name).read_text() for name in files] == ["one\n", "module\n" * 100]


def test_a_dropped_trial_leaves_nothing(store: Store, source: Path) -> None:
    push_tree(store, source, "p1", commit=False)
    store.drop_trial()
    assert store.tree == EMPTY
    assert not store.volume.trial.exists()
    assert store.state.trial is None


def test_a_batch_against_another_tree_is_refused_and_nothing_is_staged(store: Store, source: Path) -> None:
    file = io.BytesIO()
    target = scan(str(source))
    write_batch(file, str(source), target, target)
    file.seek(0)
    with pytest.raises(BatchError):
        store.stage_batch(Push("p1", "", ""), file, TreeRef(target.tree_id, EMPTY.tracked_id))
    assert not store.volume.trial.exists()


def test_a_truncated_batch_is_refused_and_nothing_is_staged(store: Store, source: Path) -> None:
    file = io.BytesIO()
    target = scan(str(source))
    write_batch(file, str(source), store.manifest, target)
    with pytest.raises(BatchError):
        store.stage_batch(Push("p1", "", ""), io.BytesIO(file.getvalue()[:-9]), TreeRef(target.tree_id, ""))
    assert not store.volume.trial.exists()


def test_the_volume_is_readable_for_the_group_and_nobody_else(store: Store, source: Path) -> None:
    (source / "app.py").chmod(0o755)
    push_tree(store, source, "p1")
    current = store.volume.current
    assert oct((current / "app.py").stat().st_mode & 0o7777) == "0o640"
    assert oct(current.stat().st_mode & 0o7777) == "0o2750"
    assert oct((current / "package").stat().st_mode & 0o7777) == "0o2750"
    assert store.manifest[b"app.py"].mode == 0o755


def test_everything_is_found_again_after_a_restart(store: Store, source: Path, tmp_path: Path) -> None:
    ref = push_tree(store, source, "p1")
    store.close()
    again = Store.open(str(tmp_path / "files"))
    assert again.tree == ref
    assert again.manifest == store.manifest
    assert again.state == store.state
    assert again.state.result("p1") is not None
    again.close()


def test_an_orphaned_trial_is_dropped_at_start(store: Store, source: Path, tmp_path: Path) -> None:
    push_tree(store, source, "p1", commit=False)
    store.close()
    again = Store.open(str(tmp_path / "files"))
    assert again.state.trial is None
    assert again.tree == EMPTY
    again.close()


def test_a_tree_of_the_history_comes_back(store: Store, source: Path) -> None:
    first = push_tree(store, source, "p1")
    before = contents(source)
    (source / "app.py").write_text("two\n")
    (source / "package" / "module.py").rename(source / "moved.py")
    (source / "package").rmdir()
    second = push_tree(store, source, "p2")
    store.stage_tree(Push("r1", "", "", restores="p1"), first)
    commit = store.commit("healthy")
    assert (commit.generation, commit.restores) == (3, "p1")
    assert contents(store.volume.current) == before
    assert store.tree == first
    store.stage_tree(Push("r2", "", "", restores="p2"), second)
    store.commit("healthy")
    assert contents(store.volume.current) == contents(source)


def test_the_history_is_bounded_and_its_contents_too(store: Store, source: Path) -> None:
    refs = []
    for number in range(24):
        (source / "app.py").write_text(f"version {number}\n")
        refs.append(push_tree(store, source, f"p{number}"))
    assert [commit.push_id for commit in store.state.history] == [f"p{n}" for n in range(3, 24)]
    assert len(os.listdir(store.volume.objects)) == 20
    assert len(os.listdir(store.volume.manifests)) == 21
    with pytest.raises(StoreError, match="no longer"):
        store.stage_tree(Push("r", "", ""), refs[0])
    store.stage_tree(Push("r", "", ""), refs[3])
    store.commit("healthy")
    assert (store.volume.current / "app.py").read_text() == "version 3\n"


def test_only_the_tracked_set_changes_without_a_new_generation(store: Store, source: Path) -> None:
    push_tree(store, source, "p1")
    file = io.BytesIO()
    tracked = TrackedChange.between(store.committed.tracked, store.manifest, [b"app.py"])
    write_batch(file, str(source), store.manifest, store.manifest, tracked=tracked)
    file.seek(0)
    ref = TreeRef(store.manifest.tree_id, tracked_id([b"app.py"]))
    store.stage_batch(Push("p2", "", ""), file, ref)
    assert store.commit("no_changes").generation == 1
    assert store.committed.tracked == {b"app.py"}


def test_one_sidecar_at_a_time(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another sidecar"):
        Store.open(str(tmp_path / "files"))


def test_a_damaged_state_is_named_and_left_alone(store: Store, source: Path, tmp_path: Path) -> None:
    push_tree(store, source, "p1")
    store.close()
    store.volume.state.write_text('{"version": 9}')
    with pytest.raises(StoreError, match=r"version 9.*move it away"):
        Store.open(str(tmp_path / "files"))
    assert contents(store.volume.current) == contents(source)


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
                store.commit("healthy")
                outcomes.add("kept" if disk.left <= 0 else "untouched")
            except (OSError, TransactionError):
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


def gen0(store: Store, files: dict[str, bytes]) -> None:
    """What a launcher hands over."""
    directory = store.volume.launcher / "gen0"
    directory.mkdir(exist_ok=True)
    rows = []
    for number, (path, data) in enumerate(files.items()):
        (directory / str(number)).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        rows.append([base64.b64encode(path.encode()).decode(), "f", 0o644, 1, len(data), digest, str(number)])
    record = {"version": 1, "image": "i" * 64, "instance": "0" * 32, "entries": rows, "left_out": []}
    (store.volume.launcher / "gen0.json").write_text(json.dumps(record))


def test_the_images_copy_is_taken_over(store: Store) -> None:
    gen0(store, {"a.txt": b"a", "b.txt": b"b"})
    assert store.adopt_generation0().generation == 0
    assert contents(store.volume.current) == {"a.txt": "a", "b.txt": "b"}
    assert not (store.volume.launcher / "gen0").exists()


def test_a_copy_that_is_not_what_it_says_is_refused_and_can_be_made_again(store: Store) -> None:
    gen0(store, {"a.txt": b"a", "b.txt": b"b"})
    (store.volume.launcher / "gen0" / "1").write_bytes(b"X")
    with pytest.raises(TransactionError):
        store.adopt_generation0()
    assert contents(store.volume.current) == {}
    (store.volume.launcher / "gen0" / "1").write_bytes(b"b")
    store.adopt_generation0()
    assert contents(store.volume.current) == {"a.txt": "a", "b.txt": "b"}


@pytest.mark.parametrize("planted", ["gen0", "gen0/0"])
def test_a_link_that_the_application_plants_is_not_followed(
    store: Store, tmp_path: Path, planted: str
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "0").write_bytes(b"a")
    gen0(store, {"a.txt": b"a"})
    path = store.volume.launcher / planted
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(secret if planted == "gen0" else secret / "0")
    with pytest.raises((TransactionError, OSError)):
        store.adopt_generation0()
    assert (secret / "0").read_bytes() == b"a"
    assert contents(store.volume.current) == {}


def test_a_fifo_in_the_place_of_a_record_holds_nothing_up(store: Store, source: Path) -> None:
    os.mkfifo(store.volume.launcher / "applied")
    push_tree(store, source, "p1")
    assert contents(store.volume.current) == contents(source)


def test_a_draft_that_is_a_link_is_not_written_through(store: Store, source: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (store.volume.sidecar / ".state.new").symlink_to(victim)
    push_tree(store, source, "p1")
    assert victim.read_text() == "precious"


def test_damaged_history_is_refused(store: Store, source: Path) -> None:
    first = push_tree(store, source, "p1")
    (source / "app.py").write_text("two\n")
    push_tree(store, source, "p2")
    for path in store.volume.objects.iterdir():
        path.write_text("rot\n")
    with pytest.raises(BatchError, match="damaged"):
        store.stage_tree(Push("r", "", ""), first)
    assert store.state.trial is None


COMMIT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tests.sidecar.test_store import push_tree
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
store.commit("healthy")
left = 0
sys.exit(7)
"""


def test_a_commit_that_is_killed_at_any_step_leaves_the_old_or_the_new_tree(
    tmp_path: Path, source: Path
) -> None:
    trees = {}
    steps = finished = 0
    while not finished:
        steps += 5  # every fifth step, to stay quick; neighbours differ little
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
            again.commit("healthy")
            assert contents(again.volume.current) == trees["old"]
        again.close()
        (source / "new.py").unlink()
    assert steps > 20
