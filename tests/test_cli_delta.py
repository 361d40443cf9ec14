"""`codesync delta`: rdiff's arguments, whole results or none, one line for whatever is wrong."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from codesync.cli import main
from codesync.cli.delta import COMMANDS
from codesync.delta import signature

PROGRAM = [sys.executable, "-m", "codesync.cli", "delta"]
OLD = Random(1).randbytes(300_000)
NEW = OLD[:100_000] + b"something new" + OLD[100_000:]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old").write_bytes(OLD)
    Path("new").write_bytes(NEW)


def delta(*arguments: str) -> int:
    return main(["delta", *arguments])


def piped(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run([*PROGRAM, *arguments], input=given, capture_output=True, check=True).stdout


def error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("codesync: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("codesync: ").rstrip("\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert delta(name, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: codesync delta {name} ")
    assert f"codesync delta {name} " in out.partition("Example:\n")[2]


def test_without_a_command_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert delta() == 2
    assert delta("-h") == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err
    assert all(name in captured.out for name in COMMANDS)


def test_signature_delta_and_patch_make_the_new_file() -> None:
    assert delta("signature", "old", "sig") == 0
    assert delta("delta", "sig", "new", "delta") == 0
    assert delta("patch", "old", "delta", "out") == 0
    assert Path("out").read_bytes() == NEW
    assert Path("delta").stat().st_size < 30_000
    assert sorted(os.listdir()) == ["delta", "new", "old", "out", "sig"]


def test_with_the_basis_at_hand_the_delta_is_smaller() -> None:
    assert delta("delta", "--basis", "old", "new", "delta") == 0
    assert delta("delta", "new", "--basis", "old", "again") == 0
    assert delta("patch", "old", "delta", "out") == 0
    assert Path("out").read_bytes() == NEW
    assert Path("delta").stat().st_size < 200
    assert Path("delta").read_bytes() == Path("again").read_bytes()


def test_everything_goes_through_pipes_too() -> None:
    sig = piped("signature", "-", given=OLD)
    Path("sig").write_bytes(sig)
    made = piped("delta", "sig", given=NEW)
    assert piped("delta", "-", "new", "-", given=sig) == made
    assert piped("patch", "old", given=made) == NEW
    assert piped("patch", "old", "-", "-", given=piped("delta", "--basis", "old", "-", given=NEW)) == NEW


def test_the_size_of_blocks_can_be_said() -> None:
    assert delta("signature", "-b", "100000", "old", "few") == 0
    assert delta("signature", "--block-size=1000", "old", "many") == 0
    assert 20 * Path("few").stat().st_size < Path("many").stat().st_size


def test_what_is_there_is_replaced_only_by_force(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sig").write_text("precious")
    os.chmod("sig", 0o600)
    assert delta("signature", "old", "sig") == 1
    assert error(capsys) == "sig is there already; --force replaces it"
    assert Path("sig").read_text() == "precious"
    assert delta("signature", "--force", "old", "sig") == 0
    assert Path("sig").read_bytes().startswith(b"cssign")
    assert Path("sig").stat().st_mode & 0o777 == 0o600


def test_the_basis_itself_can_be_replaced() -> None:
    assert delta("delta", "--basis", "old", "new", "delta") == 0
    assert delta("patch", "-f", "old", "delta", "old") == 0
    assert Path("old").read_bytes() == NEW


def test_a_link_stays_one() -> None:
    Path("place").symlink_to("real")
    assert delta("signature", "old", "place") == 0
    assert delta("signature", "-f", "old", "place") == 0
    assert Path("place").is_symlink()
    assert Path("real").read_bytes().startswith(b"cssign")


def test_a_device_is_written_to() -> None:
    assert delta("signature", "old", "/dev/null") == 0


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["signature", "gone", "sig"], 1, "gone: No such file or directory"),
        (["signature", ".", "sig"], 1, ".: Is a directory"),
        (["signature", "old", "gone/sig"], 1, "gone/sig: No such file or directory"),
        (["signature", "old", "."], 1, ".: Is a directory"),
        (["signature", "old", ""], 1, '"" is no name of a file'),
        (["signature", "", "sig"], 1, '"" is no name of a file'),
        (["patch", "", "for-new", "out"], 1, '"" is no name of a file'),
        (["signature", "old", "gone/"], 1, "gone/: No such file or directory"),
        (["signature", "--seed", "4294967296", "old", "sig"], 2, "a seed is 0 to 4294967295"),
        (["signature", "-b", "0", "old", "sig"], 2, "a block has 1 to 16777216 bytes"),
        (["signature", "-b", "x", "old", "sig"], 2, "a block has 1 to 16777216 bytes"),
        (
            ["signature"],
            2,
            "signature: The following arguments are required: BASIS. See codesync delta signature",
        ),
        (
            ["delta"],
            2,
            "delta delta: It takes SIG or --basis BASIS, then NEW and DELTA. See codesync delta delta",
        ),
        (["delta", "a", "b", "c", "d"], 2, "It takes SIG"),
        (["delta", "-", "-"], 2, "Only one of SIG and NEW can be stdin"),
        (["delta", "--basis", "-", "new"], 2, "BASIS is read at random; it must be a file, not stdin"),
        (["delta", "old", "new", "delta"], 1, "old: these bytes are no signature"),
        (["delta", "--bais", "old"], 2, "nrecognized arguments: --bais"),
        (["patch", "-", "delta", "out"], 2, "BASIS is read at random; it must be a file, not stdin"),
        (["patch", "old", "new", "out"], 1, "new: these bytes are no delta"),
        (["patch", "old", "empty", "out"], 1, "empty: these bytes are no delta"),
        (
            ["patch", "old", "for-new", "out"],
            1,
            "for-new: 300013 bytes from 0 on are outside the basis of 300000",
        ),
        (["patch", "other", "for-new", "out"], 1, "is this the right basis?"),
        (["patch", "new", "cut", "out"], 1, "cut: the delta ends too early"),
        (["patch", "new", "for-new", "/dev/full"], 1, "/dev/full: No space left on device"),
        (["pacth"], 2, "delta: No such command 'pacth'. See codesync delta --help"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    arguments: list[str], status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").touch()
    Path("other").write_bytes(NEW[::-1])
    assert delta("signature", "-b", "1000", "new", "sig-of-new") == 0
    assert delta("delta", "sig-of-new", "new", "for-new") == 0
    Path("cut").write_bytes(Path("for-new").read_bytes()[:-5])
    before = sorted(os.listdir())
    assert delta(*arguments) == status
    assert line in error(capsys)
    assert sorted(os.listdir()) == before


def test_a_disk_that_is_full_is_named_and_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert delta("delta", "--basis", "old", "new", "delta") == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert delta("patch", "old", "delta", "out") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error(capsys) == "out: File too large"
    assert sorted(os.listdir()) == ["delta", "new", "old"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"])
def test_another_name_of_stdout_is_a_pipe_too(name: str) -> None:
    assert piped("signature", "--seed=7", "old", name) == piped("signature", "--seed=7", "old")


def test_a_stream_that_is_closed_is_one_line() -> None:
    def closed(redirection: str, *arguments: str) -> tuple[int, bytes]:
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *PROGRAM, *arguments]
        done = subprocess.run(command, stdout=-1, stderr=-1, check=False)
        return done.returncode, done.stdout + done.stderr

    assert closed(">&-", "signature", "old") == (1, b"codesync: stdout: Bad file descriptor\n")
    assert closed("<&-", "signature", "-b", "9", "-", "sig") == (1, b"codesync: stdin: Bad file descriptor\n")
    assert closed("2>&-", "signature", "gone") == (1, b"")
    assert closed("<&- >&- 2>&-", "signature", "old", "sig") == (0, b"")
    assert Path("sig").exists()


def test_each_signature_has_a_seed_of_its_own_unless_one_is_named() -> None:
    for name, seed in (("one", []), ("two", []), ("three", ["--seed=7"]), ("four", ["--seed", "7"])):
        assert delta("signature", *seed, "old", name) == 0
    one, two, three, four = (Path(name).read_bytes() for name in ("one", "two", "three", "four"))
    assert one != two
    assert three == four == signature(OLD, seed=7).to_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_leaves_nothing(number: signal.Signals) -> None:
    os.mkfifo("delta")
    with subprocess.Popen([*PROGRAM, "patch", "old", "delta", "out"], stderr=subprocess.PIPE) as process:
        with open("delta", "wb") as pipe:
            pipe.write(b"csdelt\r\n\x02\x00\x01\x00\x05")
            pipe.flush()
            while len(os.listdir()) == 3:  # until the file beside is there
                assert process.poll() is None
            process.send_signal(number)
            assert process.communicate(timeout=10)[1] == f"codesync: ended by {number.name}\n".encode()
    assert process.returncode == 128 + number
    assert sorted(os.listdir()) == ["delta", "new", "old"]


@pytest.mark.parametrize("ready", [b"", b"csdelt\r\n\x02\x00\x01\x00\x05"])
def test_ctrl_c_leaves_nothing(ready: bytes) -> None:
    """Interrupted while it waits for stdin: before the result is begun, and after."""
    os.mkfifo("delta")
    with subprocess.Popen([*PROGRAM, "patch", "old", "delta", "out"], stderr=subprocess.PIPE) as process:
        with open("delta", "wb") as pipe:
            pipe.write(ready)
            pipe.flush()
            while ready and len(os.listdir()) == 3:  # until the file beside is there
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=10)[1] == b"codesync: interrupted\n"
    assert process.returncode == 130
    assert sorted(os.listdir()) == ["delta", "new", "old"]


def test_a_result_that_has_come_meanwhile_is_not_replaced() -> None:
    os.mkfifo("delta")
    assert delta("delta", "--basis", "old", "new", "whole") == 0
    with subprocess.Popen([*PROGRAM, "patch", "old", "delta", "out"], stderr=subprocess.PIPE) as process:
        with open("delta", "wb") as pipe:
            pipe.write(Path("whole").read_bytes()[:10])
            pipe.flush()
            while len(os.listdir()) == 4:
                assert process.poll() is None
            Path("out").write_text("somebody else's")
            pipe.write(Path("whole").read_bytes()[10:])
        assert b"is there already" in process.communicate(timeout=10)[1]
    assert process.returncode == 1
    assert Path("out").read_text() == "somebody else's"
    assert len(os.listdir()) == 5


def test_a_reader_who_has_gone_is_no_error_of_ours() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, "patch", "old", "-", "-"], input=b"", stdout=writer, stderr=-1, check=False
    )
    assert (done.returncode, done.stderr) == (1, b"codesync: -: these bytes are no delta\n")
    made = piped("delta", "--basis", "old", "new", "-")
    done = subprocess.run([*PROGRAM, "patch", "old"], input=made, stdout=writer, stderr=-1, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_it_starts_without_what_takes_long() -> None:
    code = """
import sys
from codesync.cli import main
assert main(["delta", "signature", "old", "sig"]) == 0
heavy = {"asyncio", "click", "dataclasses", "inspect", "mcp", "msgpack", "rich", "socket", "tempfile", "websockets"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rdiff_and_ours_agree_on_who_is_who() -> None:
    """The same command lines, one after the other."""
    for program in (["rdiff"], PROGRAM):
        for arguments in (
            ["signature", "old", "s"],
            ["delta", "s", "new", "d"],
            ["patch", "old", "d", "out"],
        ):
            subprocess.run([*program, *arguments], check=True)
        assert Path("out").read_bytes() == NEW
        for name in ("s", "d", "out"):
            os.unlink(name)
