"""When the times of directories are believed."""

import os
from pathlib import Path

import pytest

from codesync.delta.manifest import mounts
from codesync.delta.manifest.mounts import directories_tell

ROOT = b"22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"


def line(place: bytes, kind: bytes, optional: bytes = b"") -> bytes:
    return b"40 22 0:30 / %b rw,nosuid%b - %b source rw" % (place, optional, kind)


@pytest.mark.parametrize(
    ("lines", "path", "tell"),
    [
        ([ROOT], b"/src", True),
        ([ROOT], b"/", True),
        ([], b"/src", False),
        ([ROOT, line(b"/src", b"9p")], b"/src", False),
        ([ROOT, line(b"/src", b"fuse.sshfs", b" shared:7 master:1")], b"/src/app", False),
        ([ROOT, line(b"/src", b"xfs", b" shared:7")], b"/src/app", True),
        ([ROOT, line(b"/src", b"nfs4")], b"/srcs", True),
        ([ROOT, line(b"/srcs", b"nfs4")], b"/src", True),
        ([ROOT, line(b"/src/app/data", b"ext4")], b"/src/app", False),
        ([ROOT, line(b"/src/app/data", b"ext4")], b"/src/application", True),
        ([ROOT, line(b"/proc", b"proc")], b"/", False),
        ([ROOT, line(b"/a\\040b", b"virtiofs")], b"/a b/c", False),
        ([ROOT, line(b"/a\\134b", b"virtiofs")], b"/a\\b", False),
        ([ROOT, line(b"/src", b"nfs"), line(b"/src", b"btrfs")], b"/src/a", True),
        ([ROOT, line(b"/src", b"btrfs"), line(b"/src", b"nfs")], b"/src/a", False),
        ([line(b"/", b"overlay"), line(b"/src", b"tmpfs")], b"/src", True),
    ],
    ids=str,
)
def test_only_known_file_systems_with_nothing_mounted_inside_are_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[bytes], path: bytes, tell: bool
) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(b"".join(mount + b"\n" for mount in lines))
    monkeypatch.setattr(mounts, "_MOUNTS", str(table))
    monkeypatch.setattr(os, "readlink", lambda _: path)
    assert directories_tell(0) is tell


def test_where_nothing_is_known_nothing_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        monkeypatch.setattr(mounts, "_MOUNTS", str(tmp_path / "none"))
        assert not directories_tell(descriptor)
    finally:
        os.close(descriptor)
