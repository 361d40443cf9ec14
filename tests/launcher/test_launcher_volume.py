"""The launcher's side of the volume."""

import json
import os
from pathlib import Path

import pytest

from codesync.launcher.records import Applied, RecordError, State
from codesync.launcher.volume import Volume, VolumeError


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(str(tmp_path))


def test_a_file_is_replaced_whole_and_read_back(volume: Volume, tmp_path: Path) -> None:
    assert volume.read("thing") is None
    volume.write("thing", b"one")
    (tmp_path / ".launcher/.thing.new").write_bytes(b"left by a crash")
    volume.write("thing", b"two", durable=False)

    assert volume.read("thing") == b"two"
    assert sorted(os.listdir(tmp_path / ".launcher")) == ["launcher.pid", "lock", "thing"]
    volume.remove("thing")
    volume.remove("thing")
    assert volume.read("thing") is None


def test_the_umask_does_not_shut_the_group_out(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        volume = Volume(str(tmp_path))
        volume.write("thing", b"")
    finally:
        os.umask(before)

    assert (tmp_path / ".launcher/thing").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / ".launcher").stat().st_mode & 0o7777 == 0o2770


def test_a_damaged_record_of_ours_counts_as_none(volume: Volume) -> None:
    assert volume.applied() is None
    volume.set_applied(Applied("i", "im", None, "p"))
    assert volume.applied() == Applied("i", "im", None, "p")
    assert volume.read("push_id") == b"p\n"
    volume.write("applied", b"{")
    assert volume.applied() is None


def test_what_the_sidecar_has_not_written_is_told_by_name(volume: Volume, tmp_path: Path) -> None:
    assert volume.state() == State()
    with pytest.raises(RecordError, match=r"manifest/aaa.json is missing"):
        volume.manifest("aaa")
    with pytest.raises(RecordError, match=r"plan.json is missing"):
        volume.plan()
    (tmp_path / ".sidecar").mkdir()
    (tmp_path / ".sidecar/state").write_text(json.dumps({"version": 1, "image": "x"}))
    assert volume.state() == State(None, "x", "")


def test_a_link_in_place_of_a_file_is_not_followed(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"secret")
    (tmp_path / ".launcher/thing").symlink_to("../elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        volume.read("thing")
    volume.write("thing", b"mine")

    assert (tmp_path / "elsewhere").read_bytes() == b"secret"


def test_generation_0_has_a_directory_that_can_be_cleared(volume: Volume, tmp_path: Path) -> None:
    volume.clear_gen0()
    os.close(volume.open_gen0())
    (tmp_path / ".launcher/gen0/0").write_bytes(b"x")
    volume.write("gen0.json", b"{}")
    os.close(volume.open_gen0())

    assert os.listdir(tmp_path / ".launcher/gen0") == []
    assert volume.read("gen0.json") is None
    volume.clear_gen0()
    assert not (tmp_path / ".launcher/gen0").exists()


def test_a_volume_is_for_one_launcher(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codesync.launcher.volume.LOCK_SECONDS", 0.05)
    assert volume.read("launcher.pid") == b"%d\n" % os.getpid()
    with pytest.raises(VolumeError, match="another launcher"):
        Volume(str(tmp_path))


def test_a_volume_that_fails_later_is_reported_and_survived(volume: Volume) -> None:
    told: list[str] = []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    volume.guard(fail, told.append)
    assert told == [f"the volume at {volume.files_dir} fails: No space left on device"]
