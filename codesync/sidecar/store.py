"""What a replica has on its volume: the committed tree, at most one trial, the history.

Blocking calls only, no socket, no asyncio. Every public method leaves the volume so that, after a crash at any
instant, `Store.open` brings back exactly the old or the new committed tree.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import IO, Any, BinaryIO

from codesync.delta import BatchError, Kind, Manifest, read_batch, unpack_batch
from codesync.errors import UserError
from codesync.hooks import matching
from codesync.plan import ReplicaTree
from codesync.protocol import TreeRef
from codesync.sidecar.changes import TrialFiles, displaced_files, tree_changes
from codesync.sidecar.committing import Fill, Ready, adopt_files, after_decision, prepared
from codesync.sidecar.generation0 import applied_tree, read_image
from codesync.sidecar.history import History
from codesync.sidecar.launcher_plan import launcher_plan, touched
from codesync.sidecar.pushes import Ending, Push, Staged, make_result, start_hooks
from codesync.sidecar.state import Commit, State, StateError, Trial
from codesync.sidecar.trees import Trees
from codesync.sidecar.volume import DIRECTORY_MODE, Volume, read_bounded, write_atomically
from codesync.transaction import (
    ATTRIBUTES,
    DELETE,
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


class Store:
    """The sidecar's side of the volume. Use `Store.open`; `close` gives the lock back."""

    def __init__(self, volume: Volume, lock: IO[bytes], now: Callable[[], float]) -> None:
        self.volume = volume
        self.staged: Staged | None = None
        self._ready: Ready | None = None  # to be committed
        self._lost = ""  # why the trial, half taken over, cannot be committed any more
        self._lock = lock
        self._now = now
        self._root = Root(os.fsencode(volume.root))
        self._history = History(volume.objects)
        self._trees = Trees(volume)
        self.state = self._load_state()
        self._recover()
        self.drop_trial()
        committed = self.state.committed
        self.committed = (
            self._trees.load(TreeRef(committed.tree_id, committed.tracked_id))
            if committed
            else ReplicaTree(Manifest.of(()))
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
        if self._ready is not None:
            self._ready.transaction.abandon()
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
            if not reader.header.is_for(*self.tree):
                raise BatchError(
                    f"the batch is made against tree {reader.header.base[:12]}, here is {self.tree.tree_id[:12]}"
                )
            files = TrialFiles(self.volume.trial)
            unpacked = unpack_batch(reader, basis, files.create, self.manifest)
            manifest = unpacked.target(self.manifest)
            result = ReplicaTree(manifest, unpacked.tracked.apply(self.committed.tracked, manifest))
            if result.ids != target:
                raise BatchError("the batch does not lead to the tree it was announced with")
            return self._record_trial(Staged(push, result, tuple(unpacked.changes), files.paths))

    def stage_tree(self, push: Push, tree: TreeRef) -> Staged:
        """Stage a tree of the history again, from what `current/` and the history hold; of `push.hooks` those that match.

        Raises StoreError, BatchError, OSError; then no trial is there.
        """
        if not any((c.tree_id, c.tracked_id) == tree for c in self.state.history):
            raise StoreError(f"tree {tree.tree_id[:12]} is no longer in this replica's history")
        with self._staging():
            target = self._trees.load(tree)
            here = {entry.digest: entry.path for entry in self.manifest if entry.kind == Kind.FILE}
            files = TrialFiles(self.volume.trial)
            changes = tree_changes(self.manifest, target.manifest)
            for change in changes:
                if change.kind == FILE:
                    with self._content(bytes.fromhex(change.digest), here) as source:
                        files.copy(change, source)
            push = push._replace(hooks=matching(push.hooks, self._changed_paths(changes)))
            return self._record_trial(Staged(push, target, tuple(changes), files.paths))

    def _content(self, digest: bytes, here: dict[bytes, bytes]) -> BinaryIO:
        if digest in here:
            return self._root.open(b"current/" + here[digest])
        return self._root.open(b".sidecar/history/" + digest.hex().encode())

    def _changed_paths(self, changes: Iterable[Change]) -> Iterator[bytes]:
        """As hooks' patterns look at them: a directory ends in a slash."""
        for change in changes:
            entry = self.manifest.get(change.path)
            known = entry is not None and entry.kind == Kind.DIRECTORY and change.kind in (DELETE, ATTRIBUTES)
            yield change.path + b"/" if known or change.kind == DIRECTORY else change.path

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
        base, target = self.manifest.tree_id, staged.target.manifest.tree_id
        known, plan = touched(self.manifest, staged.changes), launcher_plan(staged, base, self._next(staged))
        write_atomically(self.volume.trial / f"{base}.json", known, durable=False)
        write_atomically(self.volume.trial / "plan.json", plan, durable=False)
        self.staged = staged
        # not written: a start drops every trial, and the state must never be on its way to the disk unsynced
        self.state = replace(self.state, trial=Trial(staged.push.push_id, base, target))
        return staged

    def _next(self, staged: Staged) -> int:
        """The generation that it will be when it is kept."""
        committed = self.state.committed
        return (committed.generation if committed else 0) + bool(staged.changes)

    def drop_trial(self) -> None:
        """Forget the trial, if any."""
        self.staged, self._lost = None, ""
        ready, self._ready = self._ready, None
        if ready is not None:
            with suppress(OSError, TransactionError):  # the next recovery removes what is left of it
                ready.transaction.undo()
        with suppress(FileNotFoundError):
            shutil.rmtree(self.volume.trial)
        self._trees.dropped(self.state)
        self.state = replace(self.state, trial=None)

    def undo(self, ending: Ending) -> None:
        """Forget the trial and remember what became of it. Raises OSError."""
        staged, committed = self.staged, self.state.committed
        assert staged is not None, "undo follows a stage"
        self.drop_trial()
        generation = committed.generation if committed else 0
        result = make_result(staged.push, ending, self.tree, generation, self._now())
        self._save(results=self.state.with_result(result))

    # --- committing ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Bring to the disk all that a commit needs, while the launcher judges what it has taken from `trial/`.

        What is left to `commit` is to rename, and to write the state. Raises OSError, TransactionError, StoreError; `commit`
        tries again what can be tried again.
        """
        staged = self.staged
        if staged is None or self._ready is not None:
            return
        if self._lost:
            raise StoreError(f"the push was not prepared: {self._lost}; push again")
        try:
            self._ready = self._make_ready(self._new_commit(staged), staged, adopt_files(staged))
        except BaseException as error:  # whatever it was: files that went into the transaction went with it
            if not all(path.exists() for path in staged.files.values()):
                self._lost = str(error)
            raise

    def _new_commit(self, staged: Staged) -> Commit:
        push = staged.push
        return Commit(
            push_id=push.push_id,
            generation=self._next(staged),
            tree_id=staged.target.ids[0],
            tracked_id=staged.target.ids[1],
            description=push.description,
            source=push.source,
            at=self._now(),
            restores=push.restores,
        )

    def commit(self, ending: Ending) -> Commit:
        """Make the trial the committed tree. Raises OSError, TransactionError, StoreError: then the old one stands."""
        assert self.staged is not None, "commit follows a stage"
        self.prepare()
        ready, self._ready = self._ready, None
        assert ready is not None, "it is prepared"
        commit, push, tree = ready.commit, ready.staged.push, TreeRef(*ready.staged.target.ids)
        result = make_result(push, ending, tree, commit.generation, self._now())
        hooks = self.state.with_hooks(start_hooks(ready.staged))
        self._commit(ready, results=self.state.with_result(result), hooks=hooks)
        shutil.rmtree(self.volume.trial, ignore_errors=True)
        return commit

    def adopt_generation0(self) -> Commit:
        """Take over the image's copy that the launcher made; what was pushed to another image before is dropped.

        Raises OSError, TransactionError, StoreError; then everything is as it was.
        """
        try:
            image = read_image(self._root)
        except ValueError as error:
            raise StoreError(f".launcher/gen0.json is malformed ({error}); restart the launcher") from error
        target = Manifest.of(image.entries)
        dropped = sum(commit.generation > 0 for commit in self.state.history)
        words = "1 earlier push was" if dropped == 1 else f"{dropped} earlier pushes were"
        notes = (f"the image has changed: {words} dropped",) if dropped else ()
        tree = ReplicaTree(target)
        commit = Commit("", 0, *tree.ids, description="the image", at=self._now())
        staged = Staged(Push("", "", ""), tree, tuple(tree_changes(self.manifest, target)), {})

        def copy(transaction: Transaction, change: Change) -> None:
            with self._root.open(b".launcher/gen0/" + image.files[change.path]) as source:
                transaction.copy(change, source)

        self.drop_trial()
        state = {"image": image.identity, "gen0": target.tree_id, "notes": notes, "hooks": ()}
        self._commit(self._make_ready(commit, staged, copy, keep_history=False), **state)
        after_decision(lambda: shutil.rmtree(self.volume.launcher / "gen0", ignore_errors=True))
        return commit

    def _make_ready(self, commit: Commit, staged: Staged, fill: Fill, *, keep_history: bool = True) -> Ready:
        displaced = displaced_files(self.manifest, staged.changes) if keep_history else {}
        commit = replace(commit, displaced=tuple(sorted(set(displaced.values()))))
        history = self._history.trim((*self.state.history, commit) if keep_history else (commit,))
        self._trees.prepare(staged.target, self.state)
        self._recover()
        transaction = prepared(os.fsencode(self.volume.current), commit.transaction, staged.changes, fill)
        return Ready(staged, commit, history, displaced, transaction)

    def _commit(self, ready: Ready, **state: Any) -> None:
        """Make it the committed tree. The write of the state decides: what fails after it is no failure of the commit."""
        staged, transaction = ready.staged, ready.transaction
        try:
            transaction.rename()
            if staged.changes and ready.commit.tree_id == self.manifest.tree_id:
                self._trees.rewrite(staged.target)  # a tree_id tells nothing of modes
            decided = self._save(trial=None, history=ready.history, **state)
        except BaseException:  # whatever stops us, the old tree stands
            transaction.undo()
            raise
        self.committed, self.staged = staged.target, None
        self._trees.committed()
        after_decision(lambda: self._retire(ready, decided))
        # the launcher needs the manifest of the tree it runs, to know what to change at its next start
        after_decision(lambda: self._trees.sweep(self.state, applied_tree(self._root)))
        after_decision(lambda: self._history.sweep(self.state.history))

    def _retire(self, ready: Ready, decided: bool) -> None:
        """Move what was displaced into the history. What fails here is finished by the next recovery."""
        transaction, displaced = ready.transaction, ready.displaced
        try:
            transaction.keep(
                lambda path, saved: self._history.take(displaced.get(path), saved), decided=decided
            )
        except BaseException:  # whatever it was, nothing is held open
            transaction.abandon()
            raise

    # --- disk ------------------------------------------------------------------------------------------------

    def _save(self, **changes: Any) -> bool:
        """Write the state, then go by it. Raises OSError; then the old one is there, on disk as in memory.

        Whether the disk has confirmed it.
        """
        state = replace(self.state, **changes)
        data, confirmed = state.to_bytes(), True
        try:
            write_atomically(self.volume.state, data)
        except OSError:
            if not self._is_state(data):
                raise
            log.warning("the state is written, but the disk did not confirm it")
            confirmed = False
        self.state = state
        return confirmed

    def _is_state(self, data: bytes) -> bool:
        try:
            return read_bounded(self._root, b".sidecar/state", len(data)) == data
        except (OSError, ValueError, TransactionError):
            return False

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
