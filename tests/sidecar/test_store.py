"""The replica's volume: staged, committed, rolled back, recovered."""

import base64
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from codesync.delta import (
    BatchError,
    Manifest,
    TrackedChange,
    inspect_batch,
    scan,
    tracked_id,
    write_batch,
)
from codesync.protocol import TreeRef
from codesync.sidecar.pushes import Ending, Push
from codesync.sidecar.store import Store, StoreError
from codesync.transaction import TransactionError
from tests.sidecar.pushing import contents, make_batch, push_tree

EMPTY = TreeRef(Manifest.of(()).tree_id, tracked_id(()))


def test_a_new_volume_holds_the_empty_tree(store: Store) -> None:
    assert store.tree == EMPTY
    assert store.state.committed is None


def test_a_staged_push_changes_nothing_until_it_is_committed(store: Store, source: Path) -> None:
    ref = push_tree(store, source, "p1", commit=False)
    assert contents(store.volume.current) == {}
    assert store.state.trial is not None
    store.commit(Ending("healthy"))
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


def test_a_renamed_directory_reaches_the_launcher_as_changes_of_single_paths(
    store: Store, source: Path
) -> None:
    push_tree(store, source, "p1")
    (source / "package").rename(source / "renamed")
    data, ref = make_batch(store, source, "p2")
    assert [path.what for path in inspect_batch(io.BytesIO(data)).paths] == ["move"]
    push_tree(store, source, "p2", commit=False)
    plan = json.loads((store.volume.trial / "plan.json").read_bytes())
    changes = [(change["kind"], base64.b64decode(change["path"])) for change in plan["changes"]]
    assert changes == [
        ("delete", b"package/module.py"),
        ("delete", b"package"),
        ("directory", b"renamed"),
        ("file", b"renamed/module.py"),
    ]
    store.commit(Ending("healthy"))
    assert store.tree == ref
    assert contents(store.volume.current) == contents(source)


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
    commit = store.commit(Ending("healthy"))
    assert (commit.generation, commit.restores) == (3, "p1")
    assert contents(store.volume.current) == before
    assert store.tree == first
    store.stage_tree(Push("r2", "", "", restores="p2"), second)
    store.commit(Ending("healthy"))
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
    store.commit(Ending("healthy"))
    assert (store.volume.current / "app.py").read_text() == "version 3\n"


def test_only_the_tracked_set_changes_without_a_new_generation(store: Store, source: Path) -> None:
    push_tree(store, source, "p1")
    file = io.BytesIO()
    tracked = TrackedChange.between(store.committed.tracked, store.manifest, [b"app.py"])
    write_batch(file, str(source), store.manifest, store.manifest, tracked=tracked)
    file.seek(0)
    ref = TreeRef(store.manifest.tree_id, tracked_id([b"app.py"]))
    store.stage_batch(Push("p2", "", ""), file, ref)
    assert store.commit(Ending("no_changes")).generation == 1
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


def test_a_copy_that_is_described_too_deeply_is_malformed(store: Store) -> None:
    (store.volume.launcher / "gen0.json").write_bytes(b"[" * 60_000)
    with pytest.raises(StoreError, match=r"gen0.json is malformed"):
        store.adopt_generation0()
    assert store.state.committed is None


def test_a_copy_that_cannot_be_removed_is_taken_over_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gen0(store, {"a.txt": b"a"})
    deep = store.volume.launcher / "gen0"
    real = shutil.rmtree

    def rmtree(path: Path, **options: Any) -> None:
        if path == deep:
            raise RecursionError  # of directories in one another, more than Python can follow
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert store.adopt_generation0().generation == 0
    assert contents(store.volume.current) == {"a.txt": "a"}


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
