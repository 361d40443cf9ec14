"""Heads of HTTP/1 messages, as far as they say where a message ends and whether another may follow (RFC 9112).

Whatever may be read in more than one way is not read at all, but raises NotHttp. Pure functions over whole heads: from the first line to the
empty one, both included.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") [^\x00-\x20\x7f]+ HTTP/1\.([01])\r\n")
_REQUEST_START = re.compile(_TOKEN + rb"(?: |\Z)")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")
_STATUS_START = b"HTTP/1."
_FIELD = re.compile(rb"\r\n(content-length|transfer-encoding|connection|expect)([^\r]*)")
_LENGTH = re.compile(rb"[0-9]{1,18}\Z")


class NotHttp(Exception):
    """These bytes are no HTTP/1 message, or one whose end cannot be told for certain."""


class RequestHead(NamedTuple):
    """`length` of the body in bytes, None: chunked. `persistent`: the client may send another request after this one."""

    method: bytes
    is_1_1: bool
    length: int | None
    persistent: bool
    expects_continue: bool


class ResponseHead(NamedTuple):
    """`length` of the body in bytes, None: chunked, -1: not said. `keep_alive`: it says so itself."""

    status: int
    length: int | None
    persistent: bool
    keep_alive: bool


def may_begin_request(data: bytes) -> bool:
    """Whether a request's head may begin like this."""
    if b"\n" in data:
        return _REQUEST_LINE.match(data) is not None
    return _REQUEST_START.match(data) is not None


def may_begin_response(data: bytes) -> bool:
    """Whether a response's head may begin like this."""
    if b"\n" in data:
        return _STATUS_LINE.match(data) is not None
    return data[:7] == _STATUS_START[: len(data)]


def parse_request(head: bytes) -> RequestHead:
    """Raises NotHttp."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise NotHttp("no request line")
    is_1_1 = line.group(2) == b"1"
    fields, length, connection = _framing(head, is_1_1)
    return RequestHead(
        line.group(1),
        is_1_1,
        0 if length == -1 else length,
        b"close" not in connection and (is_1_1 or b"keep-alive" in connection),
        b"expect" in fields,
    )


def parse_response(head: bytes) -> ResponseHead:
    """Raises NotHttp."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise NotHttp("no status line")
    is_1_1 = line.group(1) == b"1"
    _, length, connection = _framing(head, is_1_1)
    keep_alive = b"keep-alive" in connection
    return ResponseHead(
        int(line.group(2)), length, b"close" not in connection and (is_1_1 or keep_alive), keep_alive
    )


def _framing(head: bytes, is_1_1: bool) -> tuple[dict[bytes, bytes], int | None, list[bytes]]:
    """The fields, the body's length as `_body` says it, what `Connection` names. Raises NotHttp."""
    fields = _fields(head)
    length = _body(fields)
    if length is None and not is_1_1:
        raise NotHttp("chunked, in HTTP/1.0")
    return fields, length, _tokens(fields.get(b"connection", b""))


def _fields(head: bytes) -> dict[bytes, bytes]:
    """The fields that matter here, in lower case."""
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        raise NotHttp("lines end in more than one way")
    if b"\r\n " in head or b"\r\n\t" in head:
        raise NotHttp("a folded field")
    fields: dict[bytes, bytes] = {}
    for name, rest in _FIELD.findall(head.lower()):
        if rest[:1] != b":":
            if rest[:1] in (b" ", b"\t", b""):
                raise NotHttp("a field's name does not end in a colon")
            continue  # a longer name
        value = rest[1:].strip(b" \t")
        if name in fields:
            if name != b"connection":
                raise NotHttp("said twice")
            value = fields[name] + b"," + value
        fields[name] = value
    return fields


def _body(fields: dict[bytes, bytes]) -> int | None:
    """Its length, None: chunked, -1: not said."""
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None:
        codings = _tokens(coding)
        if length is not None or codings[-1] != b"chunked" or codings.count(b"chunked") != 1:
            raise NotHttp("a body of unknown length")
        return None
    if length is None:
        return -1
    if not _LENGTH.match(length):
        raise NotHttp("a length that is no number")
    return int(length)


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t") for token in value.split(b",")]
