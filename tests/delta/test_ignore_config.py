"""git's configuration files, read as git reads them."""

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesync.delta.ignore.config import expand, is_true, parse, read_config
from tests.delta.gitrepo import Git, write

TOKENS = [
    "[core]",
    "[a",
    '"',
    "]",
    "\n",
    "\n",
    "\n",
    "key",
    "=",
    " ",
    "\t",
    "#",
    ";",
    "\\",
    "\\n",
    '\\"',
    "\\\n",
    "v w",
    "é",
]
TOKENS += ['[sec "Sub.x"]', '[sec "a\\"b\\\\"]', "[Sec.Old]", "-", "K", "\r\n", "\\\r\n", "true", "1"]
soup = st.lists(st.sampled_from(TOKENS), max_size=10).map("".join)
likely = st.lists(
    st.builds("{}{}{}{}".format, st.sampled_from(["k", "key", "K-1", "\tk "]), st.sampled_from(["=", " = "]), soup, st.just("\n")),
    max_size=4,
).map(lambda lines: "[core]\n" + "".join(lines))  # fmt: skip


def as_git_reads(git: Git, path: Path) -> list[tuple[str, str]] | None:
    """All settings of a file; None where git calls it broken."""
    try:
        listed = git(path.parent, "config", "-z", "--list", "-f", str(path)).decode()
    except subprocess.CalledProcessError:
        return None
    pairs = [item.partition("\n") for item in listed.split("\0")[:-1]]
    return [(key, value if mark else "true") for key, mark, value in pairs]


def same(key: str, value: str) -> tuple[str, str]:
    """White space inside a value: up to version 2.45 git made spaces of it, since then it keeps it."""
    return key, re.sub(r"\s", " ", value)


@settings(max_examples=150, deadline=None)
@given(soup | likely)
@example('[core]\n\texcludesFile = ~/x  # c\n\tb = "a # b" c\n')
@example('[core] a = 1\n[core]b=2 ; c\n[Sec "X"] k\n')
@example('\ufeff[core]\na=1\\\n  2\n b = \\t\\"\\\\\n')
def test_whatever_git_can_read_is_read_the_same(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    home = tmp_path_factory.getbasetemp() / "home"
    git = Git(home)
    write(home, {b"settings": text.encode()})
    expected = as_git_reads(git, home / "settings")
    assert expected is None or [same(*pair) for pair in parse(text)] == [same(*pair) for pair in expected]


def test_includes_are_read_where_they_stand(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            b"first": b"[a]\nk = 1\n[include]\npath = d/second\n[a]\nm = 1\n",
            b"d/second": b"[a]\nk = 2\nm = 2\n",
        },
    )
    assert read_config(str(tmp_path / "first"), "/home") == {
        "a.k": "2",
        "a.m": "1",
        "include.path": "d/second",
    }


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    write(tmp_path, {b"first": b"[include]\npath = first\n[a]\nk = 1\n"})
    assert read_config(str(tmp_path / "first"), "/home")["a.k"] == "1"


def test_what_is_missing_has_no_settings(tmp_path: Path) -> None:
    assert read_config(str(tmp_path / "missing"), "/home") == {}


def test_a_tilde_is_the_home_that_was_given() -> None:
    assert expand("~/x", "/h") == "/h/x"
    assert expand("~", "/h") == "/h"
    assert expand("~root/x", "/h") != "~root/x"
    assert expand("a/~", "/h") == "a/~"


@pytest.mark.parametrize(("value", "true"), [("true", True), ("YES", True), ("on", True), ("1", True), ("2", True),
                                             ("false", False), ("no", False), ("0", False), ("", False), (None, False)])  # fmt: skip
def test_truth_is_gits(value: str | None, true: bool) -> None:
    assert is_true(value) is true
