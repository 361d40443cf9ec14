"""examples/codesync-entrypoint.sh: under a launcher where one comes, else without, always the application."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from codesync.pyz import build_pyz

ENTRYPOINT = Path(__file__).parent.parent / "examples/codesync-entrypoint.sh"
COMMAND = ("sh", "-c", 'echo "ran $$ $0 $*"; exit 5', "a b", "--", "")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume/.sidecar").mkdir(parents=True)
    return tmp_path / "volume"


def offer(volume: Path) -> None:
    """What a sidecar does when it starts."""
    build_pyz(str(volume / ".sidecar/launcher.pyz"))


def run(*arguments: str, volume: Path | str, **env: str) -> tuple[subprocess.Popen[str], str, str]:
    environ = {
        **os.environ,
        "CODESYNC_FILES_DIR": str(volume),
        "CODESYNC_APP_ROOT": "/nowhere",
        "CODESYNC_PYTHON": sys.executable,
        **env,
    }
    process = subprocess.Popen(
        [ENTRYPOINT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )
    out, err = process.communicate(timeout=30)
    return process, out, err


def test_where_a_launcher_is_the_command_runs_under_it(volume: Path) -> None:
    offer(volume)
    process, out, err = run("--settle", "0", "--", *COMMAND, volume=volume)

    assert process.returncode == 5
    assert out.split(" ", 2)[2] == "a b -- \n"
    assert int(out.split()[1]) != process.pid
    assert "/nowhere cannot be read" in err  # said by the launcher


def test_where_none_comes_the_command_runs_unwrapped_as_the_same_process(volume: Path) -> None:
    start = time.monotonic()
    process, out, err = run("--settle", "0", "--", *COMMAND, volume=volume, CODESYNC_WAIT="1")

    assert process.returncode == 5
    assert out == f"ran {process.pid} a b -- \n"
    assert err == (
        f"codesync: no launcher at {volume}/.sidecar/launcher.pyz; is the sidecar running?;"
        " running the command without codesync\n"
    )
    assert 0.9 < time.monotonic() - start < 10


def test_a_launcher_that_comes_a_little_later_is_waited_for(volume: Path) -> None:
    threading.Timer(0.3, offer, (volume,)).start()
    process, out, _ = run("--", *COMMAND, volume=volume)

    assert process.returncode == 5
    assert int(out.split()[1]) != process.pid


def test_without_a_volume_or_a_python_nobody_waits(volume: Path) -> None:
    start = time.monotonic()
    process, out, err = run("--", *COMMAND, volume="/no/volume")
    assert (process.returncode, out) == (5, f"ran {process.pid} a b -- \n")
    assert "no volume at /no/volume" in err
    process, out, err = run("--", *COMMAND, volume=volume, CODESYNC_PYTHON="/no/python3")
    assert (process.returncode, out) == (5, f"ran {process.pid} a b -- \n")
    assert "/no/python3 is missing, or older than 3.8" in err

    assert time.monotonic() - start < 5


def test_a_wait_that_is_no_number_is_the_default(volume: Path) -> None:
    offer(volume)
    process, _, err = run("--", *COMMAND, volume=volume, CODESYNC_WAIT="soon")

    assert process.returncode == 5
    assert "CODESYNC_WAIT is soon, not a whole number of seconds; waiting 10" in err


@pytest.mark.parametrize("arguments", [(), ("--",), ("sh", "-c", "exit 0"), ("--settle", "1", "--")])
def test_a_missing_command_is_a_usage_error(volume: Path, arguments: tuple[str, ...]) -> None:
    process, out, err = run(*arguments, volume=volume, CODESYNC_WAIT="0")

    assert (process.returncode, out) == (2, "")
    assert "usage:" in err


def test_a_container_can_be_stopped_while_it_waits(volume: Path) -> None:
    environ = {**os.environ, "CODESYNC_FILES_DIR": str(volume), "CODESYNC_PYTHON": sys.executable}
    process = subprocess.Popen(
        [ENTRYPOINT, "--", "sh", "-c", "exit 5"], env=environ, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 10
    while caught(process.pid) & {signal.SIGTERM, signal.SIGINT} != {signal.SIGTERM, signal.SIGINT}:
        assert time.monotonic() < until, "TERM and INT are never handled"
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 143


def caught(pid: int) -> set[int]:
    """The signals that a process has handlers for."""
    (mask,) = (
        line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigCgt")
    )
    return {number for number in range(1, 64) if int(mask, 16) >> (number - 1) & 1}


def test_it_is_plain_posix_shell() -> None:
    for shell in filter(None, (shutil.which("dash"), shutil.which("sh"), shutil.which("bash"))):
        subprocess.run([shell, "-n", ENTRYPOINT], check=True)
    assert ENTRYPOINT.read_text().startswith("#!/bin/sh\n")
    assert os.access(ENTRYPOINT, os.X_OK)
