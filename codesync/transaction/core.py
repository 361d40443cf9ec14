"""A transaction: stage, rename, then keep or undo.

Staging reads and writes only inside the staging directory. `rename` brings the new tree in, as a whole or not at all;
from then on a process that dies leaves it to `recover`. `keep` makes it final, `undo` brings the old tree back.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, cast

from .backward import Backward
from .change import FILE, Change
from .errors import (
    GONE,
    TransactionError,
    Unfinished,
    UnsafePath,
    VerificationError,
    explained,
    failed,
    shown,
)
from .forward import Forward
from .journal import Journal
from .prepare import Preparation
from .root import Root
from .staged import StagedFile
from .staging import JOURNAL, KEPT, RENAMED, UNDOING, UNDONE, Staging, belongs_to_staging, stagings, tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self  # novm: only for the type checker

_BUFFER = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 3


class Transaction:
    """`begin`, then `create`/`copy`/`adopt`/`add` for every change, `rename`, and `keep` or `undo`.

    As a context manager it undoes what was not kept. `left` names directories that were to be deleted and hold unknown
    content; `fsyncs` counts the fsync and syncfs calls. Not for use by two threads at once.
    """

    def __init__(self, staging: Staging, id: str) -> None:
        self.id = id
        self.left: list[bytes] = []
        self._staging = staging
        self._changes: dict[bytes, Change] = {}
        self._numbers: dict[bytes, int] = {}
        self._count = 0
        self._open: dict[bytes, StagedFile] = {}
        self._journal: Journal | None = None
        self._state: bytes | None = None

    @classmethod
    def begin(cls, root: str | bytes | Root, id: str, durable: bool = True) -> Transaction:
        """Make the staging directory and lock it.

        Busy while another transaction lives in the root, Unfinished when one died there with its journal written. What
        died before that is cleared away.
        """
        tree = opened(root)
        try:
            with explained(os.fsencode(tree.path), "staged in"):
                staging = _new_staging(tree)
        except BaseException:  # whatever stops us, the descriptors are closed
            tree.close()
            raise
        staging.durable = durable
        return cls(staging, id)

    @property
    def fsyncs(self) -> int:
        """How many fsync and syncfs calls there were."""
        return self._staging.fsyncs

    # ---- staging

    def create(self, change: Change) -> BinaryIO:
        """A file to write the content of a FILE to; its close raises VerificationError unless size and SHA-256 are right."""
        self._expect_file(change)
        name = self._claim(change)
        try:
            fd = self._staging.create(name)
        except OSError as error:
            self._drop(change)
            raise failed(change.path, "staged", error) from error

        def done(good: bool) -> None:
            self._open.pop(change.path, None)
            if not good:
                self._drop(change)

        file = StagedFile(fd, change, done)
        self._open[change.path] = file
        return cast(BinaryIO, file)

    def copy(self, change: Change, source: BinaryIO) -> None:
        """`create` and fill it from a stream."""
        with self.create(change) as file:
            for data in iter(lambda: source.read(_BUFFER), b""):
                file.write(data)

    def adopt(self, change: Change, path: str) -> None:
        """Take the file at `path` as the content of a FILE: renamed in, unread, where it may be; else copied (and verified)."""
        self._expect_file(change)
        with explained(change.path, "staged"):
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                raise UnsafePath(f"{shown(change.path)}: {path} is not a regular file", change.path)
            if status.st_size != change.size:
                raise _other_size(change, path)
            if status.st_nlink > 1 or not self._renamed_in(change, path):
                with os.fdopen(os.open(path, _READ), "rb") as source:
                    self.copy(change, source)

    def _renamed_in(self, change: Change, path: str) -> bool:
        name = self._claim(change)
        try:
            os.rename(path, name, dst_dir_fd=self._staging.fd)
        except OSError:
            self._drop(change)
            return False
        return True

    def add(self, change: Change) -> None:
        """Take a DIRECTORY, SYMLINK, ATTRIBUTES or DELETE."""
        change.check()
        if change.kind == FILE:
            raise TransactionError(f"{shown(change.path)} is a file: use create, copy or adopt", change.path)
        self._claim(change)

    def _expect_file(self, change: Change) -> None:
        change.check()
        if change.kind != FILE:
            raise TransactionError(f"{shown(change.path)} is no file but {change.kind}: use add", change.path)

    def _claim(self, change: Change) -> bytes:
        """Enter a change; the name of its staged file."""
        self._expect(None, "staged to")
        path = change.path
        if path in self._changes:
            raise TransactionError(f"{shown(path)} is changed twice; send one change for a path", path)
        if belongs_to_staging(self._staging.root, path):
            raise UnsafePath(f"{shown(path)} leads into a staging directory; leave it out", path)
        self._changes[change.path] = change
        self._numbers[change.path] = self._count
        self._count += 1
        return b"n%d" % self._numbers[change.path]

    def _drop(self, change: Change) -> None:
        """A change whose content did not come."""
        if self._changes.pop(change.path, None) and self._staging.fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(b"n%d" % self._numbers[change.path], dir_fd=self._staging.fd)

    def _expect(self, state: bytes | None, what: str) -> None:
        if self._state != state:
            now = "not renamed yet" if self._state is None else self._state.decode("ascii") + " already"
            raise TransactionError(f"transaction {self.id} cannot be {what}: it is {now}")

    # ---- the change itself

    def rename(self) -> None:
        """Make the new tree.

        First everything is checked, staged data synced and the journal written. On any error the old tree is back, the
        staging directory gone, and the error raised.
        """
        self._expect(None, "renamed")
        if self._open:
            path = next(iter(self._open))
            raise TransactionError(f"{shown(path)} is still being written; close it first", path)
        try:
            with explained(self._staging.name, "written"):
                self._prepare()
                self._go_forward()
        except BaseException:  # whatever stops us, the old tree is put back
            self.undo()
            raise

    def _prepare(self) -> None:
        self._journal = Preparation(self._staging, self._changes, self._numbers).journal(self.id)
        write_journal(self._staging, self._journal)
        self._state = JOURNAL

    def _go_forward(self) -> None:
        assert self._journal is not None
        self.left = go_forward(self._staging, self._journal)
        self._state = RENAMED

    def keep(self, retire: Callable[[bytes, str], None] | None = None) -> None:
        """Make it final. `retire(path, saved)` may take each replaced or deleted file away from `saved`, an absolute path.

        An error of `retire` is raised; the transaction is kept all the same, and `recover` offers the rest again.
        """
        self._expect(RENAMED, "kept")
        assert self._journal is not None
        try:
            with explained(self._staging.name, "kept"):
                self._staging.enter(RENAMED, KEPT)
                self._state = KEPT
                self._staging.sync(self._staging.fd)
            finish_kept(self._staging, self._journal, retire)
        finally:
            if self._state == KEPT:
                self._close()

    def undo(self) -> None:
        """The old tree, exactly; from any state but kept. Harmless when repeated.

        If the system refuses to put something back, everything else is put back, the error is raised and the journal
        stays for `recover`.
        """
        if self._state == KEPT:
            text = f"transaction {self.id} is kept and cannot be undone; make the old tree in a new one"
            raise TransactionError(text)
        if self._state == UNDONE:
            return
        for file in list(self._open.values()):
            file.abandon()
        try:
            with explained(self._staging.name, "undone"):
                if self._journal is not None and self._staging.state() is not None:
                    go_backward(self._staging, self._journal)
                self._staging.remove()
        finally:
            self._state = UNDONE
            self._close()

    def abandon(self) -> None:
        """Let go of it as it stands, after an error of `keep`: `recover` finishes or undoes it."""
        if self._state not in (KEPT, UNDONE):
            self._close()

    def _close(self) -> None:
        self._staging.close()
        self._staging.root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state not in (KEPT, UNDONE):
            self.undo()


def _other_size(change: Change, path: str) -> VerificationError:
    text = f"{path} is not the {change.size} bytes announced for {shown(change.path)}; send it again"
    return VerificationError(text, change.path)


def opened(root: str | bytes | Root) -> Root:
    """A Root of our own (another thread may be using the caller's), or one line about why not."""
    path = root.path if isinstance(root, Root) else root
    with explained(os.fsencode(path), "opened as a directory"):
        return root.twin() if isinstance(root, Root) else Root(path)


def _new_staging(root: Root) -> Staging:
    staging = _made(root)
    try:
        for name in stagings(root):
            if name != staging.name and not tidy(root, name):
                raise Unfinished(f"a transaction was interrupted in {root.path}; recover it first", name)
    except BaseException:  # whatever stops us, no staging directory stays
        try:
            staging.remove()
        finally:
            staging.close()
        raise
    return staging


def _made(root: Root) -> Staging:
    for _ in range(_TRIES):
        try:
            return Staging.make(root)
        except FileNotFoundError:  # a recovery took it for a dead one's
            continue
    return Staging.make(root)


def write_journal(staging: Staging, journal: Journal) -> None:
    """Bring everything staged to the disk, then the journal: from here on `recover` knows what to do."""
    with os.fdopen(staging.create(b"journal.new"), "wb") as file:
        file.write(journal.to_bytes())
    names = [b"journal.new", *(step.new_name for step in journal.steps if step.change.kind == FILE)]
    staging.sync_each(len(names) - 1, [(staging.fd, name) for name in names])
    staging.enter(b"journal.new", JOURNAL)
    staging.sync(staging.fd)
    staging.sync(staging.root.fd)


def go_forward(staging: Staging, journal: Journal) -> list[bytes]:
    """From state journal to state renamed; the directories that were left."""
    forward = Forward(staging, journal)
    forward.run()
    sync_tree(staging, journal)
    staging.enter(JOURNAL, RENAMED)
    return forward.left


def go_backward(staging: Staging, journal: Journal) -> None:
    """From state journal, renamed or undoing to state undone."""
    state = staging.state()
    if state in (JOURNAL, RENAMED):
        staging.enter(state, UNDOING)
        with contextlib.suppress(OSError):  # what cannot sync must not keep the old tree from coming back
            staging.sync(staging.fd)
    Backward(staging, journal).run()
    sync_tree(staging, journal)
    staging.enter(UNDOING, UNDONE)
    staging.sync(staging.fd)


def finish_kept(staging: Staging, journal: Journal, retire: Callable[[bytes, str], None] | None) -> None:
    """Offer the saved files, then remove the staging directory. An error of `retire` leaves it as it is."""
    if retire:
        names = staging.names()
        for step in journal.steps:
            if step.saves and step.old is not None and step.old.kind == FILE and step.old_name in names:
                retire(step.change.path, staging.path(step.old_name))
    with explained(staging.name, "removed"):
        staging.remove()


def sync_tree(staging: Staging, journal: Journal) -> None:
    """The directories whose names changed, and the files whose attributes did, to the disk."""
    paths = [path for path, _ in journal.directories]
    paths += [step.change.path for step in journal.steps if step.adjusts]
    paths += sorted(journal.fresh())
    staging.sync_each(len(paths), _places(staging.root, paths))


def _places(root: Root, paths: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Where the paths are; those that are gone are left out."""
    for path in paths:
        try:
            yield root.parent(path) if path else (root.fd, b".")
        except GONE:
            continue
