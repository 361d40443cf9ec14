"""The address that clients use, relayed to whichever twin serves; switched without a request that fails.

    connection.py  one client's connection and its present twin
    search.py      how it gets to a twin
    side.py        one socket of the two
    exchange.py    where requests and responses end: HTTP/1 without sockets
    heads.py       what a message's head says about that
    bodies.py      where heads and bodies end
    twins.py       who serves, who is used by whom
    poll.py        the thread's sockets, alarms, and words from outside

Bytes are relayed as they are; what is no HTTP/1 is relayed all the same, and stays with its twin until one of them ends it.
"""

from __future__ import annotations

import errno
import resource
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from codesync.launcher.relay.connection import Connection
from codesync.launcher.relay.poll import READ, Poll
from codesync.launcher.relay.twins import Twins

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Relay"]

BACKLOG = 4096  # the kernel makes it less
ACCEPTED_AT_ONCE = 64
PAUSE_SECONDS = 0.1  # until a connection is accepted again when there are no descriptors
CLOSE_SECONDS = 5.0
RESERVED_DESCRIPTORS = 96
SWITCH_SECONDS = 0.0002
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def most_connections() -> int:
    """How many clients may be served at once: two descriptors each, and the launcher needs some of its own."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else max(1, (soft - RESERVED_DESCRIPTORS) // 2)


class Relay:
    """Listens at once on `host` (a name or an address, "" is every one) and `port` (0: any). Raises OSError.

    `address` is what it is bound to. All methods may be called from any thread, and none of them waits for the network.
    """

    def __init__(self, host: str, port: int) -> None:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # a name may stand for both families, and the twins and most clients are on IPv4
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(address)
            self._listener.listen(BACKLOG)
        except OSError:
            self._listener.close()
            raise
        self._listener.setblocking(False)
        bound = self._listener.getsockname()
        self.address: tuple[str, int] = (bound[0], bound[1])
        self._poll = Poll()
        self._twins = Twins(self._poll)
        self._connections: set[Connection] = set()
        self._most = most_connections()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._interval = sys.getswitchinterval()

    def serve(self) -> None:
        """Relay from now on, in a thread of its own; until then clients wait in the backlog.

        Until `close`, all threads of the process take turns faster.
        """
        # every system call lets go of the interpreter, and a thread that computes would keep it for 5 ms each time
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def point(self, port: int | None) -> None:
        """The twin at 127.0.0.1:`port` serves: new connections go there, and the next request of those that are between two.

        None: nobody does, and clients wait, for at most 5 seconds. A twin that was being drained is not any more, and
        its `drained` will not be called.
        """
        self._poll.post(self._twins.point, port)

    def drain(self, port: int, seconds: float, drained: Callable[[], None]) -> None:
        """Nothing new goes to that twin. `drained()` is called, in the relay's thread, when no connection uses it any more.

        After `seconds` what still does is cut off: requests that may be repeated go to the twin that serves.
        """
        self._poll.post(self._twins.drain, port, seconds, drained)

    def close(self) -> None:
        """Close all, at once."""
        if self._thread is None:
            self._release()
        elif self._thread.is_alive():
            self._poll.post(self._stop)
            self._thread.join(CLOSE_SECONDS)
            sys.setswitchinterval(self._interval)

    # --- the relay's thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        self._listen()
        try:
            while not self._stopped:
                self._poll.turn()
        finally:
            for connection in list(self._connections):
                connection.close()
            self._release()

    def _stop(self) -> None:
        self._stopped = True

    def _release(self) -> None:
        self._stopped = True
        self._listener.close()
        self._poll.close()

    def _listen(self) -> None:
        self._poll.watch(self._listener, 0, READ, self._accept)

    def _accept(self, _: int) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if len(self._connections) >= self._most:
                self._pause()
                return
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NONE_LEFT:
                    self._pause()
                    return
                continue  # this one has gone already
            self._welcome(client)

    def _pause(self) -> None:
        """Let the others wait in the backlog."""
        self._poll.watch(self._listener, READ, 0, self._accept)
        self._poll.after(PAUSE_SECONDS, self._listen)

    def _welcome(self, client: socket.socket) -> None:
        client.setblocking(False)
        with suppress(OSError):  # gone already: reading will tell
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # no twin can see it vanish
        connection = Connection(client, self._poll, self._twins, self._connections.discard)
        self._connections.add(connection)
        connection.begin()
