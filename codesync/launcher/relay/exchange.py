"""One client connection as HTTP/1 sees it: where requests and responses end, and whether it is between two of them.

Knows no socket and no clock, and changes no byte; it watches both directions. One request is let through at a time: the next
one's bytes wait until the response is whole, so that there is always a moment to change sides, however a client pipelines.
What is not understood is `opaque` from then on: all of it goes through, both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesync.launcher.relay.bodies import Chunked, Counted, Endless, Head
from codesync.launcher.relay.heads import (
    NotHttp,
    may_begin_request,
    may_begin_response,
    parse_request,
    parse_response,
)

if TYPE_CHECKING:
    from codesync.launcher.relay.heads import RequestHead, ResponseHead

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110, 9.2.2
_WITHOUT_BODY = (204, 304)


class Exchange:
    """Show it what the client sends (`request`) and what comes back (`response`), in the order in which it is relayed.

    `idle`: between two requests, nothing is outstanding; also before the first.
    `sent`: the request is whole; its response is not.
    `answering`: a byte of the response, be it an interim one, has come; `answered`: the response is whole.
    `final`: no other request follows on this connection: it ends with this response.
    `opaque`: not HTTP/1, or not any more (an upgrade, a tunnel), or in doubt.
    """

    def __init__(self) -> None:
        self.opaque = False
        self.final = False
        self._request_head = Head(may_begin_request)
        self._response_head = Head(may_begin_response)
        self._reset()

    def _reset(self) -> None:
        self.idle = True
        self.sent = False
        self.answering = False
        self.answered = False
        self._head: RequestHead | None = None
        self._answer: ResponseHead | None = None
        self._continued = False
        self._request_body: Counted | Chunked = _NOTHING
        self._response_body: Counted | Chunked | Endless = _NOTHING

    @property
    def method(self) -> bytes:
        """Of the request whose head is whole; b"" while there is none, or what there is is no HTTP."""
        return b"" if self._head is None or self.opaque else self._head.method

    @property
    def repeatable(self) -> bool:
        """Whether the request may be sent once more: no answer has begun, and twice is as good as once."""
        if self.opaque or self.final or self.idle or self.answering:
            return False
        return self._head is None or self._head.method in _IDEMPOTENT

    # --- the client's side -----------------------------------------------------------------------------------

    def request(self, data: bytes) -> int:
        """How many bytes of `data` may go to the backend now; show the others again once this is `idle`."""
        if self.opaque or self.final:
            return len(data)
        if self.sent:
            return 0
        try:
            return self._follow_request(data)
        except NotHttp:
            self._give_up()
            return len(data)

    def _follow_request(self, data: bytes) -> int:
        at = 0
        if self._head is None:
            if self.idle:
                at = len(data) - len(data.lstrip(b"\r\n"))  # empty lines before a request mean nothing
                if at == len(data):
                    return at
                self.idle = False
            head, at = self._request_head.take(data, at)
            if head is None:
                return at
            self._head = parse_request(head)
            length = self._head.length
            self._request_body = Chunked() if length is None else Counted(length) if length else _NOTHING
        if at < len(data):
            self._continued = True  # it does not wait to be asked for the body
            at = self._request_body.take(data, at)
        if self._request_body.done:
            self.sent = True
            if self.answered or self._response_body is _ENDLESS:
                self._complete()
        return at

    # --- the application's side ------------------------------------------------------------------------------

    def response(self, data: bytes) -> None:
        """`data` goes to the client."""
        if self.opaque or self.final:
            return
        try:
            if self._head is None or self.answered:
                raise NotHttp("an answer that nobody has asked for")
            self.answering = True
            if self._follow_response(data) != len(data) and not self.final:
                raise NotHttp("more than an answer")
        except NotHttp:
            self._give_up()

    def _follow_response(self, data: bytes) -> int:
        at = 0
        while at < len(data) and self._answer is None:
            head, at = self._response_head.take(data, at)
            if head is not None:
                self._begin_response(parse_response(head))
        if self._answer is not None:
            at = self._response_body.take(data, at)
            if self._response_body.done:
                self._end_response()
        return at

    def _begin_response(self, head: ResponseHead) -> None:
        assert self._head is not None, "there is a request"
        if head.status == 101 or (self._head.method == b"CONNECT" and 200 <= head.status < 300):
            raise NotHttp("something else from here on")
        if head.status < 200:
            self._continued = True
            return
        self._answer = head
        if self._head.method == b"HEAD" or head.status in _WITHOUT_BODY or head.length == 0:
            self._response_body = _NOTHING
        elif head.length == -1:
            self._response_body = _ENDLESS
            if self.sent:
                self._complete()
        else:
            self._response_body = Chunked() if head.length is None else Counted(head.length)

    def _end_response(self) -> None:
        assert self._head is not None, "there is a request"
        self.answered = True
        if self.sent:
            self._complete()
        elif self._head.expects_continue and not self._continued:
            raise NotHttp("the body may come all the same, or may not")

    # --- both ------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        """Both are whole, or the response lasts as long as the connection."""
        assert self._head is not None, "there is a request"
        assert self._answer is not None, "and a response"
        keeps = self._head.persistent and self._answer.persistent
        # a client of HTTP/1.0 goes on only where it is told that it may
        if keeps and (self._head.is_1_1 or self._answer.keep_alive) and self._response_body is not _ENDLESS:
            self._reset()
        else:
            self.final = True

    def _give_up(self) -> None:
        self.opaque = True
        self.idle = False


_NOTHING = Counted(0)
_ENDLESS = Endless()
