"""From a batch to a tree: what `base` was becomes `target`, or nothing happens.

Every file is put together outside the tree and has the size and SHA-256 the batch names, before anything is renamed.
"""

from __future__ import annotations

from codesync.delta.batch.format import Limits
from codesync.delta.batch.read import read_batch
from codesync.delta.batch.unpack import check_base, unpack_batch
from codesync.delta.batch.write import rooted
from codesync.delta.manifest import Manifest, scan
from codesync.delta.reading import Readable
from codesync.transaction import FILE, Root, Transaction


def apply_batch(
    file: Readable,
    root: str | bytes | Root,
    *,
    base: Manifest | None = None,
    limits: Limits | None = None,
    durable: bool = True,
) -> Manifest:
    """Make the tree `root` what the batch says, in one transaction, and return its manifest.

    `base`: the tree's manifest; without it everything in `root` is scanned. BatchError (a batch for another tree is
    one), ScanError, TransactionError, OSError: then the tree is what it was.
    """
    reader = read_batch(file, limits)
    with rooted(root) as tree:
        base = scan(tree) if base is None else base
        check_base(reader.header, base)
        name = reader.header.push_id or reader.header.target[:16]
        with Transaction.begin(tree, name, durable=durable) as transaction:
            unpacked = unpack_batch(reader, tree, transaction.create, base)
            target = unpacked.target(base)
            for change in unpacked.changes:
                if change.kind != FILE:
                    transaction.add(change)
            transaction.rename()
            transaction.keep()
    return target
