"""How results look: lines for people, JSON for programs, names quoted as git quotes them. Nothing heavy is imported."""

import os
import sys
from collections.abc import Iterable
from typing import Any

_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


def example(*lines: str) -> str:
    """Return an epilog for a command's --help: its example, not re-wrapped."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def say(line: str, *, status: int = 0) -> int:
    """Print `codesync: line` on stderr, whatever `line` holds on one line, and return `status`."""
    print(f"codesync: {printable(line)}", file=sys.stderr, flush=True)
    return status


def printable(text: str) -> str:
    """Return a text on one line, with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.expandtabs())


def print_lines(lines: Iterable[str]) -> None:
    """Print lines that partly come from elsewhere: an application's log, another user's description."""
    for line in lines:
        print(printable(line), flush=True)


def print_json(value: Any) -> None:
    """Print one JSON document; ASCII, so that names which are not UTF-8 survive as lone surrogates."""
    import json

    print(json.dumps(value, indent=2), flush=True)


def write_bytes(data: bytes) -> None:
    """Write to stdout as it is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def quoted(path: bytes) -> bytes:
    r"""Return a path as git prints it with core.quotePath: in quotes and C escapes where a byte is odd.

    >>> quoted("caf\xe9\t".encode())
    b'"caf\\303\\251\\t"'
    """
    escaped = "".join(_escaped(byte) for byte in path)
    return path if len(escaped) == len(path) else f'"{escaped}"'.encode()


def _escaped(byte: int) -> str:
    if byte in _ESCAPES:
        return "\\" + _ESCAPES[byte]
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def shown(path: bytes) -> str:
    """Return a path for a line of text: itself, quoted where it is odd."""
    return quoted(path).decode() if not os.fsdecode(path).isprintable() else os.fsdecode(path)


def named(path: bytes) -> dict[str, Any]:
    """Return the fields that name a path in JSON; one that is not UTF-8 comes in base64 too."""
    text = os.fsdecode(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        from base64 import b64encode

        return {"path": text, "path_base64": b64encode(path).decode()}
    return {"path": text}
