"""A push through the whole chain: what arrives, what is answered, what stays."""

import os
from pathlib import Path

from tests.chain.harness import Chain, content, tree_of


def test_a_change_is_served_and_costs_next_to_nothing(chain: Chain) -> None:
    chain.start()
    chain.wait_answer("the image")
    chain.write("content.py", content("new"))
    result = chain.push()
    assert (result.status, result.generation) == ("healthy", 1)
    assert (result.files.added, result.files.modified, result.files.deleted) == (0, 1, 0)
    assert result.bytes.sent < 600 < result.bytes.tree
    assert chain.replicas["one"].ask() == "new"
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)
    assert tree_of(chain.replicas["one"].current).keys() == tree_of(chain.source).keys()


def test_a_push_without_changes_restarts_nothing(chain: Chain) -> None:
    chain.start()
    pid = chain.wait_ready().replicas[0].app["pid"]
    assert chain.push().status == "no_changes"
    assert chain.push().status == "no_changes"
    assert chain.status().replicas[0].app["pid"] == pid


def test_without_a_health_check_the_application_is_said_to_be_running(chain: Chain) -> None:
    chain.start(health=False)
    chain.write("content.py", content("new"))
    assert chain.push().status == "running"
    chain.wait_answer("new")


def test_every_kind_of_change_arrives(chain: Chain) -> None:
    (chain.image / "old").mkdir()
    for number in range(20):
        (chain.image / "old" / f"{number}.py").write_text(f"print({number})\n" * 100)
    (chain.image / ".hidden").write_text("dotfiles count\n")
    (chain.image / "gone.txt").write_text("x")
    (chain.image / "tool").write_text("#!/bin/sh\n")
    (chain.image / "was-file").write_text("x")
    (chain.image / "link").symlink_to("gone.txt")
    chain.start()
    source = chain.source
    for path in chain.image.rglob("*"):  # the developer has it all
        target = source / path.relative_to(chain.image)
        if path.is_symlink():
            target.symlink_to(path.readlink())
        elif path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(path.read_bytes())
    assert chain.push().status == "no_changes"
    (source / "old").rename(source / "new")
    (source / ".hidden").write_text("changed\n")
    (source / "gone.txt").unlink()
    (source / "tool").chmod(0o755)
    (source / "was-file").unlink()
    (source / "was-file").mkdir()
    (source / "was-file" / "inside").write_text("y")
    (source / "link").unlink()
    (source / "link").symlink_to("nowhere")
    (source / "empty").mkdir()
    Path(os.fsdecode(os.fsencode(source) + b"/na\xff\nme")).write_text("odd name")
    result = chain.push()
    assert result.status == "healthy"
    assert result.files.renamed == 20
    assert result.bytes.sent < 2000
    app = chain.replicas["one"].app
    assert tree_of(app) == tree_of(source)


def test_what_the_push_does_not_know_is_left_alone(chain: Chain) -> None:
    chain.start()
    app = chain.replicas["one"].app
    (app / "uploads").mkdir()
    (app / "uploads" / "picture").write_text("of a user")
    chain.write("content.py", content("new"))
    assert chain.push().status == "healthy"
    assert (app / "uploads" / "picture").read_text() == "of a user"


def test_a_file_that_somebody_changed_in_the_container_is_named(chain: Chain) -> None:
    chain.start()
    chain.push()
    (chain.replicas["one"].app / "content.py").write_text(content("by hand"))
    chain.write("content.py", content("new"))
    result = chain.push()
    assert (result.status, result.files.drift) == ("healthy", ["content.py"])


def test_ignored_files_are_not_sent_and_fifos_are_named(chain: Chain) -> None:
    chain.start()
    chain.write(".gitignore", "*.log\n")
    chain.write("noise.log", "x" * 100)
    os.mkfifo(chain.source / "pipe")
    result = chain.push()
    assert result.status == "healthy"
    assert result.files.skipped == ["pipe: fifo"]
    assert not (chain.replicas["one"].app / "noise.log").exists()


def test_a_dry_run_changes_nothing(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", content("new"))
    result = chain.push(dry_run=True)
    assert (result.status, result.files.modified, result.bytes.sent) == ("planned", 1, 0)
    assert chain.replicas["one"].ask() == "the image"
    assert chain.status().replicas[0].generation == 0


def test_a_large_file_is_sent_as_a_delta_and_a_forgotten_tree_is_asked_for(chain: Chain) -> None:
    data = os.urandom(3_000_000)
    (chain.image / "model.bin").write_bytes(data)
    chain.start()
    (chain.source / "model.bin").write_bytes(data[:1_500_000] + b"an insertion" + data[1_500_000:])
    result = chain.push()  # this client has never seen the replica's tree
    assert result.status == "healthy"
    assert result.bytes.sent < 20_000
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)


def test_a_push_is_idempotent_by_its_id(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", content("new"))
    first = chain.push(push_id="push-1")
    again = chain.push(push_id="push-1")
    assert (first.status, again.status) == ("healthy", "healthy")
    assert chain.status().replicas[0].generation == 1


def test_rollback_goes_back_and_forth(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", content("first"))
    first = chain.push()
    (chain.source / "static" / "0.txt").unlink()
    chain.write("content.py", content("second"))
    second = chain.push()
    back = chain.rollback()
    assert (back.status, back.generation) == ("healthy", 3)
    assert chain.replicas["one"].ask() == "first"
    assert (chain.replicas["one"].app / "static" / "0.txt").read_text().startswith("file 0")
    assert chain.rollback(second.push_id).status == "healthy"
    assert chain.replicas["one"].ask() == "second"
    assert chain.rollback(first.push_id).status == "healthy"
    assert chain.replicas["one"].ask() == "first"
    history = chain.status().replicas[0].history
    assert [past.generation for past in history] == [0, 1, 2, 3, 4, 5]
    assert history[-1].restores == first.push_id


def test_after_a_rollback_the_next_push_arrives(chain: Chain) -> None:
    chain.start()
    chain.write("content.py", content("first"))
    chain.push()
    chain.rollback()
    chain.wait_answer("the image")
    chain.write("content.py", content("second"))
    assert chain.push().status == "healthy"
    assert tree_of(chain.replicas["one"].app) == tree_of(chain.source)


def test_a_change_of_modes_alone_arrives_where_modes_are_exact(chain: Chain) -> None:
    chain.start()
    chain.push()
    (chain.source / "content.py").chmod(0o600)
    assert chain.push().status == "no_changes"
    assert chain.push(modes="exact").status == "healthy"
    assert (chain.replicas["one"].app / "content.py").stat().st_mode & 0o777 == 0o600


def test_the_launchers_mark_is_not_pushed(chain: Chain) -> None:
    chain.start()
    mark = (chain.replicas["one"].app / ".codesync-instance").read_bytes()
    (chain.source / ".codesync-instance").write_bytes(b"copied out of another container")
    chain.write("content.py", content("new"))
    result = chain.push()
    assert result.status == "healthy"
    assert result.files.skipped == [".codesync-instance: the launcher's own mark"]
    assert (chain.replicas["one"].app / ".codesync-instance").read_bytes() == mark
