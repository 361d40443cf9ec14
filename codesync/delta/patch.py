"""Basis + delta → target.

Every operation is checked against the basis before anything of it is written; where a digest of the target is known,
the result is checked against it. Whoever calls writes to a place that may be thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from xxhash import xxh3_128

from codesync.delta.errors import PatchError
from codesync.delta.form import DeltaReader, DeltaWriter
from codesync.delta.ops import Copy, Literal, Op, Window
from codesync.delta.reading import RandomAccess, Readable, as_readable, random_access
from codesync.delta.writing import Output

if TYPE_CHECKING:
    from codesync.delta.refine import Refined
    from codesync.delta.signature import Signature

__all__ = ["Delta", "DeltaReader", "patch", "write_delta"]


def patch(basis: bytes | BinaryIO, ops: Iterable[Op], out: BinaryIO, *, digest: bytes = b"") -> int:
    """Write the target to `out` and return its length in bytes.

    `basis`: bytes, or a seekable binary file. `ops`: operations, or a `Delta` or `DeltaReader`, which bring the digest
    that the target must have; `digest` gives another or the only one (16 bytes: XXH3-128; 32 bytes: SHA-256; empty: none).
    Memory: a few 256 KiB. PatchError: an operation reaches outside the basis, or a digest differs; what `out` has got by
    then is worth nothing.
    """
    hashes = [_hash(digest)] if digest else []
    if hasattr(ops, "digest"):
        hashes.append(xxh3_128())
    source, output = random_access(basis), Output(out, hashes)
    for op in ops:
        if isinstance(op, Copy):
            _copy(op, source, output)
        else:
            for data in _made(source, op):
                output.put(data)
    length = output.finish()
    expected = [digest] if digest else []
    for hash_, wanted in zip(hashes, [*expected, getattr(ops, "digest", b"")], strict=False):
        if wanted and hash_.digest() != wanted:
            name = "SHA-256" if len(wanted) == 32 else "XXH3-128"
            raise PatchError(
                f"the result's {name} is {hash_.hexdigest()}, not {wanted.hex()}: is this the right basis?"
            )
    return length


def _hash(digest: bytes) -> Any:
    if len(digest) == 16:
        return xxh3_128()
    if len(digest) == 32:
        from hashlib import sha256

        return sha256()
    raise ValueError(f"a digest has 16 or 32 bytes, not {len(digest)}")


def _made(basis: RandomAccess, op: Literal | Window) -> Iterator[bytes]:
    if isinstance(op, Literal):
        return iter((op.data,))
    from codesync.delta.window import unpack_window

    return unpack_window(op, basis)


def _copy(op: Copy, basis: RandomAccess, output: Output) -> None:
    offset, length = op
    if offset < 0 or length < 1 or offset + length > basis.size:
        raise PatchError(f"{length} bytes from {offset} on are outside the basis of {basis.size} bytes")
    if missing := output.copy(basis, offset, length):
        raise PatchError(f"the basis ends {missing} bytes before the delta expects it to")


class _Hashed:
    """Passes on what a file reads, however it is read, and knows the digest of all that."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._hash = xxh3_128()
        self.digest: Callable[[], bytes] = self._hash.digest

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def readinto(self, view: memoryview, /) -> int:
        if (readinto := getattr(self._file, "readinto", None)) is None:
            data = self._file.read(len(view))
            view[: len(data)] = data
            count = len(data)
        else:
            count = readinto(view)
        self._hash.update(view[:count])
        return count


class Delta:
    """A delta held in memory: its operations and the target's XXH3-128 (16 bytes). Large ones: `write_delta`."""

    __slots__ = ("digest", "ops")

    def __init__(self, ops: Iterable[Op], digest: bytes) -> None:
        self.ops = tuple(ops)
        self.digest = digest

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __eq__(self, other: object) -> bool:
        return (
            (self.ops, self.digest) == (other.ops, other.digest)
            if isinstance(other, Delta)
            else NotImplemented
        )

    def __hash__(self) -> int:
        return hash((self.ops, self.digest))

    def __repr__(self) -> str:
        return f"<Delta of {len(self.ops)} operations to {self.digest.hex()}>"

    @classmethod
    def of(cls, against: Signature | Refined | bytes | BinaryIO, target: bytes | Readable) -> Delta:
        """The delta to `target`, `against` as for `write_delta`."""
        ops, digest = _found(against, target)
        return cls(tuple(ops), digest())

    def to_bytes(self) -> bytes:
        """The bytes that `write_delta` writes for the same operations."""
        out = BytesIO()
        writer = DeltaWriter(out)
        for op in self.ops:
            writer.put(op)
        writer.finish(self.digest)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Delta:
        """What `to_bytes` gave. PatchError for anything else."""
        reader = DeltaReader(BytesIO(data))
        return cls(tuple(reader), reader.digest)


def _found(
    against: Signature | Refined | bytes | BinaryIO, target: bytes | Readable
) -> tuple[Iterator[Op], Callable[[], bytes]]:
    """The operations, and what tells the target's digest once they have all come."""
    from codesync.delta.match import delta

    if isinstance(target, bytes):
        return delta(against, target), xxh3_128(target).digest
    file = _Hashed(as_readable(target))
    return delta(against, file), file.digest


def write_delta(
    out: BinaryIO, against: Signature | Refined | bytes | BinaryIO, target: bytes | Readable
) -> int:
    """Write the delta to `target`, and return the target's length.

    `against`: the basis itself, bytes or a seekable binary file, or where only the other side has that its signature. Bounded
    memory, in the form that docs/batch-format.md describes.
    """
    ops, digest = _found(against, target)
    writer = DeltaWriter(out, expected=getattr(against, "length", 0))
    for op in ops:
        writer.put(op)
    return writer.finish(digest())
