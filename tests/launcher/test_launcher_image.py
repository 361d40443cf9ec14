"""Generation 0: the listing, its identity, and what is copied."""

import json
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from codesync.launcher import image
from codesync.launcher.image import choose, copy_image, list_image
from codesync.launcher.records import Applied, Entry, decode
from codesync.launcher.volume import Volume
from codesync.transaction import Root
from tests.launcher.world import Files, write_tree

TREE: Files = {"app.py": b"print()", "lib/a.py": b"a", "lib/b": b"", "link": "lib/a.py", "empty": None}
NEVER = threading.Event()


def made(path: Path, files: Files = TREE) -> Root:
    path.mkdir(exist_ok=True)
    write_tree(path, files)
    return Root(str(path))


def test_a_listing_names_everything_but_what_is_never_copied(tmp_path: Path) -> None:
    root = made(
        tmp_path / "app",
        {**TREE, "lib/node_modules/x": b"", ".git": b"gitdir: x", "lib/__pycache__/a.pyc": b""},
    )
    os.mkfifo(tmp_path / "app/fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "app/socket"))
    (tmp_path / "app/.codesync-instance").write_bytes(b"mark")
    staging = tmp_path / "app/.codesync-0123456789abcdef"
    staging.mkdir()
    (staging / "magic").write_bytes(b"codesync staging 1\n")
    (tmp_path / "app/.codesync-looks-alike").mkdir()
    listing = list_image(root)

    paths = [entry.path for entry in listing.entries]
    assert paths == [b".codesync-looks-alike", b"app.py", b"empty", b"lib", b"lib/a.py", b"lib/b", b"link"]
    assert listing.left_out == [b".git", b"fifo", b"lib/__pycache__", b"lib/node_modules", b"socket"]
    by_path = {entry.path: entry for entry in listing.entries}
    assert by_path[b"link"] == Entry(b"link", "l", 0o777, target=b"lib/a.py")
    assert by_path[b"app.py"] == Entry(b"app.py", "f", 0o644, 1_700_000_000_000_000_000, 7)


def test_a_copy_of_the_image_has_its_identity_and_another_image_has_not(tmp_path: Path) -> None:
    first = list_image(made(tmp_path / "one")).image
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    second = Root(str(tmp_path / "two"))
    assert list_image(second).image == first

    target = tmp_path / "two/app.py"
    os.utime(target, ns=(0, 1))
    assert list_image(second).image != first
    os.utime(target, ns=(0, 1_700_000_000_000_000_000))
    assert list_image(second).image == first
    target.chmod(0o755)
    assert list_image(second).image != first


def test_what_runs_in_excluded_places_does_not_change_the_identity(tmp_path: Path) -> None:
    root = made(tmp_path / "app")
    before = list_image(root).image
    (tmp_path / "app/lib/__pycache__").mkdir()
    (tmp_path / "app/.codesync-instance").write_bytes(b"mark")

    assert list_image(root).image == before


def test_mounts_are_not_the_images() -> None:
    with Root("/") as root:
        assert b"proc" in image.mounts_below(root)
    assert image._unescape(rb"/a\040b\134c") == b"/a b\\c"


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 200))
def test_the_largest_files_are_left_out_first(sizes: list[int], limit: int) -> None:
    entries = [Entry(b"%d" % number, "f", 0o644, 0, size) for number, size in enumerate(sizes)]
    chosen, left_out = choose(entries, limit)

    assert sum(entry.size for entry in chosen) <= limit
    assert {entry.path for entry in chosen} | set(left_out) == {entry.path for entry in entries}
    smallest_out = min((entry.size for entry in entries if entry.path in left_out), default=None)
    assert smallest_out is None or all(entry.size <= smallest_out for entry in chosen)
    assert smallest_out is None or sum(entry.size for entry in chosen) + smallest_out > limit


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    (tmp_path / "volume").mkdir()
    return Volume(str(tmp_path / "volume"))


def copied(root: Root, volume: Volume, listing: image.Listing) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Copy: the contents of files by path, and what was left out."""
    copy_image(root, volume, Applied("instance", listing.image), (listing.entries, listing.left_out), NEVER)
    record = image_record(volume)
    gen0 = Path(volume.files_dir, ".launcher/gen0")
    files = {decode(row[0]): (gen0 / row[6]).read_bytes() for row in record["entries"] if row[1] == "f"}
    assert len(list(gen0.iterdir())) == len(files)
    return files, [decode(path) for path in record["left_out"]]


def image_record(volume: Volume) -> dict[str, Any]:
    data = volume.read("gen0.json")
    assert data is not None
    record: dict[str, Any] = json.loads(data)
    return record


def test_the_copy_holds_every_content(tmp_path: Path, volume: Volume) -> None:
    root = made(tmp_path / "app")

    assert copied(root, volume, list_image(root)) == (
        {b"app.py": b"print()", b"lib/a.py": b"a", b"lib/b": b""},
        [],
    )


def test_what_has_changed_since_the_listing_is_left_out(tmp_path: Path, volume: Volume) -> None:
    root = made(tmp_path / "app")
    listing = list_image(root)
    (tmp_path / "app/app.py").write_bytes(b"longer than it was")
    os.utime(tmp_path / "app/lib/a.py")
    (tmp_path / "app/lib/b").unlink()
    (tmp_path / "app/link").unlink()
    (tmp_path / "app/link").symlink_to("elsewhere")
    (tmp_path / "app/empty").rmdir()
    (tmp_path / "app/empty").write_bytes(b"a file now")
    files, left_out = copied(root, volume, listing)

    assert files == {}
    assert left_out == [b"app.py", b"empty", b"lib/a.py", b"lib/b", b"link"]
    assert [row[0] for row in image_record(volume)["entries"]] == ["bGli"]  # lib


def test_what_is_too_large_is_left_out(
    tmp_path: Path, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path / "app", {"big": b"x" * 100, "small": b"x" * 10})
    monkeypatch.setattr(image.choose, "__defaults__", (50,))

    assert copied(root, volume, list_image(root)) == ({b"small": b"x" * 10}, [b"big"])


def test_a_cancelled_copy_is_not_offered(tmp_path: Path, volume: Volume) -> None:
    root = made(tmp_path / "app")
    listing = list_image(root)
    cancelled = threading.Event()
    cancelled.set()
    copy_image(root, volume, Applied("i", listing.image), (listing.entries, []), cancelled)

    assert volume.read("gen0.json") is None


def test_the_default_bound_is_512_mib() -> None:
    assert image.MAX_BYTES == 512 << 20
    assert choose.__defaults__ == (image.MAX_BYTES,)
