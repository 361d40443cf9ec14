"""Progress on stderr: bars on a terminal, lines elsewhere, nothing when it shall be quiet. Ctrl-C takes a push back."""

import asyncio
import io
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from codesync.cli.progress import Bars, Lines, Silent, numbers, reporter
from codesync.cli.remote import interrupted
from codesync.client import Progress
from codesync.protocol import Cancel, Error, Outcome, Push, ReplicaReport
from codesync.protocol import Progress as WireProgress
from tests.client.command import ended, start
from tests.client.fake import Fake, fake_proxy, fill, tree_at
from tests.proxy.loopback import Peer

REPORTS = [
    Progress("scan", "", 0, 0),
    Progress("transfer", "", 2_000_000, 8_000_000),
    Progress("transfer", "", 8_000_000, 8_000_000),
    Progress("apply", "pod-1", 3, 40),
    Progress("health", "pod-1", 0, 0),
    Progress("start", "pod-2", 0, 0),
    Progress("some\x1b[31mthing [bold]new", "pod-2", 0, 0),
]


def test_bars_show_a_row_for_this_machine_and_for_each_replica_and_go_away() -> None:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    with Bars(console) as bars:
        for report in REPORTS:
            bars(report)
            bars._rows.refresh()
    shown = out.getvalue()
    assert "2.0 MB of 8.0 MB" in shown
    assert "pod-1: putting files in place" in shown
    assert "3 of 40" in shown
    assert "0 of 40" not in shown  # the next stage has no total
    assert "pod-2: starting the application" in shown
    assert "pod-2: some\\x1b[31mthing [bold]new" in shown
    assert "\x1b[31m" not in shown
    assert shown.endswith("\x1b[1A\x1b[2K")  # the last row is erased


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (("scan", 0, None, None, None, 3.2), "3 s"),
        (("scan", 0, None, None, None, None), ""),
        (("transfer", 1_500_000, 6_000_000, 500_000.0, 9.0, 3.0), "1.5 MB of 6.0 MB  500.0 kB/s  9 s left"),
        (("transfer", 6_000_000, 6_000_000, 500_000.0, 0.0, 9.0), "6.0 MB of 6.0 MB"),
        (("apply", 10, 40, 20.0, 2.0, 1.0), "10 of 40  20/s  2 s left"),
        (("apply", 10, 40, None, None, 1.0), "10 of 40"),
    ],
)
def test_a_row_tells_how_much_how_fast_and_how_long(
    row: tuple[str, int, float | None, float | None, float | None, float | None], text: str
) -> None:
    stage, done, total, rate, left, spent = row
    assert numbers(stage, done, total, rate=rate, left=left, spent=spent) == text


def test_lines_are_told_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(quiet=False, as_json=False) as lines:
        assert type(lines) is Lines
        for report in REPORTS:
            lines(report)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "reading the tree",
        "sending 2.0 MB of 8.0 MB",
        "sending 8.0 MB of 8.0 MB",
        "pod-1: putting files in place (8%)",
        "pod-1: waiting for the application",
        "pod-2: starting the application",
        "pod-2: some\\x1b[31mthing [bold]new",
    ]


def test_quiet_is_quiet_and_still_learns_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(quiet=True, as_json=True) as silent:
        assert type(silent) is Silent
        for report in [*REPORTS, Progress("kept", "", 4, 0)]:
            silent(report)
    assert capsys.readouterr().err == ""
    assert silent.end == Progress("kept", "", 4, 0)


@pytest.mark.parametrize(
    ("terminal", "term", "as_json", "kind"),
    [
        (True, "xterm-256color", False, "Bars"),
        (True, "xterm-256color", True, "Lines"),
        (True, "dumb", False, "Lines"),
        (False, "xterm-256color", False, "Lines"),
    ],
)
def test_bars_are_for_people_at_a_terminal(terminal: bool, term: str, as_json: bool, kind: str) -> None:
    code = (
        "from codesync.cli.progress import reporter; import sys;"
        f"print(type(reporter(quiet=False, as_json={as_json})).__name__, 'rich' in sys.modules)"
    )
    environ = {"PATH": os.environ["PATH"], "TERM": term}
    controller, end = pty.openpty() if terminal else os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=end,
            env=environ,
            check=True,
            text=True,
        )
    finally:
        os.close(controller)
        os.close(end)
    assert done.stdout.split()[0] == kind
    assert kind == "Bars" or term == "dumb" or done.stdout.split()[1] == "False"


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (Progress("cancelled", "", 0, 0), "interrupted: the push is undone, the old code runs"),
        (
            Progress("kept", "", 7, 0),
            "interrupted, but the push was kept before that: generation 7; `codesync rollback` goes back",
        ),
        (None, "interrupted; what became of the push is not known here: see `codesync status`"),
    ],
)
def test_an_interruption_is_one_line(end: Progress | None, line: str) -> None:
    assert interrupted(end) == line


# --- whole commands ---------------------------------------------------------------------------------------------------


async def tried(fake: Fake, peer: Peer) -> str:
    """A push until it is tried; its push_id."""
    push_id = (await fake.grant(peer)).push_id
    await fake.describe(peer)
    await peer.hear(Push)
    await peer.hear_batch()
    await peer.say(WireProgress(push_id=push_id, stage="health", done=0, total=0, replica="one"))
    return push_id


async def undone(peer: Peer, push_id: str) -> None:
    await peer.say(Error(code="cancelled", message="cancelled", push_id=push_id))


async def kept(peer: Peer, push_id: str) -> None:
    report = ReplicaReport(id="one", status="healthy", generation=4)
    await peer.say(Outcome(push_id=push_id, status="healthy", replicas=(report,)))


async def silent(peer: Peer, push_id: str) -> None:
    """The second Ctrl-C comes while the proxy has not answered."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("end", "line"),
    [
        (undone, "codesync: interrupted: the push is undone, the old code runs"),
        (
            kept,
            "codesync: interrupted, but the push was kept before that: generation 4; `codesync rollback` goes back",
        ),
        (silent, "codesync: interrupted; what became of the push is not known here: see `codesync status`"),
    ],
)
async def test_ctrl_c_takes_a_push_back_and_says_what_became_of_it(
    tmp_path: Path, end: Callable[[Peer, str], Awaitable[None]], line: str
) -> None:
    fill(tmp_path / "source", 1)
    fill(tmp_path / "replica", 1)
    trying, cancelled = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        push_id = await tried(fake, peer)
        trying.set()
        await peer.hear(Cancel)
        cancelled.set()
        await end(peer, push_id)
        await peer.websocket.wait_closed()

    async with fake_proxy(script, tree=tree_at(tmp_path / "replica")) as fake:
        process = await start(fake, tmp_path, "push", "-m", "x")
        for event in (trying, *([cancelled] if end is silent else [])):
            await asyncio.wait_for(event.wait(), 20)
            process.send_signal(signal.SIGINT)
        status, out, err = await ended(process)
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == line, err
    assert "undoing the push" in err.splitlines()
    assert "Traceback" not in err


@pytest.mark.anyio
@pytest.mark.parametrize("quiet", [True, False])
async def test_a_quiet_push_says_only_its_result(tmp_path: Path, quiet: bool) -> None:
    fill(tmp_path / "source", 1)
    fill(tmp_path / "replica", 1)

    async def script(peer: Peer) -> None:
        await kept(peer, await tried(fake, peer))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, tree=tree_at(tmp_path / "replica")) as fake:
        status, out, err = await ended(await start(fake, tmp_path, "push", *(["--quiet"] if quiet else [])))
    assert status == 0
    assert out.startswith("healthy     shop/test  generation 4\n")
    assert (err == "") == quiet
    assert quiet or "one: waiting for the application" in err


@pytest.mark.anyio
async def test_ctrl_c_while_the_result_is_told_does_not_hide_it(tmp_path: Path) -> None:
    fill(tmp_path / "source", 1)
    fill(tmp_path / "replica", 1)

    async def script(peer: Peer) -> None:
        await kept(peer, await tried(fake, peer))
        await peer.websocket.wait_closed()

    async with fake_proxy(script, tree=tree_at(tmp_path / "replica")) as fake:
        process = await start(fake, tmp_path, "push", "--quiet")
        assert process.stdout
        first = await asyncio.wait_for(process.stdout.readline(), 20)
        process.send_signal(signal.SIGINT)
        status, out, err = await ended(process)
    assert (status, first, err) == (0, b"healthy     shop/test  generation 4\n", "")
    assert "The application runs the pushed code" in out
