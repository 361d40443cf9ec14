"""What a tree holds, how that is written down, how it is read from a disk, and how two trees differ."""

from typing import TYPE_CHECKING, Any

from codesync.delta.manifest.compare import Difference, difference, unlike
from codesync.delta.manifest.entry import Entry, Kind, Skipped, tracked_id, tree_id
from codesync.delta.manifest.tree import Manifest

if TYPE_CHECKING:
    from codesync.delta.manifest.memory import ScanMemory
    from codesync.delta.manifest.scanner import scan

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
    "unlike",
]


def __getattr__(name: str) -> Any:
    """Reading a tree is imported when it is asked for: who is given manifests need not know how."""
    if name not in {"scan", "ScanMemory"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from codesync.delta.manifest import memory, scanner

    globals().update(scan=scanner.scan, ScanMemory=memory.ScanMemory)
    return globals()[name]
