"""A tree that is scanned again and again with a memory, beside scans that know nothing."""

from pathlib import Path

from codesync.delta.cache import ManifestCache
from codesync.delta.ignore import Rules
from codesync.delta.manifest import Manifest, ScanMemory, scan
from tests.delta.gitrepo import Git


class Scanned:
    """A tree that is scanned twice each time: with a memory, and as if for the first time."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "root"
        self.root.mkdir()
        self.git = Git(tmp_path / "home")
        self.cache = ManifestCache(str(tmp_path / "cache"))
        self.memory = ScanMemory(self.cache)
        self.rules: Rules | None = None
        self.told = 0

    def remembering(self) -> Manifest:
        self.rules = Rules.for_root(str(self.root), home=str(self.git.home), known=self.rules)
        told: list[int] = [0]
        found = scan(str(self.root), rules=self.rules, memory=self.memory, progress=told.append)
        self.told = told[-1]
        return found

    def check(self) -> Manifest:
        """Scan both ways and compare; the rules have to say the same too, also of what is not there any more."""
        before = self.memory.take()
        self.memory.keep(before)
        found = self.remembering()
        rules = Rules.for_root(str(self.root), home=str(self.git.home))
        fresh = scan(str(self.root), rules=rules)
        assert found.entries == fresh.entries
        assert found.skipped == fresh.skipped
        assert found.tree_id == Manifest.of(fresh.entries).tree_id
        assert found.columns == fresh.columns
        assert found.total_size == fresh.total_size
        assert self.told == len(found) == self.memory.size
        assert self.rules is not None
        for path in {*before.manifest.paths, *found.paths, b"build", b"d/x.log", b"gone/x.log"}:
            for is_directory in (False, True):
                assert self.rules.ignored(path, is_directory) == rules.ignored(path, is_directory), path
        return found
