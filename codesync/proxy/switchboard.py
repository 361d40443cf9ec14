"""The connections of one deployment, the replicas behind them, and the commands gathered while an event is handled.

Every message passes a `Link` here, in and out, so nothing illegal is sent and nothing illegal is acted upon.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field

from codesync.protocol import (
    Close as CloseCode,
)
from codesync.protocol import (
    Code,
    Error,
    Link,
    Message,
    ProtocolError,
    ReplicaState,
    Side,
    Step,
)
from codesync.proxy.events import Close, Command, Note, Send


@dataclass(slots=True)
class Peer:
    """One open connection. `due`: when its Hello must be here, None afterwards."""

    connection: int
    side: Side
    link: Link
    due: float | None
    replica: "Replica | None" = None
    source: str = ""


@dataclass(slots=True)
class Replica:
    """A sidecar that has said Hello at least once; `peer` is None while its connection is lost.

    `unsure`: it has kept what this proxy knows nothing of, and has not said yet where that led.
    """

    state: ReplicaState
    peer: Peer | None = None
    unsure: bool = False

    @property
    def id(self) -> str:
        """The id it gives itself."""
        return self.state.id

    @property
    def settled(self) -> bool:
        """Nothing is going on that changes what it is: a push may be planned for it."""
        is_free = self.peer is not None and self.peer.link.step is Step.READY and not self.unsure
        return is_free and self.state.launcher != "starting"


@dataclass(slots=True)
class Switchboard:
    """Who is connected, and what will be said to them.

    `return_due`: until then the replicas that an earlier proxy had may be on their way back. `is_behind`: whether a
    connection has not taken yet what it was told a while ago.
    """

    peers: dict[int, Peer] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    return_due: float | None = None
    is_behind: Callable[[int], bool] = lambda connection: False

    def open(self, connection: int, side: Side, due: float) -> None:
        """A new connection."""
        self.peers[connection] = Peer(connection, side, Link(Side.PROXY, side), due)

    def take(self) -> list[Command]:
        """The commands gathered since the last call."""
        taken, self.commands = self.commands, []
        return taken

    def do(self, command: Command) -> None:
        """Gather a command."""
        self.commands.append(command)

    def note(self, kind: str, **facts: object) -> None:
        """Gather a line for the log."""
        self.commands.append(Note(kind, facts))

    def say(self, connection: int, message: Message, *, holds: bool = True) -> None:
        """Send to a connection; nothing when it is gone."""
        peer = self.peers.get(connection)
        if peer is not None:
            _check(peer.link, message)
            self.commands.append(Send(connection, message, holds))

    def tell(self, replica_id: str, message: Message) -> bool:
        """Send to a replica; False when it is not connected."""
        peer = self.peer_of(replica_id)
        if peer is None:
            return False
        self.say(peer.connection, message)
        return True

    def is_ready(self, replica_id: str) -> bool:
        """Whether the replica is connected and has no push."""
        peer = self.peer_of(replica_id)
        return peer is not None and peer.link.step is Step.READY

    def peer_of(self, replica_id: str) -> Peer | None:
        """The replica's connection, if it has one."""
        replica = self.replicas.get(replica_id)
        return replica.peer if replica else None

    def connected(self) -> Iterator[Replica]:
        """The replicas that can be spoken to, by id."""
        return (replica for _, replica in sorted(self.replicas.items()) if replica.peer is not None)

    def expects(self, now: float) -> bool:
        """Whether no replica is connected, and one may be soon."""
        return self.return_due is not None and now < self.return_due and not any(self.connected())

    def refuse(self, connection: int, code: Code, message: str, close: CloseCode) -> None:
        """Tell why, then close. The caller forgets the peer."""
        self.say(connection, Error(code=code, message=message[:4096]))
        reason = message.encode()[:120].decode("utf-8", "ignore")
        self.commands.append(Close(connection, close, reason))

    def drop(self, connection: int) -> Peer | None:
        """Forget a connection; its replica stays known, without a peer."""
        peer = self.peers.pop(connection, None)
        if peer is not None and peer.replica is not None and peer.replica.peer is peer:
            peer.replica.peer = None
        return peer

    def prune(self, wanted: Container[str]) -> None:
        """Forget the replicas that are gone and not wanted."""
        for replica_id in [r.id for r in self.replicas.values() if r.peer is None and r.id not in wanted]:
            del self.replicas[replica_id]


def _check(link: Link, message: Message) -> None:
    try:
        acted_upon = link.send(message)
    except ProtocolError as error:  # ours: never to be blamed on the peer whose event led here
        raise AssertionError(error.message) from error
    assert acted_upon, f"{message} is late"
