"""After a process died: every transaction it left is finished or taken back, as if it had lived."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .core import opened
from .errors import TransactionError, failed
from .journal import Journal
from .phases import finish_kept, go_backward, go_forward, settle
from .root import Root
from .staging import JOURNAL, KEPT, PREPARED, RENAMED, UNDOING, Staging, stagings, sweep_fragments

if TYPE_CHECKING:
    Retire = Callable[[bytes, str], None]


class Recovery(NamedTuple):
    """What became of one transaction: outcome "kept" or "undone"."""

    id: str
    outcome: str


def _never(id: str) -> bool:
    return False


def recover(
    root: str | bytes | Root, kept: Callable[[str], bool] = _never, retire: Retire | None = None
) -> list[Recovery]:
    """Finish (`kept(id)` is true) or undo every interrupted transaction of a root; the tree is then the new or the old one.

    One that was being undone is undone, one that was kept is finished, whatever `kept` says. One without a journal, or that
    was only prepared, had changed nothing and goes without a word. Before anything is touched: Busy when a transaction lives, TransactionError when
    a journal cannot be read. Running it again is harmless.
    """
    with opened(root) as tree:
        return _recover(tree, kept, retire)


def _recover(root: Root, kept: Callable[[str], bool], retire: Retire | None) -> list[Recovery]:
    taken: list[Staging] = []
    try:
        for name in stagings(root):
            staging = Staging.take(root, name)
            if staging:
                taken.append(staging)
        work = [(staging, _journal(staging)) for staging in taken]
        sweep_fragments(root)
        found = [_settle(staging, journal, kept, retire) for staging, journal in work]
        return [recovery for recovery in found if recovery]
    except OSError as error:
        raise failed(os.fsencode(root.path), "recovered", error) from error
    finally:
        for staging in taken:
            staging.close()


def _journal(staging: Staging) -> Journal | None:
    """Its journal, None if there is none yet, or nobody has gone by it. One that another user left is an error: it could tell root what to do."""
    state = staging.state()
    if state in (None, PREPARED):
        return None
    assert state is not None
    if not staging.is_ours():
        where = staging.path(state)
        raise TransactionError(f"{where} was left by another user; recover as that user", staging.name)
    journal = Journal.from_bytes(staging.read(state))
    staging.durable = journal.durable
    return journal


def _settle(
    staging: Staging, journal: Journal | None, kept: Callable[[str], bool], retire: Retire | None
) -> Recovery | None:
    if journal is None:
        staging.remove()
        return None
    state = staging.state()
    if state == KEPT or (state in (JOURNAL, RENAMED) and kept(journal.id)):
        if state == JOURNAL:
            go_forward(staging, journal)
            settle(staging, journal)
        if state != KEPT:
            staging.enter(RENAMED, KEPT)
            staging.sync(staging.fd)
        finish_kept(staging, journal, retire)
        return Recovery(journal.id, "kept")
    if state in (JOURNAL, RENAMED, UNDOING):
        go_backward(staging, journal)
    staging.remove()
    return Recovery(journal.id, "undone")
