"""The delta engine, a library: bytes, files and trees. It knows no socket, no asyncio, no environment.

    sig = signature(basis)                    what must be known of a basis
    ops = delta(sig, target)                  Copy and Literal operations
    patch(basis, ops, out)                    basis + delta → target
    man = scan(root, rules=…, cache=…)        a tree's Manifest
    write_batch(out, root, base, target)      what leads from one tree to another, as a stream
    apply_batch(file, root)                   one tree made the other, wholly or not at all

`__all__` is the public surface; whatever else is in here may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# these two modules have the name of what they export: imported first, the name means the function for good
from codesync.delta.errors import (
    BatchError,
    DeltaError,
    LimitExceeded,
    ManifestError,
    PatchError,
    ScanError,
    SignatureError,
    SourceChanged,
)
from codesync.delta.match import Copy, Literal, Op, delta
from codesync.delta.patch import Delta, DeltaReader, patch, write_delta
from codesync.delta.signature import Signature, signature

if TYPE_CHECKING:
    from codesync.delta.batch import (
        BatchHeader,
        BatchInfo,
        BatchReader,
        BatchSummary,
        Limits,
        TrackedChange,
        UnpackedBatch,
        apply_batch,
        inspect_batch,
        read_batch,
        unpack_batch,
        write_batch,
    )
    from codesync.delta.cache import ManifestCache
    from codesync.delta.ignore import Rules
    from codesync.delta.manifest import (
        Difference,
        Entry,
        Kind,
        Manifest,
        Skipped,
        difference,
        scan,
        tracked_id,
        tree_id,
    )
    from codesync.delta.sync import SyncResult, sync

_LATER = {
    "codesync.delta.batch": (
        "BatchHeader BatchInfo BatchReader BatchSummary Limits TrackedChange UnpackedBatch "
        "apply_batch inspect_batch read_batch unpack_batch write_batch"
    ),
    "codesync.delta.cache": "ManifestCache",
    "codesync.delta.ignore": "Rules",
    "codesync.delta.manifest": "Difference Entry Kind Manifest Skipped difference scan tracked_id tree_id",
    "codesync.delta.sync": "SyncResult sync",
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names.split():
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(name)


__all__ = [
    "BatchError",
    "BatchHeader",
    "BatchInfo",
    "BatchReader",
    "BatchSummary",
    "Copy",
    "Delta",
    "DeltaError",
    "DeltaReader",
    "Difference",
    "Entry",
    "Kind",
    "LimitExceeded",
    "Limits",
    "Literal",
    "Manifest",
    "ManifestCache",
    "ManifestError",
    "Op",
    "PatchError",
    "Rules",
    "ScanError",
    "Signature",
    "SignatureError",
    "Skipped",
    "SourceChanged",
    "SyncResult",
    "TrackedChange",
    "UnpackedBatch",
    "apply_batch",
    "delta",
    "difference",
    "inspect_batch",
    "patch",
    "read_batch",
    "scan",
    "signature",
    "sync",
    "tracked_id",
    "tree_id",
    "unpack_batch",
    "write_batch",
    "write_delta",
]
