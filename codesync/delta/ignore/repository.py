"""A git work tree seen from outside: which rules it has beside its .gitignore files, and which paths it tracks.

No git binary is asked. Everything is opened relative to descriptors, so that a `.git` file (a linked work tree, a
submodule) may name its directory by a relative path from anywhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from codesync.delta.ignore.config import expand, is_true, read_config
from codesync.delta.ignore.files import open_directory, read
from codesync.delta.ignore.patterns import Patterns, compile_patterns
from codesync.delta.ignore.tracked import Question, Tracked, read_tracked


class Places(NamedTuple):
    """Where git looks outside a repository: the home directory, that of its XDG settings, the machine's settings."""

    home: str
    config_home: str
    system: str = "/etc/gitconfig"


class Repository(NamedTuple):
    """`excludes`: the lines of info/exclude and of core.excludesFile, the stronger first. `fold`: core.ignorecase."""

    excludes: tuple[Patterns, ...] = ()
    fold: bool = False
    tracked: Tracked = Tracked()


def open_repository(
    top: int, places: Places, below: bytes = b"", within: bytes = b"", *, known: Repository | None = None
) -> Repository | None:
    """Read the repository whose work tree the open directory `top` is; None where its `.git` is no repository.

    Paths of the index that begin with `below` are meant, without it, and with `within` before them instead. `known`
    is what it was when it was read before: an index with the very same bytes is not taken apart again, and any other
    one not before somebody asks.

    Raises:
        ScanError: the index is split and damaged, or a file of rules cannot be read.
    """
    with _git_directories(top) as found:
        if found is None:
            return None
        own, common = found
        settings = _settings(own, common, places)
        fold = is_true(settings.get("core.ignorecase"))
        excludes = [read("info/exclude", common), _global_excludes(settings, places, top)]
        hash_length = 32 if settings.get("extensions.objectformat", "").lower() == "sha256" else 20
        return Repository(
            tuple(compile_patterns(text, fold=fold) for text in excludes if text),
            fold,
            read_tracked(own, Question(hash_length, fold, below, within), known.tracked if known else None),
        )


@contextmanager
def _git_directories(top: int) -> Iterator[tuple[int, int] | None]:
    """Descriptors of the git directory and of the common one, which differ in a linked work tree."""
    opened = []
    try:
        own = open_directory(".git", top)
        if own is None and (target := git_file(top)) is not None:
            own = open_directory(target, top)
        if own is not None:
            opened.append(own)
            pointer = read("commondir", own)
            common = open_directory(pointer.rstrip(b"\r\n"), own) if pointer is not None else os.dup(own)
            if common is not None:
                opened.append(common)
        yield (opened[0], opened[1]) if len(opened) == 2 and _looks_right(opened[0], opened[1]) else None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def is_repository(top: int) -> bool:
    """Whether the open directory `top` is the work tree of a repository."""
    with _git_directories(top) as found:
        return found is not None


def git_file(top: int) -> bytes | None:
    """Where a file named `.git` points to."""
    text = read(".git", top)
    return text.removeprefix(b"gitdir: ").rstrip(b"\r\n") if text and text.startswith(b"gitdir: ") else None


def _looks_right(own: int, common: int) -> bool:
    """As git judges: there is a HEAD (a broken link counts too), and somewhere for objects and refs."""
    try:
        os.stat("HEAD", dir_fd=own, follow_symlinks=False)
        return all(stat.S_ISDIR(os.stat(name, dir_fd=common).st_mode) for name in ("objects", "refs"))
    except OSError:
        return False


def _settings(own: int, common: int, places: Places) -> dict[str, str]:
    home = places.home
    personal = (os.path.join(places.config_home, "git", "config"), os.path.join(home, ".gitconfig"))
    settings: dict[str, str] = {}
    for name in (places.system, *personal):
        settings |= read_config(name, home)
    settings |= read_config("config", home, common)
    if is_true(settings.get("extensions.worktreeconfig")):
        settings |= read_config("config.worktree", home, own)
    return settings


def _global_excludes(settings: dict[str, str], places: Places, top: int) -> bytes | None:
    name = settings.get("core.excludesfile", os.path.join(places.config_home, "git", "ignore"))
    return read(expand(name, places.home), top, personal=True) if name else None
