"""Strict pods: two users with one group, read-only root, no capabilities, namespaces of their own. It works or says why not."""

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.harness import Chain, content, tree_of
from tests.chain.pods import (
    APPLICATION,
    LAUNCHER,
    SHARED,
    SIDECAR,
    Pod,
    User,
    container,
    first_process,
    require_root,
    without_group,
)


@pytest.fixture
def pod(chain: Chain) -> Iterator[Pod]:
    """A pod with the proxy outside, no container started yet."""
    chain.start_proxy()
    pod = Pod(chain)
    yield pod
    pod.close()


def start(pod: Pod) -> None:
    pod.start_sidecar()
    pod.start_launcher()
    pod.chain.wait_ready()
    pod.chain.wait("generation 0", lambda: (pod.files / "current/main.py").exists() or None)


def owners(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory, name)
            yield path, path.lstat()


def test_a_pod_is_strict_indeed(pod: Pod) -> None:
    start(pod)
    for name, user in (("sidecar-one", SIDECAR), ("launcher-one", APPLICATION)):
        first = first_process(pod.chain.processes.pid(name))
        told = dict(line.split(":\t", 1) for line in Path(f"/proc/{first}/status").read_text().splitlines())
        assert told["Uid"].split() == [str(user.uid)] * 4
        assert sorted(map(int, told["Groups"].split())) == [user.gid, SHARED]
        assert {told[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert told["NoNewPrivs"] == "1"
        assert told["NSpid"].split()[-1] == "1"
        inside = Path(f"/proc/{first}/root")
        assert all(os.statvfs(inside / path).f_flag & os.ST_RDONLY for path in ("", "etc", "usr"))
    assert pod.files.stat().st_mode & stat.S_ISGID


def test_a_push_is_a_delta_against_the_image_and_everything_belongs_to_whom_it_should(pod: Pod) -> None:
    start(pod)
    pod.chain.write("content.py", content("pushed"))
    pod.chain.write("new/deep/file.txt", "new")
    result = pod.chain.push()
    assert result.status == "healthy"
    assert result.files.added == 1
    assert result.files.modified == 1
    assert pod.chain.replicas["one"].ask() == "pushed"
    assert tree_of(pod.app) == tree_of(pod.chain.source)
    assert tree_of(pod.files / "current") == tree_of(pod.chain.source)
    assert {found.st_uid for _, found in owners(pod.app)} == {APPLICATION.uid}
    assert {found.st_uid for _, found in owners(pod.files / "current")} == {SIDECAR.uid}
    strange = [path for path, found in owners(pod.files) if found.st_gid != SHARED]
    assert strange == []
    assert pod.notes() == []


def test_a_crash_is_rolled_back_and_a_push_goes_back_by_hand(pod: Pod) -> None:
    start(pod)
    pod.chain.write("content.py", content("good"))
    pod.chain.push()
    pod.chain.write("content.py", "raise RuntimeError('no such thing')\n")
    result = pod.chain.push()
    assert result.status == "rolled_back"
    assert any("RuntimeError: no such thing" in line for line in result.replicas[0].log_tail)
    pod.chain.wait_answer("good")
    pod.chain.write("content.py", content("better"))
    pod.chain.write("static/0.txt", "better")
    assert pod.chain.push().status == "healthy"
    assert pod.chain.rollback().status == "healthy"
    assert pod.chain.replicas["one"].ask() == "good"
    assert (pod.app / "static/0.txt").read_bytes() == (pod.chain.image / "static/0.txt").read_bytes()


def test_either_container_comes_back_in_namespaces_of_its_own(pod: Pod) -> None:
    start(pod)
    pod.chain.write("content.py", content("first"))
    assert pod.chain.push().status == "healthy"
    pod.kill("launcher-one")
    pod.start_launcher()
    pod.chain.wait_answer("first")
    pod.chain.wait_ready()
    pod.kill("sidecar-one")
    pod.start_sidecar()
    pod.chain.wait_ready()
    pod.chain.write("content.py", content("second"))
    assert pod.chain.push().status == "healthy"
    pod.terminate("launcher-one")
    pod.chain.replace_container()
    pod.give(pod.app, APPLICATION)
    pod.start_launcher()
    pod.chain.wait_answer("second")
    pod.chain.wait_ready()
    assert tree_of(pod.app) == tree_of(pod.chain.source)
    assert pod.notes() == []


def test_the_launcher_may_be_there_first(pod: Pod) -> None:
    pod.start_launcher()
    pod.chain.wait_answer("the image")
    pod.start_sidecar()
    pod.chain.wait_ready()
    pod.chain.write("content.py", content("pushed"))
    assert pod.chain.push().status == "healthy"


def test_the_launcher_of_the_volume_serves_an_image_without_codesync(pod: Pod) -> None:
    pod.start_sidecar()
    pod.chain.wait(
        "the launcher on the volume", lambda: (pod.files / ".sidecar/launcher.pyz").exists() or None
    )
    pod.start_launcher(launcher=["/usr/bin/env", "python3", str(pod.files / ".sidecar/launcher.pyz")])
    pod.chain.wait_ready()
    pod.chain.write("content.py", content("pushed"))
    assert pod.chain.push().status == "healthy"


def test_candidates_run_beside_the_old_code_in_a_strict_pod_too(pod: Pod) -> None:
    listen = ("--reload", "blue-green", "--listen", f"127.0.0.1:{pod.port}")
    pod.start_sidecar()
    pod.start_launcher(*listen, "--health", "http://127.0.0.1:{port}/health")
    pod.chain.wait_ready()
    pod.chain.write("content.py", content("pushed"))
    assert pod.chain.push().status == "healthy"
    assert pod.chain.replicas["one"].ask() == "pushed"
    pod.chain.write("content.py", "raise RuntimeError('no such thing')\n")
    assert pod.chain.push().status == "rolled_back"
    assert pod.chain.replicas["one"].ask() == "pushed"
    roots = pod.files / ".launcher/roots"
    assert roots.stat().st_mode & 0o777 == 0o700
    assert {found.st_uid for _, found in owners(roots)} == {APPLICATION.uid}


@pytest.mark.parametrize("where", ["", "static"])
def test_an_application_that_another_user_owns_is_told_in_one_line(pod: Pod, where: str) -> None:
    pod.give(pod.app / where, User(0, (0,)))
    pod.start_sidecar()
    pod.start_launcher()
    pod.chain.wait_answer("the image")
    note = pod.wait_note("cannot write")
    path = pod.app / where if where else pod.app
    assert note == (
        f"uid 10002 (groups 10002, {SHARED}) cannot write {path} (owner 0:0, mode 0755): "
        f"chown -R 10002 {pod.app} in the image, or set securityContext.runAsUser to its owner"
    )
    for name in ("launcher-one", "sidecar-one"):
        assert pod.log(name).count(note) == 1


def test_a_read_only_application_directory_is_told_in_one_line(pod: Pod) -> None:
    pod.start_sidecar()
    pod.start_launcher(read_only=True)
    pod.chain.wait_answer("the image")
    note = pod.wait_note("read-only")
    assert note.startswith(f"{pod.app} is on a read-only file system: mount a writable volume there")
    assert pod.log("launcher-one").count(note) == 1


@pytest.mark.parametrize("first", ["launcher", "sidecar"])
@pytest.mark.parametrize("lacking", ["launcher", "sidecar", "both"])
def test_a_group_that_is_not_shared_is_told_in_one_line(pod: Pod, first: str, lacking: str) -> None:
    pod.give_volume(0 if lacking == "both" else SHARED, 0o777 if lacking == "both" else 0o2777)
    if lacking != "launcher":
        pod.sidecar = without_group(SIDECAR)
    if lacking != "sidecar":
        pod.application = without_group(APPLICATION)
    starts = [pod.start_launcher, pod.start_sidecar]
    (starts if first == "launcher" else starts[::-1])[0]()
    if first == "launcher":
        pod.chain.wait_answer("the image")
    else:
        pod.chain.wait("a replica", lambda: pod.chain.status().replicas or None)
    (starts if first == "launcher" else starts[::-1])[1]()
    pod.chain.wait_answer("the image")
    note = pod.wait_note("give both containers one group: securityContext.fsGroup in the pod")
    guilty = "launcher-one" if "uid 10002" in note else "sidecar-one"
    assert pod.log(guilty).count(note) == 1


def test_what_was_missing_is_no_more_told_once_it_is_given(pod: Pod) -> None:
    pod.give(pod.app, User(0, (0,)))
    start_order = (pod.start_sidecar, pod.start_launcher)
    for begin in start_order:
        begin()
    pod.wait_note("cannot write")
    pod.kill("launcher-one")
    pod.give(pod.app, APPLICATION)
    pod.start_launcher()
    pod.chain.wait_ready()
    pod.chain.wait("no note", lambda: True if not pod.notes() else None)
    pod.chain.write("content.py", content("pushed"))
    assert pod.chain.push().status == "healthy"


# --- a launcher alone -----------------------------------------------------------------------------------------

INIT = """\
echo "started as $PPID" >&2
(setsid sh -c 'sleep 0.05' &)
trap 'sleep 0.2; echo ended; echo /proc/[0-9]*; exit 7' TERM
echo ready
while :; do sleep 0.01; done
"""


def test_without_a_volume_the_launcher_is_a_good_init_that_needs_to_write_nowhere(tmp_path: Path) -> None:
    require_root()
    (tmp_path / "app").mkdir()
    (tmp_path / "app/run.sh").write_text(INIT)
    command = [*LAUNCHER, "--", "sh", "run.sh"]
    arguments = container(tmp_path / "root", APPLICATION, tmp_path / "app", [], command)
    environ = {"PATH": os.environ["PATH"], "CODESYNC_APP_ROOT": str(tmp_path / "app")}
    with subprocess.Popen(arguments, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == b"ready\n", process.stderr.read()
            os.kill(first_process(process.pid), signal.SIGTERM)
            said = process.stdout.read().decode().splitlines()
            notes = process.stderr.read().decode().splitlines()
            status = process.wait(20)
        finally:
            process.kill()  # and with it the namespace
    assert status == 7
    assert said[0] == "ended"
    assert len(said[1].split()) == 2, "the launcher and the shell: no zombie, nobody else's process"
    reason = "no volume at /app-files (No such file or directory)"
    ours = [line for line in notes if line.startswith("codesync")]
    assert ours == [f"codesync: {reason}; the application runs, but nothing can be pushed"]
    assert "started as 1" in notes
