"""The ways to reload but blue-green, crashes after a push, hooks and logs: real processes, the sidecar played."""

import json
import os
from typing import Any

import pytest

from tests.launcher.world import Container, Files, Peer, World

MASTER = b"""#!/bin/bash
# a master that loads its code when it is told to: a worker of its own for each generation
load() {
  old=$worker
  bash ./worker.sh & worker=$!
  [ -z "$old" ] || kill "$old"
}
trap load HUP
trap 'kill $worker; exit 0' TERM
echo master $$
load
while :; do wait; done
"""


STARTED = "the application is started"


def script(text: str) -> bytes:
    return b"#!/bin/bash\n" + text.encode()


def worker(word: str, more: str = "") -> Files:
    text = f"echo {word}; {more}\ntouch ready.{word}\nexec sleep 1000\n"
    return {"run.sh": MASTER, "worker.sh": script(text)}


def runs(word: str) -> Files:
    return {"run.sh": script(f"echo {word}\nexec sleep 1000\n")}


def dies(seconds: str, status: int = 3) -> Files:
    return {"run.sh": script(f"echo dying; sleep {seconds}; echo last words >&2; exit {status}\n")}


def started(world: World, image: Files, *options: str, **more: Any) -> tuple[Container, Peer]:
    container = world.container(image)
    container.start(options=options, **more)
    return container, container.connect_ready()


def push(world: World, peer: Peer, push_id: str, old: Files, new: Files, *hooks: dict[str, Any]) -> Any:
    """Have a push with these hooks tried: the verdict."""
    world.volume.plan(push_id, old, new, hooks=hooks)
    peer.say("try", push_id=push_id, deadline_s=30)
    return peer.hear("verdict", push_id=push_id)


# --- signal and none -------------------------------------------------------------------------------------------


def test_a_signal_keeps_the_master_and_replaces_its_workers(world: World) -> None:
    old, new = worker("one"), worker("two")
    container, peer = started(world, old, "--reload", "signal:HUP", settle=5, health="cmd:test -e ready.two")
    container.wait_for_output(b"one\n")
    master = container.status()["pid"]
    verdict = push(world, peer, "p1", old, new)

    assert (verdict["verdict"], verdict["healthy"], verdict["pid"]) == ("keep", True, master)
    assert verdict["log_tail"] == ["two"]
    assert verdict["healthy_ms"] is not None
    assert container.wait_for_output(b"two\n").count(b"master") == 1


def test_a_signal_that_ends_badly_is_followed_by_another_for_the_old_code(world: World) -> None:
    old, new = worker("one"), worker("two", "exit 1")
    container, peer = started(
        world,
        old,
        "--reload",
        "signal:HUP",
        "--health-timeout",
        "0.2",
        settle=0.2,
        health="cmd:test ! -e bad",
    )
    container.wait_for_output(b"one\n")
    verdict = push(world, peer, "p1", old, {**new, "bad": b""})

    assert verdict["verdict"] == "undone"
    assert "did not pass within 0.2 s" in verdict["reason"]
    assert verdict["healthy_ms"] is None  # not the old code's, which is judged in the same process
    assert container.wait_for_output(b"two\none\n").count(b"master") == 1
    assert (container.root / "worker.sh").read_bytes() == old["worker.sh"]


def test_a_master_that_dies_of_the_signal_is_started_with_the_old_code(world: World) -> None:
    old = worker("one")
    new = {
        **old,
        "run.sh": MASTER,
        "worker.sh": script("echo broken >&2; kill -KILL $PPID\nexec sleep 1000\n"),
    }
    container, peer = started(world, old, "--reload", "signal:HUP", settle=0.3)
    container.wait_for_output(b"one\n")
    verdict = push(world, peer, "p1", old, new)

    assert verdict["verdict"] == "undone"
    assert "ended with signal SIGKILL" in verdict["reason"]
    assert "broken" in verdict["log_tail"]
    assert container.wait_for_output(b"one\n").count(b"master") == 2


def test_none_leaves_the_reloading_to_the_application(world: World) -> None:
    old = {
        "run.sh": script("while :; do [ -e new ] && echo seen && rm new; read -t 0.05 <> <(:); done"),
        "x": b"1",
    }
    container, peer = started(world, old, "--reload", "none", settle=0.3)
    pid = container.status()["pid"]
    verdict = push(world, peer, "p1", old, {**old, "new": b""})

    assert (verdict["verdict"], verdict["pid"], verdict["timings_ms"]["stop"]) == ("keep", pid, 0)
    container.wait_for_output(b"seen")


def test_the_sidecar_is_told_of_the_way(world: World) -> None:
    container = world.container(runs("one"))
    container.start(options=("--reload", "signal:sighup"))
    assert container.connect()[1]["reload"] == "signal:HUP"


# --- after a push ----------------------------------------------------------------------------------------------


def test_a_crash_after_a_kept_push_is_told_and_started_again(world: World) -> None:
    old, new = runs("one"), dies("0.2")
    container, peer = started(world, old)
    assert push(world, peer, "p1", old, new)["verdict"] == "keep"
    peer.keep("p1", new)

    first = peer.hear("crashed", push_id="p1")
    assert (first["exit_code"], first["restarts"], first["log_tail"]) == (3, 0, ["dying", "last words"])
    assert first["after_ms"] >= 200
    assert "next_start" in peer.hear_app("exited")
    assert peer.hear("crashed", push_id="p1")["restarts"] == 1
    assert container.connect()[1]["crash"]["restarts"] >= 1


def test_a_push_into_a_crash_loop_works(world: World) -> None:
    old, bad, good = runs("one"), dies("0.1"), runs("mended")
    container, peer = started(world, old)
    push(world, peer, "p1", old, bad)
    peer.keep("p1", bad)
    peer.hear("crashed", push_id="p1")

    assert push(world, peer, "p2", bad, good)["verdict"] == "keep"
    peer.keep("p2", good)
    container.wait_for_output(b"mended")
    assert container.connect()[1]["crash"] is None


def test_an_image_that_fails_at_its_start_waits_for_a_push_where_a_sidecar_is(world: World) -> None:
    bad, good = dies("0.1"), runs("mended")
    world.volume.sidecar.mkdir()
    (world.volume.sidecar / "lock").touch()
    container, peer = started(world, bad)
    peer.hear_app("exited")

    assert push(world, peer, "p1", bad, good)["verdict"] == "keep"
    container.wait_for_output(b"mended")


def test_code_that_fails_stays_where_that_was_asked_for(world: World) -> None:
    old, bad = runs("one"), dies("0", 4)
    container, peer = started(world, old, "--on-failure", "keep")
    verdict = push(world, peer, "p1", old, bad)

    assert (verdict["verdict"], verdict["failed"], verdict["exit_code"]) == ("keep", True, 4)
    assert "ended with exit code 4" in verdict["reason"]
    assert verdict["log_tail"] == ["dying", "last words"]
    peer.keep("p1", bad)
    assert peer.hear("crashed", push_id="p1")["exit_code"] == 4
    assert (container.root / "run.sh").read_bytes() == bad["run.sh"]

    assert push(world, peer, "p2", bad, old)["failed"] is False


# --- hooks -----------------------------------------------------------------------------------------------------


def hook(moment: str, run: str, seconds: float = 10) -> dict[str, Any]:
    return {"run": run, "moment": moment, "seconds": seconds}


def test_hooks_run_in_order_each_at_its_moment_and_are_reported(world: World) -> None:
    old, new = runs("one"), {**runs("two"), "word": b"new\n"}
    container, peer = started(world, {**old, "word": b"old\n"})
    verdict = push(
        world,
        peer,
        "p1",
        {**old, "word": b"old\n"},
        new,
        hook("after_healthy", "echo last >> order; echo $CODESYNC_PUSH_ID"),
        hook("before_start", "cat word >> order; echo out; echo err >&2"),
        hook("before_stop", "cat word >> order"),
        hook("before_start", "echo second >> order"),
    )

    assert verdict["verdict"] == "keep"
    assert (container.root / "order").read_text().split() == ["old", "new", "second", "last"]
    reports = verdict["hooks"]
    assert [report["moment"] for report in reports] == [
        "before_stop",
        "before_start",
        "before_start",
        "after_healthy",
    ]
    assert sorted(reports[1]["output"]) == ["err", "out"]
    assert reports[3]["output"] == ["p1"]
    assert all((report["exit_code"], report["reason"]) == (0, "") for report in reports)
    assert "hook" in verdict["timings_ms"]


def test_a_hook_that_fails_before_the_start_brings_the_old_tree_back(world: World) -> None:
    old = runs("one")
    container, peer = started(world, old)
    never = hook("before_start", "touch never")
    verdict = push(
        world, peer, "p1", old, runs("two"), hook("before_start", "echo no such package; exit 7"), never
    )

    assert verdict["verdict"] == "undone"
    assert verdict["reason"] == "the hook `echo no such package; exit 7` ended with exit code 7"
    assert [report["output"] for report in verdict["hooks"]] == [["no such package"]]
    container.wait_for_output(b"one\nno such package\none\n")
    assert container.holds(old)


def test_a_hook_that_fails_before_the_stop_leaves_the_application_alone(world: World) -> None:
    old = runs("one")
    container, peer = started(world, old)
    pid = container.status()["pid"]
    verdict = push(world, peer, "p1", old, runs("two"), hook("before_stop", "exit 1"))

    assert (verdict["verdict"], verdict["timings_ms"].get("stop")) == ("undone", None)
    assert container.status()["pid"] == pid


def test_a_hook_has_its_time_and_leaves_nothing_behind(world: World) -> None:
    old = runs("one")
    container, peer = started(world, old)
    verdict = push(
        world, peer, "p1", old, runs("two"), hook("before_start", "echo $$ > pid; sleep 1000", 0.3)
    )

    assert verdict["reason"] == "the hook `echo $$ > pid; sleep 1000` did not end within 0.3 s"
    assert verdict["hooks"][0]["exit_code"] is None
    pid = container.wait_for_output(b"one")  # the old code runs again, so the hook is gone
    assert pid
    with pytest.raises(ProcessLookupError):
        os.killpg(int((container.root / "pid").read_text()), 0)


def test_a_hook_that_fails_after_the_check_changes_nothing_but_its_report(world: World) -> None:
    old, new = runs("one"), runs("two")
    _, peer = started(world, old)
    verdict = push(world, peer, "p1", old, new, hook("after_healthy", "exit 2"))

    assert (verdict["verdict"], verdict["failed"]) == ("keep", False)
    assert verdict["hooks"][0]["reason"] == "ended with exit code 2"


def test_a_push_that_is_called_off_stops_its_hook(world: World) -> None:
    old = runs("one")
    container, peer = started(world, old)
    world.volume.plan("p1", old, runs("two"), hooks=[hook("before_start", "echo begun; sleep 1000", 60)])
    peer.say("try", push_id="p1", deadline_s=60)
    container.wait_for_output(b"begun")
    peer.say("undo", push_id="p1")

    assert "was stopped: the push was called off" in peer.hear("verdict")["reason"]
    peer.hear("undone", push_id="p1")


def committed_with_hooks(
    world: World, files: Files, *hooks: dict[str, Any], pushes: tuple[str, ...] = ("p1",)
) -> None:
    world.volume.write_state(hooks=hooks, history=[{"push_id": push_id} for push_id in ("", *pushes)])
    world.volume.commit(files, pushes[-1])


def test_a_fresh_container_runs_what_its_pushes_have_called_for(world: World) -> None:
    old, new = runs("one"), {**runs("two"), "requirements.txt": b"flask"}
    container, _ = started(world, old)
    container.stop()
    run = {"push_id": "p1", **hook("before_start", "cat requirements.txt > installed")}
    committed_with_hooks(world, new, run)
    fresh = world.container(old)
    fresh.start()
    fresh.wait_for_output(b"two")
    assert (fresh.root / "installed").read_bytes() == b"flask"
    fresh.crash()
    (fresh.root / "installed").unlink()
    fresh.start()  # the same container: it has run them
    fresh.connect()
    fresh.wait_for_output(b"two\ntwo")
    assert not (fresh.root / "installed").exists()


def test_a_container_that_was_away_runs_the_hooks_of_what_it_has_missed(world: World) -> None:
    old, one, two = runs("one"), runs("two"), runs("three")
    container, peer = started(world, old)
    push(world, peer, "p1", old, one)
    peer.keep("p1", one)
    container.stop()
    hooks = [{"push_id": name, **hook("before_start", f"echo {name} >> ran")} for name in ("p1", "p2")]
    committed_with_hooks(world, two, *hooks, pushes=("p1", "p2"))
    container.start()
    container.wait_for_output(b"three")
    assert (container.root / "ran").read_text() == "p2\n"


def test_pushes_that_are_brought_in_late_have_their_hooks_run(world: World) -> None:
    old, new = runs("one"), runs("two")
    container, peer = started(world, old)
    committed_with_hooks(world, new, {"push_id": "p1", **hook("before_start", "touch ran; exit 1")})
    peer.say("apply")
    peer.hear("applied")
    assert (container.root / "ran").exists()
    container.wait_for_output(b"two")
    assert "ended with exit code 1" in container.connect()[1]["notes"][-1]


# --- what leaves the container -----------------------------------------------------------------------------------


def lines(message: Any) -> list[tuple[str, str, str]]:
    return [(stream, push_id, text) for _, stream, push_id, text in message["lines"] if text != STARTED]


def test_the_output_of_all_runs_can_be_asked_for(world: World) -> None:
    old, new = runs("one"), runs("two")
    container, peer = started(world, old)
    container.wait_for_output(b"one\n")
    push(world, peer, "p1", old, new)
    container.wait_for_output(b"two\n")

    peer.say("logs", request=1, lines=100, since_push="", follow=False)
    assert lines(peer.hear("log", request=1, last=True)) == [("stdout", "", "one"), ("stdout", "p1", "two")]
    peer.say("logs", request=2, lines=100, since_push="p1")
    found = peer.hear("log", request=2, last=True)
    assert (lines(found), found["known"]) == ([("stdout", "p1", "two")], True)
    peer.say("logs", request=3, lines=1, since_push="p9")
    found = peer.hear("log", request=3, last=True)
    assert (lines(found), found["known"]) == ([("stdout", "p1", "two")], False)


def test_whatever_an_application_writes_fits_into_the_conversation(world: World) -> None:
    flood = "for i in $(seq 40); do head -c 60000 /dev/zero | tr '\\0' '\\1'; echo; done; "
    old, new = runs("one"), {"run.sh": script(flood + "exit 3")}
    _, peer = started(world, old, settle=20)
    verdict = push(world, peer, "p1", old, new, hook("before_start", flood))
    assert (verdict["verdict"], verdict["exit_code"]) == ("undone", 3)
    assert max(len(json.dumps(message)) for message in peer.heard) <= 1024 * 1024
    peer.say("logs", request=1, lines=1000, since_push="", follow=True)
    peer.hear("log", request=1)
    peer.say("logs", request=2, lines=1000, since_push="", follow=False)
    peer.hear("log", request=2, last=True)


def test_a_signal_that_nobody_heeds_is_no_healthy_push(world: World) -> None:
    old = {"run.sh": script("trap '' HUP; echo up; sleep 1000 & wait; wait")}
    _, peer = started(
        world, old, "--reload", "signal:HUP", "--health-timeout", "0.3", settle=0.1, health="cmd:true"
    )
    verdict = push(world, peer, "p1", old, {**old, "x": b"1"})
    assert (verdict["verdict"], verdict["back"]) == ("undone", True)
    assert "none of its 1 processes was replaced within 0.3 s of signal:HUP" in verdict["reason"]


@pytest.mark.parametrize("end", ["undo", "deadline"])
def test_waiting_for_a_signal_to_be_heeded_ends_with_the_push(world: World, end: str) -> None:
    old = {"run.sh": script("trap '' HUP; echo up; sleep 1000 & wait; wait")}
    _, peer = started(
        world, old, "--reload", "signal:HUP", "--health-timeout", "60", settle=0.1, health="cmd:false"
    )
    world.volume.plan("p1", old, {**old, "x": b"1"})
    peer.say("try", push_id="p1", deadline_s=30 if end == "undo" else 0.5)
    peer.hear("progress", stage="start")
    if end == "undo":
        peer.say("undo", push_id="p1")
    reason = peer.hear("verdict", push_id="p1")["reason"]
    assert reason.startswith("the push was called off" if end == "undo" else "the deadline passed before")


def test_what_hooks_write_stays_where_that_was_asked_for(world: World) -> None:
    old = runs("one")
    _, peer = started(world, old, "--no-log-tail")
    verdict = push(world, peer, "p1", old, runs("two"), hook("before_start", "echo secret"))
    assert [report["output"] for report in verdict["hooks"]] == [[]]


def test_an_apply_is_not_lost_to_a_push_that_is_called_off(world: World) -> None:
    old, new = runs("one"), runs("two")
    _, peer = started(world, old)
    target = world.volume.commit(new, "p1")
    world.volume.plan("p2", old, old)
    peer.say("apply")
    peer.say("try", push_id="p2", deadline_s=30)
    peer.say("undo", push_id="p2")
    assert peer.hear("applied")["tree_id"] == target


def test_the_old_code_that_does_not_come_back_is_told(world: World) -> None:
    world.volume.sidecar.mkdir()
    (world.volume.sidecar / "lock").touch()
    old = dies("0.1")
    _, peer = started(world, old, settle=0.5)
    assert push(world, peer, "p1", old, dies("0.1", 4))["back"] is False


def test_output_can_be_followed_until_nobody_wants_it(world: World) -> None:
    old = {"run.sh": script("while read -r line < pipe; do echo $line; done; sleep 1000")}
    container, peer = started(world, old, "--probation", "0")
    os.mkfifo(container.root / "pipe")
    container.crash()
    container.start()
    peer, _ = container.connect()
    peer.say("logs", request=1, lines=10, since_push="", follow=True)
    peer.hear("log", request=1, last=False)
    (container.root / "pipe").write_text("hello\n")
    while ("stdout", "", "hello") not in lines(peer.hear("log", request=1, last=False)):
        pass
    peer.say("logs_end", request=1)
    peer.say("logs", request=2, lines=10, since_push="", follow=False)
    assert ("stdout", "", "hello") in lines(peer.hear("log", request=2, last=True))


def test_nothing_leaves_the_container_where_that_was_asked_for(world: World) -> None:
    old = runs("one")
    _, peer = started(world, old, "--no-log-tail")
    assert push(world, peer, "p1", old, dies("0"))["log_tail"] == []
    peer.say("logs", request=1, lines=10, since_push="")
    assert [text for *_, text in lines(peer.hear("log", last=True))] == [
        "the launcher was started with --no-log-tail: what the application writes stays there"
    ]


def test_a_launcher_is_told_to_stop_while_the_application_waits_for_its_next_start(world: World) -> None:
    old, bad = runs("one"), dies("0.1")
    container, peer = started(world, old)
    push(world, peer, "p1", old, bad)
    peer.keep("p1", bad)
    peer.hear("crashed", push_id="p1")
    assert container.stop() == 3
