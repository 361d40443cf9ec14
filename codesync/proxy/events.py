"""What goes into the coordinator and what comes out of it. Connections are numbers; whose sockets they are is not known here."""

from collections.abc import Mapping
from dataclasses import dataclass

from codesync.protocol import Code, Message, Side

# -- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection passed authentication. Its number was never used before."""

    connection: int
    side: Side


@dataclass(frozen=True, slots=True)
class Received:
    """A message, decoded."""

    connection: int
    message: Message


@dataclass(frozen=True, slots=True)
class Garbled:
    """Bytes that are no message; `code` and `reason` are those of the ProtocolError."""

    connection: int
    code: Code
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone."""

    connection: int


@dataclass(frozen=True, slots=True)
class Relayed:
    """A chunk of a Relay is on its way: said before it is sent, so that no answer overtakes it."""

    connection: int
    push_id: str
    last: bool


@dataclass(frozen=True, slots=True)
class DiskFailed:
    """A spool cannot be written, or a kept batch not read."""

    push_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Woken:
    """The time of `next_deadline` has come."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The proxy is going to end: nothing new begins."""


Event = Opened | Received | Garbled | Lost | Relayed | DiskFailed | Woken | Stop

# -- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Say this, after everything said before. `holds`: who caused it is heard again when there is room for more."""

    connection: int
    message: Message
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Close:
    """Close it after what was said; nothing more will be said. No `Lost` is needed, one is no harm."""

    connection: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Spooled:
    """Batch number `batch` of the push that is being received."""

    push_id: str
    batch: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A kept batch, by its file's name in the store."""

    name: str


@dataclass(frozen=True, slots=True)
class SpoolChunk:
    """Append to a spool; `last` ends it."""

    spool: Spooled
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Relay:
    """Send that content as Chunks of `push_id`, from its start, following a spool while it grows, until its end.

    Everything sent later overtakes it between two chunks; `Unrelay`, or another Relay, ends it.
    """

    connection: int
    push_id: str
    content: Spooled | Stored


@dataclass(frozen=True, slots=True)
class Unrelay:
    """Send no more Chunks."""

    connection: int


@dataclass(frozen=True, slots=True)
class DropSpool:
    """The push ended without being kept."""

    push_id: str


@dataclass(frozen=True, slots=True)
class KeepSpool:
    """Move batches of a push (index: name) to the store, replace the store's index, then remove `evicted` names.

    Other batches of the push are dropped.
    """

    push_id: str
    names: Mapping[int, str]
    index: Mapping[str, object]
    evicted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something for the log and the counters: a kind, and words with their values. Never a key, never content."""

    kind: str
    facts: Mapping[str, object]


Command = Send | Close | SpoolChunk | Relay | Unrelay | DropSpool | KeepSpool | Note
