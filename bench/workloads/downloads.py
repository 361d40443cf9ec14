"""Real files from the package index, in versions pinned here, downloaded once and checked against their digests.

Wheels, and the source distributions of Django; this file imports nothing of the tests, so that they may import it.
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.row import Unavailable

_CACHE = Path(__file__).resolve().parents[2] / ".cache"
CACHE, SDISTS = _CACHE / "wheels", _CACHE / "sdists"
_DOWNLOAD_SECONDS = 300


class _Pinned(NamedTuple):
    requirement: str
    file: str
    sha256: str


# the one that is compiled is asked for by its platform: it is only read, so any machine has the same bytes
_PLATFORM = ("--platform", "manylinux2014_x86_64", "--python-version", "3.11", "--implementation", "cp")
WHEELS = {
    "panel": _Pinned(
        "panel==1.5.0",
        "panel-1.5.0-py3-none-any.whl",
        "63bb40051dfc81faefe30f5ffff0147979133fb910a357ff9595f3bc5f102be6",
    ),
    "streamlit": _Pinned(
        "streamlit==1.38.0",
        "streamlit-1.38.0-py2.py3-none-any.whl",
        "0653ecfe86fef0f1608e3e082aef7eb335d8713f6f31e9c3b19486d1c67d7c41",
    ),
    "jupyterlab": _Pinned(
        "jupyterlab==4.2.5",
        "jupyterlab-4.2.5-py3-none-any.whl",
        "73b6e0775d41a9fee7ee756c80f58a6bed4040869ccc21411dc559818874d321",
    ),
    "pyarrow": _Pinned(
        "pyarrow==17.0.0",
        "pyarrow-17.0.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "0b72e87fe3e1db343995562f7fff8aee354b55ee83d13afba65400c178ab2597",
    ),
}


DJANGO = {
    "5.2": _Pinned(
        "Django==5.2",
        "Django-5.2.tar.gz",
        "1a47f7a7a3d43ce64570d350e008d2949abe8c7e21737b351b6a1611277c6d89",
    ),
    "5.2.1": _Pinned(
        "Django==5.2.1",
        "django-5.2.1.tar.gz",
        "57fe1f1b59462caed092c80b3dd324fd92161b620d59a9ba9181c34746c97284",
    ),
}


def wheel_files(name: str) -> Iterator[tuple[str, bytes]]:
    """The files of a wheel by path, in its order. Raises Unavailable."""
    with zipfile.ZipFile(_downloaded(WHEELS[name], CACHE, "--only-binary=:all:", *_PLATFORM)) as archive:
        for info in archive.infolist():
            yield info.filename, archive.read(info)


def _downloaded(pinned: _Pinned, cache: Path, *flags: str) -> Path:
    path = cache / pinned.file
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*pip, *flags, "--dest", str(cache), pinned.requirement],
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"{pinned.requirement} cannot be downloaded")
    if hashlib.sha256(path.read_bytes()).hexdigest() != pinned.sha256:
        raise Unavailable(f"{path} is not what was released; remove it")
    return path


def sdist(version: str) -> Path:
    """Django's source distribution of a version, a `.tar.gz`. Raises Unavailable."""
    return _downloaded(DJANGO[version], SDISTS, "--no-binary=:all:")


def unpack(version: str, into: Path) -> None:
    """Make a directory, which must not be there, of that source distribution. Raises Unavailable."""
    with tarfile.open(sdist(version)) as archive:
        top = archive.getnames()[0].split("/")[0]
        archive.extractall(into.parent, filter="data")
    (into.parent / top).rename(into)


def django_files() -> dict[str, bytes]:
    """The regular files of Django 5.2's source distribution, about 7,000, by path. Raises Unavailable."""
    files = {}
    with tarfile.open(sdist("5.2")) as archive:
        for member in archive:
            if member.isreg() and (content := archive.extractfile(member)) is not None:
                files[member.name.partition("/")[2]] = content.read()
    return dict(sorted(files.items()))
