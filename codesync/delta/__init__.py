"""The delta engine, a library: bytes, files and trees. It knows no socket, no asyncio, no environment.

    sig = signature(basis)                    what must be known of a basis
    ops = delta(sig, target)                  Copy and Literal operations; against the basis itself Windows too
    patch(basis, ops, out)                    basis + delta → target
    man = scan(root, rules=…, cache=…)        a tree's Manifest
    write_batch(out, root, base, target)      what leads from one tree to another, as a stream
    apply_batch(file, root)                   one tree made the other, wholly or not at all

`__all__` is the public surface; whatever else is in here may change. What works on one file is here at once, what
works on trees is imported when it is first asked for. `signature` and `patch` are functions here although modules are
called so too: this file imports those first, and so the functions keep the names. No other module may share a name with
something public.
"""

from typing import TYPE_CHECKING, Any

from codesync.delta.match import delta
from codesync.delta.ops import Copy, Literal, Op, Window
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
    from codesync.delta.refine import (
        Details,
        Gap,
        Gaps,
        Range,
        Refined,
        coarse_block_size,
        details,
        gaps,
        ranges,
    )
    from codesync.delta.syncing import SyncResult, sync

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
    "Details",
    "Difference",
    "Entry",
    "Gap",
    "Gaps",
    "Kind",
    "LimitExceeded",
    "Limits",
    "Literal",
    "Manifest",
    "ManifestCache",
    "ManifestError",
    "Op",
    "PatchError",
    "Range",
    "Refined",
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
    "Window",
    "apply_batch",
    "coarse_block_size",
    "delta",
    "details",
    "difference",
    "gaps",
    "inspect_batch",
    "patch",
    "ranges",
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

_LATER = {
    "BatchHeader": "batch",
    "BatchInfo": "batch",
    "BatchReader": "batch",
    "BatchSummary": "batch",
    "Limits": "batch",
    "TrackedChange": "batch",
    "UnpackedBatch": "batch",
    "apply_batch": "batch",
    "inspect_batch": "batch",
    "read_batch": "batch",
    "unpack_batch": "batch",
    "write_batch": "batch",
    "ManifestCache": "cache",
    "BatchError": "errors",
    "DeltaError": "errors",
    "LimitExceeded": "errors",
    "ManifestError": "errors",
    "PatchError": "errors",
    "ScanError": "errors",
    "SignatureError": "errors",
    "SourceChanged": "errors",
    "Rules": "ignore",
    "Difference": "manifest",
    "Entry": "manifest",
    "Kind": "manifest",
    "Manifest": "manifest",
    "ScanMemory": "manifest",
    "Skipped": "manifest",
    "difference": "manifest",
    "scan": "manifest",
    "tracked_id": "manifest",
    "tree_id": "manifest",
    "Details": "refine",
    "Gap": "refine",
    "Gaps": "refine",
    "Range": "refine",
    "Refined": "refine",
    "coarse_block_size": "refine",
    "details": "refine",
    "gaps": "refine",
    "ranges": "refine",
    "SyncResult": "syncing",
    "sync": "syncing",
}


def __getattr__(name: str) -> Any:
    """Import what works on trees."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
