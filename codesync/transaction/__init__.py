"""Stage, journal, rename, undo, recover: a tree under one root goes from old to new as a whole, or not at all.

Standard library only, Python 3.8 and later: an old application image runs it. Everything works relative to directory
descriptors, follows no symlink, and replaces by rename, never by writing in place.

    with Transaction.begin("/app", "push-1") as transaction:
        transaction.copy(Change(b"x.py", FILE, size=3, digest=sha256), stream)
        transaction.add(Change(b"old.py", DELETE))
        transaction.rename()        # the new tree
        transaction.keep()          # for good; leaving the block without it undoes

Who only reads a tree needs `Root` and the errors; what changes one is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .change import ATTRIBUTES, DELETE, DIRECTORY, FILE, SYMLINK, Change, check_path
from .errors import Busy, NotEmpty, TransactionError, Unfinished, UnsafePath, VerificationError
from .root import MAGIC, Root, is_staging

if TYPE_CHECKING:
    from .core import Transaction
    from .pyc import bytecode
    from .recovery import Recovery, recover

_LATER = {"Recovery": "recovery", "Transaction": "core", "bytecode": "pyc", "recover": "recovery"}

__all__ = [
    "ATTRIBUTES",
    "DELETE",
    "DIRECTORY",
    "FILE",
    "MAGIC",
    "SYMLINK",
    "Busy",
    "Change",
    "NotEmpty",
    "Recovery",
    "Root",
    "Transaction",
    "TransactionError",
    "Unfinished",
    "UnsafePath",
    "VerificationError",
    "bytecode",
    "check_path",
    "is_staging",
    "recover",
]


def __getattr__(name: str) -> Any:
    """Import what changes a tree."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("." + _LATER[name], __name__), name)
    globals()[name] = value
    return value
