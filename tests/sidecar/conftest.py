"""A volume of a sidecar, and a tree to push to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from codesync.sidecar.store import Store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "package").mkdir(parents=True)
    (root / "app.py").write_text("one\n")
    (root / "package" / "module.py").write_text("module\n" * 100)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(str(tmp_path / "files"))
    yield store
    store.close()
