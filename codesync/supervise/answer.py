"""An HTTP answer, judged from the bytes that have come so far. This file knows no socket and no clock."""

from __future__ import annotations

MAX_ANSWER = 1 << 20  # bytes; what comes later is not looked at
_MAX_LINE = 1024  # a status line is shorter


def judge_answer(answer: bytes, ended: bool, wanted: str) -> str | None:
    """Nothing when the status is 2xx or 3xx and the body contains `wanted`, else why not; None: more of it must come first.

    `ended`: there will be no more.
    """
    head, blank, rest = answer.partition(b"\r\n\r\n")
    if b"\n" not in answer and not ended and len(answer) < _MAX_LINE:
        return None
    version, _, status = head.partition(b"\n")[0].partition(b" ")
    if not version.startswith(b"HTTP/") or not status[:3].isdigit():
        return "the answer is not HTTP"
    if status[:1] not in (b"2", b"3"):
        return f"HTTP status {status[:3].decode()}"
    body, whole = _body(head, rest) if blank else (b"", False)
    if wanted.encode("utf-8", "surrogateescape") in body:
        return ""
    return f"the answer does not contain {wanted!r}" if whole or ended else None


def _body(head: bytes, rest: bytes) -> tuple[bytes, bool]:
    """As much of the body as is there, and whether that is all."""
    headers = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip().lower()
    if headers.get(b"transfer-encoding", b"").endswith(b"chunked"):
        return _from_chunks(rest)
    length = headers.get(b"content-length", b"")
    if length.isdigit():
        return rest[: int(length)], len(rest) >= int(length)
    return rest, False


def _from_chunks(rest: bytes) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    at = 0
    while True:
        line_end = rest.find(b"\r\n", at)
        if line_end < 0:
            return b"".join(chunks), False
        try:
            size = int(rest[at:line_end].partition(b";")[0], 16)
        except ValueError:
            size = 0  # no chunk begins here: nothing sensible follows
        if size <= 0:
            return b"".join(chunks), True
        at = line_end + 2 + size + 2
        chunks.append(rest[line_end + 2 : at - 2])
