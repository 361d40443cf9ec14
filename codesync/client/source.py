"""The developer's tree: scanned with its ignore rules, and git's word on what is not committed yet."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from codesync.config import Settings, bare_environment
from codesync.delta import Manifest, ManifestCache, Rules, ScanError, Skipped, scan
from codesync.errors import UserError

GIT_SECONDS = 5.0
LAUNCHERS_MARK = b".codesync-instance"


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
        try:
            self._rules = Rules.for_root(self.root, config_home=self._config_home)
            cache = ManifestCache(str(self._cache_path))
            self.manifest = _without_mark(scan(self.root, rules=self._rules, cache=cache))
        except ScanError as error:
            raise UserError(f"{error}; check app_root") from error
        return self.manifest

    def ignored(self, path: bytes, is_directory: bool) -> bool:
        """Whether the rules of the last scan ignore a path, there or not."""
        assert self._rules is not None, "scan comes first"
        return self._rules.ignored(path, is_directory)

    def git_summary(self) -> str:
        """Return git's one line on uncommitted changes; "" without git or outside a work tree."""
        git = shutil.which("git")
        if git is None:
            return ""
        command = [git, "-C", self.root, "diff", "--shortstat", "HEAD", "--", "."]
        env = bare_environment() | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
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
    return Manifest.of((entry for entry in found if entry.path != LAUNCHERS_MARK), skipped)
