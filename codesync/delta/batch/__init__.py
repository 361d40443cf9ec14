"""The batch: one self-contained stream that takes a tree from one tree_id to another. See docs/batch-format.md."""

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
