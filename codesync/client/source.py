"""The developer's tree: scanned with its ignore rules, and git's word on what is not committed yet.

What a scan has learnt stays in this process for the next one of the same tree: a push after a small edit asks for each
file's status and reads what differs. Nothing is taken from memory that those statuses do not vouch for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from codesync.client.trees import Recent
from codesync.config import Settings, bare_environment
from codesync.delta import Manifest, ManifestCache, Rules, ScanError, ScanMemory, Skipped, scan
from codesync.errors import UserError

GIT_SECONDS = 5.0
LAUNCHERS_MARK = b".codesync-instance"
# what makes git look elsewhere than upwards from the app root
_GIT_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE")


class _Scans:
    """What this process remembers of one tree. Whoever scans it holds `lock`."""

    def __init__(self, cache_path: str) -> None:
        self.lock = threading.Lock()
        self.memory = ScanMemory(ManifestCache(cache_path))
        self.rules: Rules | None = None


_remembered: Recent[tuple[str, str], _Scans] = Recent(lambda scans: scans.memory.size)


class Source:
    """An app root. `manifest` is what the last `scan` found."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.app_root
        self._config_home = settings.config_home or None
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:32]
        self._cache_path = Path(settings.cache_dir, "scan", name)
        self.manifest = Manifest.of(())
        self._rules: Rules | None = None

    def scan(self) -> Manifest:
        """Read the tree; only what has changed since the last scan is hashed. Raises UserError."""
        path = str(self._cache_path)
        scans = _remembered.get((self.root, path), lambda: _Scans(path))
        try:
            with scans.lock:
                rules = Rules.for_root(self.root, config_home=self._config_home, known=scans.rules)
                found = scan(self.root, rules=rules, memory=scans.memory)
                scans.rules = rules
        except ScanError as error:
            raise UserError(f"{error}; check app_root") from error
        self._rules, self.manifest = rules, _without_mark(found)
        return self.manifest

    def ignored(self, path: bytes, is_directory: bool) -> bool:
        """Whether the rules of the last scan ignore a path, there or not."""
        assert self._rules is not None, "scan comes first"
        return self._rules.ignored(path, is_directory)

    def git_summary(self) -> str:
        """Return git's one line on uncommitted changes; "" without git or outside a work tree."""
        env = bare_environment() | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        git = shutil.which("git") if _may_be_in_work_tree(self.root, env) else None
        if git is None:
            return ""
        command = [git, "-C", self.root, "diff", "--shortstat", "HEAD", "--", "."]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=GIT_SECONDS, check=False, env=env, text=True
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""


def _without_mark(found: Manifest) -> Manifest:
    """A tree that was copied out of a container still has the launcher's mark; it is not the developer's."""
    if LAUNCHERS_MARK not in found:
        return found
    skipped = (*found.skipped, Skipped(LAUNCHERS_MARK, "the launcher's own mark"))
    return found.changed((), [LAUNCHERS_MARK], sorted(skipped))


def _may_be_in_work_tree(root: str, environ: Mapping[str, str]) -> bool:
    """Whether it pays to start git at all: its start costs as much as scanning some thousand files."""
    places = (root, *map(str, Path(root).parents))
    return any(name in environ for name in _GIT_ELSEWHERE) or any(
        os.path.lexists(os.path.join(place, ".git")) for place in places
    )
