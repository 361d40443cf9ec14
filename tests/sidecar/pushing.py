"""What a client and the proxy do: a source tree becomes a batch, the messages that bring it, a commit."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codesync.delta import TrackedChange, scan, tracked_id, write_batch
from codesync.protocol import MAX_CHUNK, Chunk, Message, Stage, TreeRef
from codesync.sidecar.pushes import Ending, Push
from codesync.sidecar.store import Store


def make_batch(store: Store, source: Path, push_id: str) -> tuple[bytes, TreeRef]:
    """A batch from the store's tree to `source`, which has all of its paths tracked, and where it leads."""
    target = scan(str(source))
    file = io.BytesIO()
    tracked = TrackedChange.between(store.committed.tracked, target, target.paths)
    write_batch(file, str(source), store.manifest, target, push_id=push_id, tracked=tracked)
    return file.getvalue(), TreeRef(target.tree_id, tracked_id(target.paths))


def stage_messages(store: Store, source: Path, push_id: str, **fields: Any) -> Iterator[Message]:
    """What the proxy relays for a push of `source`; `fields` are further ones of Stage."""
    data, target = make_batch(store, source, push_id)
    told: dict[str, Any] = {"source": "s", "description": "d", **fields}
    yield Stage(push_id=push_id, base=store.tree, target=target, source_tree_id=target.tree_id, **told)
    for start in range(0, len(data), MAX_CHUNK):
        last = start + MAX_CHUNK >= len(data)
        yield Chunk(push_id=push_id, data=data[start : start + MAX_CHUNK], last=last)


def push_tree(store: Store, source: Path, push_id: str, *, commit: bool = True) -> TreeRef:
    """A batch from the store's tree to `source`, staged and kept; where it leads."""
    data, ref = make_batch(store, source, push_id)
    push = Push(push_id, "me@here:/src", "a change", ref.tree_id)
    store.stage_batch(push, io.BytesIO(data), ref)
    if commit:
        store.commit(Ending("healthy"))
    return ref


def contents(root: Path) -> dict[str, str]:
    """The texts of all files, by path."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
