"""Real files from the package index: wheels in versions pinned here, downloaded once and checked against their digests.

Django's source distribution is the one that the tests push.
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

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "wheels"
_DOWNLOAD_SECONDS = 300


class _Wheel(NamedTuple):
    requirement: str
    file: str
    sha256: str


# the one that is compiled is asked for by its platform: it is only read, so any machine has the same bytes
_PLATFORM = ("--platform", "manylinux2014_x86_64", "--python-version", "3.11", "--implementation", "cp")
WHEELS = {
    "panel": _Wheel(
        "panel==1.5.0",
        "panel-1.5.0-py3-none-any.whl",
        "63bb40051dfc81faefe30f5ffff0147979133fb910a357ff9595f3bc5f102be6",
    ),
    "streamlit": _Wheel(
        "streamlit==1.38.0",
        "streamlit-1.38.0-py2.py3-none-any.whl",
        "0653ecfe86fef0f1608e3e082aef7eb335d8713f6f31e9c3b19486d1c67d7c41",
    ),
    "jupyterlab": _Wheel(
        "jupyterlab==4.2.5",
        "jupyterlab-4.2.5-py3-none-any.whl",
        "73b6e0775d41a9fee7ee756c80f58a6bed4040869ccc21411dc559818874d321",
    ),
    "pyarrow": _Wheel(
        "pyarrow==17.0.0",
        "pyarrow-17.0.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "0b72e87fe3e1db343995562f7fff8aee354b55ee83d13afba65400c178ab2597",
    ),
}


def wheel_files(name: str) -> Iterator[tuple[str, bytes]]:
    """The files of a wheel by path, in its order. Raises Unavailable."""
    with zipfile.ZipFile(_wheel(WHEELS[name])) as archive:
        for info in archive.infolist():
            yield info.filename, archive.read(info)


def _wheel(wheel: _Wheel) -> Path:
    path = CACHE / wheel.file
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command = [*pip, "--no-deps", "--only-binary=:all:", *_PLATFORM, "--dest", str(CACHE)]
        done = subprocess.run(
            [*command, wheel.requirement],
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"{wheel.requirement} cannot be downloaded")
    if hashlib.sha256(path.read_bytes()).hexdigest() != wheel.sha256:
        raise Unavailable(f"{path} is not what was released; remove it")
    return path


def django_files() -> dict[str, bytes]:
    """The regular files of Django 5.2's source distribution, about 7,000, by path. Raises Unavailable."""
    from tests.chain.test_django import sdist

    try:
        path = sdist("5.2")
    except (AssertionError, OSError) as error:
        raise Unavailable("Django's source distribution cannot be downloaded") from error
    files = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isreg() and (content := archive.extractfile(member)) is not None:
                files[member.name.partition("/")[2]] = content.read()
    return dict(sorted(files.items()))
