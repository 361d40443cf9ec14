"""The few settings of git that decide what is ignored, read from its configuration files.

Keys are "section.key" in lower case (subsections keep their case); the last value wins, as in git. `include.path` is
followed; `includeIf` is not.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

from codesync.delta.ignore.files import read

_SECTION = re.compile(r'\[\s*([A-Za-z0-9.-]+)(?:\s+"((?:[^"\\\n]|\\.)*)")?\s*\]')
_KEY = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)[ \t]*(=?)[ \t]*")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", "\\": "\\", '"': '"'}
_MAX_INCLUDES = 10  # files deep, as git allows


def read_config(name: str, home: str, directory: int | None = None, *, depth: int = 0) -> dict[str, str]:
    """Settings in the file `name`, relative to the open `directory`, or else the user's or the machine's own."""
    settings: dict[str, str] = {}
    text = read(name, directory, personal=directory is None)
    for key, value in parse((text or b"").decode("utf-8", "surrogateescape")):
        settings[key] = value
        if key == "include.path" and depth < _MAX_INCLUDES:
            included = os.path.join(os.path.dirname(name), expand(value, home))
            settings |= read_config(included, home, directory, depth=depth + 1)
    return settings


def expand(path: str, home: str) -> str:
    """Replace a leading ~ as git does."""
    return home + path[1:] if path == "~" or path.startswith("~/") else os.path.expanduser(path)


def is_true(value: str | None) -> bool:
    """Whether git takes the value of a setting for true."""
    if value is None or value.lower() in {"true", "yes", "on"}:
        return value is not None
    return value.isdecimal() and int(value) != 0


@lru_cache(maxsize=32)
def parse(text: str) -> tuple[tuple[str, str], ...]:
    """All (key, value) of a file, in order. A key without `=` is true. Lines that make no sense are passed over."""
    found, section = [], ""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n")
    at = 0
    while at < len(lines):
        at = _skip_blank(lines, at)
        if (header := _SECTION.match(lines, at)) is not None:
            section = header[1].lower() + "."
            section += "" if header[2] is None else re.sub(r"\\(.)", r"\1", header[2]) + "."
            at = header.end()
        elif (key := _KEY.match(lines, at)) is not None:
            value, at = _value(lines, key.end()) if key[2] else ("true", _line_end(lines, key.end()))
            found.append((section + key[1].lower(), value))
        else:
            at = _line_end(lines, at)
    return tuple(found)


def _skip_blank(text: str, at: int) -> int:
    """Past white space and comments."""
    while at < len(text):
        if text[at] in "#;":
            at = _line_end(text, at)
        elif text[at].isspace():
            at += 1
        else:
            break
    return at


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _value(text: str, at: int) -> tuple[str, int]:
    """Read a value up to its line's end: quotes, escapes, comments, continued lines, inner white space kept."""
    parts: list[str] = []
    quoted, solid = False, 0  # how many parts there are without white space at the end
    while at < len(text) and text[at] != "\n":
        char = text[at]
        if char in " \t\r" and not quoted:
            parts += char if parts else ""
        elif char in "#;" and not quoted:
            return "".join(parts[:solid]), _line_end(text, at)
        else:
            if char == "\\":
                at += 1
                parts += _ESCAPES.get(text[at : at + 1], "")
            elif char == '"':
                quoted = not quoted
            else:
                parts.append(char)
            solid = len(parts)
        at += 1
    return "".join(parts[:solid]), at + 1
