"""Where the parts of an HTTP/1 message end, found in pieces of any size. Pure; no byte is kept but an unfinished head or line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from codesync.launcher.relay.heads import NotHttp

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEAD = 64 * 1024
MAX_LINE = 4096  # a chunk's size with its extensions, or a trailer

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n\Z")
_EMPTY = b"\r\n"
_SIZE_LINE, _DATA, _AFTER_DATA, _TRAILER, _END = range(5)


class Head:
    """Collects one head; `may_begin` tells early what is none."""

    def __init__(self, may_begin: Callable[[bytes], bool]) -> None:
        self._may_begin = may_begin
        self._partial = bytearray()
        self._is_sure = False  # its first line is whole

    def take(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """Read on at `at`: the head once it is whole, and the position after what belongs to it. Raises NotHttp."""
        if not self._partial:
            end = data.find(b"\r\n\r\n", at) + 4
            if 4 <= end <= at + MAX_HEAD:
                return data[at:end], end
        known = len(self._partial)
        self._partial += data[at:]
        end = self._partial.find(b"\r\n\r\n", max(0, known - 3)) + 4
        if (end if end >= 4 else len(self._partial)) > MAX_HEAD:
            raise NotHttp("a very long head")
        if end >= 4:
            head = bytes(self._partial[:end])
            self._partial = bytearray()
            self._is_sure = False
            return head, at + end - known
        if not self._is_sure:
            if not self._may_begin(bytes(self._partial)):
                raise NotHttp("no head begins like this")
            self._is_sure = b"\n" in self._partial
        return None, len(data)


class Counted:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def done(self) -> bool:
        """Whether the body is whole."""
        return not self._left

    def take(self, data: bytes, at: int) -> int:
        """Read on at `at`: the position after what belongs to the body."""
        size = min(self._left, len(data) - at)
        self._left -= size
        return at + size


class Endless:
    """A body that ends with the connection."""

    done = False

    def take(self, data: bytes, at: int) -> int:
        """All of it."""
        return len(data)


class Chunked:
    """A body in chunks, with its trailers."""

    def __init__(self) -> None:
        self._state = _SIZE_LINE
        self._left = 0
        self._line = bytearray()

    @property
    def done(self) -> bool:
        """Whether the body is whole."""
        return self._state == _END

    def take(self, data: bytes, at: int) -> int:
        """Read on at `at`: the position after what belongs to the body. Raises NotHttp."""
        while at < len(data) and self._state != _END:
            if self._state == _DATA:
                size = min(self._left, len(data) - at)
                self._left -= size
                at += size
                if not self._left:
                    self._state = _AFTER_DATA
            else:
                at = self._take_line(data, at)
        return at

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1 or len(data)
        self._line += data[at:end]
        if len(self._line) > MAX_LINE:
            raise NotHttp("a very long line")
        if self._line.endswith(b"\n"):
            line = bytes(self._line)
            self._line = bytearray()
            self._read(line)
        return end

    def _read(self, line: bytes) -> None:
        if self._state == _SIZE_LINE:
            size = _SIZE.match(line)
            if size is None:
                raise NotHttp("a chunk without a size")
            self._left = int(size.group(1), 16)
            self._state = _DATA if self._left else _TRAILER
        elif self._state == _AFTER_DATA:
            if line != _EMPTY:
                raise NotHttp("a chunk that does not end")
            self._state = _SIZE_LINE
        elif line == _EMPTY:
            self._state = _END
        elif not line.endswith(_EMPTY):
            raise NotHttp("lines end in more than one way")
