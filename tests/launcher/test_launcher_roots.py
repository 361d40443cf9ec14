"""Copies of the application's directory and their names: made, claimed, released, and no symlink among them followed."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesync.launcher.changes import Cancelled
from codesync.launcher.mirror import NoRoom
from codesync.launcher.roots import Roots
from tests.launcher.test_launcher_mirror import (
    NEVER,
    TREE,
    After,
    copied,
    everything,
    identities,
    rewritten,
    volume,
    wait_for_the_clock,
    written_in_place,
)
from tests.launcher.world import write_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    write_tree(tmp_path / "app", TREE)
    return tmp_path / "app"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What nobody may touch."""
    (tmp_path / "outside").mkdir()
    write_tree(tmp_path / "outside", {"app.py": b"not yours", "kept": b"kept"})
    return tmp_path / "outside"


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Roots]:
    found = Roots(str(tmp_path))
    yield found
    found.close()


def test_the_spare_becomes_a_generation_and_comes_back(source: Path, tmp_path: Path, roots: Roots) -> None:
    assert (tmp_path / "roots").stat().st_mode & 0o777 == 0o700
    assert roots.refresh_spare(str(source), NEVER) == []
    one = roots.claim(1)
    assert one == str(tmp_path / "roots/1") == roots.path("1")
    assert everything(Path(one)) == everything(source)

    rewritten(source / "app.py", b"second!")
    roots.refresh_spare(str(source), NEVER)
    two = roots.claim(2)
    assert Path(one, "app.py").read_bytes() == b"print()"
    roots.release(one)
    assert roots.names() == {"2", "spare"}
    roots.release(two)
    assert roots.names() == {"spare"}
    roots.release(two)
    assert roots.names() == {"spare"}


def test_a_generation_that_runs_is_never_replaced(source: Path, roots: Roots) -> None:
    paths = []
    for _ in range(3):
        roots.refresh_spare(str(source), NEVER)
        paths.append(roots.claim(7))

    assert [os.path.basename(path) for path in paths] == ["7", "7-2", "7-3"]
    with pytest.raises(FileNotFoundError):
        roots.claim(8)


def test_a_released_copy_is_used_again_but_for_what_was_written_to_it(
    source: Path, tmp_path: Path, roots: Roots
) -> None:
    wait_for_the_clock(tmp_path)
    roots.refresh_spare(str(source), NEVER)
    wait_for_the_clock(tmp_path)
    one = Path(roots.claim(1))
    before = identities(one)
    written_in_place(one / "app.py", b"PRINT()")
    roots.release(str(one))
    roots.refresh_spare(str(source), NEVER)

    spare = Path(roots.path("spare"))
    assert everything(spare) == everything(source)
    after = identities(spare)
    assert {path for path in before if before[path] != after[path]} == {"app.py"}


def test_what_is_written_in_the_instant_of_the_claim_is_undone_as_well(
    source: Path, tmp_path: Path, roots: Roots
) -> None:
    wait_for_the_clock(tmp_path)
    found = set()
    for _ in range(20):
        roots.refresh_spare(str(source), NEVER)
        one = Path(roots.claim(1))
        found.add(identities(one)["link"])
        found.add(identities(one)["lib/a.py"])
        written_in_place(one / "app.py", b"PRINT()")
        roots.release(str(one))
        roots.refresh_spare(str(source), NEVER)
        assert everything(Path(roots.path("spare"))) == everything(source)
    assert (
        len(found) > 2
    )  # what has the claim's own time cannot be told from what was written then: made anew


def test_a_start_begins_without_copies(source: Path, tmp_path: Path, roots: Roots) -> None:
    for generation in (1, 2, 3):
        roots.refresh_spare(str(source), NEVER)
        roots.claim(generation)
    again = Roots(str(tmp_path))
    with pytest.raises(Cancelled):
        again.clear(After(3))
    assert list((tmp_path / "roots").iterdir()) != []
    again.clear()
    again.close()

    assert list((tmp_path / "roots").iterdir()) == []


def test_a_removal_that_was_cancelled_is_finished_by_the_next(
    source: Path, tmp_path: Path, roots: Roots
) -> None:
    roots.refresh_spare(str(source), NEVER)
    one = roots.claim(1)
    roots.refresh_spare(str(source), NEVER)
    with pytest.raises(Cancelled):
        roots.release(one, After(2))
    assert roots.names() == {"spare"}
    assert {path.name for path in (tmp_path / "roots").iterdir()} != {"spare"}
    roots.release(one)

    assert {path.name for path in (tmp_path / "roots").iterdir()} == {"spare"}


# --- symlinks ------------------------------------------------------------------------------------------------


def test_a_symlink_in_place_of_the_spare_is_not_followed(source: Path, outside: Path, roots: Roots) -> None:
    before = everything(outside)
    spare = Path(roots.path("spare"))
    spare.symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        roots.claim(1)
    roots.refresh_spare(str(source), NEVER)

    assert everything(outside) == before
    assert not spare.is_symlink()
    assert everything(spare) == everything(source)
    shutil.rmtree(spare)
    spare.symlink_to("nowhere")
    roots.refresh_spare(str(source), NEVER)
    assert everything(spare) == everything(source)


def test_a_symlink_in_place_of_a_copy_is_not_followed(source: Path, outside: Path, roots: Roots) -> None:
    before = everything(outside)
    for name in ("1", "2"):
        Path(roots.path(name)).symlink_to(outside)
    roots.release(roots.path("1"))
    roots.release(roots.path("2"))
    roots.refresh_spare(str(source), NEVER)
    assert everything(Path(roots.path("spare"))) == everything(source)
    Path(roots.path("3")).symlink_to(outside)
    roots.clear()

    assert roots.names() == set()
    assert everything(outside) == before


def test_a_symlink_in_place_of_all_copies_is_not_followed(
    source: Path, outside: Path, tmp_path: Path
) -> None:
    before = everything(outside)
    (tmp_path / "roots").symlink_to(outside)
    roots = Roots(str(tmp_path))
    roots.clear()
    roots.refresh_spare(str(source), NEVER)
    roots.close()

    assert not (tmp_path / "roots").is_symlink()
    assert everything(tmp_path / "roots/spare") == everything(source)
    assert everything(outside) == before


def test_another_directory_in_place_of_all_copies_is_none_of_ours(
    source: Path, outside: Path, tmp_path: Path, roots: Roots
) -> None:
    before = everything(outside)
    (tmp_path / "roots").rename(tmp_path / "moved")
    (tmp_path / "roots").symlink_to(outside)
    roots.refresh_spare(str(source), NEVER)
    roots.clear()

    assert everything(outside) == before


# --- room ----------------------------------------------------------------------------------------------------


def test_without_room_nothing_is_copied(source: Path, tmp_path: Path) -> None:
    (source / "large").write_bytes(bytes(20_000_000))
    with volume(tmp_path / "volume", "size=8m") as place:
        copy = place / "copy"
        with pytest.raises(NoRoom) as caught:
            copied(source, copy)
        assert str(caught.value) == (
            "no room for a second tree on the volume: needs about 21 MB, 8 MB free; enlarge it, or use --reload restart"
        )
        assert list(copy.iterdir()) == []

        (source / "large").write_bytes(bytes(5_000_000))
        copied(source, copy)
        (source / "large").unlink()
        (source / "another").write_bytes(bytes(5_000_000))  # has room once the first has gone
        copied(source, copy)
        rewritten(source / "another", bytes(6_000_000))
        copied(source, copy)
        assert everything(copy) == everything(source)


def test_a_volume_that_becomes_full_gets_its_room_back(source: Path, tmp_path: Path) -> None:
    for number in range(50):
        (source / f"empty-{number}").touch()
    with volume(tmp_path / "volume", "size=8m,nr_inodes=30") as place:
        roots = Roots(str(place))
        with pytest.raises(NoRoom, match=r"it has become full .* or use --reload restart\Z"):
            roots.refresh_spare(str(source), NEVER)
        assert roots.names() == set()
        roots.close()


def test_what_is_being_removed_makes_room(source: Path, tmp_path: Path) -> None:
    (source / "large").write_bytes(bytes(3_000_000))
    with volume(tmp_path / "volume", "size=8m") as place:
        roots = Roots(str(place))
        roots.refresh_spare(str(source), NEVER)
        one = roots.claim(1)
        roots.refresh_spare(str(source), NEVER)
        with pytest.raises(Cancelled):
            roots.release(one, After(1))
        roots.claim(2)
        roots.refresh_spare(str(source), NEVER)
        assert roots.names() == {"2", "spare"}
        roots.claim(3)
        with pytest.raises(NoRoom):
            roots.refresh_spare(str(source), NEVER)
        roots.close()


# --- back into the application's directory -------------------------------------------------------------------


def test_what_was_made_in_a_copy_is_carried_and_nothing_else(
    source: Path, tmp_path: Path, roots: Roots
) -> None:
    wait_for_the_clock(tmp_path)
    roots.refresh_spare(str(source), NEVER)
    wait_for_the_clock(tmp_path)
    one = Path(roots.claim(1))
    write_tree(one, {"node_modules/left-pad/index.js": b"pad", "lib/a.py": b"made by a hook"})
    rewritten(source / "app.py", b"changed here since")
    (source / "lib/deep/b").unlink()
    assert roots.carry(str(one), str(source), threading.Event()) == []

    assert (source / "node_modules/left-pad/index.js").read_bytes() == b"pad"
    assert (source / "lib/a.py").read_bytes() == b"made by a hook"
    assert (source / "app.py").read_bytes() == b"changed here since"
    assert not (source / "lib/deep/b").exists()
    roots.refresh_spare(str(source), NEVER)
    assert everything(Path(roots.path("spare"))) == everything(source)
