"""A real tree of about 7,000 files: scan, deltas and batch as one fresh process, beside rsync's batch of the same."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import ours
from bench.job import Job
from bench.measure import Contender, Failed, medians
from bench.row import Figures, Goal, Row
from bench.setting import Setting
from bench.workloads import trees
from codesync.delta import ManifestCache, apply_batch, scan

_GROUP = "tree"
_TIMES = {"one line in one file": Goal(0.5)}
_SIZES = {
    "one line in one file": Goal(400, ("bytes",), absolute=True),
    "a directory renamed": Goal(1000, ("bytes",), absolute=True),
}


def jobs(setting: Setting) -> Iterator[Job]:
    """Each edit of the tree: time and bytes."""
    for edit in trees.tree_edits():
        yield Job(edit.name, partial(_rows, setting, edit))


def _rows(setting: Setting, edit: trees.TreeEdit) -> Iterator[Row]:
    """The sender has scanned the tree before the edit, and holds what it was."""
    files = trees.source_tree(not setting.quick)
    with setting.place() as place:
        tree, base = place / "tree", place / "base"
        for root in (tree, base):
            trees.write_tree(root, files)
        setting.settle()
        before = scan(str(tree), cache=ManifestCache(str(place / "cache")))
        (place / "manifest").write_bytes(before.to_bytes())
        edit.apply(tree, files)
        setting.settle()
        theirs = place / "rsync-batch"
        arguments = ("-a", f"--only-write-batch={theirs}", f"{tree}/", f"{base}/")
        contenders = {"ours": _ours(place), "rsync": setting.references.contender("rsync", *arguments)}
        samples = setting.compare(contenders)
        _check(place)
        sizes = [_size(place / "batch"), _size(theirs)]
    times = [medians(samples[name]) for name in contenders]
    for what, (figures, beside), goals in (("scan + delta + batch", times, _TIMES), ("batch", sizes, _SIZES)):
        yield Row(_GROUP, edit.name, what, figures, "rsync", beside, goals.get(edit.name))


def _ours(place: Path) -> Contender:
    cache, used = place / "cache", place / "cache-used"
    others = (place / name for name in ("manifest", "base", "batch"))

    def prepare() -> None:
        """Forget what the run before has learnt of the edit. Without settling there is no cache yet."""
        used.unlink(missing_ok=True)
        if cache.exists():
            shutil.copy(cache, used)

    return Contender(ours.process("batch", place / "tree", used, *others).run, prepare)


def _size(path: Path) -> Figures:
    return {"bytes": path.stat().st_size} if path.exists() else {}


def _check(place: Path) -> None:
    """Raise Failed unless the batch makes the tree of the base, which it then is."""
    base, tree = str(place / "base"), str(place / "tree")
    with (place / "batch").open("rb") as file:
        apply_batch(file, base)
    if scan(base).tree_id != scan(tree).tree_id:
        raise Failed("the batch does not make the tree")
