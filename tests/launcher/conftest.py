"""A world of its own for every test of the launcher."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Containers and a volume; all of it ends with the test."""
    made = World(tmp_path)
    yield made
    made.close()
