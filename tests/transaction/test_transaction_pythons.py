"""The package runs in old application images: Python 3.8, nothing but the standard library."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2]
SCENARIO = """
import hashlib, io, os, sys
sys.path.insert(0, sys.argv[1])
from codesync.transaction import *
root = os.fsencode(sys.argv[2])
def put(path, data):
    return Change(path, FILE, 0o640, 10**18, len(data), hashlib.sha256(data).hexdigest())
def stage(number):
    t = Transaction.begin(root, "push-%d" % number)
    for change in bytecode(Root(root), [put(b"m.py", b"2")]):
        t.add(Change.from_json(change.to_json()))
    t.copy(put(b"m.py", b"2"), io.BytesIO(b"2"))
    with t.create(put(b"d/n\\xff", b"n")) as file:
        file.write(b"n")
    t.add(Change(b"d", DIRECTORY, 0o555))
    t.add(Change(b"link", SYMLINK, target=b"d"))
    t.add(Change(b"gone", DELETE))
    t.add(Change(b"x", ATTRIBUTES, 0o755, 10**18))
    t.prepare()
    t.rename(sync=False)
    t.sync()
    return t
os.mkdir(root)
for name in ("m.py", "gone", "x"):
    with open(os.path.join(sys.argv[2], name), "w") as file:
        file.write("1")
before = sorted(os.listdir(root)), os.stat(root).st_mtime_ns
t = stage(1)
print(sorted(os.listdir(root))[1:])
t.undo()
assert (sorted(os.listdir(root)), os.stat(root).st_mtime_ns) == before
if os.fork() == 0:
    stage(2)
    os._exit(0)
os.wait()
print([tuple(found) for found in recover(root, lambda id: id == "push-2")])
try:
    Change.from_json({"path": "Li4=", "kind": "delete"})
except UnsafePath as error:
    print(type(error).__name__)
print(sorted(os.listdir(root)), oct(os.stat(root + b"/d").st_mode), os.stat(root + b"/m.py").st_mtime_ns)
"""
EXPECTED = """[b'd', b'link', b'm.py', b'x']
[('push-2', 'kept')]
UnsafePath
[b'd', b'link', b'm.py', b'x'] 0o40555 1000000000000000000
"""


def pythons(version: str) -> list[str]:
    found = sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python")))
    return found or [path for path in [shutil.which(f"python{version}")] if path]


def runs(python: str, place: Path) -> None:
    command = [python, "-W", "error", "-B", "-c", SCENARIO, str(PACKAGE), str(place / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (EXPECTED, ""), python


def test_it_runs_on_python_3_8(tmp_path: Path) -> None:
    found = pythons("3.8")
    assert found, "no Python 3.8 here: install one (pyenv install 3.8) or put python3.8 on the PATH"
    runs(found[0], tmp_path)


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_it_runs_on_whatever_else_is_here(tmp_path: Path, version: str) -> None:
    for python in pythons(version)[:1]:
        runs(python, tmp_path)


def test_nothing_in_it_is_newer_than_python_3_8() -> None:
    vermin = [sys.executable, "-c", "import vermin; vermin.main()", "-t=3.8-", "--no-tips"]
    command = [*vermin, str(PACKAGE / "codesync" / "transaction")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_imports_nothing_but_the_standard_library() -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import codesync.transaction; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-I", "-S", "-c", script, str(PACKAGE)]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    strangers = (
        {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"__main__", "codesync"}
    )
    assert strangers == set()
    assert {name for name in modules if name.startswith("codesync.")} == {
        name for name in modules if name.startswith("codesync.transaction")
    }
