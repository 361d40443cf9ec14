"""Which paths of a tree count: git's rules, and over them those of .codesyncignore at the tree's root.

Weakest to strongest: core.excludesFile, info/exclude, .gitignore files from the work tree's root downwards, what git
tracks (never ignored), .codesyncignore. `.git` is always ignored. As with git nothing below an ignored directory comes
back, but for tracked files. A nested repository or submodule is descended by its own rules instead of the outer ones.
A root that the work tree around it ignores, and tracks nothing of, is no part of that work tree.

The directories of a tree are walked by `Level`s. A directory without rules of its own shares its parent's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from xxhash import xxh3_128_digest

from codesync.delta.errors import ScanError
from codesync.delta.ignore.files import open_directory, read
from codesync.delta.ignore.patterns import Patterns, compile_patterns
from codesync.delta.ignore.repository import Places, Repository, git_file, is_repository, open_repository
from codesync.delta.ignore.verdict import Verdict

_OWN_FILE = ".codesyncignore"


class _Lines(NamedTuple):
    """An ignore file in its place: asked about `path`, relative to the root, it is told `lead + path[cut:]`."""

    patterns: Patterns
    lead: bytes = b""
    cut: int = 0


class Level:
    """The rules for the names in one directory. `Rules.above` gives the first by `enter`ing the root. Immutable."""

    def __init__(
        self,
        places: Places,
        repository: Repository,
        lines: tuple[_Lines, ...] = (),
        *,
        tracked_only: bool = False,
        own: Patterns | None = None,
    ) -> None:
        """`lines`: git's, the strongest first. `own`: those of .codesyncignore."""
        self.places = places
        self.repository = repository
        self.lines = lines
        self.tracked_only = tracked_only
        self.own = own
        self._identity = b""

    def identity(self, indexes: Mapping[bytes, bytes]) -> bytes:
        """16 bytes; levels that have the same say the same of the same path.

        `indexes`: names of what git tracks, by their sources, as `Tracked` has both; whatever is found there need not
        be read. Raises ScanError: git's index is damaged.
        """
        if not self._identity:
            tracked = self.repository.tracked
            parts = [
                b"%d %d" % (self.repository.fold, self.tracked_only),
                indexes.get(tracked.source) or tracked.name,
                b"" if self.own is None else b"!" + self.own.text,
            ]
            for patterns, lead, cut in self.lines:
                parts += (patterns.text, lead, b"%d" % cut)
            whole = b"".join(b"%d\n%b" % (len(part), part) for part in parts)
            self._identity = xxh3_128_digest(whole)
        return self._identity

    def verdict(self, path: bytes, name: bytes, is_directory: bool) -> Verdict:
        """What becomes of `path` (relative to the root, its last component `name`) in a directory of this level."""
        repository = self.repository
        if name == b".git" or (repository.fold and name.lower() == b".git"):
            return Verdict.IGNORED
        said = self.own.verdict(name, path, is_directory) if self.own is not None else None
        if said:
            return Verdict.IGNORED
        if not self.tracked_only and (said is False or not self._git_ignores(path, name, is_directory)):
            return Verdict.COUNTS
        # what git tracks counts all the same; it is asked last, since reading an index takes long
        tracked = repository.tracked
        listed = path.lower() if repository.fold else path
        if listed in (tracked.submodules if is_directory else tracked.files):
            return Verdict.COUNTS
        return Verdict.TRACKED_ONLY if is_directory and tracked.below(listed) else Verdict.IGNORED

    def _git_ignores(self, path: bytes, name: bytes, is_directory: bool) -> bool:
        for lines in self.lines:
            patterns = lines.patterns
            subject = lines.lead + path[lines.cut :] if patterns.anchored else name
            said = patterns.verdict(name, subject, is_directory)
            if said is not None:
                return said
        return False

    def enter(
        self,
        path: bytes,
        verdict: Verdict,
        directory: int,
        names: Container[str] | None = None,
        *,
        known: Level | None = None,
    ) -> Level:
        """Return the level of the directory at `path`, open as `directory`; `names`: what it holds, if known.

        `known` is what it was before; what has not changed of a repository is taken from there.

        Raises:
            ScanError: a file of rules cannot be read.
        """
        level = self
        if verdict is Verdict.TRACKED_ONLY:
            level = self if self.tracked_only else self._but(tracked_only=True)
        else:
            if path and (names is None or ".git" in names):
                level = self._nested(path, directory, known)
            if names is None or ".gitignore" in names:
                level = level._with_gitignore(directory, len(path) + 1 if path else 0)  # noqa: SLF001 - the same class
        return level

    def _but(self, *, lines: tuple[_Lines, ...] | None = None, tracked_only: bool | None = None) -> Level:
        """A level like this one, but for what is given."""
        return Level(
            self.places,
            self.repository,
            self.lines if lines is None else lines,
            tracked_only=self.tracked_only if tracked_only is None else tracked_only,
            own=self.own,
        )

    def _with_gitignore(self, directory: int, cut: int) -> Level:
        text = _gitignore(directory)
        if not text:
            return self
        return self._but(
            lines=(_Lines(compile_patterns(text, fold=self.repository.fold), cut=cut), *self.lines)
        )

    def _nested(self, path: bytes, directory: int, known: Level | None) -> Level:
        """A repository has its own rules. Nothing changes if `.git` is none, or the outer one tracks files in here."""
        within = path + b"/"
        if self.repository.tracked.below(path.lower() if self.repository.fold else path):
            return self
        before = known.repository if known is not None else None
        repository = open_repository(directory, self.places, within=within, known=before)
        if repository is None:
            return self
        lines = tuple(_Lines(patterns, cut=len(within)) for patterns in repository.excludes)
        return Level(self.places, repository, lines, own=self.own)


class Rules:
    """What of the tree at `root` counts. A snapshot: make new ones for each scan, and ask those about its paths."""

    def __init__(self, root: str, places: Places) -> None:
        """For `for_root`."""
        self.root = root
        self.places = places
        self.above = Level(places, Repository())
        self.levels: dict[bytes, Level | None] = {}  # of directories seen so far; None: ignored
        self.before: Mapping[bytes, Level | None] = {}  # the same in the rules before these
        self._scanned: Container[bytes] = ()

    @classmethod
    def for_root(
        cls,
        root: str | bytes,
        *,
        home: str | None = None,
        config_home: str | None = None,
        known: Rules | None = None,
    ) -> Rules:
        """Read the rules that hold at `root`; those further down are read when a scan or a question gets there.

        `home`: where ~ is, by default the user's. `config_home`: what XDG_CONFIG_HOME names, by default ~/.config.
        `known`: the rules of an earlier scan; all files are read again, but those with the same bytes not understood anew.

        Raises:
            ScanError: the root is no directory, a file of rules cannot be read, git's index is damaged.
        """
        home = os.path.expanduser("~") if home is None else home
        real = os.path.realpath(os.fsdecode(root))
        rules = cls(real, Places(home, config_home or os.path.join(home, ".config")))
        try:
            above = _above(rules, known.above.repository if known is not None else None)
            with rules.opened(b"") as directory:
                if directory is None:
                    raise NotADirectoryError(errno.ENOTDIR, "it is no directory")
                text = read(_OWN_FILE, directory, follow=False)
        except OSError as error:
            raise ScanError(
                f"cannot read the ignore rules of {real}: {error.strerror}; check the path"
            ) from error
        own = compile_patterns(text, fold=above.repository.fold) if text else None
        rules.above = Level(
            above.places, above.repository, above.lines, tracked_only=above.tracked_only, own=own
        )
        rules.before = known.levels if known is not None else {}
        return rules

    def ignored(self, path: bytes, is_directory: bool) -> bool:
        """Whether `path`, relative to the root, is ignored, itself or by a directory above it; it need not exist."""
        parent, _, name = path.rpartition(b"/")
        level = self._level(parent)
        return level is None or level.verdict(path, name, is_directory) is Verdict.IGNORED

    def _level(self, directory: bytes) -> Level | None:
        """The level of a directory that a scan has entered, or else as it is on the disk now."""
        if directory in self._scanned:
            while directory not in self.levels:
                directory = directory[: max(0, directory.rfind(b"/"))]
        if directory in self.levels:
            return self.levels[directory]
        level: Level | None = self.above
        parts = directory.split(b"/") if directory else []
        for depth in range(len(parts) + 1):
            path = b"/".join(parts[:depth])
            if path not in self.levels:
                self.levels[path] = self._enter(level, path, parts[depth - 1] if depth else b"")
            level = self.levels[path]
            if level is None:
                self.levels[directory] = None
                break
        return level

    def _enter(self, level: Level | None, path: bytes, name: bytes) -> Level | None:
        assert level is not None
        verdict = level.verdict(path, name, is_directory=True) if path else Verdict.COUNTS
        if verdict is Verdict.IGNORED:
            return None
        with self.opened(path) as directory:
            return level if directory is None else level.enter(path, verdict, directory)

    def entered(self, path: bytes, level: Level) -> None:
        """A scan has been in the directory at `path` and found that level."""
        self.levels[path] = level

    def scanned(self, directories: Container[bytes]) -> None:
        """A scan is over: of `directories`, those it has not `entered` have the level of the one they are in."""
        self._scanned = directories

    @contextmanager
    def opened(self, path: bytes) -> Iterator[int | None]:
        """Descriptor of a directory below the root, reached through no symlink; None where there is none."""
        current = open_directory(self.root)
        try:
            for name in path.split(b"/") if path else []:
                if current is None:
                    break
                above, current = current, open_directory(name, current, follow=False)
                os.close(above)
            yield current
        finally:
            if current is not None:
                os.close(current)


def _above(rules: Rules, known: Repository | None) -> Level:
    """What holds at the root before its own .gitignore is read."""
    alone = Level(rules.places, Repository())
    top = _work_tree(rules.root)
    if top is None:
        return alone
    parts = [os.fsencode(part) for part in os.path.relpath(rules.root, top).split("/") if part != "."]
    below = b"".join(part + b"/" for part in parts)
    descriptor = open_directory(top)
    if descriptor is None:
        return alone
    try:
        repository = open_repository(descriptor, rules.places, below, known=known) or Repository()
    finally:
        os.close(descriptor)
    lines, ignored = _lines_above(top, parts, repository)
    if b".git" in parts or (ignored and not repository.tracked.ordered):
        return alone
    return Level(rules.places, repository, lines, tracked_only=ignored)


def _lines_above(top: str, parts: list[bytes], repository: Repository) -> tuple[tuple[_Lines, ...], bool]:
    """The ignore files that reach down to the root from above, and whether they ignore the root itself."""
    below = b"".join(part + b"/" for part in parts)
    found = [_Lines(patterns, lead=below) for patterns in repository.excludes]
    at = 0
    for part in parts:
        directory = open_directory(os.path.join(os.fsencode(top), below[:at]))
        if directory is not None:
            try:
                text = _gitignore(directory)
            finally:
                os.close(directory)
            if text:
                found.insert(0, _Lines(compile_patterns(text, fold=repository.fold), lead=below[at:]))
        end = at + len(part)
        said = (
            lines.patterns.verdict(part, below[len(below) - len(lines.lead) : end], is_directory=True)
            for lines in found
        )
        if next((word for word in said if word is not None), False):
            return tuple(found), True
        at = end + 1
    return tuple(found), False


def _work_tree(real: str) -> str | None:
    """The nearest directory, from `real` upwards on the same filesystem, that is a work tree, were it a broken one."""
    device = os.stat(real).st_dev
    path = real
    while os.stat(path).st_dev == device:
        descriptor = open_directory(path)
        if descriptor is not None:
            try:
                if git_file(descriptor) is not None or is_repository(descriptor):
                    return path
            finally:
                os.close(descriptor)
        if path == "/":
            break
        path = os.path.dirname(path)
    return None


def _gitignore(directory: int) -> bytes | None:
    """As with git a .gitignore that is a symlink is none."""
    return read(".gitignore", directory, follow=False)
