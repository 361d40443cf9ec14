"""One file's content, copied: in pieces, with its holes, to where it ended."""

import os
from pathlib import Path

import pytest

from codesync.launcher.mirror.content import CHUNK, SMALL, copy_content
from tests.launcher.test_launcher_mirror import copied, everything, volume


def test_a_large_file_is_copied_a_piece_at_a_time(tmp_path: Path) -> None:
    with volume(tmp_path / "volume", "size=32m") as place:  # which can clone nothing
        (place / "large").write_bytes(bytes(CHUNK * 8))
        with open(place / "large", "rb") as file, open(place / "copy", "wb") as copy:
            steps: list[int] = []
            copy_content(
                file.fileno(), copy.fileno(), CHUNK * 8, lambda: steps.append(os.fstat(copy.fileno()).st_size)
            )
    assert steps == [CHUNK * step for step in range(8)]


HOLE, DATA = False, True


@pytest.mark.parametrize(
    "pieces",
    [
        [(HOLE, CHUNK * 64)],
        [(DATA, SMALL), (HOLE, CHUNK * 64)],
        [(HOLE, CHUNK * 64), (DATA, 1)],
        [(HOLE, CHUNK), (DATA, CHUNK + 7), (HOLE, CHUNK * 64), (DATA, SMALL), (HOLE, CHUNK + 7)],
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_holes_stay_holes(tmp_path: Path, pieces: list[tuple[bool, int]], elsewhere: bool) -> None:
    source = tmp_path / "app"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        for is_data, size in pieces:
            file.write(b"x" * size) if is_data else file.seek(size, os.SEEK_CUR)
        file.truncate(file.tell())
    with volume(tmp_path / "volume", "size=16m") as place:  # where the whole would have no room
        copy = (place if elsewhere else tmp_path) / "copy"
        copied(source, copy)
        assert everything(copy) == everything(source)
        data = sum(size for is_data, size in pieces if is_data)
        assert (copy / "sparse").stat().st_blocks * 512 <= data + SMALL * 2


@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, SMALL + 1, CHUNK, CHUNK + 1, CHUNK * 2])
@pytest.mark.parametrize("change", [-1, 0, 1, CHUNK])
def test_a_file_that_changes_its_size_is_copied_to_where_it_ended(
    tmp_path: Path, size: int, change: int
) -> None:
    content = os.urandom(max(0, size + change))
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file, open(tmp_path / "copy", "wb") as copy:
        copy_content(file.fileno(), copy.fileno(), size, lambda: None)
    assert (tmp_path / "copy").read_bytes() == content[:size]
