"""What a tree holds, how that is written down, how it is read from a disk, and how two trees differ."""

from codesync.delta.manifest.compare import Difference, difference
from codesync.delta.manifest.entry import Entry, Kind, Skipped, tracked_id, tree_id
from codesync.delta.manifest.memory import ScanMemory
from codesync.delta.manifest.scanner import scan
from codesync.delta.manifest.tree import Manifest

__all__ = [
    "Difference",
    "Entry",
    "Kind",
    "Manifest",
    "ScanMemory",
    "Skipped",
    "difference",
    "scan",
    "tracked_id",
    "tree_id",
]
