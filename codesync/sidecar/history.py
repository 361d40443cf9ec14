"""The contents that commits moved out of `current/`, by digest, so that a rollback can bring them back.

`.sidecar/history/<sha256>`; bounded: the last 20 kept pushes and 512 MiB.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from codesync.sidecar.state import Commit

KEPT_PUSHES = 20
KEPT_BYTES = 512 * 1024 * 1024


class History:
    """Displaced file contents. A commit's `displaced` is what going back behind it needs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def object(self, digest: str) -> Path:
        """Where the content with that digest lies."""
        return self._directory / digest

    def take(self, digest: str | None, saved: str) -> None:
        """Keep a file that a commit has displaced; without a digest it is let go."""
        if digest is not None and not self.object(digest).exists():
            os.replace(saved, self.object(digest))

    def trim(self, history: Sequence[Commit]) -> tuple[Commit, ...]:
        """The part of `history` that is kept: the committed tree and the 20 before it, within the bound in bytes."""
        kept = list(history[-(KEPT_PUSHES + 1) :])
        while len(kept) > 1 and self._bytes(kept) > KEPT_BYTES:
            kept.pop(0)
        return tuple(kept)

    def sweep(self, history: Sequence[Commit]) -> None:
        """Remove the contents that no rollback within `history` can ask for."""
        wanted = self._wanted(history)
        for name in os.listdir(self._directory):
            if name not in wanted:
                with suppress(OSError):  # nothing of ours; it costs room, no more
                    self.object(name).unlink()

    def _wanted(self, history: Sequence[Commit]) -> set[str]:
        return {digest for commit in history[1:] for digest in commit.displaced}

    def _bytes(self, history: Sequence[Commit]) -> int:
        total = 0
        for digest in self._wanted(history):
            with suppress(FileNotFoundError):
                total += self.object(digest).stat().st_size
        return total
