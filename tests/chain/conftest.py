"""Every test of the whole chain gets one of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.harness import Chain, running_chain


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """A chain with no process started yet."""
    with running_chain(tmp_path) as chain:
        yield chain
        print(chain.processes.tails())  # shown where a test fails
