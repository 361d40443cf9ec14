"""Late replicas: which one is brought nearer to the present tree next, and which have been given up.

Pure. A replica whose replay failed is left alone until something else is pushed, or it is at another tree.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from codesync.protocol import TreeRef
from codesync.proxy.chain import Chain, Edge, KeptPush
from codesync.proxy.events import Stored
from codesync.proxy.member import Order, Words
from codesync.proxy.switchboard import Replica

_MAX_REMEMBERED = 1000


class Replay(NamedTuple):
    """One step of one replica: a kept push, told again as it was."""

    replica_id: str
    words: Words
    order: Order


@dataclass(slots=True)
class Replays:
    """The steps that the chain knows, less those that failed."""

    chain: Chain
    _hopeless: set[tuple[str, TreeRef, str]] = field(default_factory=set)

    def next(self, replicas: Iterable[Replica]) -> Replay | None:
        """The first step of the first late replica that is free for one."""
        for replica in replicas:
            path = self.chain.path(replica.state.tree) if replica.settled else []
            if path and self._key(replica) not in self._hopeless:
                return _replay(replica.id, *path[0])
        return None

    def failed(self, replica: Replica) -> None:
        """The replica could not take its step."""
        if len(self._hopeless) >= _MAX_REMEMBERED:
            self._hopeless.clear()
        self._hopeless.add(self._key(replica))

    def _key(self, replica: Replica) -> tuple[str, TreeRef, str]:
        tree = replica.state.tree
        return (replica.id, tree, self.chain.last.push_id if self.chain.last else "")


def _replay(replica_id: str, push: KeptPush, edge: Edge) -> Replay:
    words = Words(
        push_id=push.push_id,
        source=push.source,
        description=push.description,
        source_tree_id=push.source_tree_id,
        timings_ms=push.timings_ms,
    )
    order = Order(
        base=edge.base,
        target=edge.target,
        content=Stored(edge.name) if edge.name else None,
        restores=edge.restores,
        hooks=edge.hooks,
    )
    return Replay(replica_id, words, order)
