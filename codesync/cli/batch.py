"""`codesync batch`: what leads from one tree to another, as a file; written, looked into, applied."""

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

from codesync.cli.output import named, print_json, print_lines, shown
from codesync.cli.place import is_stdout, opened, result
from codesync.cli.plain import Plain, UsageError
from codesync.cli.scanning import scanned
from codesync.wording import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.delta import BatchInfo, Entry, Manifest
    from codesync.delta.batch import PathInfo

_MAX_MANIFEST = 1 << 28  # bytes: many times what one may hold


def _write(arguments: argparse.Namespace) -> None:
    from codesync.delta import write_batch
    from codesync.plan import plan

    if arguments.as_json and is_stdout(arguments.out):
        raise UsageError("The batch and --json cannot both go to stdout; name a file with -o")
    with ExitStack() as stack:
        base, basis = _base(arguments, stack)
        source, rules = scanned(arguments.src, no_ignore=arguments.no_ignore)
        ignored = rules.ignored if rules is not None else lambda path, is_directory: False
        target = plan(source, base, frozenset(), ignored, mirror=True).target
        if arguments.exact:
            target = target.changed(source, ())
        out = stack.enter_context(result(arguments.out, force=arguments.force))
        summary = write_batch(out, arguments.src, base, target, basis=basis, exact=arguments.exact)
    counts = summary._asdict()
    if arguments.as_json:
        print_json(counts)
    elif not is_stdout(arguments.out):
        kinds = ("added", "modified", "deleted", "renamed", "attributes")
        print_lines([f"{', '.join(f'{counts[kind]} {kind}' for kind in kinds)}; {size(summary.wire_bytes)}"])


def _base(
    arguments: argparse.Namespace, stack: ExitStack
) -> "tuple[Manifest, Callable[[Entry], BinaryIO | None] | None]":
    """What the batch starts from, and where its content can be had: only of a directory."""
    from codesync.delta import Manifest, ManifestError
    from codesync.transaction import Root

    if os.path.isdir(arguments.base):
        base, _ = scanned(arguments.base, no_ignore=arguments.no_ignore)
        root = stack.enter_context(Root(arguments.base))
        return base, lambda entry: root.open(entry.path)
    with opened(arguments.base) as file:
        data = file.read(_MAX_MANIFEST)
    try:
        return Manifest.from_bytes(data), None
    except ManifestError as error:
        raise ManifestError(f"{arguments.base}: {error}") from error


def _inspect(arguments: argparse.Namespace) -> None:
    from codesync.delta import inspect_batch

    with opened(arguments.file) as file:
        info = inspect_batch(file)
    if arguments.as_json:
        print_json(_record(info))
    else:
        print_lines(_lines(info))


# What is done to a path, for people. Of a file put whole a batch does not say whether it was there before.
_WORDS = {"put": "file", "attributes": "mode"}


def _lines(info: "BatchInfo") -> Iterator[str]:
    header = info.header
    yield f"from      {header.base}"
    yield f"to        {header.target}"
    if header.push_id:
        yield f"push      {header.push_id}"
    for path in info.paths:
        yield f"{_WORDS.get(path.what, path.what):<10}{_line(path)}"
    counts = ", ".join(f"{count} {_WORDS.get(what, what)}" for what, count in info.counts.items())
    sums = f"{size(info.literal_bytes)} of content sent, {size(info.copied_bytes)} copied from the base"
    yield f"{counts or 'no change'}; {sums}; {size(info.wire_bytes)} in all"


def _line(path: "PathInfo") -> str:
    name = f"{shown(path.source)} -> {shown(path.path)}" if path.source else shown(path.path)
    if path.what not in ("put", "delta", "copy"):
        return name
    sent = f", {size(path.literal_bytes)} sent" if path.what != "put" else ""
    return f"{name}  ({size(path.size)}{sent})"


def _record(info: "BatchInfo") -> dict[str, Any]:
    header = {name: value for name, value in info.header._asdict().items() if value != ""}
    return header | {
        "counts": info.counts,
        "literal_bytes": info.literal_bytes,
        "copied_bytes": info.copied_bytes,
        "wire_bytes": info.wire_bytes,
        "changes": [_change(path) for path in info.paths],
    }


def _change(path: "PathInfo") -> dict[str, Any]:
    record: dict[str, Any] = {"what": path.what} | named(path.path)
    if path.source:
        record |= {name.replace("path", "source"): value for name, value in named(path.source).items()}
    if path.what in ("put", "delta", "copy"):
        record |= {
            "size": path.size,
            "literal_bytes": path.literal_bytes,
            "copied_bytes": path.copied_bytes,
        }
    return record


def _apply(arguments: argparse.Namespace) -> None:
    from codesync.delta import apply_batch
    from codesync.transaction import Root, recover

    with opened(arguments.file) as file, Root(arguments.dir) as root:
        recover(root)
        base, _ = scanned(arguments.dir, no_ignore=arguments.no_ignore)
        target = apply_batch(file, root, base=base)
    if arguments.as_json:
        print_json({"tree_id": target.tree_id, "entries": len(target)})
    else:
        print_lines([f"{arguments.dir} is tree {target.tree_id[:12]} now: {len(target)} paths"])


def _no_ignore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-ignore", action="store_true", help="every path counts, .git too")


def _json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help=f"{what} as one JSON document")


def _fill_write(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", metavar="SRC", help="the tree as it shall be")
    parser.add_argument(
        "--base",
        required=True,
        metavar="DIR|MANIFEST",
        help="the tree as it is where the batch goes: a copy, or what `codesync scan --manifest` wrote there",
    )
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="where to write; - is stdout")
    parser.add_argument(
        "--exact", action="store_true", help="all permissions and times count, as with rsync -a"
    )
    parser.add_argument("-f", "--force", action="store_true", help="replace a file that is there already")
    _no_ignore(parser)
    _json(parser, "the counts")


def _fill_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a batch; - is stdin")
    _json(parser, "all of it")


def _fill_apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a batch; - is stdin")
    parser.add_argument("dir", metavar="DIR", help="a tree that is what the batch was made against")
    _no_ignore(parser)
    _json(parser, "the outcome")


COMMANDS = {
    "write": Plain(
        "SRC --base DIR|MANIFEST -o FILE [OPTIONS]",
        "Write what makes another tree like SRC.\n\n"
        "With a copy of that tree as the base, files go as small deltas; with its manifest alone, whole.\n"
        "What SRC does not have is deleted, but for what its ignore rules leave out.",
        _fill_write,
        _write,
        (
            "codesync batch write shop --base shop.old -o change.batch",
            "codesync scan shop --manifest shop.manifest",
        ),
    ),
    "inspect": Plain(
        "FILE [--json]",
        "Show what is in a batch, and whether it is whole.",
        _fill_inspect,
        _inspect,
        ("codesync batch inspect change.batch",),
    ),
    "apply": Plain(
        "FILE DIR [OPTIONS]",
        "Make the tree DIR what the batch says, wholly or not at all.\n\n"
        "DIR must be the tree that the batch was made against; what its ignore rules leave out is left alone.",
        _fill_apply,
        _apply,
        ("codesync batch apply change.batch /srv/shop",),
    ),
}
