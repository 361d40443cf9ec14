import subprocess
import sys

import codesync.delta

SURFACE = """
BatchError BatchHeader BatchInfo BatchReader BatchSummary Copy Delta DeltaError DeltaReader Details Difference
Entry Gap Gaps Kind LimitExceeded Limits Literal Manifest ManifestCache ManifestError Op PatchError Range
Refined Rules ScanError ScanMemory Signature SignatureError Skipped SourceChanged SyncResult TrackedChange
UnpackedBatch Window apply_batch coarse_block_size delta details difference gaps inspect_batch patch ranges
read_batch scan signature sync tracked_id tree_id unpack_batch write_batch write_delta
"""


def test_the_public_names_are_these() -> None:
    assert codesync.delta.__all__ == SURFACE.split()


def test_every_public_name_is_there_and_documented() -> None:
    for name in codesync.delta.__all__:
        value = getattr(codesync.delta, name)
        assert name == "Op" or value.__doc__, name


def test_functions_keep_the_names_they_share_with_modules() -> None:
    code = """
import codesync.delta.syncing, codesync.delta.patch, codesync.delta.signature
from codesync.delta import patch, signature, sync
assert callable(patch) and callable(signature) and callable(sync)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_engine_loads_nothing_heavy() -> None:
    code = """
import sys, codesync.delta
heavy = {"asyncio", "click", "mcp", "pathspec", "pydantic", "rich", "websockets"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_error_of_the_engine_is_a_delta_error() -> None:
    errors = [getattr(codesync.delta, name) for name in SURFACE.split() if name.endswith("Error")]
    assert all(issubclass(error, codesync.delta.DeltaError) for error in errors)
    assert issubclass(codesync.delta.SourceChanged, codesync.delta.BatchError)
    assert issubclass(codesync.delta.LimitExceeded, codesync.delta.BatchError)
