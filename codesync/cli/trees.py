"""`codesync scan` and `codesync sync`: the engine on local trees, without any network."""

import base64
import os
from typing import TYPE_CHECKING, Any

import click

from codesync.cli.output import example, print_json, quoted, say, shown, write_bytes
from codesync.config import config_home
from codesync.wording import size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codesync.delta import Entry, Manifest, Rules, Skipped, SyncResult

_NO_IGNORE = click.option("--no-ignore", is_flag=True, help="Every path counts, .git too.")


@click.command(epilog=example("codesync scan . -0 | xargs -0 wc -c"))
@click.argument("root", type=click.Path())
@_NO_IGNORE
@click.option("-0", "nul", is_flag=True, help="Raw names, each ended by NUL.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON document: tree_id, entries, what is left out."
)
def scan(root: str, no_ignore: bool, nul: bool, as_json: bool) -> None:
    """Print the files a push would carry.

    Files and links below ROOT, sorted by the bytes of their paths and quoted as `git ls-files` does. What
    cannot be carried (sockets, unreadable files) is named on stderr.
    """
    from codesync.delta import scan as scan_tree

    if nul and as_json:
        raise click.UsageError("-0 and --json exclude each other")
    manifest = scan_tree(root, rules=_rules(root, no_ignore))
    _say_skipped(manifest.skipped)
    if as_json:
        print_json(_tree(manifest))
        return
    paths = [entry.path for entry in manifest if entry.kind != "d"]
    write_bytes(b"".join(path + b"\0" if nul else quoted(path) + b"\n" for path in paths))


def _rules(root: str, no_ignore: bool) -> "Rules | None":
    from codesync.delta import Rules

    return (
        None
        if no_ignore or not os.path.isdir(root)
        else Rules.for_root(root, config_home=config_home() or None)
    )


def _tree(manifest: "Manifest") -> dict[str, Any]:
    return {
        "tree_id": manifest.tree_id,
        "total_size": manifest.total_size,
        "entries": [_entry(entry) for entry in manifest],
        "skipped": _skipped(manifest.skipped),
    }


def _entry(entry: "Entry") -> dict[str, Any]:
    kinds = {"f": "file", "d": "directory", "l": "symlink"}
    record = _name(entry.path)
    record |= {"kind": kinds[entry.kind], "mode": f"{entry.mode:04o}", "mtime_ns": entry.mtime_ns}
    if entry.kind == "f":
        record |= {"size": entry.size, "sha256": entry.digest.hex()}
    if entry.kind == "l":
        record |= {"target": os.fsdecode(entry.target)}
    return record


def _name(path: bytes) -> dict[str, Any]:
    """A name that is not UTF-8 comes in base64 too."""
    text = os.fsdecode(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"path": text, "path_base64": base64.b64encode(path).decode()}
    return {"path": text}


@click.command(epilog=example("codesync sync --mirror build/site /srv/site"))
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--mirror", is_flag=True, help="Delete what SRC does not have.")
@_NO_IGNORE
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON document.")
def sync(src: str, dst: str, mirror: bool, no_ignore: bool, as_json: bool) -> None:
    """Make the tree DST like the tree SRC, wholly or not at all.

    As `rsync -a --checksum [--delete] SRC/ DST/` without owners: modes and times are exact, links are
    copied as links. SRC's ignore rules hold unless --no-ignore.
    """
    from codesync.delta import sync as sync_trees

    result = sync_trees(src, dst, mirror=mirror, rules=_rules(src, no_ignore))
    _say_skipped(result.skipped)
    for path in result.left:
        say(f"stays, since it holds what cannot be deleted: {shown(path)}")
    if as_json:
        print_json(
            _counts(result)
            | {"left": [_name(path) for path in result.left], "skipped": _skipped(result.skipped)}
        )
    else:
        counts = ", ".join(f"{count} {what}" for what, count in _counts(result).items() if what != "bytes")
        click.echo(f"{counts}; {size(result.size)} copied")


def _counts(result: "SyncResult") -> dict[str, Any]:
    return {
        "added": len(result.added),
        "modified": len(result.modified),
        "deleted": len(result.deleted),
        "attributes": len(result.attributes),
        "bytes": result.size,
    }


def _say_skipped(skipped: "Iterable[Skipped]") -> None:
    for path, reason in skipped:
        say(f"left out ({reason}): {shown(path)}")


def _skipped(skipped: "Iterable[Skipped]") -> list[dict[str, Any]]:
    return [_name(path) | {"reason": reason} for path, reason in skipped]
