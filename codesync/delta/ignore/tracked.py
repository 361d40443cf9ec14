"""What git tracks in a work tree, taken out of its index when somebody asks: most scans need not."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import NamedTuple

from xxhash import xxh3_128_digest

from codesync.delta.errors import ScanError
from codesync.delta.ignore.files import read
from codesync.delta.ignore.index import merge, read_index


class Question(NamedTuple):
    """What shall be made of an index: paths that begin with `below`, without it, and with `within` before them instead."""

    hash_length: int = 20
    fold: bool = False
    below: bytes = b""
    within: bytes = b""


class Tracked:
    """What an index holds; paths are relative to the directory that was asked about, with `fold` in lower case.

    Reading any of it raises ScanError where the index is damaged.
    """

    def __init__(
        self, content: bytes | None = None, question: Question | None = None, shared: bytes = b""
    ) -> None:
        """`content`: of the index, None where there is none; `shared`: of the file that a split index names."""
        self._content = content
        self._question = question or Question()
        self._shared = shared

    @cached_property
    def source(self) -> bytes:
        """A digest of all that the paths are made from: the same source holds the same paths."""
        if self._content is None:
            return b""
        hash_length, fold, below, within = self._question
        about = b"%d %d %b\0%b\0" % (hash_length, fold, below, within)
        return b"".join(map(xxh3_128_digest, (about, self._content, self._shared)))

    @cached_property
    def name(self) -> bytes:
        """A digest of the paths; b"" without an index. git writes one anew more often than its paths change."""
        links = [path for path, link in self._inside if link]
        return b"" if self._content is None else xxh3_128_digest(b"\0".join([*self.ordered, b"", *links]))

    @cached_property
    def _inside(self) -> list[tuple[bytes, bool]]:
        if self._content is None:
            return []
        index = read_index(self._content, self._question.hash_length)
        shared = read_index(self._shared, self._question.hash_length) if self._shared else None
        entries = index.entries if shared is None else merge(shared, index)
        below, within, cut = self._question.below, self._question.within, len(self._question.below)
        if below or within:
            entries = [(within + path[cut:], link) for path, link in entries if path.startswith(below)]
        return sorted((path.lower(), link) for path, link in entries) if self._question.fold else entries

    @cached_property
    def files(self) -> frozenset[bytes]:
        """Everything but submodules."""
        return frozenset([path for path, link in self._inside if not link])

    @cached_property
    def submodules(self) -> frozenset[bytes]:
        """Submodules."""
        return frozenset([path for path, link in self._inside if link])

    @cached_property
    def ordered(self) -> tuple[bytes, ...]:
        """Both, sorted."""
        return tuple([path for path, _ in self._inside])

    def below(self, directory: bytes) -> bool:
        """Whether there is anything below `directory`, which is given as the paths in here are."""
        start = directory + b"/"
        at = bisect_left(self.ordered, start)
        return at < len(self.ordered) and self.ordered[at].startswith(start)


def read_tracked(own: int, question: Question, known: Tracked | None = None) -> Tracked:
    """Read the index in the open git directory `own`; `known` is what it was before.

    Raises:
        ScanError: the index is split and its other part is missing, or it cannot be read.
    """
    content = read("index", own)
    shared = b""
    # a split index names its shared part in an extension of this name
    if (
        content is not None
        and b"link" in content
        and (link := read_index(content, question.hash_length).link) is not None
    ):
        found = read(f"sharedindex.{link.shared}", own)
        if found is None:
            raise ScanError(
                "git's index is split and its shared part is missing; try `git update-index --no-split-index`"
            )
        shared = found
    made = Tracked(content, question, shared)
    return known if known is not None and known.source == made.source else made
