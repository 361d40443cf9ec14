"""A world without I/O for tests of the coordinator and its parts, a real proxy for tests of the rest."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.proxy.loopback import Running, running_proxy
from tests.proxy.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def proxy(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Running]:
    async with running_proxy(tmp_path / "data") as running:
        yield running
