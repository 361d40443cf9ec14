"""The Unix socket that the sidecar connects to: lines out, lines in, one connection at a time.

Bound early, so that a sidecar finds a launcher that is still starting; answered only from `serve` on. Threads read;
everything else happens in the loop's consumer. A sidecar that does not read is dropped: nothing may hold the launcher up.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from codesync.launcher.messages import MAX_LINE, MessageError, line, parse
from codesync.launcher.volume import SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.supervise import Loop

SEND_SECONDS = 2
SOCKET_MODE = 0o660


class Link:
    """`directory` is a descriptor of where the socket lies. Raises OSError.

    `connected()`, `received(message)` and `lost()` are called in the loop's consumer.
    """

    def __init__(self, directory: int, loop: Loop) -> None:
        self.connected: Callable[[], None] = _ignore
        self.received: Callable[[Any], None] = _ignore
        self.lost: Callable[[], None] = _ignore
        self._directory = directory
        self._loop = loop
        self._peer: socket.socket | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=directory)
        # through the descriptor: the volume's path may be longer than a socket address holds
        self._socket.bind(f"/proc/self/fd/{directory}/{SOCKET}")
        os.chmod(SOCKET, SOCKET_MODE, dir_fd=directory)
        self._socket.listen(4)

    @property
    def open(self) -> bool:
        """Whether a sidecar is connected."""
        return self._peer is not None

    def serve(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._accept, daemon=True).start()

    def send(self, kind: str, **fields: Any) -> bool:
        """Say it; False when nobody is there to hear it."""
        if self._peer is None:
            return False
        try:
            self._peer.sendall(line(kind, **fields))
        except OSError:
            self._drop(self._peer)
            return False
        return True

    def close(self) -> None:
        """Be gone, so that a sidecar sees at once that nobody listens."""
        with suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=self._directory)
        self._socket.close()
        if self._peer is not None:
            self._drop(self._peer)

    # --- threads ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return  # closed
            self._loop.post(self._welcome, peer)

    def _read(self, peer: socket.socket) -> None:
        try:
            with peer.makefile("rb") as lines:
                while self._read_line(peer, lines.readline(MAX_LINE + 1)):
                    pass
        except (OSError, ValueError):
            pass  # as good as an end
        self._loop.post(self._end, peer)

    def _read_line(self, peer: socket.socket, text: bytes) -> bool:
        if len(text) > MAX_LINE:
            self._loop.post(self._refuse, peer, f"a line has at most {MAX_LINE} bytes")
            return False
        if not text.endswith(b"\n"):
            return False
        try:
            self._loop.post(self._hand_over, peer, parse(text))
        except MessageError as error:
            self._loop.post(self._refuse, peer, str(error))
        return True

    # --- the consumer ----------------------------------------------------------------------------------------

    def _welcome(self, peer: socket.socket) -> None:
        if self._peer is not None:
            self._drop(self._peer)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        self._peer = peer
        threading.Thread(target=self._read, args=(peer,), daemon=True).start()
        self.connected()

    def _hand_over(self, peer: socket.socket, message: Any) -> None:
        if peer is self._peer:
            self.received(message)

    def _refuse(self, peer: socket.socket, reason: str) -> None:
        if peer is self._peer:
            self.send("error", message=reason)

    def _drop(self, peer: socket.socket) -> None:
        with suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)  # wakes its reader
        if peer is self._peer:
            self._peer = None
            self.lost()

    def _end(self, peer: socket.socket) -> None:
        """Its reader is gone: now nobody else can be using the descriptor."""
        self._drop(peer)
        peer.close()


def _ignore(*_: Any) -> None:
    pass
