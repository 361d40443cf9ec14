"""Basis + delta → target, and the bytes a delta travels as.

Every operation is checked against the basis before anything of it is written; where the target's SHA-256 is known, the
result is checked against it. Whoever calls writes to a place that may be thrown away.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from struct import Struct
from typing import BinaryIO

from xxhash import xxh3_64

from codesync.delta.errors import PatchError
from codesync.delta.match import delta
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op
from codesync.delta.reading import Readable, as_file, as_readable, read_fully
from codesync.delta.signature import Signature

MAGIC = b"csdelt\r\n"
VERSION = 1
_HEAD = Struct("<8sH")
_END, _COPY, _LITERAL = b"\0", b"\1", b"\2"
_COPY_FIELDS = Struct("<QQ")
_LITERAL_FIELDS = Struct("<I")
_END_FIELDS = Struct("<Q32s")
_CHECK = Struct("<Q")


def patch(basis: bytes | BinaryIO, ops: Iterable[Op], out: BinaryIO, *, digest: bytes = b"") -> int:
    """Write the target to `out` and return its length in bytes.

    `basis`: bytes, or a seekable binary file. `ops`: operations, or a `Delta` or `DeltaReader`, which bring the SHA-256
    the target must have; `digest` gives it otherwise (empty: not known). PatchError: an operation reaches outside the
    basis, or the digest differs; what `out` has got by then is worth nothing.
    """
    source = as_file(basis)
    size = source.seek(0, 2)
    check = sha256()
    written = 0
    for op in ops:
        for data in content(source, size, op):
            check.update(data)
            out.write(data)
            written += len(data)
    digest = digest or getattr(ops, "digest", b"")
    if digest and check.digest() != digest:
        raise PatchError(
            f"the result's SHA-256 is {check.hexdigest()}, not {digest.hex()}: is this the right basis?"
        )
    return written


def content(basis: BinaryIO, size: int, op: Op) -> Iterator[bytes]:
    """The bytes an operation stands for, in pieces; `size` is that of the basis. PatchError where it reaches outside."""
    if isinstance(op, Literal):
        yield op.data
        return
    offset, left = op
    if offset < 0 or left < 1 or offset + left > size:
        raise PatchError(f"{left} bytes from {offset} on are outside the basis of {size} bytes")
    basis.seek(offset)
    while left:
        data = basis.read(min(left, MAX_LITERAL))
        if not data:
            raise PatchError(f"the basis ends {left} bytes before the delta expects it to")
        left -= len(data)
        yield data


class HashingReader:
    """Passes on what a file reads, and knows the SHA-256 and the length of all that it has passed on."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._sha256 = sha256()
        self.length = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._sha256.update(data)
        self.length += len(data)
        return data

    def digest(self) -> bytes:
        return self._sha256.digest()


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta held in memory: its operations and the target's SHA-256 (32 bytes). Large ones: `write_delta`."""

    ops: tuple[Op, ...]
    digest: bytes

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    @classmethod
    def of(cls, sig: Signature, target: bytes | Readable) -> "Delta":
        """The delta from the basis of `sig` to `target`."""
        file = HashingReader(as_readable(target))
        return cls(tuple(delta(sig, file)), file.digest())

    def to_bytes(self) -> bytes:
        """The bytes that `write_delta` writes for the same operations."""
        out = BytesIO()
        _write(out, self.ops, lambda: self.digest)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Delta":
        """What `to_bytes` gave. PatchError for anything else."""
        reader = DeltaReader(BytesIO(data))
        return cls(tuple(reader), reader.digest)


def write_delta(out: BinaryIO, sig: Signature, target: bytes | Readable) -> None:
    """Write the delta from the basis of `sig` to `target`, in bounded memory.

    Little-endian: magic, version; for each operation a byte 1 with offset and length, or a byte 2 with a length and so
    many bytes; a byte 0 with the target's length and SHA-256; XXH3 of all before.
    """
    file = HashingReader(as_readable(target))
    _write(out, delta(sig, file), file.digest)


def _write(out: BinaryIO, ops: Iterable[Op], digest: Callable[[], bytes]) -> None:
    check = xxh3_64()
    length = 0

    def put(data: bytes) -> None:
        check.update(data)
        out.write(data)

    put(_HEAD.pack(MAGIC, VERSION))
    for op in ops:
        if isinstance(op, Literal):
            put(_LITERAL + _LITERAL_FIELDS.pack(len(op.data)))
            put(op.data)
            length += len(op.data)
        else:
            put(_COPY + _COPY_FIELDS.pack(op.offset, op.length))
            length += op.length
    put(_END + _END_FIELDS.pack(length, digest()))
    out.write(_CHECK.pack(check.intdigest()))


class DeltaReader:
    """The operations of a delta that `write_delta` wrote, in bounded memory.

    Iterate once; `digest` (the target's SHA-256) is there when the iteration has ended, which it does only after the
    whole has been checked. PatchError for anything that is not a whole, undamaged delta.
    """

    def __init__(self, file: Readable) -> None:
        self.digest = b""
        self._file = file
        self._check = xxh3_64()
        self._length = 0
        magic, version = _HEAD.unpack(self._take(_HEAD.size))
        if magic != MAGIC:
            raise PatchError("these bytes are no delta")
        if version != VERSION:
            raise PatchError(f"delta version {version} is not known here, only {VERSION}")

    def __iter__(self) -> Iterator[Op]:
        while (tag := self._take(1)) != _END:
            op = self._op(tag)
            self._length += op.length if isinstance(op, Copy) else len(op.data)
            yield op
        self._finish()

    def _op(self, tag: bytes) -> Op:
        if tag == _COPY:
            offset, length = _COPY_FIELDS.unpack(self._take(_COPY_FIELDS.size))
            if not length:
                raise PatchError("the delta is damaged: it copies nothing")
            return Copy(offset, length)
        if tag == _LITERAL:
            (length,) = _LITERAL_FIELDS.unpack(self._take(_LITERAL_FIELDS.size))
            if not 1 <= length <= MAX_LITERAL:
                raise PatchError(f"the delta is damaged: a literal of {length} bytes cannot be")
            return Literal(self._take(length))
        raise PatchError(f"the delta is damaged: no operation is called {tag[0]}")

    def _finish(self) -> None:
        length, digest = _END_FIELDS.unpack(self._take(_END_FIELDS.size))
        check = self._check.intdigest()
        if length != self._length or _CHECK.unpack(self._take(_CHECK.size))[0] != check:
            raise PatchError("the delta is damaged: its checksum differs")
        if self._file.read(1):
            raise PatchError("something follows the end of the delta")
        self.digest = digest

    def _take(self, size: int) -> bytes:
        data = read_fully(self._file, size)
        if len(data) < size:
            raise PatchError("the delta ends too early")
        self._check.update(data)
        return data
