"""The application's directory: what it holds, and how it becomes another tree.

One rule for every crash: `.launcher/applied` is written between a transaction's rename and its end. So recovery finishes
a transaction that `applied` names, or whose push is committed, and undoes any other.
"""

from __future__ import annotations

import functools
import os
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from codesync.launcher.changes import Staged, missing_changes, rename, stage, tree_changes
from codesync.launcher.image import Listing, copy_image, list_image
from codesync.launcher.records import (
    MARK,
    MARK_LINE,
    Applied,
    Planned,
    RecordError,
    State,
    is_of,
    read_listing,
    read_mark,
    write_listing,
)
from codesync.transaction import Root, TransactionError, recover

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from codesync.launcher.records import Committed, Entry, Plan, PlannedHook
    from codesync.launcher.volume import Volume
    from codesync.transaction import Change

FAILURES = (OSError, TransactionError, RecordError)  # what a tree may fail with and the application outlive
NO_GEN0, COPYING, READY = "none", "copying", "ready"


class TreeError(Exception):
    """The application's directory cannot take pushes; one line that says why."""


class Start(NamedTuple):
    """What to do before the application runs, decided from the records alone."""

    fresh: bool  # a new container: list it, give it a mark
    tree_id: str | None  # what it holds now
    target: Committed | None  # what it shall hold
    gen0: bool  # the sidecar has no copy of this image yet


def decide_start(
    applied: Applied | None, instance: str | None, state: State, image: Callable[[], str]
) -> Start:
    """The mark inside the directory tells a restart from a fresh container; the image's identity, whose pushes are meant.

    `image` lists the directory; it is asked in a fresh container only.
    """
    if applied is None or applied.instance != instance:
        fresh, here, held = True, image(), None
    else:
        fresh, here, held = False, applied.image, applied.tree_id
    target = valid_target(state, here)
    if held is None and state.gen0 and state.image == here:
        held = state.gen0
    return Start(fresh, held, target, gen0=held is None and target is None)


def valid_target(state: State, image: str) -> Committed | None:
    """The committed tree, unless it was made for another image. Pushes stored before any launcher ran fit any image."""
    return None if state.image and state.image != image else state.committed


class Step:
    """A staged way from the tree that is there to another: rename, sync, then keep or undo. Each may take a while."""

    def __init__(self, tree: Tree, root: Root, staged: Staged, becomes: Applied | None) -> None:
        self.drift = staged.drift
        self._tree = tree
        self._root = root
        self._staged = staged
        self._becomes = becomes  # None: it is a copy of the application's directory that changes

    def rename(self) -> None:
        """Make it the tree; what is old may run no more. Raises TransactionError or OSError; then the old one is there.

        It need not be on the disk yet, and the application need not wait for that: until `keep` a crash brings the old
        tree back, for which everything is on the disk.
        """
        rename(self._root, self._staged)

    def sync(self) -> None:
        """Bring the new tree to the disk, the application running or not. Raises TransactionError; it can be undone."""
        self._staged.transaction.sync()

    def switch(self) -> None:
        """Rename and keep. Raises TransactionError or OSError; then the old tree is there."""
        self.rename()
        try:
            self.sync()
        except BaseException:  # whatever it was: what is not on the disk is not kept
            self.undo()
            raise
        self.keep()

    def keep(self) -> None:
        """Record it as applied, then forget the old tree. It has been synced."""
        recorded = self._becomes is not None and self._tree.record(self._becomes)
        try:
            self._staged.transaction.keep(decided=recorded)
        except (TransactionError, OSError) as error:  # the next recovery removes what is left of it
            self._tree.note(f"the old tree is not removed yet: {error}")
            self._staged.transaction.abandon()
        finally:
            self._done()

    def undo(self) -> None:
        """Put the old tree back. Raises TransactionError; then the next start tries again."""
        try:
            self._staged.transaction.undo()
        finally:
            self._done()

    def _done(self) -> None:
        if self._becomes is None:
            self._root.close()


class Tree:
    """`app_root` and what the volume knows of it. `applied` is always what is really there."""

    def __init__(self, app_root: str, volume: Volume, note: Callable[[str], None]) -> None:
        self.applied = Applied("", "")
        self.gen0 = NO_GEN0
        self.due: list[PlannedHook] = []  # to be run before the application is started
        self.trouble = ""  # why no push can be tried, until a recovery succeeds
        self._volume = volume
        self.note = note
        try:
            self.root = Root(app_root)
        except OSError as error:
            raise TreeError(f"{app_root} cannot be read ({error.strerror})") from error

    # --- at the start ----------------------------------------------------------------------------------------

    def prepare(self, cancelled: threading.Event) -> None:
        """Recover, tell a restart from a fresh container, bring in the committed tree. Raises TreeError."""
        instance, applied = self._read_mark(), self._volume.applied()
        restart = applied is not None and applied.instance == instance
        if applied is not None and restart:
            self.applied = applied
        try:
            state = self._volume.state()
        except (RecordError, OSError) as error:
            if not restart:  # whatever we offered now, the sidecar could take for another image
                raise TreeError(f"what is committed cannot be read: {error}") from error
            self.note(f"what is committed cannot be read, the tree stays as it is: {error}")
            self.recover(State())
            return
        self.recover(state)
        before = self.applied.push_id if restart else None
        self._settle(instance, state)
        target = valid_target(state, self.applied.image)
        self._bring(target, cancelled)
        if target is not None and target.push_id == self.applied.push_id:
            self.due = state.hooks_since(before)

    def _settle(self, instance: str | None, state: State) -> None:
        """Know what is there, and what is to be offered to the sidecar."""
        listing = functools.lru_cache(maxsize=None)(lambda: list_image(self.root, self._volume.identity()))
        known = self.applied if self.applied.instance else None
        start = decide_start(known, instance, state, lambda: listing().image)
        if start.fresh:
            self._record_container(listing(), start)
        elif start.tree_id != self.applied.tree_id:
            self.record(self.applied._replace(tree_id=start.tree_id))
        if state.committed and not start.target:
            self.note("the volume's pushes were made for another image; starting with the code of this one")
        if start.gen0:
            ready = is_of(self._volume.read("gen0.json"), self.applied.instance)
            self.gen0 = READY if ready else COPYING
        else:
            self._volume.guard(self._volume.clear_gen0, self.note)

    def _read_mark(self) -> str | None:
        try:
            with self.root.open(MARK) as file:
                return read_mark(file.read(1024))
        except (OSError, TransactionError):
            return None

    def recover(self, state: State) -> None:
        """Finish or undo what a crash has interrupted; `trouble` says when that fails."""
        committed = state.committed

        def kept(name: str) -> bool:
            if name == self.applied.transaction:
                return True
            if committed is None or name != committed.push_id or not self.applied.instance:
                return False
            self.record(self.applied._replace(tree_id=committed.tree_id, push_id=name, transaction=name))
            return True

        try:
            recover(self.root, kept)
            self.trouble = ""
        except (TransactionError, OSError) as error:
            self.trouble = f"the application's directory cannot be recovered: {error}"
            self.note(self.trouble)

    def require_recovered(self) -> None:
        """Try again what failed at the start. Raises RecordError, OSError while it does."""
        if self.trouble:
            self.recover(self._volume.state())
        if self.trouble:
            raise RecordError(self.trouble)

    def _record_container(self, listing: Listing, start: Start) -> None:
        """Record a fresh container; the mark comes last, so until then it stays fresh."""
        self.applied = Applied(os.urandom(16).hex(), listing.image, start.tree_id)
        try:
            if start.gen0:
                self._volume.write(
                    "listing.json", write_listing(self.applied, listing.entries, listing.left_out)
                )
            self._volume.clear_gen0()
            self._volume.set_applied(self.applied)
            self._volume.write("instance", self.applied.instance.encode() + b"\n")
            self._write_mark()
        except OSError as error:
            raise TreeError(f"{self.root.path} or its volume cannot be written ({error.strerror})") from error

    def _write_mark(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(MARK, flags, 0o644, dir_fd=self.root.fd), "wb") as file:
            file.write(MARK_LINE + self.applied.instance.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.fsync(self.root.fd)

    def _bring(self, target: Committed | None, cancelled: threading.Event) -> None:
        """Apply the committed tree before the application starts; what fails leaves the tree that is there."""
        try:
            step = self.stage_committed(target, cancelled)
            if step is not None:
                step.switch()
        except FAILURES as error:
            self.note(f"the committed tree is not applied: {error}")

    # --- becoming another tree -------------------------------------------------------------------------------

    def target(self) -> Committed | None:
        """The tree to hold, by the sidecar's state as it is now. Raises RecordError, OSError."""
        return valid_target(self._volume.state(), self.applied.image)

    def expect_hooks(self, before: str) -> None:
        """What was committed since that push is there now, and its hooks have not run here."""
        try:
            self.due = self._volume.state().hooks_since(before)
        except (RecordError, OSError) as error:
            self.note(f"which hooks are to run cannot be read: {error}")

    def is_committed(self, push_id: str) -> bool:
        """Whether the sidecar has committed that push. False when its state cannot be read."""
        try:
            target = self.target()
        except (RecordError, OSError):
            return False
        return target is not None and target.push_id == push_id

    def stage_committed(self, target: Committed | None, cancelled: threading.Event) -> Step | None:
        """Stage the committed tree; None when it is there already. Raises one of FAILURES, or Cancelled."""
        if target is None:
            return None
        if target.tree_id == self.applied.tree_id:
            if target.push_id != self.applied.push_id:  # a push that changed nothing
                self.record(self.applied._replace(push_id=target.push_id))
            return None
        becomes = self.applied._replace(
            tree_id=target.tree_id, push_id=target.push_id, transaction="apply-" + os.urandom(8).hex()
        )
        planned = [Planned(change) for change in self._changes_to(target.tree_id)]
        with closing(self._volume.contents(b"current")) as current:
            staged = stage(
                self.root,
                becomes.transaction,
                planned,
                known=self._known(self._volume.manifest),
                source=lambda each: current.open(each.change.path),
                cancelled=cancelled,
            )
        return Step(self, self.root, staged, becomes)

    def _changes_to(self, tree_id: str) -> list[Change]:
        wanted = self._volume.manifest(tree_id)
        wanted.pop(MARK, None)
        if self.applied.tree_id is not None:
            try:
                return tree_changes(self._volume.manifest(self.applied.tree_id), wanted)
            except (RecordError, OSError) as error:
                self.note(f"files that the committed tree no longer has may stay: {error}")
        return missing_changes(self.root, wanted)

    def stage_plan(self, plan: Plan, cancelled: threading.Event, copy: str = "") -> Step:
        """Stage a trial, in the application's directory or in `copy` of it. Raises one of FAILURES, or Cancelled."""
        if plan.base != self.applied.tree_id and self.applied.tree_id is not None:
            raise RecordError(
                f"the push is made against tree {plan.base:.12}, here is {self.applied.tree_id:.12}"
            )
        becomes = self.applied._replace(tree_id=plan.target, push_id=plan.push_id, transaction=plan.push_id)
        root = Root(copy) if copy else self.root
        with closing(self._volume.contents(b".sidecar/trial")) as trial:
            staged = stage(
                root,
                plan.push_id,
                plan.changes,
                known=self._known(self._volume.touched),
                source=lambda each: trial.open(each.file.encode()),
                cancelled=cancelled,
                durable=not copy,  # a start makes copies anew
            )
        return Step(self, root, staged, None if copy else becomes)

    def _known(self, read: Callable[[str], dict[bytes, Entry]]) -> dict[bytes, Entry] | None:
        if self.applied.tree_id is None:
            return None
        try:
            return read(self.applied.tree_id)
        except (RecordError, OSError) as error:
            self.note(f"files that somebody else has changed are not noticed: {error}")
            return None

    def record(self, applied: Applied) -> bool:
        """The directory holds this from now on. Whether that could be written down."""
        self.applied = applied
        return self._volume.guard(lambda: self._volume.set_applied(applied), self.note)

    # --- generation 0 ----------------------------------------------------------------------------------------

    def copy_gen0(self, cancelled: threading.Event) -> None:
        """Copy the image to the volume. Raises RecordError, OSError."""
        data = self._volume.read("listing.json")
        if data is None:
            raise RecordError(".launcher/listing.json is missing")
        with Root(self.root.path) as root:
            copy_image(root, self._volume, self.applied, read_listing(data, self.applied), cancelled)

    def adopt_gen0(self, tree_id: str) -> None:
        """The sidecar has taken generation 0 over, and this is its name."""
        self.gen0 = NO_GEN0
        if self.applied.tree_id is None:
            self.record(self.applied._replace(tree_id=tree_id))
        self._volume.guard(self._volume.clear_gen0, self.note)
