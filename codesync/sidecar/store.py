"""What a replica has on its volume: the committed tree, at most one trial, the history.

Blocking calls only, no socket, no asyncio. Every public method leaves the volume so that, after a crash at any
instant, `Store.open` brings back exactly the old or the new committed tree.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from codesync.delta import BatchError, Kind, Manifest, read_batch, unpack_batch
from codesync.delta.manifest.form import entry_from_json
from codesync.errors import UserError
from codesync.plan import ReplicaTree
from codesync.protocol import TreeRef
from codesync.sidecar.changes import TrialFiles, displaced_files, tree_changes
from codesync.sidecar.history import History
from codesync.sidecar.state import Commit, Result, State, StateError, Trial
from codesync.sidecar.volume import DIRECTORY_MODE, FILE_MODE, Volume, write_atomically
from codesync.transaction import (
    ATTRIBUTES,
    DIRECTORY,
    FILE,
    Change,
    Root,
    Transaction,
    TransactionError,
    recover,
)

log = logging.getLogger("codesync.sidecar")


class StoreError(UserError):
    """One line: what the volume lacks and what to do about it."""


class Push(NamedTuple):
    """Who pushes what, as the history will tell it. `restores` is the push a rollback goes back to."""

    push_id: str
    source: str
    description: str
    source_tree_id: str = ""
    restores: str = ""


@dataclass(frozen=True)
class Staged:
    """A trial as it lies in `trial/`: `files` has the content of every FILE in `changes`."""

    push: Push
    target: ReplicaTree
    changes: tuple[Change, ...]
    files: dict[bytes, Path]


class Store:
    """The sidecar's side of the volume. Use `Store.open`; `close` gives the lock back."""

    def __init__(self, volume: Volume, lock: IO[bytes], now: Callable[[], float]) -> None:
        self.volume = volume
        self.staged: Staged | None = None
        self._lock = lock
        self._now = now
        self._history = History(volume.objects)
        self.state = self._load_state()
        self._recover()
        self.drop_trial()
        committed = self.state.committed
        self.committed = (
            self._load(committed.tree_id, committed.tracked_id) if committed else ReplicaTree(Manifest.of(()))
        )

    @classmethod
    def open(cls, files_dir: str, *, now: Callable[[], float] = time.time) -> Store:
        """Take the volume: one sidecar at a time; recover what a crash has left. Raises StoreError."""
        volume = Volume(files_dir)
        try:
            volume.prepare()
            lock = open(volume.lock, "ab")
        except OSError as error:
            raise StoreError(
                f"{files_dir} cannot be used: {error}; mount a volume there that this user can write"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(volume, lock, now)
        except BlockingIOError as error:
            lock.close()
            raise StoreError(
                f"another sidecar uses {files_dir}; give each replica a volume of its own"
            ) from error
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        """Let another sidecar take the volume."""
        self._lock.close()

    @property
    def tree(self) -> TreeRef:
        """What is committed."""
        return TreeRef(*self.committed.ids)

    @property
    def manifest(self) -> Manifest:
        """The entries of what is committed."""
        return self.committed.manifest

    @property
    def has_stored_pushes(self) -> bool:
        """Whether pushes were kept before any launcher ran: they fit every image, and no image may drop them."""
        return not self.state.image and any(commit.generation for commit in self.state.history)

    # --- staging ---------------------------------------------------------------------------------------------

    def stage_batch(self, push: Push, file: BinaryIO, target: TreeRef) -> Staged:
        """Unpack a batch into `trial/`, every digest verified. Raises BatchError, OSError; then no trial is there."""
        with self._staging(), Root(os.fsencode(self.volume.current)) as basis:
            reader = read_batch(file)
            if (reader.header.base, reader.header.base_tracked) != self.tree:
                raise BatchError(
                    f"the batch is made against tree {reader.header.base[:12]}, here is {self.tree.tree_id[:12]}"
                )
            files = TrialFiles(self.volume.trial)
            unpacked = unpack_batch(reader, basis, files.create)
            manifest = unpacked.target(self.manifest)
            result = ReplicaTree(manifest, unpacked.tracked.apply(self.committed.tracked, manifest))
            if result.ids != target:
                raise BatchError("the batch does not lead to the tree it was announced with")
            return self._record_trial(Staged(push, result, tuple(unpacked.changes), files.paths))

    def stage_tree(self, push: Push, tree: TreeRef) -> Staged:
        """Stage a tree of the history again, from what `current/` and the history hold. Raises StoreError, OSError."""
        if not any((c.tree_id, c.tracked_id) == tree for c in self.state.history):
            raise StoreError(f"tree {tree.tree_id[:12]} is no longer in this replica's history")
        with self._staging():
            target = self._load(*tree)
            here = {entry.digest: entry.path for entry in self.manifest if entry.kind == Kind.FILE}
            files = TrialFiles(self.volume.trial)
            changes = tree_changes(self.manifest, target.manifest)
            for change in changes:
                if change.kind == FILE:
                    files.link(change, self._content(bytes.fromhex(change.digest), here))
            return self._record_trial(Staged(push, target, tuple(changes), files.paths))

    def _content(self, digest: bytes, here: dict[bytes, bytes]) -> Path:
        if digest in here:
            return self.volume.current / os.fsdecode(here[digest])
        return self._history.object(digest.hex())

    @contextmanager
    def _staging(self) -> Iterator[None]:
        self.drop_trial()
        (self.volume.trial / "files").mkdir(parents=True)
        for directory in (self.volume.trial, self.volume.trial / "files"):
            directory.chmod(DIRECTORY_MODE)
        try:
            yield
        except BaseException:
            self.drop_trial()
            raise

    def _record_trial(self, staged: Staged) -> Staged:
        plan = {
            "version": 1,
            "push_id": staged.push.push_id,
            "base": self.manifest.tree_id,
            "target": staged.target.manifest.tree_id,
            "changes": [
                change.to_json()
                | ({"file": f"files/{staged.files[change.path].name}"} if change.kind == FILE else {})
                for change in staged.changes
            ],
        }
        path = self.volume.trial / "plan.json"
        path.write_text(json.dumps(plan))
        path.chmod(FILE_MODE)
        self.staged = staged
        trial = Trial(staged.push.push_id, self.manifest.tree_id, staged.target.manifest.tree_id)
        self._save(durable=False, trial=trial)  # no start ever takes a trial up again
        return staged

    def drop_trial(self, result: Result | None = None) -> None:
        """Forget the trial, if any; `result` is remembered with it."""
        self.staged = None
        with suppress(FileNotFoundError):
            shutil.rmtree(self.volume.trial)
        if self.state.trial or result:
            results = self.state.with_result(result) if result else self.state.results
            self._save(trial=None, results=results)

    # --- committing ------------------------------------------------------------------------------------------

    def commit(self, status: str) -> Commit:
        """Make the trial the committed tree. Raises OSError, TransactionError: then the old one stands, the trial too."""
        staged = self.staged
        assert staged is not None, "commit follows a stage"
        old = self.state.committed
        same_tree = old is not None and old.tree_id == staged.target.manifest.tree_id
        commit = Commit(
            push_id=staged.push.push_id,
            generation=(old.generation if old else 0) + (not same_tree),
            tree_id=staged.target.ids[0],
            tracked_id=staged.target.ids[1],
            description=staged.push.description,
            source=staged.push.source,
            at=self._now(),
            restores=staged.push.restores,
        )
        result = Result(
            commit.push_id,
            staged.push.source_tree_id,
            status,
            commit.tree_id,
            commit.tracked_id,
            commit.generation,
        )
        self._commit(commit, staged, results=self.state.with_result(result))
        shutil.rmtree(self.volume.trial)
        return commit

    def adopt_generation0(self) -> Commit:
        """Take over the image's copy that the launcher made; what was pushed to another image before is dropped."""
        record = json.loads((self.volume.launcher / "gen0.json").read_bytes())
        entries, files = [], {}
        for *fields, file in record["entries"]:
            entry = entry_from_json(fields)
            entries.append(entry)
            if entry.kind == Kind.FILE:
                files[entry.path] = self.volume.launcher / "gen0" / os.path.basename(file)
        target = Manifest.of(entries)
        dropped = [commit.push_id for commit in self.state.history if commit.generation]
        notes = (f"the image has changed: {len(dropped)} earlier pushes were dropped",) if dropped else ()
        tree = ReplicaTree(target)
        commit = Commit("", 0, *tree.ids, description="the image", at=self._now())
        staged = Staged(Push("", "", ""), tree, tuple(tree_changes(self.manifest, target)), files)
        self.drop_trial()
        self._commit(
            commit, staged, keep_history=False, image=record["image"], gen0=target.tree_id, notes=notes
        )
        shutil.rmtree(self.volume.launcher / "gen0", ignore_errors=True)
        return commit

    def _commit(self, commit: Commit, staged: Staged, *, keep_history: bool = True, **state: Any) -> None:
        displaced = displaced_files(self.manifest, staged.changes) if keep_history else {}
        self._recover()
        with Transaction.begin(os.fsencode(self.volume.current), commit.transaction) as transaction:
            for change in staged.changes:
                if change.kind == FILE:
                    transaction.adopt(change._replace(mode=FILE_MODE), str(staged.files[change.path]))
                elif change.kind != ATTRIBUTES:
                    transaction.add(
                        change._replace(mode=DIRECTORY_MODE & 0o777 if change.kind == DIRECTORY else None)
                    )
            transaction.rename()
            self._write_once(
                self._manifest_path(commit.tree_id),
                lambda: json.dumps(staged.target.manifest.to_json()).encode(),
            )
            self._write_once(
                self.volume.tracked / commit.tracked_id, lambda: b"\0".join(sorted(staged.target.tracked))
            )
            commit = replace(commit, displaced=tuple(sorted(set(displaced.values()))))
            history = (*self.state.history, commit) if keep_history else (commit,)
            self._save(trial=None, history=self._history.trim(history), **state)
            self._retire(transaction, displaced)
        self.committed, self.staged = staged.target, None
        self._sweep()

    def _retire(self, transaction: Transaction, displaced: dict[bytes, str]) -> None:
        """Move what was displaced into the history. The tree is committed; what fails here is finished by recovery."""
        try:
            transaction.keep(lambda path, saved: self._history.take(displaced.get(path), saved))
        except (TransactionError, OSError) as error:
            log.warning("displaced files are not in the history yet: %s", error)

    def record(self, result: Result) -> None:
        """Remember what became of a push that was not kept."""
        self._save(results=self.state.with_result(result))

    # --- disk ------------------------------------------------------------------------------------------------

    def _save(self, *, durable: bool = True, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        write_atomically(self.volume.state, self.state.to_bytes(), durable=durable)

    def _write_once(self, path: Path, make: Callable[[], bytes]) -> None:
        """Write a file whose name tells its content; it may be there from an earlier push."""
        if not path.exists():
            write_atomically(path, make())

    def _load_state(self) -> State:
        try:
            return State.from_bytes(self.volume.state.read_bytes())
        except FileNotFoundError:
            return State(replica=f"{socket.gethostname()[:40]}-{secrets.token_hex(3)}")
        except StateError as error:
            raise StoreError(
                f"{self.volume.state} cannot be read: {error}; move it away to start anew from the image"
            ) from error

    def _recover(self) -> None:
        """Finish or undo what was interrupted in `current/`: the state says which."""
        committed = self.state.committed
        wanted = set(committed.displaced) if committed else set()

        def retire(path: bytes, saved: str) -> None:
            with open(saved, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._history.take(digest if digest in wanted else None, saved)

        kept = committed.transaction if committed else None
        recover(os.fsencode(self.volume.current), lambda name: name == kept, retire)

    def _manifest_path(self, tree_id: str) -> Path:
        return self.volume.manifests / f"{tree_id}.json"

    def _load(self, tree_id: str, tracked: str) -> ReplicaTree:
        manifest = Manifest.from_json(json.loads(self._manifest_path(tree_id).read_bytes()))
        data = (self.volume.tracked / tracked).read_bytes()
        return ReplicaTree(manifest, frozenset(data.split(b"\0")) if data else frozenset())

    def _sweep(self) -> None:
        """Remove manifests, tracked sets and objects that nothing refers to any more."""
        trees = {c.tree_id for c in self.state.history} | {self.state.gen0, self._applied()}
        _remove_others(self.volume.manifests, {f"{tree_id}.json" for tree_id in trees})
        _remove_others(self.volume.tracked, {c.tracked_id for c in self.state.history})
        self._history.sweep(self.state.history)

    def _applied(self) -> str:
        """The tree the launcher runs: it needs that manifest to know what to change at its next start."""
        try:
            return str(json.loads((self.volume.launcher / "applied").read_bytes())["tree_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def _remove_others(directory: Path, wanted: set[str]) -> None:
    for name in os.listdir(directory):
        if name not in wanted:
            (directory / name).unlink()
