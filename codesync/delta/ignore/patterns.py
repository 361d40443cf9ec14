"""The lines of one ignore file, arranged so that asking about a name costs a few lookups.

The last line that matches decides. Names and paths without wildcards and `*.ext` are found in dictionaries, all else
by two regular expressions whose alternatives stand in reverse order, so that the first to match is the last line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import NamedTuple

from codesync.delta.ignore.wildmatch import NeverMatches, basename_regex, literal_length, path_regex

_BOM = b"\xef\xbb\xbf"
_Translate = Callable[[bytes, bool], bytes]


class Pattern(NamedTuple):
    """One line. `glob` is without `!`, without the leading and the trailing slash; `anchored`: it held a slash."""

    glob: bytes
    negated: bool
    directories_only: bool
    anchored: bool


def parse(text: bytes) -> list[Pattern]:
    """Read an ignore file as git does: BOM, CR before the line's end, comments, trailing spaces, NUL."""
    lines = text.removeprefix(_BOM).split(b"\n")
    return [_pattern(_trim(line)) for line in lines if line and not line.startswith(b"#")]


def _trim(line: bytes) -> bytes:
    """Without a final CR and without trailing spaces, unless a backslash keeps the first of them."""
    line = line.removesuffix(b"\r").split(b"\0", 1)[0]
    bare = line.rstrip(b" ")
    escaped = (len(bare) - len(bare.rstrip(b"\\"))) % 2 == 1
    return line[: len(bare) + 1] if escaped else bare


def _pattern(line: bytes) -> Pattern:
    negated = line.startswith(b"!")
    line = line[1:] if negated else line
    directories_only = line.endswith(b"/")
    line = line[:-1] if directories_only else line
    return Pattern(line.removeprefix(b"/"), negated, directories_only, anchored=b"/" in line)


class _Table:
    """Which of some numbered patterns is the last to match; -1 where none does."""

    def __init__(self, patterns: Iterable[tuple[int, Pattern]], *, fold: bool) -> None:
        self.fold = fold
        self.names: dict[bytes, int] = {}
        self.extensions: dict[bytes, int] = {}
        self.paths: dict[bytes, int] = {}
        names: list[tuple[int, Pattern]] = []
        paths: list[tuple[int, Pattern]] = []
        for number, pattern in patterns:
            glob = pattern.glob.lower() if fold else pattern.glob
            if literal_length(glob) == len(glob):
                (self.paths if pattern.anchored else self.names)[glob] = number
            elif not pattern.anchored and _is_extension(glob):
                self.extensions[glob[1:]] = number
            else:
                (paths if pattern.anchored else names).append((number, pattern))
        self.name_regex = _Regex.of(names, basename_regex, fold=fold)
        self.path_regex = _Regex.of(paths, path_regex, fold=fold)

    def last(self, name: bytes, path: bytes) -> int:
        """Number of the last pattern that matches. `name` is the last component of `path`."""
        if self.fold:
            name, path = name.lower(), path.lower()
        found = self.names.get(name, -1)
        if self.extensions and (number := self.extensions.get(name[name.rfind(b".") :], -1)) > found:
            found = number
        if self.name_regex is not None and (match := self.name_regex.fullmatch(name)) is not None:
            found = max(found, self.name_regex.number(match))
        if self.paths:
            found = max(found, self.paths.get(path, -1))
        if self.path_regex is not None and (match := self.path_regex.fullmatch(path)) is not None:
            found = max(found, self.path_regex.number(match))
        return found


class _Regex:
    """Patterns with wildcards, as one regular expression; the first alternative is the last of them."""

    def __init__(self, numbers: list[int], alternatives: list[bytes]) -> None:
        self.numbers = numbers
        self.fullmatch = re.compile(b"|".join(alternatives), re.DOTALL).fullmatch

    @classmethod
    def of(cls, patterns: list[tuple[int, Pattern]], translate: _Translate, *, fold: bool) -> _Regex | None:
        numbers, alternatives = [], []
        for number, pattern in reversed(patterns):
            with suppress(NeverMatches):
                alternatives.append(b"(" + translate(pattern.glob, fold) + b")")
                numbers.append(number)
        return cls(numbers, alternatives) if numbers else None

    def number(self, match: re.Match[bytes]) -> int:
        assert match.lastindex is not None
        return self.numbers[match.lastindex - 1]


class Patterns:
    """All lines of one ignore file, its `text`. They are arranged when somebody asks about a name for the first time."""

    def __init__(self, text: bytes, *, fold: bool) -> None:
        self.text = text
        self.fold = fold

    @cached_property
    def patterns(self) -> list[Pattern]:
        """The lines, in order."""
        return parse(self.text)

    @cached_property
    def anchored(self) -> bool:
        """Whether some of them ask for the path, not only for its last component."""
        return any(pattern.anchored for pattern in self.patterns)

    @cached_property
    def _for_files(self) -> _Table:
        return _Table([(n, p) for n, p in enumerate(self.patterns) if not p.directories_only], fold=self.fold)

    @cached_property
    def _for_directories(self) -> _Table:
        return _Table(enumerate(self.patterns), fold=self.fold)

    def verdict(self, name: bytes, path: bytes, is_directory: bool) -> bool | None:
        """Whether the last line that matches ignores `path`, which is relative to the file's place; None: no line."""
        number = (self._for_directories if is_directory else self._for_files).last(name, path)
        return None if number < 0 else not self.patterns[number].negated


@lru_cache(maxsize=256)
def compile_patterns(text: bytes, *, fold: bool = False) -> Patterns:
    """Read and arrange an ignore file. The same text is arranged once. `fold`: core.ignorecase."""
    return Patterns(text, fold=fold)


def _is_extension(glob: bytes) -> bool:
    return glob[:2] == b"*." and glob.count(b".") == 1 and literal_length(glob[1:]) == len(glob) - 1
