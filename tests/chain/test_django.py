"""Real input: one release of Django pushed over the one before, about 7,000 files, compared byte for byte."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.chain.harness import Chain, tree_of

RELEASES = {  # file name and SHA-256
    "5.2": ("Django-5.2", "1a47f7a7a3d43ce64570d350e008d2949abe8c7e21737b351b6a1611277c6d89"),
    "5.2.1": ("django-5.2.1", "57fe1f1b59462caed092c80b3dd324fd92161b620d59a9ba9181c34746c97284"),
}
CACHE = Path(__file__).parents[2] / ".cache" / "sdists"


def fetch() -> None:
    """Have both source distributions, from the package index or from an earlier run."""
    missing = [version for version, (name, _) in RELEASES.items() if not (CACHE / f"{name}.tar.gz").exists()]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    started = [
        subprocess.Popen([*command, "--dest", str(CACHE), f"Django=={version}"], stdout=subprocess.DEVNULL)
        for version in missing
    ]
    assert [download.wait() for download in started] == [0] * len(missing)


def sdist(version: str) -> Path:
    """The source distribution, checked."""
    fetch()
    name, digest = RELEASES[version]
    path = CACHE / f"{name}.tar.gz"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return path


def unpack(version: str, into: Path) -> None:
    with tarfile.open(sdist(version)) as archive:
        top = archive.getnames()[0].split("/")[0]
        archive.extractall(into.parent, filter="data")
    (into.parent / top).rename(into)


def test_one_release_is_pushed_over_the_one_before(chain: Chain) -> None:
    unpack("5.2", chain.image / "django")
    shutil.rmtree(chain.source)
    shutil.copytree(chain.image, chain.source, symlinks=True)
    chain.start()
    assert chain.push().status == "no_changes"
    app = chain.replicas["one"].app
    before = tree_of(app)
    shutil.rmtree(chain.source / "django")
    unpack("5.2.1", chain.source / "django")
    result = chain.push("Django 5.2.1")
    assert result.status == "healthy"
    assert tree_of(app) == tree_of(chain.source)
    assert len(tree_of(app)) > 6800
    assert result.files.modified > 50
    assert result.bytes.sent < result.bytes.tree / 100
    print(result.files, result.bytes, result.timings_ms)
    assert chain.rollback().status == "healthy"
    assert tree_of(app) == before
