"""Hooks: which changes call for them, by git's own word on patterns, and what a project file may say of them."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codesync.hooks import HookError, matching, read_hooks
from codesync.protocol import MAX_HOOKS, Hook


def hook(when: str, run: str = "make") -> Hook:
    return Hook(run=run, moment="before_start", seconds=5.0, when=when)


FILES = ["requirements.txt", "api/requirements-dev.txt", "db/migrations/001.sql", "src/app.py", "a b", "café"]
PATTERNS = [
    "requirements*.txt",
    "/requirements*.txt",
    "api/",
    "/api",
    "migrations/",
    "/migrations/",
    "db/migrations",
    "db/*.sql",
    "db/**/*.sql",
    "**/app.py",
    "*.p[xy]",
    "app.py/",
    "a\\ b",
    "a b  ",
    "caf?",
    "café",
    "*",
    "nothing",
]


@pytest.mark.parametrize("when", PATTERNS)
def test_a_pattern_matches_what_git_ignores_by_it(tmp_path: Path, when: str) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True, env=environ)
    (tmp_path / ".git/info/exclude").write_text(when + "\n")
    check = [*git, "check-ignore", "--no-index", "-z", "--stdin"]
    done = subprocess.run(
        check, input="\0".join(FILES).encode(), capture_output=True, check=False, env=environ
    )
    ignored = set(done.stdout.decode().split("\0")) - {""}
    assert {name for name in FILES if matching([hook(when)], [name.encode()])} == ignored


def test_hooks_come_once_and_in_their_order() -> None:
    hooks = [hook("*.txt", "a"), hook("*.py", "b"), hook("*", "c"), hook("x", "d")]
    assert [found.run for found in matching(hooks, [b"1.txt", b"2.txt", b"x"])] == ["a", "c", "d"]


def test_a_hook_without_a_pattern_is_matched_already() -> None:
    assert matching([hook("")], [b"anything"]) == (hook(""),)


def test_nothing_that_changes_calls_for_nothing() -> None:
    assert matching([hook("*"), hook("")], []) == ()
    assert matching([], [b"a"]) == ()


def test_a_directory_is_told_by_its_slash() -> None:
    assert matching([hook("cache/")], [b"var/cache/"])
    assert matching([hook("var/")], [b"var/cache/"])
    assert not matching([hook("cache/")], [b"var/cache"])
    assert matching([hook("cache")], [b"var/cache"])


def test_names_are_bytes() -> None:
    assert matching([hook("*.t?t")], [b"\xff/\xfe.t\xfdt"])


def test_many_paths_are_no_burden() -> None:
    paths = [b"a/b/%d/file%d" % (number % 500, number) for number in range(50_000)]
    hooks = [hook(f"none{number}*x") for number in range(8)]
    assert matching([*hooks, hook("file49999")], paths) == (hook("file49999"),)


# --- what the project file says -----------------------------------------------------------------------------------


def record(**fields: Any) -> dict[str, Any]:
    return {"when": "*.txt", "run": "make", "before": "start"} | fields


@pytest.mark.parametrize(
    ("fields", "moment", "seconds"),
    [
        ({"before": "start"}, "before_start", 120.0),
        ({"before": "stop", "timeout": 1}, "before_stop", 1.0),
        ({"after": "healthy", "timeout": 600}, "after_healthy", 600.0),
        ({"before": "stop", "timeout": 2.5}, "before_stop", 2.5),
    ],
)
def test_a_hook_is_read(fields: dict[str, Any], moment: str, seconds: float) -> None:
    (found,) = read_hooks([{"when": "a*", "run": "pip install x", **fields}])
    assert found == Hook(run="pip install x", moment=moment, seconds=seconds, when="a*")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "hooks must be a list"),
        (["make"], r'hooks\[0\] must be an object .* not "make"'),
        (
            [record(), record(befor="start")],
            r'hooks\[1\] has the unknown field "befor"; it may have when, run,',
        ),
        ([record(after="healthy")], r"hooks\[0\] must say exactly one of"),
        ([{"when": "*", "run": "make"}], r"hooks\[0\] must say exactly one of"),
        ([record(before="healthy")], r'hooks\[0\]\.before cannot be "healthy"; write "before": "stop"'),
        ([record(before=["start"])], r"hooks\[0\]\.before cannot be"),
        ([record(timeout=0)], r"hooks\[0\]\.timeout must be a number of seconds from 1 to 600, not 0"),
        ([record(timeout=601)], r"hooks\[0\]\.timeout"),
        ([record(timeout=True)], r"hooks\[0\]\.timeout"),
        ([record(timeout="10")], r"hooks\[0\]\.timeout"),
        ([record(timeout=float("nan"))], r"hooks\[0\]\.timeout"),
        ([record(run="")], r"hooks\[0\]\.run must be a command of 1 to 4096 characters"),
        ([record(run="x" * 4097)], r"hooks\[0\]\.run must be a command"),
        ([record(run="a\0b")], r"hooks\[0\]\.run must be a command"),
        (
            [record(run=["pip", "install"])],
            r'hooks\[0\]\.run must be a command for the shell, not \["pip", "install"\]',
        ),
        ([{"when": "*", "before": "start"}], r"hooks\[0\]\.run must be a command for the shell$"),
        (
            [{"run": "make", "before": "start"}],
            r'hooks\[0\]\.when must be a pattern .* "\*" for every change$',
        ),
        ([record(when="!*.txt")], r'hooks\[0\]\.when "!\*\.txt" is a negation'),
        ([record(when="")], r"hooks\[0\]\.when .* is no pattern to git"),
        ([record(when="# all")], r"hooks\[0\]\.when .* is no pattern to git"),
        ([record(when="  ")], r"hooks\[0\]\.when .* is no pattern to git"),
        ([record(when="/")], r"hooks\[0\]\.when .* is no pattern to git"),
        ([record(when="[a")], r"hooks\[0\]\.when .* matches no path"),
        (
            [record(when="./setup.py")],
            r"hooks\[0\]\.when .* matches no path; write it relative to the app root",
        ),
        ([record(when="../x")], r"hooks\[0\]\.when .* matches no path"),
        ([record(when="a\nb")], r"hooks\[0\]\.when must be one line"),
        ([record(when="\ud800")], r"hooks\[0\]\.when holds half a character"),
        ([record()] * (MAX_HOOKS + 1), "^there are 33 hooks, more than 32"),
    ],
)
def test_a_malformed_hook_is_named_by_its_index_and_field(found: Any, words: str) -> None:
    with pytest.raises(HookError, match=words) as caught:
        read_hooks(found)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
