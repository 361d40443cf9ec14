"""A git work tree seen from outside: which rules it has beside its .gitignore files, and which paths it tracks.

No git binary is asked. Everything is opened relative to descriptors, so that a `.git` file (a linked work tree, a
submodule) may name its directory by a relative path from anywhere.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from codesync.delta.errors import ScanError
from codesync.delta.ignore.config import expand, is_true, read_config
from codesync.delta.ignore.files import open_directory, read
from codesync.delta.ignore.index import Index, merge, read_index
from codesync.delta.ignore.patterns import Patterns, compile_patterns


class Places(NamedTuple):
    """Where git looks outside a repository: the home directory, that of its XDG settings, the machine's settings."""

    home: str
    config_home: str
    system: str = "/etc/gitconfig"


class _Question(NamedTuple):
    """The bytes of an index, and what shall be made of them."""

    content: bytes | None
    hash_length: int
    fold: bool
    below: bytes
    within: bytes


@dataclass(frozen=True)
class Tracked:
    """What an index holds; paths are relative to the directory that was asked about, with `fold` in lower case."""

    files: frozenset[bytes] = frozenset()
    submodules: frozenset[bytes] = frozenset()
    ordered: tuple[bytes, ...] = ()  # both, sorted
    # of an index in two parts None: it is always taken apart anew
    question: _Question | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Repository:
    """`excludes`: the lines of info/exclude and of core.excludesFile, the stronger first. `fold`: core.ignorecase."""

    excludes: tuple[Patterns, ...] = ()
    fold: bool = False
    tracked: Tracked = Tracked()

    def holds(self, directory: bytes) -> bool:
        """Whether git tracks anything below `directory`, given as the paths in here are."""
        start = directory + b"/"
        ordered = self.tracked.ordered
        at = bisect_left(ordered, start)
        return at < len(ordered) and ordered[at].startswith(start)


def open_repository(
    top: int, places: Places, below: bytes = b"", within: bytes = b"", *, known: Repository | None = None
) -> Repository | None:
    """Read the repository whose work tree the open directory `top` is; None where its `.git` is no repository.

    Paths of the index that begin with `below` are meant, without it, and with `within` before them instead. `known`
    is what it was when it was read before: an index with the very same bytes is not taken apart again.

    Raises:
        ScanError: the index is damaged, or a file of rules cannot be read.
    """
    with _git_directories(top) as found:
        if found is None:
            return None
        own, common = found
        settings = _settings(own, common, places)
        fold = is_true(settings.get("core.ignorecase"))
        excludes = [read("info/exclude", common), _global_excludes(settings, places, top)]
        hash_length = 32 if settings.get("extensions.objectformat", "").lower() == "sha256" else 20
        question = _Question(read("index", own), hash_length, fold, below, within)
        return Repository(
            tuple(compile_patterns(text, fold=fold) for text in excludes if text),
            fold,
            known.tracked if known and known.tracked.question == question else _tracked(own, question),
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


def _tracked(own: int, question: _Question) -> Tracked:
    """Take the index apart."""
    if question.content is None:
        return Tracked()
    index = read_index(question.content, question.hash_length)
    entries = index.entries if index.link is None else _whole(own, index, index.link.shared, question)
    below, within, cut = question.below, question.within, len(question.below)
    inside = [(within + path[cut:], link) for path, link in entries if path.startswith(below)]
    if question.fold:
        inside = sorted((path.lower(), link) for path, link in inside)
    return Tracked(
        frozenset(path for path, link in inside if not link),
        frozenset(path for path, link in inside if link),
        tuple(path for path, _ in inside),
        question if index.link is None else None,
    )


def _whole(own: int, index: Index, name: str, question: _Question) -> list[tuple[bytes, bool]]:
    """All entries of a split index."""
    shared = read(f"sharedindex.{name}", own)
    if shared is None:
        raise ScanError(
            "git's index is split and its shared part is missing; try `git update-index --no-split-index`"
        )
    return merge(read_index(shared, question.hash_length), index)
