"""A transaction: stage, rename, then keep or undo.

Staging reads and writes only inside the staging directory, and so does `prepare`. `rename` brings the new tree in, as a
whole or not at all; from then on a process that dies leaves it to `recover`. `keep` makes it final, `undo` brings the old
tree back.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, cast

from .change import FILE, Change
from .errors import (
    TransactionError,
    Unfinished,
    UnsafePath,
    VerificationError,
    explained,
    failed,
    shown,
)
from .journal import Journal
from .phases import finish_kept, go_backward, go_forward, settle, withdraw_journal, write_journal
from .prepare import Preparation
from .root import Root
from .staged import StagedFile
from .staging import (
    JOURNAL,
    KEPT,
    PREPARED,
    RENAMED,
    UNDONE,
    Staging,
    belongs_to_staging,
    stagings,
    tidy,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self  # novm: only for the type checker

_BUFFER = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 3


class Transaction:
    """`begin`, then `create`/`copy`/`adopt`/`add` for every change, `rename`, and `keep` or `undo`.

    `prepare` before, and `rename(sync=False)` with `sync` after, keep the time short in which nothing else may happen.
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
        self._expect((None, PREPARED), "staged to")
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

    def _expect(self, states: tuple[bytes | None, ...], what: str) -> None:
        if self._state not in states:
            now = "not renamed yet" if self._state is None else self._state.decode("ascii") + " already"
            raise TransactionError(f"transaction {self.id} cannot be {what}: it is {now}")

    # ---- the change itself

    def prepare(self) -> None:
        """Do all of `rename` that changes nothing of the tree, while others may still change it.

        Everything is checked, staged contents and the journal are brought to the disk. What has changed in the tree until
        `rename` is noticed there, and what is added until then taken in; both cost the work again. A process that dies
        meanwhile leaves nothing to recover. On any error the staging directory is gone, and the error raised.
        """
        self._expect((None,), "prepared")
        self._get_ready(self._prepare)

    def rename(self, *, sync: bool = True) -> None:
        """Make the new tree.

        First everything is checked, staged data synced and the journal written. On any error the old tree is back, the
        staging directory gone, and the error raised. Without `sync` the renamed tree may not be on the disk yet, and
        `sync` or `keep` must follow: until then `recover`, if it is told to keep, does everything once more.
        """
        self._expect((None, PREPARED), "renamed")
        self._get_ready(lambda: self._go_forward(sync))

    def _get_ready(self, work: Callable[[], None]) -> None:
        if self._open:
            path = next(iter(self._open))
            raise TransactionError(f"{shown(path)} is still being written; close it first", path)
        try:
            with explained(self._staging.name, "written"):
                work()
        except BaseException:  # whatever stops us, the old tree is put back
            self.undo()
            raise

    def _prepare(self) -> None:
        preparation = Preparation(self._staging, self._changes, self._numbers)
        self._journal = preparation.journal(self.id)
        write_journal(self._staging, self._journal)
        self._state = PREPARED

    def _go_forward(self, sync: bool) -> None:
        if self._state == PREPARED and not self._is_still_right():
            assert self._journal is not None, "prepared"
            withdraw_journal(self._staging, self._journal)
            self._state = None
        if self._state is None:
            self._prepare()
        assert self._journal is not None, "prepared"
        self.left = go_forward(self._staging, self._journal)
        self._state = JOURNAL
        if sync:
            self._settle()

    def _is_still_right(self) -> bool:
        """Whether the tree is what the journal says that it was; the mtimes of directories are taken as they are now."""
        assert self._journal is not None, "prepared"
        journal = Preparation(self._staging, self._changes, self._numbers).again(self._journal)
        self._journal = journal or self._journal
        return journal is not None

    def sync(self) -> None:
        """Bring to the disk what `rename(sync=False)` has made, if that is not done yet.

        From here on `recover` changes nothing of a tree that it is told to keep: what others do to it stays. Raises
        TransactionError; the transaction can be undone all the same.
        """
        if self._state == JOURNAL:
            with explained(self._staging.name, "written"):
                self._settle()
                self._staging.sync(self._staging.fd)

    def _settle(self) -> None:
        assert self._journal is not None, "renamed"
        settle(self._staging, self._journal)
        self._state = RENAMED

    def keep(self, retire: Callable[[bytes, str], None] | None = None, *, decided: bool = False) -> None:
        """Make it final. `retire(path, saved)` may take each replaced or deleted file away from `saved`, an absolute path.

        `decided`: the owner has a record on the disk by which he will tell `recover` to keep it. Then nothing is synced: if
        the power goes while the saved files are let go, `recover` finds it renamed and finishes it by that record; it would
        need the saved files only to undo it. An error of `retire` is raised; the transaction is kept all the same, and
        `recover` offers the rest again.
        """
        self.sync()
        self._expect((RENAMED,), "kept")
        assert self._journal is not None
        try:
            with explained(self._staging.name, "kept"):
                self._staging.enter(RENAMED, KEPT)
                self._state = KEPT
                if not decided:
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
                if self._journal is not None and self._staging.state() not in (None, PREPARED):
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
