"""One client's connection, and the one to a twin that it has at the moment.

Bytes go through unchanged, one piece at a time in each direction: whoever does not read is not read for. A client is closed
when its twin closes or cannot be reached, and never because another twin serves: between two requests the twin's side is given
up, and the next request finds another one.
"""

from __future__ import annotations

import functools
import socket
import sys
from typing import TYPE_CHECKING, Any

from codesync.launcher.relay.exchange import Exchange
from codesync.launcher.relay.poll import READ, WRITE
from codesync.launcher.relay.search import Search
from codesync.launcher.relay.side import PIECE, Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.relay.poll import Alarm, Poll
    from codesync.launcher.relay.twins import Twins

PARKED_SECONDS = (
    300.0  # a client without a request whose twin has gone: longer than most keep idle connections
)
LINGER_SECONDS = 2.0  # for a client to read the last answer, although it has more to say itself
STALLED_SECONDS = 60.0  # without a byte, when only one side is left

_EXCUSE = b"The application does not answer. It may be starting: try again.\n"
_BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    % len(_EXCUSE)
)


def _entry(step: Callable[..., None]) -> Callable[..., None]:
    """Afterwards watch what can be dealt with; an error ends this connection only."""

    @functools.wraps(step)
    def enter(self: Connection, *args: Any) -> None:
        if self.closed:
            return
        try:
            step(self, *args)
            self._watch()
        except OSError:
            self.abort()
        except Exception:  # a mistake of ours must not take the others with it
            sys.excepthook(*sys.exc_info())
            self.abort()

    return enter


class Connection:
    """`client` is connected and does not block. `begin` once; `gone(self)` is called when it is closed."""

    __slots__ = (
        "_alarm",
        "_backend",
        "_backend_broken",
        "_backend_ended",
        "_client",
        "_client_ended",
        "_discards",
        "_ends",
        "_exchange",
        "_gone",
        "_held",
        "_moved",
        "_poll",
        "_port",
        "_repeated",
        "_replay",
        "_search",
        "_shuts",
        "_silent",
        "_to_backend",
        "_to_client",
        "_twins",
        "closed",
    )

    def __init__(
        self, client: socket.socket, poll: Poll, twins: Twins, gone: Callable[[Connection], None]
    ) -> None:
        self.closed = False
        self._poll = poll
        self._twins = twins
        self._gone = gone
        self._exchange = Exchange()
        self._alarm: Alarm | None = None
        self._moved = False  # bytes, since the alarm was set
        self._client = Side(client, poll, self._client_ready)
        self._client_ended = False  # it sends no more
        self._silent = True  # it has never sent anything
        self._discards = False  # what it sends is of no use any more
        self._shuts = False  # it is told the end as soon as it has all that is for it
        self._ends = False  # the same, and closed
        self._held = b""  # of the next request
        self._replay: bytes | None = b""  # what was sent of the present request; None: too much
        self._repeated = False
        self._to_client = b""
        self._to_backend = b""
        self._search = Search(poll, twins, self._found, self._fail)
        self._port = 0
        self._backend: Side | None = None
        self._backend_ended = False  # it says no more
        self._backend_broken = False  # it takes no more

    # --- from outside ----------------------------------------------------------------------------------------

    @_entry
    def begin(self) -> None:
        """Connect at once: in some protocols the server speaks first."""
        self._seek()

    @_entry
    def retarget(self) -> None:
        """Another twin serves: between two requests, leave this one."""
        if self._exchange.idle:
            self._park()
            if self._silent:
                self._seek()

    @_entry
    def expel(self) -> None:
        """The twin is about to be stopped."""
        self._lose_backend(reset=True)

    def abort(self) -> None:
        """Reset both sides, so that nobody takes what came for the whole."""
        if not self.closed:
            if self._backend is not None:
                self._backend.reset()
            self._client.reset()
            self._let_go()

    def close(self) -> None:
        """Both sides, at once."""
        if not self.closed:
            if self._backend is not None:
                self._backend.close()
            self._client.close()
            self._let_go()

    def _let_go(self) -> None:
        self.closed = True
        self._set_alarm(None)
        self._search.stop()
        if self._backend is not None:
            self._backend = None
            self._twins.leave(self._port, self)
        self._gone(self)

    # --- a twin ----------------------------------------------------------------------------------------------

    def _seek(self) -> None:
        self._set_alarm(None)
        found = self._search.begin()
        if found is not None:
            self._join(*found)

    @_entry
    def _found(self, port: int, connected: socket.socket) -> None:
        self._join(port, connected)

    def _join(self, port: int, connected: socket.socket) -> None:
        self._port = port
        self._backend = Side(connected, self._poll, self._backend_ready)
        self._backend_ended = self._backend_broken = False
        self._twins.join(port, self)
        self._flush_backend()

    @_entry
    def _fail(self) -> None:
        """There is no twin to be had."""
        if self._is_unanswered():
            self._apologise()
        else:
            self._finish()

    def _leave(self) -> None:
        """Give the twin up, or the search for one."""
        self._search.stop()
        if self._backend is not None:
            self._backend.close()
            self._backend = None
            self._twins.leave(self._port, self)

    def _park(self) -> None:
        """Between two requests: the next one finds a twin."""
        self._leave()
        self._to_backend = b""
        self._set_alarm(PARKED_SECONDS, self._unpark)

    @_entry
    def _unpark(self) -> None:
        self._finish()

    # --- bytes -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self.closed:
            return
        events = WRITE if self._to_client else 0
        if not (self._client_ended or self._to_backend or self._held):
            events |= READ
        self._client.watch(events)
        if self._backend is not None:
            events = 0 if self._to_client or self._backend_ended else READ
            if self._to_backend and not self._backend_broken:
                events |= WRITE
            self._backend.watch(events)

    @_entry
    def _client_ready(self, events: int) -> None:
        events &= self._client.events  # what was wanted when it became ready may be unwanted by now
        if events & WRITE:
            self._flush_client()
        if events & READ and not self.closed:
            data = self._client.read()
            if data == b"":
                self._end_client()
            elif data is not None and not self._discards:
                self._moved = True
                self._take(data)
                self._proceed()

    @_entry
    def _backend_ready(self, events: int) -> None:
        if self._backend is None:
            return
        events &= self._backend.events
        if events & WRITE:
            self._flush_backend()
        if events & READ:
            try:
                data = self._backend.read()
            except OSError:
                self._lose_backend(reset=True)
                return
            if data:
                self._replay = None
                self._exchange.response(data)
                self._to_client = data
                self._flush_client()
                self._proceed()
            elif data is not None:
                self._lose_backend(reset=False)

    def _take(self, data: bytes) -> None:
        """Send on what may go now, hold the rest."""
        exchange = self._exchange
        if exchange.idle:
            self._silent = self._repeated = False
            self._replay = b""
        taken = exchange.request(data)
        if taken < len(data):
            self._held = data[taken:]
            data = data[:taken]
        if self._replay is not None:
            small = not exchange.opaque and len(self._replay) + taken <= PIECE
            self._replay = self._replay + data if small else None
        if data:
            self._to_backend += data
            if self._backend is not None:
                self._flush_backend()
            elif not self._search.active:
                self._seek()

    def _flush_backend(self) -> None:
        assert self._backend is not None, "there is one"
        if self._to_backend and not self._backend_broken:
            try:
                self._to_backend = self._backend.send(self._to_backend)
            except OSError:
                if self._backend_ended:
                    raise
                self._backend_broken = True  # what it has said before is still to be read
        self._pass_end()

    def _flush_client(self) -> None:
        if self._to_client:
            self._to_client = self._client.send(self._to_client)
            self._moved = True
        if not self._to_client:
            if self._ends:
                self.close()
            elif self._shuts:
                self._client.shut()

    def _proceed(self) -> None:
        """The exchange may be over: then what is held may go, or the twin be given up."""
        exchange = self._exchange
        while exchange.idle or exchange.final or exchange.opaque:
            if exchange.idle and self._backend is not None and self._port != self._twins.target:
                self._park()
            if not self._held:
                break
            held, self._held = self._held, b""
            self._take(held)
        if self._client_ended:
            if exchange.idle:
                self._finish()
            else:
                self._pass_end()

    # --- ends ------------------------------------------------------------------------------------------------

    def _end_client(self) -> None:
        self._client_ended = True
        if self._discards or self._backend_ended or (self._exchange.idle and not self._silent):
            self._finish()
        else:
            self._pass_end()

    def _pass_end(self) -> None:
        """Tell the twin that the client sends no more, once it has got all of it."""
        if self._client_ended and self._backend is not None and not (self._to_backend or self._held):
            self._backend.shut()

    def _is_unanswered(self) -> bool:
        exchange = self._exchange
        return bool(exchange.method) and not (exchange.final or exchange.answering)

    def _lose_backend(self, *, reset: bool) -> None:
        """The twin has closed its connection, or must not keep it."""
        exchange = self._exchange
        if exchange.repeatable and self._replay is not None and not self._repeated:
            self._repeated = True
            self._leave()
            self._to_backend = self._replay
            self._seek()
        elif self._is_unanswered():
            self._apologise()
        elif reset and (exchange.opaque or not (exchange.idle or exchange.answered)):
            self.abort()
        elif exchange.opaque and not self._client_ended:
            self._backend_ended = self._shuts = True
            self._expect_progress(STALLED_SECONDS)
            self._flush_client()
        elif exchange.opaque or exchange.idle or exchange.sent:
            self._finish()
        else:
            self._linger()

    def _apologise(self) -> None:
        """Answer in the twin's place."""
        self._to_client += _BAD_GATEWAY + (b"" if self._exchange.method == b"HEAD" else _EXCUSE)
        self._linger()

    def _finish(self) -> None:
        """Close the client when it has all that is for it."""
        self._dismiss()
        self._ends = True
        self._expect_progress(STALLED_SECONDS)
        self._flush_client()

    def _linger(self) -> None:
        """The same, but the client may be sending: closed at once, it would not get to read the answer."""
        if self._client_ended:
            self._finish()
            return
        self._dismiss()
        self._shuts = True
        self._expect_progress(LINGER_SECONDS)
        self._flush_client()

    def _dismiss(self) -> None:
        self._leave()
        self._held = self._to_backend = b""
        self._replay = None
        self._discards = True

    def _expect_progress(self, seconds: float) -> None:
        self._moved = False
        self._set_alarm(seconds, functools.partial(self._check_progress, seconds))

    @_entry
    def _check_progress(self, seconds: float) -> None:
        if self._moved:
            self._expect_progress(seconds)
        elif self._to_client:
            self.abort()
        else:
            self.close()

    def _set_alarm(self, seconds: float | None, action: Callable[[], None] | None = None) -> None:
        """This one instead of the one before; None: no one."""
        if self._alarm is not None:
            self._poll.cancel(self._alarm)
            self._alarm = None
        if seconds is not None and action is not None:
            self._alarm = self._poll.after(seconds, action)
