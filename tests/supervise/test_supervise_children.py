"""Every child is reaped, and whole sessions are signalled."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from codesync.supervise import Exit

PRELUDE = """
    import os, signal, subprocess, sys, time
    from codesync.supervise import Children, Loop, Signals, become_subreaper
    loop, children = Loop(), Children()
    Signals(loop).on(signal.SIGCHLD, lambda _: children.reap())
    become_subreaper()
    session_lives, signal_session = children.session_lives, children.signal_session
    exits = []
    def spawn(script):
        return children.spawn(["bash", "-c", script], exits.append, cwd="/", env=os.environ, stdout=1, stderr=2)
    def wait(ready):
        assert loop.wait(ready, loop.clock() + 10), "waited in vain"
    def patient(ready):  # for what sends no signal
        for _ in range(1000):
            if ready():
                return
            loop.wait(lambda: False, loop.clock() + 0.01)
        raise AssertionError("waited in vain")
"""


def run(code: str) -> str:
    """Run a little supervisor: what it and its children print."""
    script = textwrap.dedent(PRELUDE) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_exit_is_a_code_or_a_signal_and_has_a_shells_status() -> None:
    assert Exit.of(3 << 8) == Exit(3, None)
    assert Exit.of(signal.SIGKILL) == Exit(None, signal.SIGKILL)
    assert (Exit(3, None).status, Exit(None, 15).status) == (3, 143)
    assert [str(Exit(3, None)), str(Exit(None, 15)), str(Exit(None, 63))] == [
        "exit code 3",
        "signal SIGTERM",
        "signal 63",
    ]


def test_every_child_tells_its_own_exit() -> None:
    out = run("""
        for code in (0, 1, 77):
            spawn("exit %d" % code)
        spawn("kill -KILL $$")
        wait(lambda: len(exits) == 4)
        print(sorted(map(str, exits)))
    """)

    assert out.strip() == "['exit code 0', 'exit code 1', 'exit code 77', 'signal SIGKILL']"


def test_orphaned_grandchildren_are_reaped_too() -> None:
    run("""
        spawn("(sleep 0.05 & sleep 0.06 &) ; setsid sleep 0.07 & exit 0")
        wait(lambda: exits)
        def none_left():
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
        wait(none_left)
    """)


def test_a_session_lives_as_long_as_one_of_its_group_does() -> None:
    run("""
        pid = spawn("(trap '' TERM; echo ready; exec sleep 100) & exit 0")
        wait(lambda: exits)
        assert session_lives(pid)
        signal_session(pid, signal.SIGKILL)
        wait(lambda: not session_lives(pid))
    """)


def test_jobs_with_groups_of_their_own_belong_to_the_session() -> None:
    out = run("""
        pid = spawn("set -m; sleep 100 & jobs -p; exit 0")
        wait(lambda: exits)
        assert session_lives(pid), "the job is ours now, and of that session"
        signal_session(pid, signal.SIGTERM)
        wait(lambda: not session_lives(pid))
        print("gone")
    """)

    job, gone = out.split()
    assert gone == "gone"
    assert not Path(f"/proc/{job}").exists()


def test_a_child_has_a_session_of_its_own() -> None:
    out = run("""
        print(spawn("exit 0") and "", flush=True)
        spawn("ps -o sid= -p $$; echo $$")
        wait(lambda: len(exits) == 2)
    """)

    session, pid = out.split()
    assert session == pid
    assert int(session) != os.getsid(0)
