"""The kept pushes of a deployment in order, as edges between trees: how a late replica gets to the present tree.

Pure: it names files and says which to drop; `store.py` moves and removes them.
"""

from collections import deque
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from codesync.protocol import GENERATION_0, HOOK_MOMENTS, HistoryEntry, Hook, LastPush, TreeRef

VERSION = 2
_READABLE = (1, 2)  # 1 knew no hooks and no timings
MAX_PUSHES = 20
MAX_BYTES = 256 * 1024 * 1024
_MAX_FOREIGN = 256  # pushes with a time to come, of which it is remembered when they were told of first


class ChainError(Exception):
    """An index that is damaged, or of a version this codesync does not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A way from one tree to another: a batch in the file `name`, or (no name) a tree the replica remembers itself.

    `hooks` are those the replicas were given for it, and late ones are.
    """

    base: TreeRef
    target: TreeRef
    name: str = ""
    size: int = 0
    restores: str = ""
    hooks: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPush:
    """A push that was kept, with the edges whose batches are still stored."""

    push_id: str
    source: str
    description: str
    source_tree_id: str
    at: float
    status: str
    edges: tuple[Edge, ...]
    timings_ms: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its batches."""
        return sum(edge.size for edge in self.edges)


@dataclass(slots=True)
class Chain:
    """At most MAX_PUSHES pushes with at most MAX_BYTES of batches, oldest first; `last` is the last push kept.

    `ends` are the trees it left: more than one where replicas keep different files of their own.
    """

    pushes: list[KeptPush] = field(default_factory=list)
    last: LastPush | None = None
    ends: frozenset[TreeRef] = frozenset()
    next_name: int = 1
    max_pushes: int = MAX_PUSHES
    max_bytes: int = MAX_BYTES
    _foreign: dict[str, float] = field(default_factory=dict, compare=False)

    def name(self) -> str:
        """A new file name."""
        self.next_name += 1
        return f"{self.next_name - 1:08d}.batch"

    def names(self) -> set[str]:
        """The files the chain needs."""
        return {edge.name for push in self.pushes for edge in push.edges if edge.name}

    def find(self, push_id: str) -> KeptPush | None:
        """The kept push of that id, the newest if it was replayed."""
        return next((push for push in reversed(self.pushes) if push.push_id == push_id), None)

    def add(self, push: KeptPush, trees: Collection[TreeRef]) -> tuple[str, ...]:
        """Append; `trees` are what it left. Returns the names of batches that are dropped for the bounds."""
        before = self.names()
        self.pushes.append(push)
        self.ends = frozenset(trees)
        self.last = LastPush(
            push_id=push.push_id,
            source=push.source,
            description=push.description,
            at=push.at,
            tree=next(iter(trees)),
        )
        while len(self.pushes) > self.max_pushes or sum(kept.size for kept in self.pushes) > self.max_bytes:
            del self.pushes[0]
        return tuple(sorted((before | {edge.name for edge in push.edges if edge.name}) - self.names()))

    def adopt(self, newest: HistoryEntry, now: float) -> None:
        """A replica's newest commit is the deployment's last push if it is a later one: another proxy served it.

        It was kept `now` (Unix seconds) or before, and not later the next time that it is told of: a replica whose
        clock is fast wins once.
        """
        if self.last is not None and newest.push_id == self.last.push_id:
            self.ends |= {newest.tree}
        elif newest.push_id == GENERATION_0 or self.find(newest.push_id) is not None:
            return
        elif self.last is None or self._told_at(newest, now) > self.last.at:
            self.ends = frozenset({newest.tree})
            self.last = LastPush(
                push_id=newest.push_id,
                source=newest.source,
                description=newest.description,
                at=self._told_at(newest, now),
                tree=newest.tree,
            )

    def _told_at(self, entry: HistoryEntry, now: float) -> float:
        if entry.at > now and entry.push_id not in self._foreign:
            if len(self._foreign) >= _MAX_FOREIGN:
                del self._foreign[next(iter(self._foreign))]
            self._foreign[entry.push_id] = now
        return min(entry.at, self._foreign.get(entry.push_id, entry.at))

    def drop_missing(self, present: Container[str]) -> None:
        """Forget the edges whose batches are not there (any more)."""
        self.pushes = [
            replace(push, edges=tuple(edge for edge in push.edges if not edge.name or edge.name in present))
            for push in self.pushes
        ]

    def path(self, base: TreeRef) -> list[tuple[KeptPush, Edge]]:
        """The shortest way from `base` to where the last push led; empty when there is none, or none is needed."""
        came: dict[TreeRef, tuple[KeptPush, Edge]] = {}
        queue = deque([base] if base not in self.ends else [])
        while queue:
            here = queue.popleft()
            if here in self.ends:
                return _walk_back(came, base, here)
            for push, edge in self._leaving(here):
                if edge.target not in came and edge.target != base:
                    came[edge.target] = (push, edge)
                    queue.append(edge.target)
        return []

    def _leaving(self, tree: TreeRef) -> Iterable[tuple[KeptPush, Edge]]:
        return ((push, edge) for push in reversed(self.pushes) for edge in push.edges if edge.base == tree)

    def to_json(self) -> dict[str, object]:
        """The index: `from_json` reads it back."""
        return {
            "version": VERSION,
            "next_name": self.next_name,
            "last": _last_to_json(self.last),
            "ends": sorted(list(tree) for tree in self.ends),
            "pushes": [_push_to_json(push) for push in self.pushes],
        }

    @classmethod
    def from_json(cls, record: Any) -> "Chain":
        """Raises ChainError."""
        try:
            if record["version"] not in _READABLE:
                readable = " and ".join(map(str, _READABLE))
                raise ChainError(f"it has version {record['version']}, this codesync reads {readable}")
            return cls(
                [_push_from_json(push) for push in record["pushes"]],
                _last_from_json(record["last"]),
                frozenset(_tree(tree) for tree in record["ends"]),
                int(record["next_name"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ChainError(f"it is damaged ({type(error).__name__}: {error})") from error


def _walk_back(
    came: Mapping[TreeRef, tuple[KeptPush, Edge]], base: TreeRef, tree: TreeRef
) -> list[tuple[KeptPush, Edge]]:
    steps: list[tuple[KeptPush, Edge]] = []
    while tree != base:
        steps.append(came[tree])
        tree = came[tree][1].base
    return steps[::-1]


def _push_to_json(push: KeptPush) -> dict[str, object]:
    edges = [
        {
            "base": list(edge.base),
            "target": list(edge.target),
            "name": edge.name,
            "size": edge.size,
            "restores": edge.restores,
            "hooks": [asdict(hook) for hook in edge.hooks],
        }
        for edge in push.edges
    ]
    words = ("push_id", "source", "description", "source_tree_id", "at", "status")
    record = {word: getattr(push, word) for word in words}
    return {**record, "timings_ms": dict(push.timings_ms), "edges": edges}


def _push_from_json(record: Any) -> KeptPush:
    edges = tuple(
        Edge(
            base=_tree(edge["base"]),
            target=_tree(edge["target"]),
            name=_text(edge["name"]),
            size=int(edge["size"]),
            restores=_text(edge["restores"]),
            hooks=tuple(_hook_from_json(hook) for hook in edge.get("hooks", ())),
        )
        for edge in record["edges"]
    )
    return KeptPush(
        push_id=_text(record["push_id"]),
        source=_text(record["source"]),
        description=_text(record["description"]),
        source_tree_id=_text(record["source_tree_id"]),
        at=float(record["at"]),
        status=_text(record["status"]),
        edges=edges,
        timings_ms={_text(step): int(ms) for step, ms in record.get("timings_ms", {}).items()},
    )


def _hook_from_json(record: Any) -> Hook:
    moment = _text(record["moment"])
    if moment not in HOOK_MOMENTS:
        raise ValueError(f"a hook at {moment!r:.40}")
    return Hook(
        run=_text(record["run"]), moment=moment, seconds=float(record["seconds"]), when=_text(record["when"])
    )


def _last_to_json(last: LastPush | None) -> dict[str, object] | None:
    if last is None:
        return None
    return {
        "push_id": last.push_id,
        "source": last.source,
        "description": last.description,
        "at": last.at,
        "tree": list(last.tree),
    }


def _last_from_json(record: Any) -> LastPush | None:
    if record is None:
        return None
    return LastPush(
        push_id=_text(record["push_id"]),
        source=_text(record["source"]),
        description=_text(record["description"]),
        at=float(record["at"]),
        tree=_tree(record["tree"]),
    )


def _tree(pair: Any) -> TreeRef:
    tree_id, tracked_id = pair
    return TreeRef(_text(tree_id), _text(tracked_id))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
