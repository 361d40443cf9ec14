"""Scanning 20,000 small files of which none has changed, in this process, which has scanned them before."""

from collections.abc import Callable, Iterator
from pathlib import Path

from bench.job import Job
from bench.measure import Contender, Sample, call, medians
from bench.row import Goal, Row
from bench.setting import Setting
from bench.workloads import trees
from codesync.delta import ManifestCache, Rules, ScanMemory, scan

FILES = 20_000
_WORKLOAD = "20,000 small files, unchanged"
_TIMES = 3
_GOALS = {"rsync -an": Goal(0.4), "git status": Goal(1.5)}


def jobs(setting: Setting) -> Iterator[Job]:
    """One tree, scanned with and without ignore rules."""
    yield Job(_WORKLOAD, lambda: _rows(setting))


def _rows(setting: Setting) -> Iterator[Row]:
    """Beside rsync, which reads no rules, without rules; beside git with them."""
    with setting.place() as place:
        tree, copy = place / "tree", place / "copy"
        files = trees.small_files(setting.size(FILES))
        for root in (tree, copy):
            trees.write_tree(root, files)
        repository = _committed(setting, place / "git", tree)
        setting.settle()
        contenders = {
            "plain": Contender(_scanner(tree, place / "cache-plain", ruled=False)),
            "rsync -an": setting.references.contender("rsync", "-an", f"{tree}/", f"{copy}/"),
            "ruled": Contender(_scanner(tree, place / "cache-ruled", ruled=True)),
            "git status": setting.references.contender("git", *repository, "status", "--porcelain"),
        }
        samples = setting.compare(contenders, _TIMES)
    for name, what in (("plain", "rsync -an"), ("ruled", "git status")):
        label = "scan with ignore rules" if name == "ruled" else "scan"
        figures, theirs = medians(samples[name]), medians(samples[what])
        yield Row("scan", _WORKLOAD, f"{label}, in process", figures, what, theirs, _GOALS[what])


def _scanner(tree: Path, cache: Path, *, ruled: bool) -> Callable[[], Sample]:
    """Scans as a push does, that remembers what the last one has seen."""
    memory, known = ScanMemory(ManifestCache(str(cache))), None

    def once() -> None:
        nonlocal known
        if ruled:
            known = Rules.for_root(str(tree), known=known)
        scan(str(tree), rules=known, memory=memory)

    once()
    return lambda: call(once)


def _committed(setting: Setting, repository: Path, tree: Path) -> tuple[str, ...]:
    """The arguments by which git knows the tree, all of it committed, from a repository elsewhere."""
    where = (f"--git-dir={repository}", f"--work-tree={tree}")
    author = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
    for command in (("init", "--quiet"), ("add", "--all"), (*author, "commit", "--quiet", "-m", "all")):
        setting.references.told("git", *where, *command)
    return where
