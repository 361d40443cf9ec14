"""One glob of git as a regular expression over bytes.

The rules are those of git's wildmatch, which differ from fnmatch's, from pathspec's and from what gitignore(5) says
in the corners: a class that is not closed or names an unknown [:class:] matches nothing, `**` is special only as a
whole component, and after a literal beginning a component starts anew. git itself is the oracle in the tests.
"""

from __future__ import annotations

import re
import string

_SPECIAL = re.compile(rb"[*?\[\\]")
_CLASSES = {
    b"alnum": string.ascii_letters + string.digits,
    b"alpha": string.ascii_letters,
    b"blank": " \t",
    b"cntrl": "".join(map(chr, [*range(32), 127])),
    b"digit": string.digits,
    b"graph": "".join(map(chr, range(33, 127))),
    b"lower": string.ascii_lowercase,
    b"print": "".join(map(chr, range(32, 127))),
    b"punct": string.punctuation,
    b"space": " \t\n\r",
    b"upper": string.ascii_uppercase,
    b"xdigit": string.hexdigits,
}
_MEMBERS = {name: frozenset(members.encode()) for name, members in _CLASSES.items()}


class NeverMatches(ValueError):
    """The glob is malformed in a way that makes git match nothing."""


def literal_length(glob: bytes) -> int:
    """How many bytes of `glob` stand for themselves before the first special one."""
    special = _SPECIAL.search(glob)
    return special.start() if special else len(glob)


def basename_regex(glob: bytes, fold: bool) -> bytes:
    """Regular expression for one path component. `fold`: ASCII case does not matter; give it names in lower case.

    Raises:
        NeverMatches: no name matches.
    """
    return _Translation(glob, fold=fold).regex()


def path_regex(glob: bytes, fold: bool) -> bytes:
    """Regular expression for a path with slashes in it; `fold` as for `basename_regex`.

    Raises:
        NeverMatches: no path matches.
    """
    literal = literal_length(glob)
    beginning = glob[:literal].lower() if fold else glob[:literal]
    return re.escape(beginning) + _Translation(glob[literal:], fold=fold).regex()


class _Translation:
    """Goes through `glob` once; `at` is the next byte to translate, `parts` what has come of it."""

    def __init__(self, glob: bytes, *, fold: bool) -> None:
        self.glob = glob
        self.fold = fold
        self.at = 0
        self.parts: list[bytes] = []
        self.star: int | None = None  # which part is a star of this path component

    def regex(self) -> bytes:
        while self.at < len(self.glob):
            byte = self.glob[self.at : self.at + 1]
            if byte == b"*":
                self._stars()
            elif byte == b"?":
                self.at += 1
                self.parts.append(rb"[^/]")
            elif byte == b"[":
                self.at += 1
                self.parts.append(self._class())
            else:
                self._literal()
        return b"".join(self.parts)

    def _literal(self) -> None:
        """The byte at hand; behind a backslash the next one, whose case git leaves alone."""
        escaped = self.glob[self.at] == 0x5C
        byte = bytes([self._escaped()])
        if byte == b"/":
            self.star = None
        self.parts.append(re.escape(byte if escaped or not self.fold else byte.lower()))

    def _stars(self) -> None:
        start = self.at
        while self.glob[self.at : self.at + 1] == b"*":
            self.at += 1
        rest = self.glob[self.at : self.at + 2]
        whole = self.glob[max(0, start - 1) : start] in {b"", b"/"} and (
            rest[:1] in {b"", b"/"} or rest == b"\\/"
        )
        if self.at - start < 2 or not whole:
            self._star()
        elif rest[:1] == b"/":
            self.at += 1
            self.parts.append(rb"(?:.*/)?")
        else:
            self.parts.append(rb".*")

    def _star(self) -> None:
        """What stands between two stars may as well be taken where it first occurs; else matching could take forever."""
        if self.star is not None:
            self.parts[self.star] = rb"(?>[^/]*?"
            self.parts.append(rb")")
        self.star = len(self.parts)
        self.parts.append(rb"[^/]*")

    def _class(self) -> bytes:
        """What a bracket expression matches, worked out for each byte; a slash it never does."""
        negated = self.glob[self.at : self.at + 1] in {b"!", b"^"}
        self.at += negated
        members, previous, first = set[int](), 0, True
        while first or self._peek() != 0x5D:
            first = False
            previous = self._member(members, previous)
        self.at += 1
        if negated:
            members = set(range(256)) - members
        members.discard(0x2F)
        return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(members)) + b"]" if members else rb"(?!)"

    def _peek(self, ahead: int = 0) -> int:
        """The byte at hand, which must be there."""
        if self.at + ahead >= len(self.glob):
            raise NeverMatches(self.glob)
        return self.glob[self.at + ahead]

    def _member(self, members: set[int], previous: int) -> int:
        """Take in one member of a class; the answer is what a following `-` may start a range from, or 0."""
        byte = self._peek()
        if byte == 0x2D and previous and self._peek(1) != 0x5D:
            self.at += 1
            span = bytes(range(previous, self._escaped() + 1))
            members.update(span + span.lower() if self.fold else span)
            return 0
        if byte == 0x5B and self._peek(1) == 0x3A and (named := self._named()) is not None:
            members |= named
            return 0
        byte = self._escaped()
        members.add(
            byte
        )  # git lowers the text before it compares, but not this: with `fold` [A] matches nothing
        return byte

    def _escaped(self) -> int:
        if self._peek() == 0x5C:
            self.at += 1
        byte = self._peek()
        self.at += 1
        return byte

    def _named(self) -> frozenset[int] | None:
        """The members of the [:class:] at hand; None where it only looks like the beginning of one."""
        end = self.glob.find(b"]", self.at + 2)
        if end < 0:
            raise NeverMatches(self.glob)
        name = self.glob[self.at + 2 : end - 1]
        if end == self.at + 2 or self.glob[end - 1] != 0x3A:
            return None
        if name not in _MEMBERS:
            raise NeverMatches(self.glob)
        self.at = end + 1
        return _MEMBERS[b"alpha" if self.fold and name == b"upper" else name]
