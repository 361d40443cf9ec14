"""The launcher with a volume: starts, restarts, fresh containers, and what is said on the socket."""

import json
import os
import shutil
import signal
from pathlib import Path

from tests.launcher.world import Files, Volume, World, b64, with_parents


def script(text: str) -> bytes:
    return b"#!/bin/bash\n" + text.encode()


def runs(word: str, **more: bytes) -> Files:
    """A tree whose application says `word` and stays."""
    return {"run.sh": script(f"echo {word}\nexec sleep 1000\n"), **more}


ONE, TWO = runs("one"), runs("two")


# --- a first start, generation 0 -------------------------------------------------------------------------------


def test_a_first_start_hands_over_what_the_image_brought(world: World) -> None:
    image = {
        **ONE,
        "lib/a": b"a",
        "link": "lib",
        ".git/x": b"",
        "sub/node_modules/x": b"",
        ".venv/x": b"",
        "lib/__pycache__/x": b"",
    }
    container = world.container(image)
    container.start()
    peer, hello = container.connect()
    applied = container.applied()

    assert {name: hello[name] for name in ("version", "applied", "push_id", "health", "trial")} == {
        "version": 1, "applied": None, "push_id": "", "health": False, "trial": None,
    }  # fmt: skip
    assert hello["pid"] == int((world.volume.launcher / "launcher.pid").read_text())
    assert hello["app"]["pid"] == container.status()["pid"]
    assert hello["app_root"] == str(container.root)
    assert (hello["instance"], hello["image"]) == (applied["instance"], applied["image"])
    assert (world.volume.launcher / "instance").read_text() == hello["instance"] + "\n"
    if hello["gen0"] == "copying":
        peer.hear("gen0", state="ready")
    record = world.volume.json(".launcher/gen0.json")
    assert (record["image"], record["instance"]) == (hello["image"], hello["instance"])
    assert [entry[0] for entry in record["entries"]] == [
        b64(name) for name in ("lib", "lib/a", "link", "run.sh", "sub")
    ]
    assert record["left_out"] == [
        b64(name) for name in (".git", ".venv", "lib/__pycache__", "sub/node_modules")
    ]

    tree_id = peer.adopt()
    peer.say("keep", push_id="never heard of")  # an answer to this shows that `adopted` has been dealt with
    peer.hear("error")
    assert container.applied()["tree_id"] == tree_id
    assert not (world.volume.launcher / "gen0").exists()
    assert not (world.volume.launcher / "gen0.json").exists()


def test_the_files_on_the_volume_are_for_the_group(world: World) -> None:
    container = world.container(ONE)
    container.start()
    peer, hello = container.connect()
    if hello["gen0"] == "copying":
        peer.hear("gen0", state="ready")

    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in world.volume.launcher.iterdir()}
    assert modes.pop("launcher.sock") == "0o660"
    assert modes.pop("gen0") == "0o2770"
    assert set(modes.values()) == {"0o640"}
    assert oct(world.volume.launcher.stat().st_mode & 0o7777) == "0o2770"


def test_what_the_application_changed_before_it_was_copied_is_left_out(world: World) -> None:
    image = {**ONE, "db": b"from the image"}
    container = world.container(image)
    # killed before it could copy anything, the application writes, and the same container starts again
    container.start("sh", "-c", "kill -STOP $PPID; echo mine > db; rm -f gone; kill -KILL $PPID")
    container.wait()
    shutil.rmtree(world.volume.launcher / "gen0", ignore_errors=True)
    (world.volume.launcher / "gen0.json").unlink(missing_ok=True)
    image_before = container.applied()["image"]
    container.start()
    peer, hello = container.connect()
    if hello["gen0"] == "copying":
        peer.hear("gen0", state="ready")

    assert hello["image"] == image_before
    record = world.volume.json(".launcher/gen0.json")
    assert b64("db") in record["left_out"]
    assert [entry[0] for entry in record["entries"]] == [b64("run.sh")]


def test_generation_0_is_offered_again_until_somebody_takes_it(world: World) -> None:
    container = world.container(ONE)
    container.start()
    peer, hello = container.connect()
    if hello["gen0"] == "copying":
        peer.hear("gen0", state="ready")
    container.stop()
    container.start()
    peer, again = container.connect()

    assert (again["gen0"], again["instance"]) == ("ready", hello["instance"])


# --- later starts ----------------------------------------------------------------------------------------------


def test_a_restart_applies_what_was_stored_meanwhile_before_the_application_runs(world: World) -> None:
    container = world.container({**ONE, "db": b"0"})
    container.start()
    container.connect_ready()
    container.stop()
    (container.root / "db").write_bytes(b"grown")
    world.volume.commit({**TWO, "db": b"0", "new": b"n"}, "p1")
    container.start()
    _, hello = container.connect()

    assert container.wait_for_output(b"one\ntwo\n") == b"one\ntwo\n"
    assert (hello["push_id"], hello["applied"]) == ("p1", world.volume.state["committed"]["tree_id"])
    assert container.holds({**TWO, "db": b"grown", "new": b"n"})


def test_a_fresh_container_of_the_same_image_gets_the_committed_tree(world: World) -> None:
    image = {**ONE, "old": b"o", "stays": b"s"}
    new = {**TWO, "stays": b"s"}
    first = world.container(image)
    first.start()
    peer = first.connect_ready()
    peer.push("p1", image, new)
    peer.keep("p1", new)
    before = first.applied()["instance"]
    first.stop()
    second = world.container(image)
    second.start()
    _, hello = second.connect()

    assert second.wait_for_output(b"two\n") == b"two\n"
    assert second.holds(new)
    assert (hello["gen0"], hello["push_id"]) == ("none", "p1")
    assert hello["instance"] == second.applied()["instance"] != before


def test_another_image_starts_anew_with_its_own_code(world: World) -> None:
    first = world.container(ONE)
    first.start()
    peer = first.connect_ready()
    peer.push("p1", ONE, TWO)
    peer.keep("p1", TWO)
    first.stop()
    three = runs("three")
    second = world.container(three)
    second.start()
    peer, hello = second.connect()

    assert second.wait_for_output(b"three\n") == b"three\n"
    assert hello["applied"] is None
    assert hello["gen0"] in ("copying", "ready")
    assert b"made for another image" in second.err.read_bytes()
    second.stop()
    second.start()  # the sidecar has not taken it yet: still its own code
    second.connect_ready()
    assert second.wait_for_output(b"three\nthree\n") == b"three\nthree\n"
    assert second.holds(three)


def test_pushes_stored_before_any_launcher_ran_are_put_on_top_of_the_image(world: World) -> None:
    world.volume.commit(TWO, "p1")
    container = world.container({**ONE, "data": b"of the image"})
    container.start()
    _, hello = container.connect()

    assert container.wait_for_output(b"two\n") == b"two\n"
    assert container.holds({**TWO, "data": b"of the image"})
    assert (hello["gen0"], hello["push_id"]) == ("none", "p1")


DAMAGED = (
    b"{",
    b"[]",
    b'{"version": 2}',
    b'{"version": 1, "committed": {"tree_id": "../x", "push_id": "p"}}',
)


def test_a_state_that_cannot_be_read_does_not_keep_the_application_from_starting(world: World) -> None:
    world.volume.sidecar.mkdir()
    for damage in DAMAGED:
        (world.volume.sidecar / "state").write_bytes(damage)
        container = world.container(ONE)
        container.start()
        container.wait_for_output(b"one\n")
        assert b"what is committed cannot be read" in container.err.read_bytes()
        assert b"nothing can be pushed" in container.err.read_bytes()
        assert not (container.root / ".codesync-instance").exists()
        container.stop()


def test_after_a_restart_it_leaves_the_tree_as_it_is_and_offers_nothing(world: World) -> None:
    container = world.container(ONE)
    container.start()
    peer = container.connect_ready()
    peer.push("p1", ONE, TWO)
    peer.keep("p1", TWO)
    container.stop()
    (world.volume.sidecar / "state").write_bytes(b"{")
    container.start()
    peer, hello = container.connect()

    assert (hello["gen0"], hello["push_id"]) == ("none", "p1")
    assert b"the tree stays as it is" in container.err.read_bytes()
    peer.say("apply")
    assert "is not applied" in peer.hear("error")["message"]
    assert container.holds(TWO)


def test_a_committed_tree_with_missing_content_leaves_the_old_one(world: World) -> None:
    container = world.container(ONE)
    container.start()
    container.connect_ready()
    container.stop()
    world.volume.commit(TWO, "p1")
    (world.volume.root / "current/run.sh").unlink()
    container.start()
    peer, hello = container.connect()

    assert hello["push_id"] == ""
    assert b"the committed tree is not applied" in container.err.read_bytes()
    assert container.holds(ONE)
    world.volume.commit(TWO, "p1")  # now it is whole, and the sidecar says so
    peer.say("apply")
    assert peer.hear("applied")["tree_id"] == world.volume.state["committed"]["tree_id"]
    assert container.holds(TWO)


def test_a_manifest_that_is_lost_costs_deletions_and_nothing_else(world: World) -> None:
    image = {**ONE, "old": b"o"}
    container = world.container(image)
    container.start()
    peer = container.connect_ready()
    gen0 = world.volume.state["gen0"]
    peer.say("keep", push_id="x")
    peer.hear("error")
    container.stop()
    (world.volume.sidecar / "manifest" / f"{gen0}.json").unlink()
    world.volume.commit(TWO, "p1")
    container.start()
    container.connect()

    assert container.holds({**TWO, "old": b"o"})
    assert b"may stay" in container.err.read_bytes()


def test_a_journal_from_the_future_stops_pushes_but_not_the_application(world: World) -> None:
    container = world.container(ONE)
    staging = container.root / ".codesync-0123456789abcdef"
    staging.mkdir()
    (staging / "magic").write_bytes(b"codesync staging 1\n")
    (staging / "journal").write_bytes(json.dumps({"version": 99}).encode())
    container.start()
    peer = container.connect_ready()
    verdict = peer.push("p1", ONE, TWO)

    assert verdict["verdict"] == "undone"
    assert "cannot be recovered" in verdict["reason"]
    shutil.rmtree(staging)
    world.volume.commit(TWO, "p2")
    peer.say("apply")
    peer.hear("applied")
    assert container.holds(TWO)


# --- apply and SIGHUP ------------------------------------------------------------------------------------------


def test_sighup_applies_what_is_committed_and_restarts(world: World) -> None:
    container = world.container(ONE)
    container.start()
    peer = container.connect_ready()
    world.volume.commit(TWO, "p1")
    container.signal(signal.SIGHUP)

    assert peer.hear("applied")["tree_id"] == world.volume.state["committed"]["tree_id"]
    container.wait_for_output(b"one\ntwo\n")
    assert container.holds(TWO)


def test_sighup_restarts_even_where_nothing_changes(world: World) -> None:
    container = world.container(ONE)
    container.start()
    container.connect_ready()
    container.wait_for_output(b"one\n")
    container.signal(signal.SIGHUP)

    container.wait_for_output(b"one\none\n")


def test_apply_waits_for_a_trial_to_end(world: World) -> None:
    container = world.container(ONE)
    container.start()
    peer = container.connect_ready()
    peer.push("p1", ONE, TWO)
    peer.say("apply")
    peer.keep("p1", TWO)
    peer.hear("applied")

    container.wait_for_output(b"one\ntwo\ntwo\n")


# --- the socket ------------------------------------------------------------------------------------------------


def test_a_second_connection_replaces_the_first(world: World) -> None:
    container = world.container(ONE)
    container.start()
    first = container.connect_ready()
    second, hello = container.connect()

    assert hello["type"] == "hello"
    while first.next():
        pass  # whatever was said, the end comes
    second.say("keep", push_id="x")
    second.hear("error")


def test_who_does_not_greet_is_not_obeyed(world: World) -> None:
    container = world.container(ONE)
    container.start()
    peer = container.peer()
    peer.hear("hello")
    peer.say("apply")
    assert peer.hear("error")["message"] == "say hello first, in version 1"
    peer.say("hello", version=2)
    assert "version 1, not 2" in peer.hear("error")["message"]
    peer.say("apply")
    peer.hear("error")

    assert container.out.read_bytes() in (b"", b"one\n")


def test_nonsense_is_answered_with_an_error_and_hurts_nobody(world: World) -> None:
    container = world.container(ONE)
    container.start()
    peer, _ = container.connect()
    for data in (
        b"\n",
        b"{}\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b'{"type":"what"}\n',
        b'{"type":"try","push_id":"a\\u0000"}\n',
    ):
        peer.say_raw(data)
        peer.hear("error")
    peer.say_raw(b"x" * (1024 * 1024 + 1) + b"\n")
    assert "at most" in peer.hear("error")["message"]
    assert peer.next() is None
    peer, _ = container.connect()


def test_a_volume_with_a_long_path_has_a_socket_all_the_same(world: World, tmp_path: Path) -> None:
    volume = Volume(tmp_path / ("long" * 40) / ("path" * 40))
    container = world.container(ONE, volume)
    container.start()
    peer = container.connect_ready()
    peer.push("p1", ONE, TWO)
    peer.keep("p1", TWO)

    assert len(str(volume.launcher)) > 300
    assert container.holds(TWO)


def test_a_second_launcher_leaves_the_volume_to_the_first(world: World) -> None:
    first, second = world.container(ONE), world.container(TWO)
    first.start()
    peer = first.connect_ready()
    second.start()
    second.wait_for_output(b"two\n")

    assert b"another launcher uses the volume" in second.err.read_bytes()
    peer.push("p1", ONE, TWO)
    peer.keep("p1", TWO)
    assert second.stop() == 143
    assert first.holds(TWO)


def test_a_volume_inside_the_applications_directory_is_no_part_of_it(world: World) -> None:
    container = world.container(ONE)
    container.volume = Volume(container.root / "volume")
    container.start()
    peer, hello = container.connect()
    if hello["gen0"] == "copying":
        peer.hear("gen0", state="ready")

    assert [entry[0] for entry in container.volume.json(".launcher/gen0.json")["entries"]] == [b64("run.sh")]


def test_the_end_is_recorded_and_the_socket_gone(world: World) -> None:
    container = world.container(runs("x", **{"run.sh": script("exit 3")}))
    container.start()

    assert container.wait() == 3
    status = container.status()
    assert (status["state"], status["exit_code"], status["signal"]) == ("exited", 3, None)
    assert not (world.volume.launcher / "launcher.sock").exists()


def test_the_tree_is_what_its_name_says(world: World) -> None:
    """The imitation's own reading and writing of trees agree, or the tests above would show nothing."""
    files = {**ONE, "a/b/c": b"x", "l": "a", "e": None}
    container = world.container(files)
    assert container.tree() == with_parents(files)
    assert os.readlink(container.root / "l") == "a"
