"""The commands against cases from outside, with git and a judge of their own: the whole command, as users run it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesync.cli import main

ORACLES = Path(__file__).parents[2] / "shared" / "oracles"
NEEDED = ("codesync", "click", "msgpack", "xxhash", "zstandard")


def runs_for_nobody(python: str, path: Path) -> bool:
    """Whether an unprivileged user can run codesync with that interpreter: it may live in somebody's home."""
    drop = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--bounding-set=-all"]
    command = [*drop, "sh", "-c", f"exec {python} -c 'import codesync.cli'"]
    environ = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(command, env=environ, capture_output=True, check=False, cwd="/").returncode == 0


@pytest.fixture(scope="module")
def codesync() -> Iterator[str]:
    """A shell command that runs codesync for every user."""
    packages = Path(tempfile.mkdtemp(prefix="codesync-oracle-"))
    packages.chmod(0o755)
    for name in NEEDED:
        origin = __import__(name).__file__
        assert origin is not None
        shutil.copytree(Path(origin).parent, packages / name)
    subprocess.run(["chmod", "-R", "a+rX", str(packages)], check=True)
    pythons = [sys.executable, "/usr/bin/python3"]
    usable = [python for python in pythons if runs_for_nobody(python, packages)]
    assert usable, f"none of {pythons} can be run by nobody; install python3 (3.11 or later)"
    yield f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={packages} {usable[0]} -m codesync.cli"
    shutil.rmtree(packages)


def test_every_tree_transition_comes_out_as_the_judge_says(codesync: str) -> None:
    command = f'{codesync} sync --mirror --no-ignore "$SRC" "$DST"'
    oracle = [sys.executable, str(ORACLES / "tree_cases.py"), "--mtime", "--", command]
    done = subprocess.run(oracle, capture_output=True, text=True, timeout=200, check=False)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("PASS")] == [lines[-1]], done.stdout + done.stderr
    assert done.returncode == 0
    passed, _, all_of_them = lines[-1].split()[0].partition("/")
    assert passed == all_of_them
    assert int(passed) >= 31


def test_scan_prints_what_git_lists(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = [sys.executable, str(ORACLES / "gitignore_cases.py"), "--materialize", str(tmp_path)]
    cases = json.loads(subprocess.run(oracle, capture_output=True, check=True).stdout)
    monkeypatch.setenv("HOME", "/nonexistent")
    wrong = {}
    for name, answer in cases.items():
        assert main(["scan", str(tmp_path / name), "-0"]) == 0
        scanned = capfdbinary.readouterr().out.split(b"\0")[:-1]
        listed = sorted(os.fsencode(path) for path, ignored in answer.items() if ignored is False)
        if scanned != listed:
            wrong[name] = (scanned, listed)
    assert wrong == {}
    assert len(cases) >= 50
