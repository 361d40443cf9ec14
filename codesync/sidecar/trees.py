"""The trees a replica can name: `.sidecar/manifest/<tree_id>.json` and `.sidecar/tracked/<tracked_id>`.

A file here is on the disk before the state names it. What the state does not name, and no commit is about to, is nobody's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from codesync.delta import Entry, Manifest
from codesync.delta.manifest import form
from codesync.plan import ReplicaTree
from codesync.protocol import TreeRef
from codesync.sidecar.state import State
from codesync.sidecar.volume import Volume, write_atomically


class Trees:
    """Manifests and sets of tracked paths, by id."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._ready: set[Path] = set()  # written and synced for the next commit
        self._text = ManifestText()

    def load(self, tree: TreeRef) -> ReplicaTree:
        """Read both. Raises OSError, ValueError."""
        manifest = Manifest.from_json(json.loads(self._manifest(tree.tree_id).read_bytes()))
        data = self._tracked(tree.tracked_id).read_bytes()
        return ReplicaTree(manifest, frozenset(data.split(b"\0")) if data else frozenset())

    def prepare(self, tree: ReplicaTree, state: State) -> None:
        """Write, durably, what a state with this tree will name and `state` does not yet. Raises OSError."""
        tree_id, tracked_id = tree.ids
        named = names(state)
        self._write(self._manifest(tree_id), lambda: self._text.of(tree.manifest), named)
        self._write(self._tracked(tracked_id), lambda: b"\0".join(sorted(tree.tracked)), named)

    def rewrite(self, tree: ReplicaTree) -> None:
        """The manifest of a tree that differs from the one of the same id in modes alone. Raises OSError."""
        write_atomically(self._manifest(tree.ids[0]), self._text.of(tree.manifest))

    def _write(self, path: Path, data: Callable[[], bytes], named: Collection[str]) -> None:
        # one that nobody names may be a dead process's: not synced, or of other modes
        if path not in self._ready and not (path.name in named and path.exists()):
            write_atomically(path, data())
            self._ready.add(path)

    def committed(self) -> None:
        """The state names what was prepared."""
        self._ready.clear()

    def dropped(self, state: State) -> None:
        """What was prepared is not wanted; `state` is what stands."""
        named = names(state)
        for path in self._ready:
            if path.name not in named:
                _remove(path)
        self._ready.clear()

    def sweep(self, state: State, applied: str) -> None:
        """Remove what nothing refers to any more; `applied` is the tree the launcher runs."""
        wanted = names(state) | {path.name for path in self._ready} | {f"{applied}.json"}
        for directory in (self._volume.manifests, self._volume.tracked):
            for name in os.listdir(directory):
                if name not in wanted:
                    _remove(directory / name)

    def _manifest(self, tree_id: str) -> Path:
        return self._volume.manifests / f"{tree_id}.json"

    def _tracked(self, tracked_id: str) -> Path:
        return self._volume.tracked / tracked_id


class ManifestText:
    """Manifests as JSON. Each is made from the one before it: of a large tree little changes, and most rows stay."""

    def __init__(self) -> None:
        self._entries: tuple[Entry, ...] = ()
        self._rows: list[bytes] = []

    def of(self, manifest: Manifest) -> bytes:
        """The same as `json.dumps(manifest.to_json())`, for a manifest that leaves nothing out."""
        # entries do not change, and those of the manifest before are alive: the same id is the same entry
        known = dict(zip(map(id, self._entries), self._rows, strict=True))
        rows = [known.get(id(entry)) or _row(entry) for entry in manifest]
        self._entries, self._rows = manifest.entries, rows
        before, _, after = json.dumps(form.to_json((), (), manifest.tree_id)).encode().partition(b"[]")
        return b"".join((before, b"[", b", ".join(rows), b"]", after))


def _row(entry: Entry) -> bytes:
    return json.dumps(form.to_json((entry,), (), "")["entries"][0]).encode()


def names(state: State) -> set[str]:
    """The files that a state refers to."""
    manifests = {f"{commit.tree_id}.json" for commit in state.history} | {f"{state.gen0}.json"}
    return manifests | {commit.tracked_id for commit in state.history}


def _remove(path: Path) -> None:
    with suppress(OSError):  # something else's; it costs room, no more
        path.unlink()
