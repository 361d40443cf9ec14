"""From one state of a transaction to the next, for the process it belongs to and for `recover` after that has died.

What is on the disk when the power goes, and why that is enough:

- `prepared`: whether it is, or its contents are, does not matter: nothing of the tree has changed, and recovery removes it.
- `journal`: everything staged, the journal, and that name, before the first rename. So whichever renames were on
  the disk, recovery can go either way from here; they need no sync of their own before others go on.
- `renamed`: all the renames, before that name. Recovery does them no more, so nothing undone may be behind it.
- `kept`: that name before anything saved is let go; or instead the owner's own record, by which recovery will be told to
  keep: it then goes on from `journal` or `renamed` to `kept` again, for which nothing saved is needed.
- `undone`: the old tree, before that name; and that name before the journal goes.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .backward import Backward
from .change import DIRECTORY, FILE, SYMLINK
from .errors import GONE, explained
from .forward import Forward
from .staging import JOURNAL, PREPARED, RENAMED, UNDOING, UNDONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .journal import Journal
    from .root import Root
    from .staging import Staging


def write_journal(staging: Staging, journal: Journal) -> None:
    """Bring everything staged to the disk, and the journal. Nothing has changed yet, and `recover` knows that."""
    with os.fdopen(staging.create(b"journal.new"), "wb") as file:
        file.write(journal.to_bytes())
    names = [b"journal.new", *(step.new_name for step in journal.steps if step.change.kind == FILE)]
    staging.sync_each(len(names) - 1, [(staging.fd, name) for name in names])
    staging.enter(b"journal.new", PREPARED)  # the names in here are synced with the next one: `go_forward`
    staging.sync(staging.root.fd)


def withdraw_journal(staging: Staging, journal: Journal) -> None:
    """From state prepared back to none: staged contents stay, what was made of the journal goes."""
    os.unlink(PREPARED, dir_fd=staging.fd)
    for step in journal.steps:
        if step.places and step.change.kind == DIRECTORY:
            os.rmdir(step.new_name, dir_fd=staging.fd)
        elif step.places and step.change.kind == SYMLINK:
            os.unlink(step.new_name, dir_fd=staging.fd)
        if step.saves:
            with contextlib.suppress(FileNotFoundError):  # where links are forbidden
                os.unlink(step.old_name, dir_fd=staging.fd)


def go_forward(staging: Staging, journal: Journal) -> list[bytes]:
    """From state prepared, or once more from state journal: the new tree; the directories that were left.

    In state journal `recover` puts back what was saved, also over what somebody else has put there since: so that
    name is not taken before the others are kept out, and is on the disk before the first rename.
    """
    if staging.state() == PREPARED:
        staging.enter(PREPARED, JOURNAL)
        staging.sync(staging.fd)
    forward = Forward(staging, journal)
    forward.run()
    return forward.left


def settle(staging: Staging, journal: Journal) -> None:
    """From state journal, the new tree made, to state renamed."""
    sync_tree(staging, journal)
    staging.enter(JOURNAL, RENAMED)


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
