"""launcher.pyz: one file that an old image's own Python runs."""

import glob
import os
import shutil
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from codesync import __version__
from codesync.pyz import build_pyz
from tests.launcher.world import Files, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    yield made
    made.close()


@pytest.fixture
def pyz(tmp_path: Path) -> Path:
    build_pyz(str(tmp_path / "launcher.pyz"))
    return tmp_path / "launcher.pyz"


def oldest_python() -> str:
    """Python 3.8; without one there is no telling whether old images can run the launcher."""
    found = [
        *sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.8*/bin/python"))),
        shutil.which("python3.8"),
    ]
    for python in filter(None, found):
        version = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[:2])"], check=False, capture_output=True
        )
        if version.stdout == b"(3, 8)\n":
            return python
    pytest.fail("no Python 3.8 here: install one with pyenv, or put python3.8 on the PATH")


def test_the_same_sources_give_the_same_bytes(pyz: Path, tmp_path: Path) -> None:
    code = f"from codesync.pyz import build_pyz; build_pyz({str(tmp_path / 'again.pyz')!r})"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"},
    )

    assert (tmp_path / "again.pyz").read_bytes() == pyz.read_bytes()


def test_it_holds_the_three_rooms_and_nothing_else(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        names = archive.namelist()

    assert "__main__.py" in names
    rooms = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert rooms == {"launcher", "supervise", "transaction"}
    assert all(name.endswith(".py") for name in names)
    assert names == sorted(names)


def test_it_is_executable_and_replaces_an_older_one_at_once(pyz: Path, tmp_path: Path) -> None:
    before = pyz.open("rb")
    build_pyz(str(pyz))
    with before:
        assert before.read() == pyz.read_bytes()
        assert os.fstat(before.fileno()).st_ino != pyz.stat().st_ino

    assert stat.S_IMODE(pyz.stat().st_mode) == 0o755
    assert pyz.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["launcher.pyz"]


def test_it_knows_its_version(pyz: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import codesync; print(codesync.__version__, codesync.__file__)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, pyz], check=True, capture_output=True, text=True
    )

    assert done.stdout.split() == [__version__, f"{pyz}/codesync/__init__.py"]


def test_python_3_8_supervises_a_server_through_a_trial(world: World, pyz: Path) -> None:
    python = oldest_python()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    old: Files = {"index.html": b"old", "pages/a.html": b"a"}
    new: Files = {"index.html": b"new", "more/b.html": b"b"}
    container = world.container(old)
    launcher = (python, "-I", "-S", str(pyz))
    container.start(
        python, "-S", "-m", "http.server", str(port), "--bind", "127.0.0.1", health=url, launcher=launcher
    )
    peer = container.connect_ready()
    peer.hear_app("healthy")
    verdict = peer.push("p1", old, new)
    assert (verdict["verdict"], verdict["healthy"]) == ("keep", True), verdict
    peer.keep("p1", new)
    with urlopen(url) as answer:
        assert answer.read() == b"new"

    assert container.stop() == 143
    assert container.holds(new)
    assert container.applied()["push_id"] == "p1"
