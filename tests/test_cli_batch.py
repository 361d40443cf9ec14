"""`codesync batch`: a tree's change as a file, and the tree it is applied to."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codesync.cli import main
from codesync.cli.batch import COMMANDS

PROGRAM = [sys.executable, "-m", "codesync.cli", "batch"]
TEXT = "".join(f"line {number}\n" for number in range(5000))


@pytest.fixture(autouse=True)
def _trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`src` as it shall be; `old` and `there`, as it was."""
    for name in list(os.environ):
        if name.startswith(("CODESYNC_", "BIFROST_", "GIT_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old" / "pkg").mkdir(parents=True)
    Path("old/pkg/text").write_text(TEXT)
    Path("old/pkg/other").write_text(TEXT[:2000])
    Path("old/gone").write_text("gone\n")
    Path("old/run").write_text("#!/bin/sh\n")
    shutil.copytree("old", "there")
    shutil.copytree("old", "src")
    Path("src/pkg").rename("src/package")
    Path("src/package/text").write_text(TEXT.replace("line 2500\n", "line two and a half thousand\n"))
    Path("src/gone").unlink()
    Path("src/new").write_text("new\n")
    os.chmod("src/run", 0o755)
    Path("src/link").symlink_to("new")


def batch(*arguments: str) -> int:
    return main(["batch", *arguments])


def snapshot(root: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for directory, _, names in os.walk(root):
        found[os.path.relpath(directory, root)] = None
        for name in names:
            place = Path(directory, name)
            content = os.readlink(place) if place.is_symlink() else place.read_bytes()
            found[os.path.relpath(place, root)] = content, os.access(place, os.X_OK)
    return found


def error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("codesync: ").rstrip("\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(name, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: codesync batch {name} ")
    assert f"codesync batch {name} " in out.partition("Example:\n")[2]


def test_a_batch_makes_one_tree_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert batch("write", "src", "--base", "old", "-o", "change") == 0
    assert " added, " in capsys.readouterr().out
    assert Path("change").stat().st_size < 500
    assert batch("apply", "change", "there") == 0
    assert capsys.readouterr().out.startswith("there is tree ")
    assert snapshot("there") == snapshot("src")


def test_with_a_manifest_for_a_base_whole_files_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", "there", "--manifest", "manifest"]) == 0
    assert capsys.readouterr().out == ""
    assert batch("write", "src", "--base", "manifest", "-o", "change") == 0
    assert Path("change").stat().st_size > 1000
    assert batch("apply", "change", "there") == 0
    assert snapshot("there") == snapshot("src")


def test_it_goes_through_a_pipe() -> None:
    written = subprocess.run(
        [*PROGRAM, "write", "src", "--base", "old", "-o", "-"], capture_output=True, check=True
    ).stdout
    shown = subprocess.run([*PROGRAM, "inspect", "-"], input=written, capture_output=True, check=True).stdout
    assert b"pkg -> package" in shown
    subprocess.run([*PROGRAM, "apply", "-", "there"], input=written, capture_output=True, check=True)
    assert snapshot("there") == snapshot("src")


def test_times_and_all_permissions_travel_with_exact() -> None:
    os.chmod("src/new", 0o640)
    os.utime("src/run", (1, 1))
    shutil.copytree("there", "two", copy_function=shutil.copy2)
    assert batch("write", "src", "--base", "old", "-o", "plain") == 0
    assert batch("write", "src", "--base", "old", "-o", "exact", "--exact") == 0
    assert batch("apply", "plain", "there") == 0
    assert batch("apply", "exact", "two") == 0
    assert Path("there/new").stat().st_mode & 0o777 == 0o644
    assert Path("there/run").stat().st_mtime != 1
    assert Path("two/new").stat().st_mode & 0o777 == 0o640
    assert Path("two/run").stat().st_mtime == 1


def times(root: str) -> dict[str, int]:
    return {
        os.path.relpath(path, root): os.lstat(path).st_mtime_ns
        for directory, names, files in os.walk(root)
        for path in (os.path.join(directory, name) for name in (*names, *files))
    }


@pytest.mark.parametrize("base", ["old", "manifest"])
def test_exact_makes_every_time_below_the_root_that_of_the_source(base: str) -> None:
    for root in ("old", "there", "src"):
        for name in ("edited", "emptied", "filled", "left/sub", "entered"):
            Path(root, name).mkdir(parents=True)
            Path(root, name, "kept").write_text(name)
    for root in ("old", "there"):
        Path(root, "emptied/gone").write_text("gone")
        Path(root, "edited/file").write_text("1")
        Path(root, "left/sub/moves").write_text(TEXT)
    Path("src/edited/file").write_text("2")
    Path("src/filled/new").write_text("new")
    Path("src/entered/moves").write_text(TEXT)
    for root in ("old", "there", "src"):  # directories that look the same before
        for path in sorted(times(root), reverse=True):
            os.utime(Path(root, path), ns=(0, 10**18), follow_symlinks=False)
    assert main(["scan", "old", "--manifest", "manifest"]) == 0
    assert batch("write", "src", "--base", base, "-o", "change", "--exact") == 0
    assert batch("apply", "change", "there") == 0
    assert snapshot("there") == snapshot("src")
    assert times("there") == times("src")


def test_what_gets_an_executable_bit_is_counted_once(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("src")
    shutil.copytree("old", "src")
    os.chmod("src/run", 0o755)
    assert batch("write", "src", "--base", "old", "-o", "change") == 0
    assert capsys.readouterr().out.startswith("0 added, 0 modified, 0 deleted, 0 renamed, 1 attributes; ")


def test_inspect_says_what_becomes_of_each_path(capsys: pytest.CaptureFixture[str]) -> None:
    batch("write", "src", "--base", "old", "-o", "change")
    capsys.readouterr()
    assert batch("inspect", "change") == 0
    first, second, *lines = capsys.readouterr().out.splitlines()
    assert first.split()[0] == "from"
    assert second.split()[0] == "to"
    assert lines[:-1] == [
        "delete    gone",
        "move      pkg -> package",
        "symlink   link",
        "file      new  (4 B)",
        *[line for line in lines if line.startswith("copy      pkg/text -> package/text  (48.9 kB, ")],
        "mode      run",
    ]
    assert lines[-1].startswith("1 delete, 1 move, 1 symlink, 1 file, 1 copy, 1 mode; ")


def test_inspect_as_json_has_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    batch("write", "src", "--base", "old", "-o", "change", "--json")
    assert json.loads(capsys.readouterr().out)["wire_bytes"] == Path("change").stat().st_size
    assert batch("inspect", "change", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["wire_bytes"] == Path("change").stat().st_size
    assert record["counts"] == {"delete": 1, "move": 1, "symlink": 1, "put": 1, "copy": 1, "attributes": 1}
    assert {"what": "move", "path": "package", "source": "pkg"} in record["changes"]
    new = {"what": "put", "path": "new", "size": 4, "literal_bytes": 4, "copied_bytes": 0}
    assert new in record["changes"]


def test_a_name_that_is_odd_is_shown_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path(os.fsdecode(b"src/\xff\n")).write_text("odd")
    batch("write", "src", "--base", "old", "-o", "change")
    capsys.readouterr()
    assert batch("inspect", "change") == 0
    assert 'file      "\\377\\n"  (3 B)\n' in capsys.readouterr().out
    assert batch("inspect", "change", "--json") == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert "/wo=" in [change.get("path_base64") for change in changes]


def test_what_is_ignored_is_neither_sent_nor_deleted_nor_counted() -> None:
    for root in ("src", "old", "there"):
        Path(root, ".gitignore").write_text("*.log\nbuild/\n")
    Path("src/new.log").write_text("not sent")
    Path("there/old.log").write_text("stays")
    Path("old/build").mkdir()
    Path("old/build/thing").write_text("not deleted, and not there")
    assert batch("write", "src", "--base", "old", "-o", "change") == 0
    assert batch("apply", "change", "there") == 0
    assert Path("there/old.log").read_text() == "stays"
    assert not Path("there/new.log").exists()


def test_what_only_the_source_ignores_stays_where_it_is() -> None:
    Path("src/.gitignore").write_text("gone\n")
    assert batch("write", "src", "--base", "old", "-o", "change") == 0
    assert batch("apply", "change", "there") == 0
    assert Path("there/gone").exists()


def test_without_ignoring_every_path_counts() -> None:
    Path("src/.gitignore").write_text("*.log\n")
    Path("src/new.log").write_text("sent")
    Path("old/gone.log").write_text("gone")
    Path("there/gone.log").write_text("gone")
    assert batch("write", "src", "--base", "old", "-o", "change", "--no-ignore") == 0
    assert batch("apply", "change", "there", "--no-ignore", "--json") == 0
    assert snapshot("there") == snapshot("src")


def test_a_tree_that_is_another_one_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    batch("write", "src", "--base", "old", "-o", "change")
    Path("there/somebody").write_text("was here")
    before = snapshot("there")
    capsys.readouterr()
    assert batch("apply", "change", "there") == 1
    assert "the batch is made against tree " in error(capsys)
    assert snapshot("there") == before


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (
            ["write", "src", "-o", "x"],
            2,
            "batch write: The following arguments are required: --base. See codesync",
        ),
        (["write", "src", "--base", "old"], 2, "The following arguments are required: -o/--out"),
        (
            ["write", "src", "--base", "old", "-o", "-", "--json"],
            2,
            "cannot both go to stdout; name a file with -o",
        ),
        (["write", "src", "--base", "old", "-o", "/dev/stdout", "--json"], 2, "cannot both go to stdout"),
        (["write", "gone", "--base", "old", "-o", "x"], 1, "cannot scan gone"),
        (["write", "src", "--base", "gone", "-o", "x"], 1, "gone: No such file or directory"),
        (["write", "src", "--base", "src/new", "-o", "x"], 1, "src/new: this is no manifest"),
        (
            ["write", "src", "--base", "old", "-o", "there/run"],
            1,
            "there/run is there already; --force replaces it",
        ),
        (["write", "src", "--base", "old", "-o", "/dev/full"], 1, "/dev/full: No space left on device"),
        (["inspect", "gone"], 1, "gone: No such file or directory"),
        (["inspect", "src/new"], 1, "these bytes are no batch"),
        (["apply", "src/new", "there"], 1, "these bytes are no batch"),
        (["apply", "src/new", "gone"], 1, "gone: No such file or directory"),
        (["aply"], 2, "batch: No such command 'aply'. See codesync batch --help"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    arguments: list[str], status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(".")
    assert batch(*arguments) == status
    assert line in error(capsys)
    assert snapshot(".") == before


def test_a_batch_that_cannot_be_finished_leaves_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("src/pipe")
    assert batch("write", "src", "--base", "old", "-o", "change") == 0
    assert "left out" in capsys.readouterr().err
    os.unlink("change")
    before = sorted(os.listdir())
    assert batch("write", "src", "--base", "old", "-o", "gone/change") == 1
    assert sorted(os.listdir()) == before


def test_it_starts_without_what_takes_long() -> None:
    code = """
import sys
from codesync.cli import main
assert main(["batch", "write", "src", "--base", "old", "-o", "change"]) == 0
heavy = {"asyncio", "click", "mcp", "rich", "websockets"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
