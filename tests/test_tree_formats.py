"""docs/tree-formats.md, pinned: what was written once stays readable, and is written the same way again."""

import hashlib
import os
from pathlib import Path

import pytest

from codesync.delta import Entry, Kind, Manifest, Skipped, tracked_id
from codesync.delta.cache import ManifestCache
from codesync.sidecar.state import Commit, Result, State, StateError, Trial

GOLDEN = Path(__file__).parent / "golden"
MANIFEST = Manifest.of(
    [
        Entry(b"a", Kind.DIRECTORY, 0o755, 1),
        Entry(b"a/\xff", Kind.FILE, 0o644, -5, 3, hashlib.sha256(b"one").digest()),
        Entry(b"a/run", Kind.FILE, 0o755, 1_700_000_000_123_456_789, 3, hashlib.sha256(b"two").digest()),
        Entry(b"link", Kind.SYMLINK, 0o777, 7, target=b"a/run"),
    ],
    [Skipped(b"pipe", "fifo")],
)
STATE = State(
    replica="host-abc123",
    image="i" * 64,
    gen0="0" * 64,
    trial=Trial("p2", "1" * 64, "2" * 64),
    history=(
        Commit("", 0, "0" * 64, "9" * 64, description="the image", at=1.5),
        Commit("p1", 1, "1" * 64, "8" * 64, "é", "me@here:/src", 2.25, "p0", ("d" * 64,)),
    ),
    results=(Result("p1", "1" * 64, "healthy", "1" * 64, "8" * 64, 1),),
    notes=("a note",),
)


def test_the_ids_of_a_tree_are_pinned() -> None:
    assert MANIFEST.tree_id == "dc36606d4cf35f71bef186400ff7b40080400e1565c54533dcf9a1681aa9dd5a"
    assert tracked_id(MANIFEST.paths) == "5867ba7474a27f2b0593ee22e4da29dc5eff7a15b8ded4b2e40327f1c72ed021"


def test_a_packed_manifest_stays_readable_and_is_written_alike() -> None:
    golden = (GOLDEN / "manifest-1.bin").read_bytes()
    again = Manifest.from_bytes(golden)
    assert again == MANIFEST
    assert again.skipped == MANIFEST.skipped
    assert Manifest.from_bytes(MANIFEST.to_bytes()) == again


def test_the_state_stays_readable_and_is_written_alike() -> None:
    golden = (GOLDEN / "state-1.json").read_bytes()
    assert State.from_bytes(golden) == STATE
    assert STATE.to_bytes() == golden


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(StateError, match="version 2"):
        State.from_bytes((GOLDEN / "state-1.json").read_bytes().replace(b'"version": 1', b'"version": 2'))


def test_a_manifest_cache_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_bytes((GOLDEN / "cache-1.bin").read_bytes())
    times = (1, 1, 1)
    status = os.stat_result(
        (0o100644, 11, 1, 1, 0, 0, 3, *times), {"st_mtime_ns": 123456789, "st_ctime_ns": 234567891}
    )
    assert ManifestCache(str(path)).lookup(b"a/run", status) == hashlib.sha256(b"two").digest()
