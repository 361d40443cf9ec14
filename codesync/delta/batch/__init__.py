"""The batch: one self-contained stream that takes a tree from one tree_id to another. See docs/batch-format.md.

Each of these is imported when it is first asked for: who writes need not know how batches are read.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesync.delta.batch.apply import apply_batch
    from codesync.delta.batch.format import Header as BatchHeader
    from codesync.delta.batch.format import Limits
    from codesync.delta.batch.info import BatchInfo, PathInfo, inspect_batch
    from codesync.delta.batch.read import BatchReader, read_batch
    from codesync.delta.batch.tracked import TrackedChange
    from codesync.delta.batch.unpack import UnpackedBatch, unpack_batch
    from codesync.delta.batch.write import BatchSummary, write_batch

__all__ = [
    "BatchHeader",
    "BatchInfo",
    "BatchReader",
    "BatchSummary",
    "Limits",
    "PathInfo",
    "TrackedChange",
    "UnpackedBatch",
    "apply_batch",
    "inspect_batch",
    "read_batch",
    "unpack_batch",
    "write_batch",
]

_PLACES = {
    "BatchHeader": ("format", "Header"),
    "BatchInfo": ("info", "BatchInfo"),
    "BatchReader": ("read", "BatchReader"),
    "BatchSummary": ("write", "BatchSummary"),
    "Limits": ("format", "Limits"),
    "PathInfo": ("info", "PathInfo"),
    "TrackedChange": ("tracked", "TrackedChange"),
    "UnpackedBatch": ("unpack", "UnpackedBatch"),
    "apply_batch": ("apply", "apply_batch"),
    "inspect_batch": ("info", "inspect_batch"),
    "read_batch": ("read", "read_batch"),
    "unpack_batch": ("unpack", "unpack_batch"),
    "write_batch": ("write", "write_batch"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, inner = _PLACES[name]
    value = getattr(import_module(f"{__name__}.{module}"), inner)
    globals()[name] = value
    return value
