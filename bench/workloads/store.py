"""Files that are made once and kept, with a list of what has been made: a second run makes none of them again.

What stands in the list is whole and undamaged: a file gets its name when it is complete, and its digest is checked
whenever it is asked for, which also brings it into the page cache.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from xxhash import xxh3_128

RECIPES = 2  # another number when a workload is made in another way
_PIECE = 1 << 20


class Store:
    """A directory of made files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._list = directory / "made.json"
        try:
            self._made: dict[str, list[int | str]] = json.loads(self._list.read_text())
        except (OSError, ValueError):
            self._made = {}

    def file(self, name: str, make: Callable[[BinaryIO], object]) -> Path:
        """The file of that name, written by `make` unless it is there."""
        path = self.directory / name
        if name not in self._made or self._made[name] != _look(path):
            self._make(path, make)
            self._made[name] = _look(path)
            write_whole(self._list, json.dumps(self._made, indent=1, sort_keys=True))
        return path

    def _make(self, path: Path, make: Callable[[BinaryIO], object]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".part")
        try:
            with draft.open("wb") as file:
                make(file)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _look(path: Path) -> list[int | str]:
    """Recipes, size and digest; an empty list where there is no such file."""
    check = xxh3_128()
    with suppress(OSError), path.open("rb") as file:
        while piece := file.read(_PIECE):
            check.update(piece)
        return [RECIPES, os.fstat(file.fileno()).st_size, check.hexdigest()]
    return []


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step."""
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_text(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
