"""What a replica tells of files whose content only it has: signatures, and in a second round details of them.

Answers are checked before anybody uses them. This file does not know what is worth asking about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple, TypeVar

import msgpack

from codesync.client.results import ClientError
from codesync.client.session import MAX_ANSWER, Session
from codesync.client.zstd import MALFORMED, inflate
from codesync.delta import DeltaError, Signature
from codesync.delta.refine import Details, Gaps
from codesync.delta.refine.details import SUM_BYTES, piece_size
from codesync.protocol import MAX_RANGES, FileRanges, GetDetails, GetSignatures, TreeRef

MAX_SIGNATURES = 256 * 1024 * 1024  # bytes of all signatures for one tree, decompressed
MAX_DETAILS = 64 * 1024 * 1024  # bytes of all details, decompressed
FILES_PER_QUESTION = 1000
PATH_BYTES = 128 * 1024  # of all paths in one question

T = TypeVar("T")
_Readers = Mapping[bytes, Callable[[bytes], T]]


class OpenEnds(NamedTuple):
    """What a signature has left open, and its seed."""

    seed: int
    gaps: Gaps


async def ask_signatures(
    session: Session, tree: TreeRef, paths: list[bytes], *, coarse_from: int = 0
) -> dict[bytes, Signature]:
    """Signatures of a replica's files; some may be missing. Raises ClientError, Disconnected.

    `coarse_from`: files of so many bytes and more get large blocks, for a second round to follow; 0: none.
    """
    groups = _groups(dict.fromkeys(paths, 1))
    questions = (
        (GetSignatures(request=0, tree_id=tree.tree_id, paths=tuple(group), coarse_from=coarse_from), group)
        for group in groups
    )
    readers = dict.fromkeys(paths, Signature.from_bytes)
    return await _ask(session, questions, readers, "signatures", MAX_SIGNATURES)


async def ask_details(
    session: Session, tree: TreeRef, wanted: Mapping[bytes, OpenEnds]
) -> dict[bytes, Details]:
    """Details of a replica's files; some may be missing. Raises ClientError, Disconnected."""
    counts = {path: len(ends.gaps.gaps) + len(ends.gaps.orphans) for path, ends in wanted.items()}
    groups = _groups({path: count for path, count in counts.items() if count <= MAX_RANGES})
    questions = (
        (
            GetDetails(
                request=0,
                tree_id=tree.tree_id,
                files=tuple(_file_ranges(path, wanted[path]) for path in group),
            ),
            group,
        )
        for group in groups
    )
    readers = {path: _details_of(ends) for path, ends in wanted.items()}
    return await _ask(session, questions, readers, "details", MAX_DETAILS)


async def _ask(
    session: Session,
    questions: Iterable[tuple[GetSignatures | GetDetails, list[bytes]]],
    readers: _Readers[T],
    what: str,
    limit: int,
) -> dict[bytes, T]:
    """What is told of each path that these questions are about, at most `limit` bytes in all."""
    found: dict[bytes, T] = {}
    for question, paths in questions:
        data = await session.ask(question, f"the replica did not tell {what} of its files", MAX_ANSWER)
        try:
            records = inflate(data, limit)
            limit -= len(records)
            found.update(_records(records, {path: readers[path] for path in paths}))
        except (*MALFORMED, DeltaError) as error:
            message = f"a replica's {what} cannot be read ({str(error) or type(error).__name__}); update the older of the two codesyncs"
            raise ClientError(message, code="bad_message") from error
    return found


def _records(records: bytes, readers: _Readers[T]) -> Iterator[tuple[bytes, T]]:
    """Read one msgpack [path, bytes] after another."""
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_SIGNATURES, max_array_len=0, max_map_len=0)
    unpacker.feed(records)
    while unpacker.tell() < len(records):
        if unpacker.read_array_header() != 2:
            raise ValueError("a record is not a pair")
        path, data = unpacker.unpack(), unpacker.unpack()
        if path not in readers:
            raise ValueError("a record of a file that was not asked for")
        yield path, readers[path](data)


def _groups(weights: Mapping[bytes, int]) -> Iterator[list[bytes]]:
    """Paths for one question each, with their ranges."""
    group: list[bytes] = []
    size = ranges = 0
    for path, weight in weights.items():
        size, ranges = size + len(path), ranges + weight
        if group and (size > PATH_BYTES or ranges > MAX_RANGES or len(group) == FILES_PER_QUESTION):
            yield group
            group, size, ranges = [], len(path), weight
        group.append(path)
    if group:
        yield group


def _file_ranges(path: bytes, ends: OpenEnds) -> FileRanges:
    ranges = chain.from_iterable((gap.basis.offset, gap.basis.length) for gap in ends.gaps.gaps)
    orphans = chain.from_iterable((orphan.offset, orphan.length) for orphan in ends.gaps.orphans)
    return FileRanges(path=path, seed=ends.seed, ranges=tuple(ranges), orphans=tuple(orphans))


def _details_of(ends: OpenEnds) -> Callable[[bytes], Details]:
    """A reader that takes only details of just these ranges."""

    def read(data: bytes) -> Details:
        found = Details.from_bytes(data)
        most = [gap.basis.length // piece_size(gap.basis.length) for gap in ends.gaps.gaps]
        told = [len(sums) // SUM_BYTES for sums in found.sums]
        orphans = found.orphans.length if found.orphans else 0
        if (
            found.seed != ends.seed
            or len(told) != len(most)
            or any(count > limit for count, limit in zip(told, most, strict=True))
            or orphans != sum(orphan.length for orphan in ends.gaps.orphans)
        ):
            raise ValueError("details of something else than was asked for")
        return found

    return read
