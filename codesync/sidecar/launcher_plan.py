"""`trial/plan.json`: what the launcher is to do for one push. Pure; docs/launcher-socket.md has the fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

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


def _told(change: Change, files: Mapping[bytes, Path]) -> dict[str, object]:
    content = {"file": f"files/{files[change.path].name}"} if change.kind == FILE else {}
    return {**change.to_json(), **content}
