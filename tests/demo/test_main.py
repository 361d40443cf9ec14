"""The demo shows what it says, and leaves nothing behind however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STEPS = [
    "started",
    "first push",
    "one line changed",
    "directory renamed",
    "file deleted",
    "crash on import",
    "repaired",
    "rollback",
]


@contextmanager
def demo(directory: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "codesync.cli", "demo", *arguments]
    environment = {**os.environ, "TMPDIR": str(directory)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def remains(directory: Path) -> list[str]:
    """Files and processes of a demo that ran below `directory`."""
    found = [path.name for path in directory.iterdir()]
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [path.parent.name] if f"CODESYNC_DEMO={directory}".encode() in path.read_bytes() else []
        except OSError:
            continue
    return found


def test_every_step_is_as_expected(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, ""), out + err
    lines = [line[2:20].strip() for line in out.splitlines() if line.startswith("  ")]
    assert lines == STEPS
    assert remains(tmp_path) == []


def test_kept_running_it_invites_until_it_is_interrupted(tmp_path: Path) -> None:
    with demo(tmp_path, "--keep") as process:
        assert process.stdout
        assert any("Ctrl-C here" in line for line in iter(process.stdout.readline, ""))
        assert len(remains(tmp_path)) > 3
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "codesync: interrupted\n")
    assert remains(tmp_path) == []


def test_interrupted_in_the_middle_it_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout
        assert any("first push" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "codesync: interrupted\n")
    assert remains(tmp_path) == []
