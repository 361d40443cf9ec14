"""A root to work in, and a place outside of it, both open to every user."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.transaction.trees import NOBODY


@pytest.fixture
def world() -> Iterator[bytes]:
    yield from _place()


@pytest.fixture
def outside() -> Iterator[bytes]:
    yield from _place()


def _place() -> Iterator[bytes]:
    path = os.fsencode(tempfile.mkdtemp(prefix="codesync-test-"))
    os.chmod(path, 0o755)
    inner = os.path.join(path, b"root")
    os.mkdir(inner)
    os.chmod(inner, 0o755)
    if os.getuid() == 0:
        os.chown(inner, NOBODY, NOBODY)
    yield inner
    shutil.rmtree(path)
