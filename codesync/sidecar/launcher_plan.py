"""`trial/plan.json`, what the launcher is to do for one push, and what it should know for that of the tree it has.

Pure; docs/launcher-socket.md has the fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from codesync.delta import Manifest
from codesync.delta.manifest import form
from codesync.sidecar.pushes import Staged
from codesync.transaction import FILE, Change

VERSION = 1


def launcher_plan(staged: Staged, base: str, generation: int) -> bytes:
    """From the tree_id `base` to the staged tree; `generation` is the number it will have when it is kept."""
    plan = {
        "version": VERSION,
        "push_id": staged.push.push_id,
        "generation": generation,
        "base": base,
        "target": staged.target.manifest.tree_id,
        "hooks": [
            {"run": hook.run, "moment": hook.moment, "seconds": hook.seconds} for hook in staged.push.hooks
        ],
        "changes": [_told(change, staged.files) for change in staged.changes],
    }
    return json.dumps(plan).encode()


def touched(base: Manifest, changes: Iterable[Change]) -> bytes:
    """Of the manifest of `base` the paths of the changes and the directories above them, as `trial/<tree_id>.json`.

    That is all a launcher needs to notice what somebody else has changed there, however large the tree is.
    """
    paths: set[bytes] = set()
    for change in changes:
        path = change.path
        while path and path not in paths:
            paths.add(path)
            path = path.rpartition(b"/")[0]
    entries = [entry for path in sorted(paths) if (entry := base.get(path))]
    return json.dumps(form.to_json(entries, (), base.tree_id)).encode()


def _told(change: Change, files: Mapping[bytes, Path]) -> dict[str, object]:
    content = {"file": f"files/{files[change.path].name}"} if change.kind == FILE else {}
    return {**change.to_json(), **content}
