"""The delta engine, a library: bytes, files and trees. It knows no socket, no asyncio, no environment.

    sig = signature(basis)                    what must be known of a basis
    ops = delta(sig, target)                  Copy and Literal operations
    patch(basis, ops, out)                    basis + delta → target
    man = scan(root, rules=…, cache=…)        a tree's Manifest
    write_batch(out, root, base, target)      what leads from one tree to another, as a stream
    apply_batch(file, root)                   one tree made the other, wholly or not at all

`__all__` is the public surface; whatever else is in here may change. `signature`, `patch` and `sync` are functions
here although modules are called so too: this file imports them first, and so the functions keep the names.
"""

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
from codesync.delta.ignore import Rules
from codesync.delta.manifest import (
    Difference,
    Entry,
    Kind,
    Manifest,
    ScanMemory,
    Skipped,
    difference,
    scan,
    tracked_id,
    tree_id,
)
from codesync.delta.match import delta
from codesync.delta.ops import Copy, Literal, Op
from codesync.delta.patch import Delta, DeltaReader, patch, write_delta
from codesync.delta.signature import Signature, signature
from codesync.delta.sync import SyncResult, sync

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
    "ScanMemory",
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
