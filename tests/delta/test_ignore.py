"""Which paths count, with real git as the judge of every pattern."""

import fnmatch
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.ignore import Rules
from codesync.delta.ignore.patterns import compile_patterns
from codesync.delta.ignore.wildmatch import basename_regex
from codesync.delta.manifest import scan
from tests.delta.gitrepo import Git, write

SHARED_CASES = Path(__file__).parents[3] / "shared/oracles/gitignore_cases.py"
DISAGREEING: set[str] = set()  # of the shared cases: those where git's answer is deliberately not ours


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "home")


@pytest.fixture
def root(git: Git, tmp_path: Path) -> Path:
    return git.init(tmp_path / "root")


# ------------------------------------------------------------------------------------------------ tables of cases


def shared_cases() -> Any:
    """The collection of tricky trees that lies beside the checkout."""
    spec = importlib.util.spec_from_file_location("gitignore_cases", SHARED_CASES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(module: Any, tmp_path: Path) -> Iterator[tuple[str, bool]]:
    """(case, whether our answer is git's for every path of it)."""
    home = str(tmp_path)
    for name, case in module.C.items():
        root = str(tmp_path / name)
        expected = module.answer(case, root, module.build(case, root, home), verbose=False)
        rules = Rules.for_root(root, home=home, config_home=home)
        kept = {os.fsdecode(path) for path in scan(root, rules=rules).paths}
        scanned = {path: path not in kept for path in expected}
        asked = {path: rules.ignored(os.fsencode(path), is_directory=False) for path in expected}
        yield name, scanned == asked == expected


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the collection leaves a file open
def test_the_shared_cases_that_are_not_answered_as_git_does_are_exactly_those_named(tmp_path: Path) -> None:
    results = dict(answers(shared_cases(), tmp_path))
    assert {name for name, same in results.items() if not same} == DISAGREEING
    assert len(results) - len(DISAGREEING) >= 50


PATTERNS: dict[str, tuple[bytes, list[bytes]]] = {
    "the last line that matches decides": (
        b"*.log\n!keep.log\nkeep.log\n!keep.log\n",
        [b"a.log", b"keep.log"],
    ),
    "nothing comes back below an ignored directory": (b"d/\n!d/a\n!a\n", [b"d/a", b"d/e/a", b"e/a"]),
    "a directory whose content is ignored can be looked into": (
        b"d/*\n!d/a\n",
        [b"d/a", b"d/b", b"d/a/x", b"e"],
    ),
    "a slash in the middle anchors": (b"d/a\n", [b"d/a", b"e/d/a", b"d/a/b"]),
    "a slash at the end does not": (b"a/\n", [b"a/x", b"d/a/x", b"e/a"]),
    "two stars stand for any directories or none": (
        b"d/**/a\n",
        [b"d/a", b"d/e/a", b"d/e/f/a", b"da", b"x/d/a"],
    ),
    "two stars in front": (b"**/d/a\n", [b"d/a", b"e/d/a", b"e/f/d/a", b"xd/a"]),
    "two stars behind": (b"d/**\n!d/e/\n", [b"d/a", b"d/e/a", b"dd/a"]),
    "two stars glued to a name are one": (
        b"d/**a\nx**/y\n",
        [b"d/ba", b"d/e/a", b"xx/y", b"x/e/y", b"x/y", b"xy"],
    ),
    "three stars are two": (b"d/***/a\n***/q\n", [b"d/a", b"d/e/f/a", b"q", b"e/q"]),
    "two stars after a literal beginning": (
        b"foo**/bar\n",
        [b"foo/bar", b"foox/bar", b"foox/y/bar", b"foobar"],
    ),
    "a pattern of slashes only": (b"/\n//\n/*/\n", [b"a", b"d/a"]),
    "a class never matches a slash": (b"d[/]a\nd[!x]a\nd[^a]a\n", [b"d/a", b"dya"]),
    "a question mark neither": (b"d?a\n", [b"d/a", b"dya"]),
    "a backslash at the end matches nothing": (b"a\\\n!b\\\n", [b"a", b"a\\", b"b"]),
    "a backslash before a slash": (b"d\\/a\ne/**\\/a\n", [b"d/a", b"e/f/a", b"e/a"]),
    "a space at the end, kept by a backslash": (b"a\\ \nb \\  \n", [b"a ", b"a", b"b  ", b"b "]),
    "two backslashes keep no space": (b"a\\\\ \n", [b"a\\", b"a\\ "]),
    "a tab at the end is kept": (b"a\t\nb\n", [b"a", b"a\t", b"b"]),
    "a carriage return before the end of the line": (b"a\r\nb\r", [b"a", b"a\r", b"b", b"b\r"]),
    "a NUL ends a line": (b"a\0b\nc\n", [b"a", b"ab", b"c"]),
    "a mark of byte order": (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [b"a", b"b", b"\xef\xbb\xbfb"]),
    "comments, and what is none": (b"#a\n\\#b\n #c\n!#d\n", [b"#a", b"#b", b" #c", b"#d"]),
    "a lone exclamation mark": (b"*\n!\n!!\n", [b"a", b"!"]),
    "extensions": (
        b"*.c\n*.tar.gz\n*.\n*.D\n*~\n*.*\n!*.e\n",
        [b"a.c", b"a.tar.gz", b"a.", b"a.d", b"a~", b".c", b"x.e"],
    ),
    "an extension of a directory": (b"*.d/\n", [b"a.d/x", b"b.d"]),
    "names of many kinds at once": (
        b"a\n*.b\nc*\n/d/e\n/f*/g\n!ca\n",
        [b"a", b"x/a", b"x.b", b"cb", b"ca", b"d/e", b"ff/g"],
    ),
    "unreadable as text": (b"\xff*\n[\x80-\x90]\n", [b"\xffa", b"\x85", b"\x95", "é".encode()]),
    "a name with a line's end in it": (b"a?b\n*.x\n", [b"a\nb", b"a\n.x"]),
    "a class that is not closed": (b"[a\na[\n![!]\n[[:alpha:]\n*.x\n", [b"[a", b"a[", b"a", b"b.x"]),
}


@pytest.mark.parametrize("fold", [False, True], ids=["", "ignoring case"])
@pytest.mark.parametrize("case", PATTERNS)
def test_a_pattern_means_what_it_means_to_git(git: Git, root: Path, case: str, fold: bool) -> None:
    text, paths = PATTERNS[case]
    git(root, "config", "core.ignorecase", str(fold).lower())
    write(root, {path: b"" for path in paths if not any(other.startswith(path + b"/") for other in paths)})
    write(root, {b".gitignore": text})
    assert git.counted(root) == git.listed(root)


def test_bracket_expressions_hold_the_very_bytes_that_they_hold_for_git(git: Git, root: Path) -> None:
    classes = b"alnum alpha blank cntrl digit graph lower print punct space upper xdigit ALPHA"
    globs = [b"[%s[:%s:]]" % (negation, name) for name in classes.split() for negation in (b"", b"!")]
    globs += b"[A-z] [z-a] [\x80-\xff] [!a-y] [a-] [-a] []a] [!]a] [^]] [\\a-\\c] [a-[] [Z-[:alpha:]]".split()
    globs += b"[[:alpha:]-z] [!\\]] [\\] [\\\\] [[] [[a] [[:] [[:alpha] [[:alpha:] [[::]] [a-c-e] [!!] [!^] \\A [A]".split()
    write(root, {bytes([byte]): b"" for byte in range(1, 256) if byte not in b"./"})
    for fold in ("false", "true"):
        git(root, "config", "core.ignorecase", fold)
        for glob in globs:
            write(root, {b".gitignore": glob + b"\n"})
            assert git.counted(root) == git.listed(root), (glob, fold)


@settings(max_examples=300, deadline=None)
@given(st.text("ab*?", max_size=10), st.text("ab", max_size=12))
def test_many_stars_match_as_they_do_in_any_shell(glob: str, name: str) -> None:
    found = re.fullmatch(basename_regex(glob.encode(), fold=False), name.encode(), re.DOTALL)
    assert (found is not None) is fnmatch.fnmatchcase(name, glob)


def test_many_stars_do_not_take_forever() -> None:
    patterns = compile_patterns(b"*a" * 60 + b"b\n" + b"d/" + b"*a" * 60 + b"b\n")
    name = b"a" * 250
    assert patterns.verdict(name, b"d/" + name, is_directory=False) is None


# ------------------------------------------------------------------------------------------------ anything at all

NAMES = [
    b"a",
    b"b",
    b"ab",
    b"foo",
    b"foobar",
    b"a.c",
    b"b.py",
    b"A",
    b"x y",
    b"a ",
    b"[",
    b"!",
    b"#a",
    b"\\",
    b"\xe9",
    b"a\n",
]
TOKENS = [
    b"a",
    b"b",
    b"foo",
    b"bar",
    b".c",
    b"A",
    b"*",
    b"*",
    b"**",
    b"?",
    b"/",
    b"/",
    b"/**/",
    b"**/",
    b"/**",
    b"\\",
]
TOKENS += [
    b" ",
    b"!",
    b"#",
    b"[ab]",
    b"[!a]",
    b"[a-c]",
    b"[A-C]",
    b"[[:alpha:]]",
    b"[",
    b"]",
    b"[]-]",
    b"\\*",
    b"\\A",
]
TOKENS += [b"\\/", b"\xe9", b"\r"]
lines = st.builds(
    lambda negation, anchor, tokens, end: negation + anchor + b"".join(tokens) + end + b"\n",
    st.sampled_from([b"", b"", b"", b"!"]),
    st.sampled_from([b"", b"", b"", b"/"]),
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4),
    st.sampled_from([b"", b"", b"", b"/"]),
)
texts = st.lists(lines, min_size=1, max_size=4).map(b"".join)
directories = st.lists(st.sampled_from(NAMES), max_size=3).map(
    lambda names: b"".join(name + b"/" for name in names)
)


@st.composite
def trees(draw: st.DrawFn) -> tuple[set[bytes], dict[bytes, bytes], bool]:
    """Files, ignore files with their text, and whether case matters; no two paths differ in case only."""
    fold = draw(st.booleans())
    files: dict[bytes, bytes] = {}
    above = {b""}
    places = [*draw(st.lists(directories, min_size=1, max_size=4)), b""]
    for place in places:
        for name in draw(st.sets(st.sampled_from(NAMES), max_size=4)):
            parts = (place + name).split(b"/")
            parents = [b"/".join(parts[:depth]).lower() for depth in range(1, len(parts))]
            path = b"/".join(parts).lower()
            if path not in above and not any(parent in files for parent in parents):
                files.setdefault(path, b"/".join(parts))
                above.update(parents)
    ignores = {place + b".gitignore": draw(texts) for place in {*places} if draw(st.booleans()) or not place}
    usable = {path: text for path, text in ignores.items() if path[:-11].lower().rstrip(b"/") in above}
    return set(files.values()), usable, fold


def bare_repository(root: bytes, fold: bool) -> None:
    """The least that git takes for a repository; quicker than `git init`."""
    os.makedirs(root + b"/.git/objects")
    os.makedirs(root + b"/.git/refs")
    write(
        root, {b".git/HEAD": b"ref: refs/heads/main\n", b".git/config": b"[core]\nignorecase = %d\n" % fold}
    )


@settings(max_examples=100, deadline=None)
@given(trees(), st.data())
def test_of_any_tree_with_any_rules_the_same_files_count_as_for_git(
    tmp_path_factory: pytest.TempPathFactory,
    tree: tuple[set[bytes], dict[bytes, bytes], bool],
    data: st.DataObject,
) -> None:
    files, ignores, fold = tree
    git = Git(tmp_path_factory.getbasetemp() / "home")
    top = tmp_path_factory.mktemp("work")
    root = os.fsencode(top)
    bare_repository(root, fold)
    existing = {path.lower() for path in files}
    write(
        root,
        dict.fromkeys(files, b"") | {p: text for p, text in ignores.items() if p.lower() not in existing},
    )
    track = data.draw(st.booleans())
    if files and track:
        git.track(top, *data.draw(st.sets(st.sampled_from(sorted(files)), min_size=1, max_size=3)))
        git(root, "update-index", "--index-version", data.draw(st.sampled_from("234")))
    assert git.counted(root) == git.listed(root)
