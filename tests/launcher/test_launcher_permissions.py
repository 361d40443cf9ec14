"""What the launcher's user may not do: a line each, with ids, the path and a remedy; nothing when all is well."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesync.launcher import permissions
from codesync.launcher.permissions import missing, report
from tests.users import as_user

USER, GROUP = 12345, 23456
SHARE = "give both containers one group: securityContext.fsGroup in the pod, or the same runAsGroup in both"


@pytest.fixture
def place() -> Iterator[Path]:
    """Where other users may look; pytest's own directories are root's alone."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture
def volume(place: Path) -> str:
    """As a kubelet makes it for fsGroup."""
    made = place / "files"
    made.mkdir()
    os.chown(made, 0, GROUP)
    made.chmod(0o2770)
    return str(made)


@pytest.fixture
def app(place: Path) -> str:
    """An application's directory with one below it, the user's own."""
    made = place / "app"
    (made / "lib").mkdir(parents=True)
    for path in (made, made / "lib"):
        os.chown(path, USER, USER)
        path.chmod(0o755)
    return str(made)


def lines(volume: str, app: str, *groups: int) -> list[str]:
    with as_user(USER, *groups):
        return missing(volume, app)


def test_nothing_is_said_where_all_is_well(volume: str, app: str) -> None:
    assert lines(volume, app, GROUP) == []
    os.mkdir(f"{volume}/.launcher")
    os.chown(f"{volume}/.launcher", USER, GROUP)
    assert lines(volume, app, GROUP) == []
    assert missing(volume, app) == []


def test_without_a_volume_no_permission_is_missing(app: str, place: Path) -> None:
    assert lines(str(place / "nowhere"), app) == []
    os.chown(app, 0, 0)
    assert lines(str(place / "nowhere"), app) == []


def test_an_application_of_another_user_is_named_with_the_way_out(volume: str, app: str) -> None:
    os.chown(app, 0, 0)
    (found,) = lines(volume, app, GROUP)
    assert found == (
        f"uid {USER} (groups {USER}, {GROUP}) cannot write {app} (owner 0:0, mode 0755): "
        f"chown -R {USER} {app} in the image, or set securityContext.runAsUser to its owner"
    )


def test_directories_of_other_users_are_counted_and_the_first_is_named(volume: str, app: str) -> None:
    for name in ("lib/a", "lib/b/c", "node_modules/x", "lib/__pycache__", "open"):
        Path(app, name).mkdir(parents=True)
    Path(app, "open").chmod(0o777)
    Path(app, "link").symlink_to("/")
    (found,) = lines(volume, app, GROUP)
    assert (
        f"cannot write {app}/lib/a (owner 0:0, mode 0755) and 2 more directories in {app}: chown -R" in found
    )


def test_a_look_at_a_large_application_is_bounded(
    volume: str, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "SAMPLE", 3)
    Path(app, *"abcdef").mkdir(parents=True)
    for path in [Path(app, *"abcdef"[:depth]) for depth in range(1, 6)]:
        os.chown(path, USER, USER)
    assert lines(volume, app, GROUP) == []


@pytest.mark.parametrize(
    ("path", "mode", "complaint"),
    [
        ("", 0o755, "cannot write {volume} (owner 1:1, mode 0755)"),
        (".launcher", 0o2770, "cannot write {volume}/.launcher (owner 1:1, mode 2770)"),
        (".sidecar", 0o2750, "cannot read {volume}/.sidecar (owner 1:1, mode 2750)"),
        ("current", 0o2750, "cannot read {volume}/current (owner 1:1, mode 2750)"),
    ],
)
def test_the_volume_is_told_in_one_line(volume: str, app: str, path: str, mode: int, complaint: str) -> None:
    place = Path(volume, path)
    place.mkdir(exist_ok=True)
    os.chown(place, 1, 1)
    place.chmod(mode)
    (found,) = lines(volume, app, GROUP)
    assert found == f"uid {USER} (groups {USER}, {GROUP}) {complaint.format(volume=volume)}: {SHARE}"


def test_a_state_that_cannot_be_read_is_told(volume: str, app: str) -> None:
    Path(volume, ".sidecar").mkdir(mode=0o755)
    Path(volume, ".sidecar/state").write_bytes(b"")
    os.chmod(f"{volume}/.sidecar/state", 0o600)
    (found,) = lines(volume, app, GROUP)
    assert f"cannot read {volume}/.sidecar/state (owner 0:{GROUP}, mode 0600)" in found


def test_a_user_outside_of_the_volumes_group_is_told(volume: str, app: str) -> None:
    os.chmod(volume, 0o2777)
    (found,) = lines(volume, app)
    assert (
        found
        == f"uid {USER} (groups {USER}) is not in group {GROUP} of {volume} (owner 0:{GROUP}, mode 2777): {SHARE}"
    )


def test_the_lines_are_left_for_the_sidecar_and_go_when_they_are_true_no_more(volume: str, app: str) -> None:
    os.mkdir(f"{volume}/.launcher", 0o770)
    os.chmod(f"{volume}/.launcher", 0o2770)
    os.chown(app, 0, 0)
    with as_user(USER, GROUP):
        told = report(volume, app)
    left = Path(volume, ".launcher/notes")
    assert json.loads(left.read_bytes()) == told != []
    assert left.stat().st_mode & 0o777 == 0o644

    os.chown(app, USER, USER)
    with as_user(USER, GROUP):
        assert report(volume, app) == []
    assert not left.exists()


def test_lines_that_cannot_lie_with_the_launchers_files_lie_beside_them(volume: str, app: str) -> None:
    os.chmod(volume, 0o777)
    os.mkdir(f"{volume}/.launcher", 0o700)
    with as_user(USER):
        told = report(volume, app)
    assert json.loads(Path(volume, ".launcher-notes").read_bytes()) == told
    os.chmod(volume, 0o755)
    with as_user(USER):
        assert report(volume, app) == [
            told[0].replace("mode 0777", "mode 0755")
        ]  # left nowhere, and told all the same
