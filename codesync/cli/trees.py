"""`codesync scan` and `codesync sync`: the engine on local trees, without any network."""

import os
from typing import TYPE_CHECKING, Any

import click

from codesync.cli.output import example, named, print_json, quoted, say, shown, write_bytes
from codesync.cli.place import endable
from codesync.cli.place import result as placed
from codesync.cli.scanning import rules_of, say_skipped, scanned, skipped_record
from codesync.wording import size

if TYPE_CHECKING:
    from codesync.delta import Entry, Manifest, SyncResult

_NO_IGNORE = click.option("--no-ignore", is_flag=True, help="Every path counts, .git too.")


@click.command(epilog=example("codesync scan . -0 | xargs -0 wc -c"))
@click.argument("root", type=click.Path())
@_NO_IGNORE
@click.option("-0", "nul", is_flag=True, help="Raw names, each ended by NUL.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON document: tree_id, entries, what is left out."
)
@click.option(
    "--manifest",
    "to",
    metavar="FILE",
    help="Write the manifest there instead: for `codesync batch write --base FILE`.",
)
@click.option("-f", "--force", is_flag=True, help="With --manifest: replace a file that is there already.")
def scan(root: str, *, no_ignore: bool, nul: bool, as_json: bool, to: str | None, force: bool) -> None:
    """Print the files a push would carry.

    Files and links below ROOT, sorted by the bytes of their paths and quoted as `git ls-files` does. What
    cannot be carried (sockets, unreadable files) is named on stderr.
    """
    if sum((nul, as_json, to is not None)) > 1:
        raise click.UsageError("-0, --json and --manifest exclude each other")
    if force and to is None:
        raise click.UsageError("--force goes with --manifest")
    if to is not None:
        with endable():
            manifest, _ = scanned(root, no_ignore=no_ignore)
            with placed(to, force=force) as out:
                out.write(manifest.to_bytes())
        return
    manifest, _ = scanned(root, no_ignore=no_ignore)
    if as_json:
        print_json(_tree(manifest))
        return
    paths = [entry.path for entry in manifest if entry.kind != "d"]
    write_bytes(b"".join(path + b"\0" if nul else quoted(path) + b"\n" for path in paths))


def _tree(manifest: "Manifest") -> dict[str, Any]:
    return {
        "tree_id": manifest.tree_id,
        "total_size": manifest.total_size,
        "entries": [_entry(entry) for entry in manifest],
        "skipped": skipped_record(manifest.skipped),
    }


def _entry(entry: "Entry") -> dict[str, Any]:
    kinds = {"f": "file", "d": "directory", "l": "symlink"}
    record = named(entry.path)
    record |= {"kind": kinds[entry.kind], "mode": f"{entry.mode:04o}", "mtime_ns": entry.mtime_ns}
    if entry.kind == "f":
        record |= {"size": entry.size, "sha256": entry.digest.hex()}
    if entry.kind == "l":
        record |= {"target": os.fsdecode(entry.target)}
    return record


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

    result = sync_trees(src, dst, mirror=mirror, rules=rules_of(src, no_ignore=no_ignore))
    say_skipped(result.skipped)
    for path in result.left:
        say(f"stays, since it holds what cannot be deleted: {shown(path)}")
    if as_json:
        print_json(
            _counts(result)
            | {"left": [named(path) for path in result.left], "skipped": skipped_record(result.skipped)}
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
