"""What is in an open directory: looking, making, removing; no symlink is followed."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from codesync.launcher.records import MARK
from codesync.transaction import is_staging
from codesync.transaction.attributes import chmod_at

if TYPE_CHECKING:
    from collections.abc import Callable

    Found = dict[str, os.stat_result]

CACHE = "__pycache__"
OWN_MODE = 0o700
DOOMED = ".doomed-"  # begins the names of directories that are being removed
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BYTECODE = re.compile(r"\.pyc(\.[0-9]+)?\Z")


def is_ours(root: int, name: str) -> bool:
    """Whether that name in the application's directory is the launcher's: its mark, a staging directory."""
    if not name.startswith(".codesync-"):
        return False
    return name == os.fsdecode(MARK) or is_staging(root, os.fsencode(name))


def listing(directory: int) -> Found:
    """What is in an open directory, by name."""
    with os.scandir(directory) as items:
        found = {}
        for item in items:
            with suppress(FileNotFoundError):  # gone meanwhile
                found[item.name] = item.stat(follow_symlinks=False)
        return found


def drop_bytecode(directory: int, name: str) -> None:
    """Bytecode is believed by size and second: what was compiled from another `x.py` must not be there for this one."""
    if not name.endswith(".py"):
        return
    try:
        cache = os.open(CACHE, _LIST, dir_fd=directory)
    except OSError:
        return
    try:
        for compiled in os.listdir(cache):
            if compiled.startswith(name[:-2]) and _BYTECODE.search(compiled):
                os.unlink(compiled, dir_fd=cache)
    finally:
        os.close(cache)


def own_directory(name: str, directory: int | None = None) -> None:
    """Have a directory of that name, for ourselves alone; a symlink or a file there goes, and is not followed."""
    try:
        os.mkdir(name, OWN_MODE, dir_fd=directory)
    except FileExistsError:
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return
        os.unlink(name, dir_fd=directory)
        os.mkdir(name, OWN_MODE, dir_fd=directory)


def remove(directory: int, name: str, check: Callable[[], None] = lambda: None) -> None:
    """Remove a name and all below it. Directories are first pulled up, so depth costs neither stack nor descriptors.

    `check` is called for each directory and may raise; a later call goes on from there.
    """
    try:
        os.unlink(name, dir_fd=directory)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    pending = [name]
    while pending:
        doomed = pending.pop()
        check()
        chmod_at(directory, os.fsencode(doomed), OWN_MODE)
        inner = os.open(doomed, _LIST, dir_fd=directory)
        try:
            pending.extend(_empty(inner, directory))
        finally:
            os.close(inner)
        os.rmdir(doomed, dir_fd=directory)


def _empty(inner: int, outer: int) -> list[str]:
    """Unlink the files in one directory and move its subdirectories into another: their new names."""
    moved = []
    for name, found in listing(inner).items():
        if stat.S_ISDIR(found.st_mode):
            chmod_at(inner, os.fsencode(name), OWN_MODE)  # only who may write a directory may move it
            moved.append(DOOMED + os.urandom(8).hex())
            os.rename(name, moved[-1], src_dir_fd=inner, dst_dir_fd=outer)
        else:
            os.unlink(name, dir_fd=inner)
    return moved
