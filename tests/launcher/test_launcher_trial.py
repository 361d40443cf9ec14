"""One push, from `try` to kept or undone, with real processes."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from codesync.launcher.trial import KEEP, UNDO, decide
from tests.launcher.world import Container, Files, Peer, World, b64


def script(text: str) -> bytes:
    return b"#!/bin/bash\n" + text.encode()


def runs(word: str, **more: bytes) -> Files:
    """A tree whose application says `word` and stays."""
    return {"run.sh": script(f"echo {word}\nexec sleep 1000\n"), "lib/same.txt": b"same", **more}


ONE, TWO = runs("one"), runs("two")


def started(world: World, image: Files = ONE, **options: object) -> tuple[Container, Peer]:
    container = world.container(image)
    container.start(**options)  # type: ignore[arg-type]
    return container, container.connect_ready()


# --- the decision alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "committed", "overdue", "expected"),
    [
        (KEEP, False, False, KEEP),
        (UNDO, False, False, UNDO),
        (KEEP, False, True, KEEP),
        (UNDO, True, True, UNDO),
        (None, True, False, KEEP),
        (None, True, True, KEEP),
        (None, False, True, UNDO),
        (None, False, False, None),
    ],
)
def test_the_word_counts_then_the_commit_then_the_deadline(
    said: str | None, committed: bool, overdue: bool, expected: str | None
) -> None:
    assert decide(said, lambda: committed, overdue) == expected


# --- kept ------------------------------------------------------------------------------------------------------


def test_a_push_that_settles_is_kept_and_leaves_exactly_the_new_tree(world: World) -> None:
    container, peer = started(world)
    first = container.status()["pid"]
    new = {**TWO, "new/deep/file": b"x", "link": "lib", "empty": None}
    verdict = peer.push("p1", ONE, new)

    stages = [message["stage"] for message in peer.heard if message["type"] == "progress"]
    assert stages == ["apply", "stop", "start", "health"]
    assert verdict["verdict"] == "keep"
    assert (verdict["healthy"], verdict["exit_code"], verdict["signal"], verdict["reason"]) == (
        False,
        None,
        None,
        "",
    )
    assert (verdict["drift"], verdict["drift_more"]) == ([], 0)
    assert set(verdict["timings_ms"]) == {"apply", "stop", "start", "health"}
    assert verdict["log_tail"] == ["two"]
    assert verdict["pid"] == container.status()["pid"] != first
    assert container.applied()["push_id"] == ""

    peer.keep("p1", new)
    assert container.holds(new)
    assert (container.root / "run.sh").stat().st_mode & 0o777 == 0o755
    assert container.applied()["push_id"] == "p1"
    assert (world.volume.launcher / "push_id").read_text() == "p1\n"
    peer.say("keep", push_id="p1")  # said twice, answered twice
    peer.hear("kept", push_id="p1")


def test_the_application_knows_which_push_it_runs(world: World) -> None:
    tells = {"run.sh": script('echo "<$CODESYNC_PUSH_ID|$BIFROST_PUSH_ID>"\nexec sleep 1000\n')}
    container, peer = started(world, tells)
    peer.push("p1", tells, {**tells, "more": b""})

    container.wait_for_output(b"<|>\n<p1|p1>\n")


def test_a_health_check_that_passes_makes_a_push_healthy(world: World) -> None:
    container, peer = started(world, health="cmd:test ! -e slow || test -e up")
    new = {**ONE, "slow": b"", "run.sh": script("sleep 0.1; touch up; exec sleep 1000")}
    verdict = peer.push("p1", ONE, new)

    assert (verdict["verdict"], verdict["healthy"]) == ("keep", True)
    assert verdict["timings_ms"]["health"] >= 100
    assert container.status()["state"] == "healthy"


def test_old_bytecode_does_not_run_though_size_and_second_are_the_same(world: World) -> None:
    starts = script(f"exec {sys.executable} main.py\n")
    old: Files = {
        "run.sh": starts,
        "main.py": b"import word\n",
        "word.py": b"import signal\nprint(1, flush=True)\nsignal.pause()\n",
    }
    new: Files = {**old, "word.py": b"import signal\nprint(2, flush=True)\nsignal.pause()\n"}
    container = world.container(old)
    container.start(env={"PYTHONDONTWRITEBYTECODE": ""})
    peer = container.connect_ready()
    container.wait_for_output(b"1\n")
    assert list((container.root / "__pycache__").iterdir())
    peer.push("p1", old, new)

    container.wait_for_output(b"1\n2\n")


# --- undone ----------------------------------------------------------------------------------------------------


def test_a_push_that_crashes_is_undone_and_shows_its_traceback(world: World) -> None:
    container, peer = started(world, settle=1)
    crash = b"def main():\n    raise RuntimeError('no database')\n\nmain()\n"
    bad = {**ONE, "run.sh": script(f"echo starting\nexec {sys.executable} -S app.py\n"), "app.py": crash}
    verdict = peer.push("p1", ONE, bad)

    assert (verdict["verdict"], verdict["healthy"], verdict["exit_code"], verdict["signal"]) == (
        "undone",
        False,
        1,
        None,
    )
    assert verdict["reason"] == "the application ended with exit code 1 before it was settled"
    assert verdict["log_tail"][0] == "starting"
    assert verdict["log_tail"][-1] == "RuntimeError: no database"
    assert any("line 2, in main" in line for line in verdict["log_tail"])
    container.wait_for_output(b"one\nstarting\none\n")
    assert container.holds(ONE)
    assert container.applied()["push_id"] == ""


def test_a_push_that_is_killed_is_undone_and_names_the_signal(world: World) -> None:
    container, peer = started(world)
    verdict = peer.push("p1", ONE, runs("x", **{"run.sh": script("kill -SEGV $$")}))

    assert (verdict["verdict"], verdict["exit_code"], verdict["signal"]) == ("undone", None, signal.SIGSEGV)
    assert container.holds(ONE)


def test_a_push_that_never_gets_healthy_is_undone_after_the_health_timeout(world: World) -> None:
    container, peer = started(world, health="cmd:test ! -e sick", options=("--health-timeout", "0.2"))
    verdict = peer.push("p1", ONE, {**TWO, "sick": b""})

    assert (verdict["verdict"], verdict["exit_code"], verdict["signal"]) == ("undone", None, None)
    assert verdict["reason"] == "cmd:test ! -e sick did not pass within 0.2 s: exit code 1"
    assert verdict["log_tail"] == ["two"]
    assert container.holds(ONE)


def test_a_push_without_its_command_is_undone(world: World) -> None:
    container, peer = started(world)
    verdict = peer.push("p1", ONE, {"lib/same.txt": b"same"})

    assert verdict["verdict"] == "undone"
    assert verdict["reason"] == "the application cannot be started: ./run.sh: No such file or directory"
    container.wait_for_output(b"one\none\n")
    assert container.holds(ONE)


def test_the_tail_is_that_of_the_tried_process_and_bounded(world: World) -> None:
    container, peer = started(world, runs("old"))
    loud = runs(
        "x",
        **{"run.sh": script("head -c 1000000 /dev/zero | tr '\\0' 'z' | fold -w 99\necho last >&2; exit 3")},
    )
    verdict = peer.push("p1", runs("old"), loud)

    assert "old" not in verdict["log_tail"]
    assert "last" in verdict["log_tail"]
    assert len(verdict["log_tail"]) == 200
    assert container.out.read_bytes().count(b"z") == 1_000_000


def test_workers_that_ignore_term_do_not_keep_their_port_from_the_next_start(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = (
        b"import os, signal, socket, sys\n"
        b"server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        b"print('serving', flush=True)\n"
        b"if os.fork():\n    os.wait()\n"
        b"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        b"while True:\n    server.accept()\n"
    )
    image: Files = {"run.sh": script(f"exec {sys.executable} -S server.py {port}\n"), "server.py": server}
    check = f"tcp://127.0.0.1:{port}"
    container, peer = started(world, image, health=check, options=("--stop-timeout", "0.1"))
    container.wait_for_output(b"serving\n")
    verdict = peer.push("p1", image, {**image, "more": b""})

    assert (verdict["verdict"], verdict["log_tail"]) == ("keep", ["serving"])


# --- refused before the application is touched -----------------------------------------------------------------


def test_what_cannot_be_staged_never_stops_the_application(world: World) -> None:
    container, peer = started(world)
    pid = container.status()["pid"]

    world.volume.plan("p1", ONE, TWO, base="0" * 64)
    peer.say("try", push_id="p1", deadline_s=30)
    stale = peer.hear("verdict", push_id="p1")
    assert (stale["verdict"], stale["pid"]) == ("undone", None)
    assert stale["reason"].startswith(
        "the push cannot be staged: the push is made against tree 000000000000, here is"
    )

    world.volume.plan("p2", ONE, TWO)
    (world.volume.sidecar / "trial/files/0").write_bytes(b"tampered")
    peer.say("try", push_id="p2", deadline_s=30)
    assert "run.sh" in peer.hear("verdict", push_id="p2", verdict="undone")["reason"]

    peer.say("try", push_id="p3", deadline_s=30)
    assert (
        peer.hear("verdict", push_id="p3", verdict="undone")["reason"]
        == "the plan on the volume is of push 'p2'"
    )

    (world.volume.sidecar / "trial/plan.json").write_bytes(b"{")
    peer.say("try", push_id="p4", deadline_s=30)
    assert "no JSON" in peer.hear("verdict", push_id="p4", verdict="undone")["reason"]

    assert container.holds(ONE)
    assert container.status()["pid"] == pid


def test_the_mark_is_not_for_pushes_to_change(world: World) -> None:
    container, peer = started(world)
    mark = (container.root / ".codesync-instance").read_bytes()
    verdict = peer.push("p1", ONE, {**TWO, ".codesync-instance": b"mine"})

    assert verdict["verdict"] == "undone"
    assert ".codesync-instance, which is the launcher's own" in verdict["reason"]
    assert (container.root / ".codesync-instance").read_bytes() == mark


# --- drift -----------------------------------------------------------------------------------------------------


def test_what_somebody_else_changed_is_overwritten_and_named(world: World) -> None:
    image = runs("one", edited=b"1", touched=b"1", gone=b"1", doomed=b"1", same=b"1")
    new = runs("two", edited=b"2", touched=b"2", gone=b"2", same=b"2", unknown=b"2", twin=b"2")
    container, peer = started(world, image)
    for name, data in {"edited": b"my", "doomed": b"my", "unknown": b"?", "twin": b"2", "same": b"2"}.items():
        (container.root / name).write_bytes(data)
    (container.root / "gone").unlink()
    os.utime(container.root / "touched")
    verdict = peer.push("p1", image, new)

    assert verdict["verdict"] == "keep"
    assert verdict["drift"] == [b64(name) for name in ("doomed", "edited", "gone", "unknown")]
    peer.keep("p1", new)
    assert container.holds(new)


def test_a_directory_that_somebody_removed_comes_back_with_the_push(world: World) -> None:
    image = {**ONE, "a/b/c": b"1"}
    new = {**image, "a/b/d": b"2", "a/e": b"3"}
    container, peer = started(world, image)
    (container.root / "a/b/c").unlink()
    (container.root / "a/b").rmdir()
    (container.root / "a").rmdir()
    verdict = peer.push("p1", image, new)

    assert verdict["verdict"] == "keep", verdict["reason"]
    assert verdict["drift"] == [b64("a"), b64("a/b")]
    peer.keep("p1", new)
    assert container.holds({**ONE, "a/b/d": b"2", "a/e": b"3"})


# --- the decision ----------------------------------------------------------------------------------------------


def test_the_sidecar_may_undo_what_was_healthy(world: World) -> None:
    container, peer = started(world)
    peer.push("p1", ONE, TWO)
    peer.say("undo", push_id="p1")

    assert peer.hear("undone", push_id="p1")["app"]["state"] == "running"
    container.wait_for_output(b"one\ntwo\none\n")
    assert container.holds(ONE)
    peer.say("undo", push_id="p1")  # said twice, answered twice
    peer.hear("undone", push_id="p1")


def test_an_undo_is_heard_while_the_application_gets_healthy(world: World) -> None:
    container, peer = started(world, settle=60)
    world.volume.plan("p1", ONE, TWO)
    peer.say("try", push_id="p1", deadline_s=60)
    peer.hear("progress", stage="health")
    peer.say("undo", push_id="p1")

    assert peer.hear("verdict", push_id="p1")["reason"].startswith("the push was called off")
    peer.hear("undone", push_id="p1")
    assert container.holds(ONE)


def test_nobody_deciding_until_the_deadline_is_an_undo(world: World) -> None:
    container, peer = started(world)
    assert peer.push("p1", ONE, TWO, deadline_s=0.4)["verdict"] == "keep"

    peer.hear("undone", push_id="p1")
    assert container.holds(ONE)


def test_the_deadline_ends_a_trial_that_is_not_judged_yet(world: World) -> None:
    container, peer = started(world, settle=60)
    verdict = peer.push("p1", ONE, TWO, deadline_s=0.2)

    assert verdict["reason"].startswith("the deadline passed before the application was settled")
    assert container.holds(ONE)


def test_a_lost_sidecar_that_has_committed_means_keep(world: World) -> None:
    container, peer = started(world)
    peer.push("p1", ONE, TWO)
    world.volume.commit(TWO, "p1")
    peer.close()
    peer, hello = container.connect()
    while hello["trial"]:
        peer.close()
        peer, hello = container.connect()

    assert hello["push_id"] == "p1"
    assert container.holds(TWO)


def test_a_lost_sidecar_that_has_not_committed_means_undo_but_only_at_the_deadline(world: World) -> None:
    container, peer = started(world)
    peer.push("p1", ONE, TWO, deadline_s=1)
    peer.close()
    peer, hello = container.connect()
    assert hello["trial"] == "p1"
    assert peer.hear("verdict", push_id="p1")["verdict"] == "keep"  # told again to whoever may have missed it
    peer.hear("undone", push_id="p1")

    assert container.holds(ONE)


def test_a_sidecar_that_comes_back_may_decide(world: World) -> None:
    container, peer = started(world)
    peer.push("p1", ONE, TWO)
    peer.close()
    peer, _ = container.connect()
    peer.keep("p1", TWO)

    assert container.holds(TWO)


def test_a_verdict_nobody_heard_is_told_to_the_next_who_connects(world: World) -> None:
    container, peer = started(world, settle=0.2)
    world.volume.plan("p1", ONE, runs("x", **{"run.sh": script("echo oops; exit 4")}))
    peer.say("try", push_id="p1", deadline_s=30)
    peer.hear("progress", stage="stop")
    peer.close()
    container.wait_for_output(b"one\noops\none\n")
    peer, hello = container.connect()

    assert peer.hear("verdict", push_id="p1")["exit_code"] == 4
    assert hello["push_id"] == ""


def test_a_commit_that_comes_after_the_deadline_is_brought_in_after_all(world: World) -> None:
    container, peer = started(world)
    peer.push("p1", ONE, TWO, deadline_s=0.2)
    peer.hear("undone", push_id="p1")
    peer.keep("p1", TWO)

    assert container.holds(TWO)
    container.wait_for_output(b"one\ntwo\none\ntwo\n")


def test_one_trial_at_a_time(world: World) -> None:
    container, peer = started(world)
    verdict = peer.push("p1", ONE, TWO)
    peer.say("try", push_id="p2", deadline_s=30)
    assert "busy with the trial of push p1" in peer.hear("error", push_id="p2")["message"]
    peer.say("keep", push_id="p2")
    peer.hear("error", push_id="p2")
    peer.say("try", push_id="p1", deadline_s=30)  # asked again, told again

    assert peer.hear("verdict", push_id="p1") == verdict
    peer.keep("p1", TWO)
    assert container.holds(TWO)


# --- the application or the launcher ends in the middle --------------------------------------------------------


def test_an_application_that_ends_after_its_verdict_waits_for_the_decision(world: World) -> None:
    quits = runs("x", **{"run.sh": script("read -r _ < go; exit 6")})
    container, peer = started(world, health="cmd:true")
    os.mkfifo(container.root / "go")
    peer.push("p1", ONE, quits)
    (container.root / "go").write_bytes(b"\n")
    assert peer.hear_app("exited")["exit_code"] == 6
    peer.keep("p1", quits)

    crash = peer.hear("crashed", push_id="p1")
    assert (crash["exit_code"], crash["signal"], crash["restarts"]) == (6, None, 0)
    peer.hear_app("healthy")


def test_and_an_undo_brings_the_old_code_back(world: World) -> None:
    quits = runs("x", **{"run.sh": script("read -r _ < go; exit 6")})
    container, peer = started(world, health="cmd:true")
    os.mkfifo(container.root / "go")
    peer.push("p1", ONE, quits)
    (container.root / "go").write_bytes(b"\n")
    peer.hear_app("exited")
    peer.say("undo", push_id="p1")
    peer.hear("undone", push_id="p1")

    container.wait_for_output(b"one\none\n")


def test_a_launcher_that_is_told_to_stop_leaves_the_old_tree(world: World) -> None:
    container, peer = started(world, settle=60)
    world.volume.plan("p1", ONE, TWO)
    peer.say("try", push_id="p1", deadline_s=60)
    peer.hear("progress", stage="health")

    assert container.stop() == 128 + signal.SIGTERM
    assert container.holds(ONE)


def test_a_launcher_that_is_told_to_stop_leaves_a_committed_tree(world: World) -> None:
    container, peer = started(world)
    peer.push("p1", ONE, TWO)
    world.volume.commit(TWO, "p1")

    assert container.stop() == 128 + signal.SIGTERM
    assert container.holds(TWO)
    assert container.applied()["push_id"] == "p1"


def test_an_application_that_ends_while_a_push_is_staged_does_not_hinder_the_push(world: World) -> None:
    quits = runs("x", **{"run.sh": script("echo up; read -r _ < go; exit 8"), "go.txt": b""})
    container = world.container(quits)
    os.mkfifo(container.root / "go")
    container.start()
    peer = container.connect_ready()
    container.wait_for_output(b"up")
    big = {**ONE, **{f"big/{number}": os.urandom(200_000) for number in range(100)}}
    world.volume.plan("p1", quits, big)
    peer.say("try", push_id="p1", deadline_s=60)
    peer.hear("progress", stage="apply")
    (container.root / "go").write_bytes(b"\n")

    assert peer.hear("verdict")["verdict"] == "keep"
    container.wait_for_output(b"one")


def test_a_trial_of_an_http_server_goes_through_in_a_moment(world: World, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    image: Files = {"index.html": b"one"}
    container = world.container(image)
    check = f"http://127.0.0.1:{port}/"
    container.start(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", health=check)
    peer = container.connect_ready()
    peer.hear_app("healthy")
    start = time.monotonic()
    verdict = peer.push("p1", image, {"index.html": b"two"})

    assert (verdict["verdict"], verdict["healthy"]) == ("keep", True)
    assert time.monotonic() - start < 10
