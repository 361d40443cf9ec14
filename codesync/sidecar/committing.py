"""A commit that is ready but for its decision: all that `current/` needs is staged in it, and on the disk.

Until the state names the commit, a start finds the old tree; from then on, the new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from codesync.sidecar.pushes import Staged
from codesync.sidecar.state import Commit
from codesync.sidecar.volume import DIRECTORY_MODE, FILE_MODE
from codesync.transaction import ATTRIBUTES, DIRECTORY, FILE, Change, Transaction

log = logging.getLogger("codesync.sidecar")
Fill = Callable[[Transaction, Change], None]


class Ready(NamedTuple):
    """`displaced`: by path the digests of the files that go into the history, which will be `history` then."""

    staged: Staged
    commit: Commit
    history: tuple[Commit, ...]
    displaced: dict[bytes, str]
    transaction: Transaction


def adopt_files(staged: Staged) -> Fill:
    """How the files of a trial come into the transaction: they are renamed, so they are not in `trial/` any more."""

    def adopt(transaction: Transaction, change: Change) -> None:
        transaction.adopt(change, str(staged.files[change.path]))

    return adopt


def prepared(root: bytes, name: str, changes: Iterable[Change], fill: Fill) -> Transaction:
    """A transaction of that name with these changes, prepared. Raises OSError, TransactionError; then there is none."""
    transaction = Transaction.begin(root, name)
    try:
        for change in changes:
            if change.kind == FILE:
                fill(transaction, change._replace(mode=FILE_MODE))
            elif change.kind != ATTRIBUTES:
                mode = DIRECTORY_MODE & 0o777 if change.kind == DIRECTORY else None
                transaction.add(change._replace(mode=mode))
        transaction.prepare()
    except BaseException:  # whatever stops us, the old tree stands
        transaction.undo()
        raise
    return transaction


def after_decision(work: Callable[[], object]) -> None:
    """Do what is left once the state names the commit: it stands, and the next recovery does what has failed here."""
    try:
        work()
    except Exception as error:  # whatever it is, what was decided cannot be reported as a failure
        log.warning("the commit stands, what follows it is not done yet: %s: %s", type(error).__name__, error)
