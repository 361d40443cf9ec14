"""The clients that wait for their turn, first come first served, each for a bounded time. Pure."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from codesync.protocol import Begin, Hook, Rollback
from codesync.proxy.member import Words
from codesync.proxy.turn import Kind

MAX_WAITING = 64


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Begin or Rollback; `due` is when it has waited long enough."""

    connection: int
    words: Words
    due: float
    kind: Kind
    to: str = ""
    hooks: tuple[Hook, ...] = ()

    @classmethod
    def of(cls, connection: int, message: Begin | Rollback, due: float) -> "Waiting":
        """What a client asks for."""
        words = Words(
            push_id=message.push_id,
            source=message.source,
            description=message.description,
            source_tree_id=message.source_tree_id if isinstance(message, Begin) else "",
        )
        if isinstance(message, Begin):
            return cls(connection, words, due, Kind.PUSH)
        return cls(connection, words, due, Kind.ROLLBACK, message.to, message.hooks)


@dataclass(slots=True)
class Line:
    """At most MAX_WAITING at a time, each push_id at most once."""

    _waiting: deque[Waiting] = field(default_factory=deque)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(tuple(self._waiting))

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether one more is one too many."""
        return len(self._waiting) >= MAX_WAITING

    @property
    def due(self) -> float | None:
        """When the first has waited long enough."""
        return min((waiting.due for waiting in self._waiting), default=None)

    def add(self, waiting: Waiting, *, first: bool = False) -> None:
        """At the end, or before all others."""
        if first:
            self._waiting.appendleft(waiting)
        else:
            self._waiting.append(waiting)

    def replace(self, newer: Waiting) -> int | None:
        """Let the same push wait for another connection, in the place it had. Returns the connection it had."""
        for index, waiting in enumerate(self._waiting):
            if waiting.words.push_id == newer.words.push_id:
                self._waiting[index] = replace(newer, due=waiting.due)
                return waiting.connection
        return None

    def pop(self) -> Waiting:
        """Whose turn it is."""
        return self._waiting.popleft()

    def leave(self, connection: int) -> list[Waiting]:
        """What that connection waited for; it waits no more."""
        return self._take([waiting for waiting in self._waiting if waiting.connection == connection])

    def late(self, now: float) -> list[Waiting]:
        """Those that have waited long enough; they wait no more."""
        return self._take([waiting for waiting in self._waiting if waiting.due <= now])

    def _take(self, leaving: list[Waiting]) -> list[Waiting]:
        for waiting in leaving:
            self._waiting.remove(waiting)
        return leaving
