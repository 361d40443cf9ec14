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

from codesync.delta import BatchError, Entry, Kind, Manifest, read_batch, unpack_batch
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

MAX_GEN0 = 256 * 1024 * 1024
MAX_RECORD = 64 * 1024

log = logging.getLogger("codesync.sidecar")
Fill = Callable[[Transaction, Change], None]


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
        self._root = Root(os.fsencode(volume.root))
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
        except BaseException:  # whatever stops us, the lock is given back
            lock.close()
            raise

    def close(self) -> None:
        """Let another sidecar take the volume."""
        self._root.close()
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
        """Stage a tree of the history again, from what `current/` and the history hold.

        Raises StoreError, BatchError, OSError; then no trial is there.
        """
        if not any((c.tree_id, c.tracked_id) == tree for c in self.state.history):
            raise StoreError(f"tree {tree.tree_id[:12]} is no longer in this replica's history")
        with self._staging():
            target = self._load(*tree)
            here = {entry.digest: entry.path for entry in self.manifest if entry.kind == Kind.FILE}
            files = TrialFiles(self.volume.trial)
            changes = tree_changes(self.manifest, target.manifest)
            for change in changes:
                if change.kind == FILE:
                    with self._content(bytes.fromhex(change.digest), here) as source:
                        files.copy(change, source)
            return self._record_trial(Staged(push, target, tuple(changes), files.paths))

    def _content(self, digest: bytes, here: dict[bytes, bytes]) -> BinaryIO:
        if digest in here:
            return self._root.open(b"current/" + here[digest])
        return self._root.open(b".sidecar/history/" + digest.hex().encode())

    @contextmanager
    def _staging(self) -> Iterator[None]:
        self.drop_trial()
        (self.volume.trial / "files").mkdir(parents=True)
        for directory in (self.volume.trial, self.volume.trial / "files"):
            directory.chmod(DIRECTORY_MODE)
        try:
            yield
        except BaseException:  # whatever stops us, no half trial stays
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
        write_atomically(self.volume.trial / "plan.json", json.dumps(plan).encode(), durable=False)
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
        """Make the trial the committed tree. Raises OSError, TransactionError: then the old one stands."""
        staged = self.staged
        assert staged is not None, "commit follows a stage"
        old = self.state.committed
        commit = Commit(
            push_id=staged.push.push_id,
            generation=(old.generation if old else 0) + bool(staged.changes),
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

        def adopt(transaction: Transaction, change: Change) -> None:
            transaction.adopt(change, str(staged.files[change.path]))

        self._commit(commit, staged, adopt, results=self.state.with_result(result))
        shutil.rmtree(self.volume.trial, ignore_errors=True)
        return commit

    def adopt_generation0(self) -> Commit:
        """Take over the image's copy that the launcher made; what was pushed to another image before is dropped.

        Raises OSError, TransactionError, StoreError; then everything is as it was.
        """
        image, entries, files = self._read_generation0()
        target = Manifest.of(entries)
        dropped = sum(commit.generation > 0 for commit in self.state.history)
        words = "1 earlier push was" if dropped == 1 else f"{dropped} earlier pushes were"
        notes = (f"the image has changed: {words} dropped",) if dropped else ()
        tree = ReplicaTree(target)
        commit = Commit("", 0, *tree.ids, description="the image", at=self._now())
        staged = Staged(Push("", "", ""), tree, tuple(tree_changes(self.manifest, target)), {})

        def copy(transaction: Transaction, change: Change) -> None:
            with self._root.open(b".launcher/gen0/" + files[change.path]) as source:
                transaction.copy(change, source)

        self.drop_trial()
        self._commit(commit, staged, copy, keep_history=False, image=image, gen0=target.tree_id, notes=notes)
        shutil.rmtree(self.volume.launcher / "gen0", ignore_errors=True)
        return commit

    def _read_generation0(self) -> tuple[str, list[Entry], dict[bytes, bytes]]:
        """The image's identity, its entries, and the name below `gen0/` of each file."""
        try:
            record = json.loads(self._read(b".launcher/gen0.json", MAX_GEN0))
            rows = [(entry_from_json(fields), os.fsencode(name)) for *fields, name in record["entries"]]
            files = {entry.path: name for entry, name in rows if entry.kind == Kind.FILE}
            return str(record["image"])[:128], [entry for entry, _ in rows], files
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f".launcher/gen0.json is malformed ({error}); restart the launcher") from error

    def _commit(
        self, commit: Commit, staged: Staged, fill: Fill, *, keep_history: bool = True, **state: Any
    ) -> None:
        """Make it the committed tree. The write of the state decides; what comes after it can fail without harm."""
        displaced = displaced_files(self.manifest, staged.changes) if keep_history else {}
        commit = replace(commit, displaced=tuple(sorted(set(displaced.values()))))
        history = self._history.trim((*self.state.history, commit) if keep_history else (commit,))
        self._recover()
        transaction = Transaction.begin(os.fsencode(self.volume.current), commit.transaction)
        try:
            self._fill(transaction, staged, fill)
            transaction.rename()
            self._describe(commit, staged)
            self._save(trial=None, history=history, **state)
        except BaseException:  # whatever stops us, the old tree stands
            transaction.undo()
            raise
        self.committed, self.staged = staged.target, None
        self._retire(transaction, displaced)
        self._sweep()

    def _fill(self, transaction: Transaction, staged: Staged, fill: Fill) -> None:
        for change in staged.changes:
            if change.kind == FILE:
                fill(transaction, change._replace(mode=FILE_MODE))
            elif change.kind != ATTRIBUTES:
                mode = DIRECTORY_MODE & 0o777 if change.kind == DIRECTORY else None
                transaction.add(change._replace(mode=mode))

    def _describe(self, commit: Commit, staged: Staged) -> None:
        """Write what the state names by id. It may be there from an earlier push, but a tree_id tells nothing of modes."""
        manifest, tracked = self._manifest_path(commit.tree_id), self.volume.tracked / commit.tracked_id
        if not manifest.exists() or (staged.changes and commit.tree_id == self.manifest.tree_id):
            write_atomically(manifest, json.dumps(staged.target.manifest.to_json()).encode())
        if not tracked.exists():
            write_atomically(tracked, b"\0".join(sorted(staged.target.tracked)))

    def _retire(self, transaction: Transaction, displaced: dict[bytes, str]) -> None:
        """Move what was displaced into the history. What fails here is finished by the next recovery."""
        try:
            transaction.keep(lambda path, saved: self._history.take(displaced.get(path), saved))
        except (TransactionError, OSError) as error:
            log.warning("displaced files are not in the history yet: %s", error)
            transaction.abandon()

    def record(self, result: Result) -> None:
        """Remember what became of a push that was not kept."""
        self._save(results=self.state.with_result(result))

    # --- disk ------------------------------------------------------------------------------------------------

    def _save(self, *, durable: bool = True, **changes: Any) -> None:
        """Write the state, then go by it. Raises OSError; then the old one is there, on disk as in memory."""
        state = replace(self.state, **changes)
        data = state.to_bytes()
        try:
            write_atomically(self.volume.state, data, durable=durable)
        except OSError:
            if not self._is_state(data):
                raise
            log.warning("the state is written, but the disk did not confirm it")
        self.state = state

    def _is_state(self, data: bytes) -> bool:
        try:
            return self._read(b".sidecar/state", len(data)) == data
        except (OSError, ValueError, TransactionError):
            return False

    def _read(self, path: bytes, limit: int) -> bytes:
        """A regular file of the volume, reached through no symlink. Raises OSError, ValueError where it is larger."""
        with self._root.open(path) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"{os.fsdecode(path)} is larger than {limit} bytes")
        return data

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
            return str(json.loads(self._read(b".launcher/applied", MAX_RECORD))["tree_id"])
        except (OSError, ValueError, KeyError, TypeError, TransactionError):
            return ""


def _remove_others(directory: Path, wanted: set[str]) -> None:
    for name in os.listdir(directory):
        if name not in wanted:
            with suppress(OSError):  # something else's; it costs room, no more
                (directory / name).unlink()
