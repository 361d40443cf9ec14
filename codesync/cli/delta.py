"""`codesync delta`: signature, delta and patch of single files, with rdiff's arguments. "-" is stdin or stdout.

The engine is imported where a command needs it, and no more of it.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from codesync.cli.place import opened, result
from codesync.cli.plain import Plain, UsageError

if TYPE_CHECKING:
    from codesync.delta.signature import Signature

_PIPE_BLOCK = 1 << 12  # where the length cannot be known before
_MAX_SIGNATURE = 1 << 28  # bytes: that of a file of a terabyte has no more


def _signature(arguments: argparse.Namespace) -> None:
    from codesync.delta.signature import signature

    with opened(arguments.basis) as basis, result(arguments.signature, force=arguments.force) as out:
        size = arguments.block_size
        if size is None and not basis.seekable():
            size = _PIPE_BLOCK
        seed = int.from_bytes(os.urandom(4), "little") if arguments.seed is None else arguments.seed
        out.write(signature(basis, size, seed=seed).to_bytes())


def _delta(arguments: argparse.Namespace) -> None:
    from codesync.delta.patch import write_delta

    files = arguments.files if arguments.basis is None else [arguments.basis, *arguments.files]
    if not 1 <= len(files) <= 3:
        raise UsageError("It takes SIG or --basis BASIS, then NEW and DELTA")
    against, new, delta = [*files, "-", "-"][:3]
    if against == new == "-":
        raise UsageError("Only one of SIG and NEW can be stdin")
    with opened(new) as target:
        if arguments.basis is None:
            sig = _read_signature(against)
            with result(delta, force=arguments.force) as out:
                write_delta(out, sig, target)
        else:
            with _basis(against) as basis, result(delta, force=arguments.force) as out:
                write_delta(out, basis, target)


def _patch(arguments: argparse.Namespace) -> None:
    from codesync.delta.patch import DeltaReader, patch

    with _basis(arguments.basis) as basis, opened(arguments.delta) as delta, _about(arguments.delta):
        reader = DeltaReader(delta)
        with result(arguments.out, force=arguments.force) as out:
            patch(basis, reader, out)


def _read_signature(path: str) -> "Signature":
    from codesync.delta.reading import read_fully
    from codesync.delta.signature import MAGIC, Signature

    with opened(path) as file:
        data = read_fully(file, len(MAGIC))
        if data == MAGIC:  # a large file that is something else is not read
            data += read_fully(file, _MAX_SIGNATURE)
    with _about(path):
        return Signature.from_bytes(data)


@contextmanager
def _about(path: str) -> Iterator[None]:
    """An error about what is in a file names the file."""
    from codesync.delta.errors import DeltaError

    try:
        yield
    except DeltaError as error:
        raise type(error)(f"{path}: {error}") from error


@contextmanager
def _basis(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        raise UsageError("BASIS is read at random; it must be a file, not stdin")
    with opened(path) as file:
        if not file.seekable():
            raise UsageError(f"BASIS is read at random; {path} is no file for that")
        yield file


def _block_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 24:
        raise argparse.ArgumentTypeError("a block has 1 to 16777216 bytes")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or not int(text) < 1 << 32:
        raise argparse.ArgumentTypeError("a seed is 0 to 4294967295")
    return int(text)


def _force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="replace a file that is there already")


def _fill_signature(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("basis", metavar="BASIS", help="the old file")
    parser.add_argument(
        "signature", metavar="SIG", nargs="?", default="-", help="where to write; default stdout"
    )
    parser.add_argument(
        "-b", "--block-size", metavar="N", type=_block_size, help="bytes; default: about the root of BASIS's"
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=_seed,
        help="of the checksums; default: another each time, so that a false match does not come again",
    )
    _force(parser)


def _fill_delta(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="SIG NEW DELTA", nargs="*", help="default for the last two: stdin and stdout"
    )
    parser.add_argument(
        "--basis", metavar="BASIS", help="the old file itself, instead of SIG: the delta is smaller"
    )
    _force(parser)


def _fill_patch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("basis", metavar="BASIS", help="the old file")
    parser.add_argument("delta", metavar="DELTA", nargs="?", default="-", help="default stdin")
    parser.add_argument("out", metavar="OUT", nargs="?", default="-", help="where to write; default stdout")
    _force(parser)


COMMANDS = {
    "signature": Plain(
        "[OPTIONS] BASIS [SIG]",
        "Write what must be known of a file for a delta against it.",
        _fill_signature,
        _signature,
        ("codesync delta signature old.iso old.sig",),
    ),
    "delta": Plain(
        "[OPTIONS] SIG [NEW [DELTA]]",
        "Write what leads from an old file to a new one.\n\n"
        "The old one is known by its signature; or it is here, with --basis.",
        _fill_delta,
        _delta,
        (
            "codesync delta delta old.sig new.iso new.delta",
            "codesync delta delta --basis old.iso new.iso new.delta",
        ),
    ),
    "patch": Plain(
        "[OPTIONS] BASIS [DELTA [OUT]]",
        "Make the new file of the old one and a delta.\n\n"
        "The result is checked against the digest in the delta before it is at its place.",
        _fill_patch,
        _patch,
        ("codesync delta patch old.iso new.delta new.iso",),
    ),
}
