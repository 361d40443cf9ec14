"""The few settings of git that decide what is ignored, read from its configuration files.

Keys are "section.key" in lower case (subsections keep their case); the last value wins, as in git. `include.path` is
followed; `includeIf` is not.
"""

from __future__ import annotations

import os
import re

from codesync.delta.ignore.files import read

_SECTION = re.compile(r'\[\s*([A-Za-z0-9.-]+)(?:\s+"((?:[^"\\\n]|\\.)*)")?\s*\]')
_KEY = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)[ \t]*(=?)[ \t]*")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", "\\": "\\", '"': '"'}
_MAX_INCLUDES = 10  # files deep, as git allows


def read_config(name: str, home: str, directory: int | None = None, depth: int = 0) -> dict[str, str]:
    """Settings in the file `name`, relative to the open `directory`; none where there is no such file."""
    settings: dict[str, str] = {}
    text = read(name, directory)
    for key, value in parse((text or b"").decode("utf-8", "surrogateescape")):
        settings[key] = value
        if key == "include.path" and depth < _MAX_INCLUDES:
            included = os.path.join(os.path.dirname(name), expand(value, home))
            settings |= read_config(included, home, directory, depth + 1)
    return settings


def expand(path: str, home: str) -> str:
    """Replace a leading ~ as git does."""
    return home + path[1:] if path == "~" or path.startswith("~/") else os.path.expanduser(path)


def is_true(value: str | None) -> bool:
    """Whether git takes the value of a setting for true."""
    return value is not None and value.lower() in {"true", "yes", "on", "1"}


def parse(text: str) -> list[tuple[str, str]]:
    """All (key, value) of a file, in order. A key without `=` is true. Lines that make no sense are passed over."""
    found, section = [], ""
    lines = text.removeprefix("\ufeff")
    at = 0
    while at < len(lines):
        at = _skip_blank(lines, at)
        if (header := _SECTION.match(lines, at)) is not None:
            section = header[1].lower() + (f".{header[2]}" if header[2] is not None else "")
            at = header.end()
        elif (key := _KEY.match(lines, at)) is not None:
            value, at = _value(lines, key.end()) if key[2] else ("true", _line_end(lines, key.end()))
            found.append((f"{section}.{key[1].lower()}", value))
        else:
            at = _line_end(lines, at)
    return found


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
    quoted, solid = False, 0
    while at < len(text) and text[at] != "\n":
        char = text[at]
        if char == "\\":
            at += 1
            at += text[at : at + 2] == "\r\n"
            parts.append(
                "" if text[at : at + 1] == "\n" else _ESCAPES.get(text[at : at + 1], text[at : at + 1])
            )
            solid = len(parts)
        elif char == '"':
            quoted = not quoted
            solid = len(parts)
        elif char in "#;" and not quoted:
            return "".join(parts[:solid]), _line_end(text, at)
        else:
            parts.append(char)
            solid = len(parts) if quoted or not char.isspace() else solid
        at += 1
    return "".join(parts[:solid]), at + 1
