"""What several tests of the engine start from."""

import time
from pathlib import Path

import pytest

from tests.delta.scanned import Scanned

SECOND = 1_000_000_000


@pytest.fixture
def scanned(tmp_path: Path) -> Scanned:
    return Scanned(tmp_path)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock is ten seconds ahead of all files: nothing is racy."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10 * SECOND)
