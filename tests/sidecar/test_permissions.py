"""What the sidecar's user may not do, and what a launcher has left word of."""

import asyncio
import json
import logging
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from codesync.sidecar.permissions import Permissions, missing
from codesync.sidecar.volume import Volume
from tests.users import as_user

USER, GROUP = 12345, 23456
SHARE = "give both containers one group: securityContext.fsGroup in the pod, or the same runAsGroup in both"


@pytest.fixture
def place() -> Iterator[Path]:
    """Where other users may look; pytest's own directories are root's alone."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture
def volume(place: Path) -> Volume:
    """As a kubelet makes it for fsGroup, and prepared by a sidecar that is in the group."""
    os.chown(place, 0, GROUP)
    place.chmod(0o2770)
    made = Volume(str(place))
    with as_user(USER, GROUP):
        made.prepare()
    return made


async def nobody() -> None:
    """Who need not be told."""


def lines(volume: Volume, *groups: int) -> list[str]:
    with as_user(USER, *groups):
        return missing(volume)


def test_nothing_is_said_where_all_is_well(volume: Volume) -> None:
    assert lines(volume, GROUP) == []
    assert missing(volume) == []


def test_the_directories_are_the_groups_whatever_the_umask(place: Path) -> None:
    os.chown(place, 0, GROUP)
    place.chmod(0o2770)
    before = os.umask(0o077)
    try:
        with as_user(USER, GROUP):
            Volume(str(place)).prepare()
            Volume(str(place)).prepare()
    finally:
        assert os.umask(before) == 0o077
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (*place.iterdir(), *(place / ".sidecar").iterdir())
    }
    assert modes.pop(".launcher") == 0o2770
    assert set(modes.values()) == {0o2750}
    assert {path.stat().st_gid for path in place.iterdir()} == {GROUP}


@pytest.mark.parametrize(
    ("path", "mode", "complaint"),
    [
        (".launcher", 0o2750, "cannot write {path} (owner 1:1, mode 2750)"),
        (".launcher/launcher.sock", 0o600, "cannot write {path} (owner 1:1, mode 0600)"),
        (".launcher/gen0.json", 0o600, "cannot read {path} (owner 1:1, mode 0600)"),
    ],
)
def test_what_is_the_launchers_alone_is_told_in_one_line(
    volume: Volume, path: str, mode: int, complaint: str
) -> None:
    place = volume.root / path
    if not place.exists():
        place.touch()
    os.chown(place, 1, 1)
    place.chmod(mode)
    who = f"uid {USER} (groups {USER}, {GROUP})"
    assert lines(volume, GROUP) == [f"{who} {complaint.format(path=place)}: {SHARE}"]


def test_a_lost_group_is_told(volume: Volume) -> None:
    volume.root.chmod(0o2777)
    volume.launcher.chmod(0o2777)
    (found,) = lines(volume)
    assert f"uid {USER} (groups {USER}) is not in group {GROUP} of {volume.root}" in found
    volume.root.chmod(0o777)
    volume.sidecar.chmod(0o750)
    (found,) = lines(volume)
    assert f"has lost the group of {volume.sidecar} (owner {USER}:{GROUP}, mode 0750)" in found


@pytest.mark.parametrize("where", [".launcher/notes", ".launcher-notes"])
def test_a_launchers_word_is_repeated_within_bounds(volume: Volume, where: str) -> None:
    told = ["one\nline", "x" * 5000, 7, *["more"] * 50]
    (volume.root / where).write_text(json.dumps(told))
    found = missing(volume)
    assert found[:2] == ["one line", "x" * 1000]
    assert len(found) < 10


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"[", b"7", b"\xff", b"[" * 20000])
def test_a_word_that_is_none_is_passed_over(volume: Volume, data: bytes) -> None:
    (volume.launcher / "notes").write_bytes(data)
    assert missing(volume) == []


@pytest.mark.parametrize("kind", ["directory", "fifo", "fifo with a writer", "huge", "socket", "deep"])
def test_whatever_is_in_the_place_of_the_word_is_passed_over_and_nothing_stays_open(
    volume: Volume, kind: str
) -> None:
    place, other = volume.launcher / "notes", volume.root / ".launcher-notes"
    other.write_text('["another word"]')
    with ExitStack() as held:
        match kind:
            case "directory":
                place.mkdir()
            case "huge":
                place.touch()
                os.truncate(place, 1 << 40)
            case "socket":
                held.enter_context(socket.socket(socket.AF_UNIX)).bind(str(place))
            case "deep":
                place.write_bytes(b"[" * 60_000)
            case _:
                os.mkfifo(place)
                if kind.endswith("writer"):
                    held.callback(os.close, os.open(place, os.O_RDWR))
        opened = os.listdir("/proc/self/fd")
        assert missing(volume) == ([] if kind in ("huge", "deep") else ["another word"])
        assert os.listdir("/proc/self/fd") == opened


def test_a_word_that_cannot_be_printed_is_told_without_what_cannot(volume: Volume) -> None:
    (volume.launcher / "notes").write_text('["\\ud800 a \\u001b[31m b"]')
    assert missing(volume) == ["  a  [31m b"]


def test_a_volume_that_is_gone_is_logged_once(volume: Volume, caplog: pytest.LogCaptureFixture) -> None:
    permissions = Permissions(volume, nobody)
    volume.root = volume.root / "gone"
    with caplog.at_level(logging.ERROR, "codesync.sidecar"):
        assert not permissions.look()
        assert not permissions.look()
    (record,) = caplog.records
    assert "cannot be told: FileNotFoundError" in record.getMessage()


@pytest.mark.anyio
async def test_who_cannot_be_told_does_not_end_the_looking(volume: Volume) -> None:
    told: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    async def changed() -> None:
        await told.put(permissions.notes)
        raise ValueError("the proxy is not to be told this")

    permissions = Permissions(volume, changed, every=0.01)
    looking = asyncio.create_task(permissions.run())
    for word in ("one", "two"):
        (volume.root / "draft").write_text(json.dumps([word]))
        (volume.root / "draft").replace(volume.launcher / "notes")
        assert await asyncio.wait_for(told.get(), 10) == (word,)
    looking.cancel()


def test_a_link_in_place_of_the_word_is_not_followed(volume: Volume) -> None:
    (volume.root / "secret").write_text('["secret"]')
    (volume.launcher / "notes").symlink_to("../secret")
    assert missing(volume) == []


@pytest.mark.anyio
async def test_what_is_new_is_logged_once_and_told(volume: Volume, caplog: pytest.LogCaptureFixture) -> None:
    told: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    async def changed() -> None:
        await told.put(permissions.notes)

    permissions = Permissions(volume, changed, every=0.01)
    looking = asyncio.create_task(permissions.run())
    with caplog.at_level(logging.WARNING, "codesync.sidecar"):
        (volume.launcher / "notes").write_text('["it is forbidden"]')
        assert await asyncio.wait_for(told.get(), 10) == ("it is forbidden",)
        (volume.launcher / "notes").unlink()
        assert await asyncio.wait_for(told.get(), 10) == ()
    looking.cancel()
    assert [record.getMessage() for record in caplog.records] == ["it is forbidden"]
