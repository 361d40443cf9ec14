"""A plain good init: what the launcher is where there is no volume."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launcher.world import PATIENCE, Container, World, write_tree

LAUNCHER = [sys.executable, "-m", "codesync.launcher"]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run the launcher to its end, without a volume unless `env` names one."""
    environ = {**os.environ, "CODESYNC_FILES_DIR": "/nowhere", **env}
    return subprocess.run(
        [*LAUNCHER, *arguments], check=False, capture_output=True, env=environ, timeout=PATIENCE
    )


def plain(world: World, script: str, *options: str) -> Container:
    """A container whose volume is missing, and whose application has said `ready`."""
    container = world.container({"run.sh": b"#!/bin/bash\n" + script.encode()})
    container.start(options=options, env={"CODESYNC_FILES_DIR": "/nowhere"})
    container.wait_for_output(b"ready\n")
    return container


def test_output_and_status_are_the_applications_and_one_line_says_what_is_missing() -> None:
    done = run("--", "sh", "-c", "printf 'o\\0ut'; printf err >&2; exit 42")

    assert (done.returncode, done.stdout) == (42, b"o\0ut")
    note, error = done.stderr.splitlines()
    assert error == b"err"
    assert note == (
        b"codesync: no volume at /nowhere (No such file or directory); the application runs, but nothing can be pushed"
    )


def test_an_application_killed_by_a_signal_has_a_shells_status() -> None:
    assert run("--", "sh", "-c", "kill -KILL $$").returncode == 137


def test_nothing_to_run_has_a_shells_status_too(tmp_path: Path) -> None:
    missing = run("--", "/no/such/program")
    assert (missing.returncode, missing.stdout) == (127, b"")
    assert b"the application cannot be started: /no/such/program: No such file or directory" in missing.stderr
    (tmp_path / "data").write_bytes(b"")
    assert run("--", str(tmp_path / "data")).returncode == 126


def test_bad_usage_is_status_2_and_says_what_to_do() -> None:
    for arguments in ((), ("sh",), ("--",), ("--nonsense", "--", "sh"), ("--settle", "x", "--", "sh")):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, b""), arguments
    unknown = run("--health", "ftp://x", "--", "sh")
    assert unknown.returncode == 2
    assert b"http://HOST:PORT/PATH, tcp://HOST:PORT or cmd:COMMAND" in unknown.stderr
    helped = run("--help")
    assert helped.returncode == 0
    assert b"example: python -m codesync.launcher --health" in helped.stdout


def test_a_volume_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".launcher").write_bytes(b"in the way")
    done = run("--", "echo", "runs", CODESYNC_FILES_DIR=str(tmp_path))

    assert (done.returncode, done.stdout) == (0, b"runs\n")
    assert b"cannot be written (Not a directory)" in done.stderr


def test_an_application_directory_that_is_missing_is_no_obstacle(tmp_path: Path) -> None:
    done = run("--", "echo", "runs", CODESYNC_FILES_DIR=str(tmp_path), CODESYNC_APP_ROOT="/not/here")

    assert (done.returncode, done.stdout) == (0, b"runs\n")
    assert b"/not/here cannot be read" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_and_interrupt_end_the_application_and_its_status_is_ours(world: World, number: int) -> None:
    name = signal.Signals(number).name
    container = plain(world, f"trap 'echo {name}; exit 3' {name}\necho ready\nwhile :; do sleep 0.01; done")
    container.signal(number)

    assert container.wait() == 3
    assert container.out.read_bytes().endswith(f"{name}\n".encode())


def test_other_signals_are_passed_on(world: World) -> None:
    traps = "".join(f"trap 'echo {name}' {name}\n" for name in ("HUP", "USR1", "USR2", "WINCH", "QUIT"))
    container = plain(world, f"{traps}echo ready\nwhile :; do sleep 0.01; done")
    for name in ("HUP", "USR1", "USR2", "WINCH", "QUIT"):
        container.signal(signal.Signals["SIG" + name])
        container.wait_for_output(f"{name}\n".encode())


def test_what_ignores_term_is_killed_after_the_stop_timeout(world: World) -> None:
    container = plain(
        world, "trap '' TERM\necho ready\nwhile :; do sleep 0.01; done", "--stop-timeout", "0.1"
    )
    start = time.monotonic()

    assert container.stop() == 128 + signal.SIGKILL
    assert time.monotonic() - start < 5


def test_the_whole_group_ends_with_the_application(world: World) -> None:
    container = plain(
        world,
        "(trap '' TERM; echo $BASHPID; echo ready; exec sleep 1000) & wait -n; exit 5",
        "--stop-timeout",
        "0.1",
    )
    child = int(container.out.read_bytes().split()[0])
    container.stop()

    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_orphans_of_orphans_are_reaped(world: World) -> None:
    container = plain(
        world,
        "for i in 1 2 3; do (setsid sleep 0.0$i & exit 0) & done; wait\necho ready\nread -r _ < go",
        "--settle",
        "0",
    )
    assert container.process is not None
    children = Path(f"/proc/{container.process.pid}/task/{container.process.pid}/children")
    until = time.monotonic() + PATIENCE
    while len(children.read_text().split()) > 1:
        assert time.monotonic() < until, "zombies stay"
        time.sleep(0.005)


def test_output_in_a_hurry_arrives_whole(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "data").write_bytes(data)
    done = run("--", "sh", "-c", f"cat {tmp_path}/data; cat {tmp_path}/data >&2; exit 1")

    assert done.stdout == data
    assert done.stderr.endswith(data)


def test_a_reader_who_goes_away_does_not_end_the_application(tmp_path: Path) -> None:
    script = f"{sys.executable} -m codesync.launcher -- sh -c 'yes | head -c 300000; echo done > {tmp_path}/done' | head -c 10"
    subprocess.run(
        ["sh", "-c", script],
        check=True,
        env={**os.environ, "CODESYNC_FILES_DIR": "/nowhere"},
        timeout=PATIENCE,
    )

    until = time.monotonic() + PATIENCE
    while not (tmp_path / "done").exists():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_closed_standard_streams_are_no_obstacle(tmp_path: Path) -> None:
    script = f"exec {sys.executable} -m codesync.launcher -- sh -c 'echo lost; echo lost >&2; echo ran > {tmp_path}/ran' <&- >&- 2>&-"
    done = subprocess.run(
        ["sh", "-c", script],
        check=False,
        env={**os.environ, "CODESYNC_FILES_DIR": "/nowhere"},
        timeout=PATIENCE,
    )

    assert done.returncode == 0
    assert (tmp_path / "ran").read_bytes() == b"ran\n"


def test_the_application_runs_where_the_launcher_was_started(tmp_path: Path) -> None:
    write_tree(tmp_path, {"x.sh": b"#!/bin/sh\npwd\n"})
    done = subprocess.run(
        [*LAUNCHER, "--", "./x.sh"],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "CODESYNC_FILES_DIR": "/nowhere"},
        timeout=PATIENCE,
    )

    assert done.stdout == f"{tmp_path}\n".encode()


def test_the_launcher_imports_nothing_heavy() -> None:
    code = (
        "import sys, codesync.launcher.service, codesync.launcher.link, codesync.launcher.options\n"
        "heavy = {'asyncio', 'http', 'ssl', 'email', 'mcp', 'pydantic', 'websockets', 'pathspec', 'msgpack', 'logging', 'random'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"
