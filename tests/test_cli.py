"""The command line: what goes to stdout, what to stderr, and with which exit status."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync import __version__
from codesync.cli import codesync, main
from codesync.cli.output import quoted, say

COMMAND = [sys.executable, "-m", "codesync.cli"]
CONTEXT = click.Context(codesync)
COMMANDS = codesync.list_commands(CONTEXT)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting and no git configuration of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("CODESYNC_", "BIFROST_", "GIT_", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@contextmanager
def started(arguments: Sequence[str], **options: Any) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen([*COMMAND, *arguments], text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: codesync {command}" in out
    assert "Example:\n" in out
    assert f"codesync {command}" in out.partition("Example:")[2]


def test_the_commands_and_their_options_are_pinned() -> None:
    pinned = {
        "demo": "--keep",
        "history": "--app-id --app-root --deployment-id --json --proxy-url",
        "init": "--app-id --app-root --deployment-id --force --proxy-url",
        "logs": "--app-id --app-root --deployment-id --follow --json --lines --proxy-url --replica --since-push -f -n",
        "mcp": "--allow-host --http",
        "proxy": "--data-dir --host --insecure --port",
        "push": "--allow-large --allow-mass-delete --app-id --app-root --deployment-id --dry-run --json --message "
        "--mirror --modes --proxy-url --quiet --take-over -m -q",
        "rollback": "--app-id --app-root --deployment-id --json --message --proxy-url --quiet -m -q",
        "scan": "--force --json --manifest --no-ignore -0 -f",
        "sidecar": "",
        "status": "--app-id --app-root --deployment-id --json --proxy-url",
        "sync": "--json --mirror --no-ignore",
    }
    pinned |= {
        "batch": "",
        "delta": "",
    }  # these have commands of their own, see test_cli_batch and test_cli_delta
    found = {}
    for name in COMMANDS:
        command = codesync.get_command(CONTEXT, name)
        assert command is not None
        options = (o for p in command.params if isinstance(p, click.Option) for o in p.opts)
        found[name] = " ".join(sorted(options))
    assert found == pinned


def test_a_command_is_loaded_without_the_others() -> None:
    code = """
import sys
from codesync.cli import main
assert main(["scan", "--help"]) == 0
assert not {"asyncio", "codesync.cli.look", "codesync.client"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"codesync {__version__}\n"


def test_no_command_at_all_shows_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Commands:" in captured.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["pull"], "codesync: No such command 'pull'. See codesync --help"),
        (["sync", "a"], "codesync: sync: Missing argument 'DST'. See codesync sync --help"),
        (["scan", ".", "--force"], "codesync: scan: --force goes with --manifest. See"),
        (["push", "--api-key", "k"], "codesync: push: No such option '--api-key'"),
        (["scan", ".", "-0", "--json"], "codesync: scan: -0, --json and --manifest exclude each other. See"),
        (
            ["delta", "patch"],
            "codesync: delta patch: The following arguments are required: BASIS. See codesync delta patch",
        ),
        (["batch", "wirte"], "codesync: batch: No such command 'wirte'. See codesync batch --help"),
        (["mcp", "--http", "8000"], "codesync: mcp: --http takes HOST:PORT, not '8000'. See"),
        (["proxy", "--port", "70000"], "codesync: proxy: Invalid value for '--port': 70000 is not in"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["push"], "codesync: no app_id, deployment_id, proxy_url: run `codesync init`"),
        (["sidecar"], "codesync: no app_id, deployment_id, proxy_url: set CODESYNC_APP_ID"),
        (
            ["proxy"],
            "codesync: no API key: set CODESYNC_API_KEY, or pass --insecure with a loopback --host",
        ),
        (["proxy", "--insecure"], "codesync: no API key"),
        (["mcp", "--http", "0.0.0.0:0"], "codesync: no API key: set CODESYNC_API_KEY to serve 0.0.0.0"),
        (["scan", "gone"], "codesync: "),
        (["sync", "gone", "to"], "codesync: "),
        (
            ["status", "--app-id", "a", "--deployment-id", "d", "--proxy-url", "http://127.0.0.1:1"],
            "codesync: no proxy answers at ws://127.0.0.1:1/api/v1/push/ide/a/d",
        ),
    ],
)
def test_a_failure_is_one_line_and_status_1(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "to").exists()


def test_an_error_of_several_lines_is_shown_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert say("a\nb\x1b[31m", status=1) == 1
    assert capsys.readouterr().err == "codesync: a\\nb\\x1b[31m\n"


def test_init_writes_what_it_is_told_and_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["init", "--app-id", "a", "--deployment-id", "d", "--proxy-url", "http://h:1/p"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path}/.codesync.json\n"
    expected = {"app_id": "a", "deployment_id": "d", "proxy_url": "http://h:1/p"}
    assert json.loads((tmp_path / ".codesync.json").read_text()) == expected
    assert main(arguments) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0


def test_init_with_nobody_to_ask_says_which_option_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--app-id", "a"]) == 2
    assert "Missing option '--deployment-id'" in capsys.readouterr().err
    assert list(tmp_path.glob(".codesync.json")) == []


ODD_NAMES = [
    b"plain",
    b"sp ace",
    b"tab\t",
    b"new\nline",
    b'quo"te',
    b"back\\slash",
    b"caf\xc3\xa9",
    b"\xff\xfe",
    b"\x01\x7f\x1b",
]


def git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True).stdout


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    git(root, "init", "-q")
    (root / ".gitignore").write_text("*.log\n/build/\n")
    for number, name in enumerate(ODD_NAMES):
        directory = os.fsencode(root) + b"/" + (b"d" if number % 2 else b"d/" + name)
        os.makedirs(directory, exist_ok=True)
        Path(os.fsdecode(directory + b"/" + name)).write_text("x")
    (root / "d/x.log").write_text("ignored")
    (root / "build").mkdir()
    (root / "build/out").write_text("ignored")
    (root / "link").symlink_to("nowhere")
    return root


def test_scan_prints_what_git_lists(worktree: Path) -> None:
    listed = ["ls-files", "-co", "--exclude-standard"]
    run = [*COMMAND, "scan", str(worktree)]
    printed = subprocess.run(run, capture_output=True, check=True)
    assert printed.stdout.splitlines() == sorted(git(worktree, *listed).splitlines(), key=_unquoted)
    assert printed.stderr == b""
    raw = subprocess.run([*run, "-0"], capture_output=True, check=True).stdout
    assert raw.split(b"\0") == [*sorted(git(worktree, *listed, "-z").split(b"\0")[:-1]), b""]


def _unquoted(line: bytes) -> bytes:
    if not line.startswith(b'"'):
        return line
    return line[1:-1].decode("unicode_escape").encode("latin-1")


def test_scan_without_ignoring_prints_everything(worktree: Path) -> None:
    raw = subprocess.run(
        [*COMMAND, "scan", str(worktree), "--no-ignore", "-0"], capture_output=True, check=True
    ).stdout
    assert {b"d/x.log", b"build/out", b".git/HEAD"} <= set(raw.split(b"\0"))


def test_scan_as_json_names_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "run.sh").write_text("#!")
    (root / "run.sh").chmod(0o755)
    (root / "empty").mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).symlink_to("run.sh")
    os.mkfifo(root / "pipe")
    assert main(["scan", str(root), "--json"]) == 0
    captured = capsys.readouterr()
    tree = json.loads(captured.out)
    assert [(e["path"], e["kind"], e["mode"]) for e in tree["entries"][:2]] == [
        ("empty", "directory", "0755"),
        ("run.sh", "file", "0755"),
    ]
    assert tree["entries"][1]["size"] == 2
    assert tree["entries"][2] | {"mtime_ns": 0, "mode": ""} == {
        "path": "\udcff",
        "path_base64": "/w==",
        "kind": "symlink",
        "mode": "",
        "mtime_ns": 0,
        "target": "run.sh",
    }
    assert [skipped["path"] for skipped in tree["skipped"]] == ["pipe"]
    assert captured.err.startswith("codesync: left out (fifo")


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name and b"/" not in name))
@settings(max_examples=100, deadline=None)
def test_a_quoted_name_reads_back(name: bytes) -> None:
    assert _unquoted(quoted(name)) == name or not quoted(name).startswith(b'"')
    assert quoted(name) == name or quoted(name).startswith(b'"')


def test_scan_replaces_a_manifest_only_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, place = tmp_path / "tree", tmp_path / "manifest"
    root.mkdir()
    place.write_text("precious")
    assert main(["scan", str(root), "--manifest", str(place)]) == 1
    assert capsys.readouterr().err == f"codesync: {place} is there already; --force replaces it\n"
    assert place.read_text() == "precious"
    assert main(["scan", str(root), "--manifest", str(place), "--force"]) == 0
    assert place.read_bytes() != b"precious"


def test_sync_makes_one_tree_like_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    (source / "new").write_text("1")
    (source / "ignored.log").write_text("1")
    (source / ".gitignore").write_text("*.log\n")
    destination.mkdir()
    (destination / "old").write_text("1")
    assert main(["sync", str(source), str(destination)]) == 0
    assert sorted(path.name for path in destination.iterdir()) == [".gitignore", "new", "old"]
    assert capsys.readouterr().err == ""
    assert main(["sync", "--mirror", "--no-ignore", str(source), str(destination), "--json"]) == 0
    assert sorted(path.name for path in destination.iterdir()) == [".gitignore", "ignored.log", "new"]
    assert json.loads(capsys.readouterr().out)["deleted"] == 1


@pytest.mark.parametrize("count", [1, 3000])
def test_a_reader_who_has_gone_is_no_error(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"a-file-with-a-long-name-{number:040}").touch()
    reader, writer = os.pipe()
    os.close(reader)
    with started(["scan", str(tmp_path)], stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert process.communicate(timeout=20)[1] == ""
        assert process.returncode == 1


def test_ctrl_c_in_the_middle_of_a_call_ends_with_130_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(10)
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        arguments = ["status", "--app-id", "a", "--deployment-id", "d", "--app-root", ".", "--proxy-url", url]
        with started(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            connection, _ = mute.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                assert process.communicate(timeout=10) == ("", "codesync: interrupted\n")
    assert process.returncode == 130


INTERRUPTING = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            exec("os.kill(os.getpid(), signal.SIGINT)")  # as in code that is compiled at run time

sys.meta_path.insert(0, Interrupts())
sys.argv = ["codesync", "status", "--app-id", "a", "--deployment-id", "d", "--proxy-url", "ws://127.0.0.1:1"]
from codesync.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module", ["click", "codesync.cli.commands", "codesync.config", "codesync.client", "codesync.protocol"]
)
def test_ctrl_c_while_modules_are_loaded_ends_with_130_and_no_traceback(module: str, tmp_path: Path) -> None:
    code = INTERRUPTING.format(module=module)
    environ = os.environ | {"CODESYNC_API_KEY": "key"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "codesync: interrupted\n")


def test_ctrl_c_after_the_result_changes_nothing() -> None:
    code = (
        "import atexit, os, signal, sys; atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "from codesync.cli import main; sys.argv = ['codesync', '--version']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert __version__ in done.stdout


def test_whoever_calls_a_command_keeps_its_own_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["--version"]) == 0
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("end", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_service_ends_quietly_when_it_is_told_to(
    end: signal.Signals, expected: int, tmp_path: Path
) -> None:
    arguments = ["proxy", "--insecure", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(tmp_path)]
    with started(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr
        assert any("listening on http://127.0.0.1:" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(end)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (expected, "")
    assert "Traceback" not in err
