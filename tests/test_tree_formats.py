"""docs/tree-formats.md, pinned: what was written once stays readable, and is written the same way again."""

import hashlib
import os
from pathlib import Path

import pytest

from codesync.delta import Entry, Kind, Manifest, ManifestError, Skipped, tracked_id
from codesync.delta.cache import ManifestCache
from codesync.delta.manifest.looks import Look, Looks
from codesync.delta.manifest.memory import Past
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


def status(path: bytes) -> os.stat_result:
    entry = MANIFEST[path]
    times = {"st_mtime_ns": entry.mtime_ns, "st_ctime_ns": 234567891}
    return os.stat_result((0o100644, len(path), 1, 1, 0, 1000, entry.size, 0, 0, 0), times)


PAST = Past(
    MANIFEST,
    Looks.of(
        [
            Look.of(status(b"a"))._replace(flags=11, level=1, listing=2**64 - 1),
            Look.of(status(b"a/run")),
            Look.of(status(b"a/\xff"), settled=False),
            Look.of(status(b"link")),
            Look.of(status(b"a"))._replace(flags=1, level=1, listing=5),
        ]
    ),
    (b"", b"0123456789abcdef"),
    {b"s" * 48: b"n" * 16},
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
    again = Manifest.from_bytes((GOLDEN / "manifest-2.bin").read_bytes())
    assert again == MANIFEST
    assert again.skipped == MANIFEST.skipped
    assert again.tree_id == MANIFEST.tree_id
    assert Manifest.from_bytes(MANIFEST.to_bytes()) == again


def test_a_manifest_of_the_first_version_is_refused_by_its_number() -> None:
    with pytest.raises(
        ManifestError, match=r"version 1, and 2 is read here; update the codesync that wrote it"
    ):
        Manifest.from_bytes((GOLDEN / "manifest-1.bin").read_bytes())


def test_the_state_stays_readable_and_is_written_alike() -> None:
    golden = (GOLDEN / "state-1.json").read_bytes()
    assert State.from_bytes(golden) == STATE
    assert STATE.to_bytes() == golden


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(StateError, match="version 2"):
        State.from_bytes((GOLDEN / "state-1.json").read_bytes().replace(b'"version": 1', b'"version": 2'))


def test_a_manifest_cache_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_bytes((GOLDEN / "cache-2.bin").read_bytes())
    past = ManifestCache(str(path)).load()
    assert past is not None
    assert past.manifest == MANIFEST
    assert past.manifest.tree_id == MANIFEST.tree_id
    assert past.lookup(b"a/run", status(b"a/run")) == hashlib.sha256(b"two").digest()
    assert past.looks == PAST.looks
    assert (past.levels, past.indexes) == (PAST.levels, PAST.indexes)
    ManifestCache(str(tmp_path / "again")).keep(PAST)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_manifest_cache_of_the_first_version_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_bytes((GOLDEN / "cache-1.bin").read_bytes())
    assert ManifestCache(str(path)).load() is None
