"""Batches of random trees and edits, with real rsync's batches and a plain copy as the judges."""

import os
import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from codesync.delta import Entry, Signature, apply_batch, inspect_batch, scan, signature, write_batch
from tests.delta.edited import KINDS, edited

NAMES = [b"a", b"b", b"c.py", b"a-", b"a.d", b"README", b"\xff\n", b" x"]
FILE_MODES, DIRECTORY_MODES = [0o644, 0o600, 0o755, 0o444], [0o755, 0o700]
# rsync takes times within one second for the same
TIMES = [0, 10**18, 10**18 + 10**9 + 1, 1_600_000_000_123_456_789, 1_700_000_000_000_000_001]

# Nodes are lists, changed in place: kind; content, target or children; mode; mtime
Node = list[Any]


def made(random: Random, depth: int = 3) -> Node:
    time = random.choice(TIMES)
    kind = random.choice("dddfffffl" if depth else "fffl")
    if kind == "d":
        names = random.sample(NAMES, random.randrange(5))
        return ["d", {name: made(random, depth - 1) for name in names}, random.choice(DIRECTORY_MODES), time]
    if kind == "l":
        return ["l", random.choice([b"a", b"../x", b"/nowhere"]), 0, time]
    return ["f", content(random), random.choice(FILE_MODES), time]


def content(random: Random) -> bytes:
    if not random.randrange(4):
        return random.choice([b"", b"1", b"two\n"])
    high = random.choice([200, 3000, 30_000, 200_000])
    return edited(random.choice(sorted(KINDS)), random.randrange(40), high // 2, high)[0]


def rooted(random: Random) -> Node:
    names = random.sample(NAMES, random.randrange(2, 7))
    return ["d", {name: made(random) for name in names}, 0o755, random.choice(TIMES)]


def directories(node: Node) -> list[Node]:
    return [node, *(found for child in node[1].values() if child[0] == "d" for found in directories(child))]


def copied(node: Node) -> Node:
    if node[0] != "d":
        return node[:]
    return [node[0], {name: copied(child) for name, child in node[1].items()}, *node[2:]]


def changed(random: Random, tree: Node) -> Node:
    """The tree after some edits, renames, removals and changes of kind."""
    tree = copied(tree)
    for _ in range(random.choice([1, 3, 10])):
        parent = random.choice(directories(tree))
        names = sorted(parent[1])
        name = random.choice(names) if names else b"new"
        match random.choice(["edit", "edit", "move", "move", "copy", "remove", "add", "attributes"]):
            case "edit" if names and parent[1][name][0] == "f":
                node = parent[1][name]
                at = random.randrange(len(node[1]) + 1)
                node[1] = node[1][:at] + random.randbytes(9) + node[1][at + random.choice([0, 9, 700]) :]
                node[3] += 10**10
            case "move" if names:
                node = parent[1].pop(name)
                random.choice(directories(tree))[1][random.choice(NAMES)] = node
            case "copy" if names:
                random.choice(directories(tree))[1][random.choice(NAMES)] = copied(parent[1][name])
            case "remove" if names:
                del parent[1][name]
            case "attributes" if names and parent[1][name][0] != "l":
                node = parent[1][name]
                node[2] = random.choice(DIRECTORY_MODES if node[0] == "d" else FILE_MODES)
                node[3] = random.choice(TIMES)
            case _:
                parent[1][random.choice(NAMES)] = made(random, 1)
    return tree


def build(path: bytes, node: Node) -> None:
    kind, inner, mode, mtime = node
    if kind == "d":
        os.mkdir(path, 0o700)
        for name, child in inner.items():
            build(path + b"/" + name, child)
    elif kind == "f":
        with open(path, "wb") as file:
            file.write(inner)
    else:
        os.symlink(inner, path)
    if kind != "l":
        os.chmod(path, mode)
    os.utime(path, ns=(0, mtime), follow_symlinks=False)


def found(path: bytes, *, inner: bool = False) -> Node:
    """The tree that stands there. A batch says nothing of the root's own mtime."""
    status = os.lstat(path)
    if os.path.islink(path):
        return ["l", os.readlink(path), 0, status.st_mtime_ns]
    mode = status.st_mode & 0o7777
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            return ["f", file.read(), mode, status.st_mtime_ns]
    children = {name: found(path + b"/" + name, inner=True) for name in sorted(os.listdir(path))}
    return ["d", children, mode, status.st_mtime_ns if inner else 0]


def run(*command: str | bytes) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def by_rsync(place: bytes, source: bytes, destination: bytes) -> None:
    """Make one tree like the other by a batch, as rsync's manual says."""
    options = ["rsync", "-a", "--checksum", "--delete"]
    run(*options, b"--only-write-batch=" + place + b"/batch", source + b"/", destination + b"/")
    run(*options, b"--read-batch=" + place + b"/batch", destination + b"/")


def held(root: bytes) -> Callable[[Entry], BinaryIO | None]:
    return lambda entry: open(root + b"/" + entry.path, "rb")


def signatures(root: bytes) -> dict[bytes, Signature]:
    found: dict[bytes, Signature] = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, root)] = signature(file)
    return found


def by_batch(source: bytes, destination: bytes, **options: Any) -> bytes:
    before, after = scan(destination), scan(source)
    out = BytesIO()
    summary = write_batch(out, source, before, after, exact=True, **options)
    info = inspect_batch(BytesIO(out.getvalue()))
    assert (info.literal_bytes, info.copied_bytes) == (summary.literal_bytes, summary.copied_bytes)
    assert apply_batch(BytesIO(out.getvalue()), destination, durable=False) == after
    return out.getvalue()


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 1 << 32))
def test_a_batch_makes_the_same_tree_as_rsyncs_batch_and_a_copy(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    random = Random(seed)
    base = rooted(random)
    target = changed(random, base) if random.randrange(5) else rooted(random)
    place = os.fsencode(tmp_path_factory.mktemp("trees"))
    source, theirs, copy, base_copy = (place + name for name in (b"/source", b"/theirs", b"/copy", b"/base"))
    build(source, target)
    build(theirs, base)
    build(base_copy, base)
    by_rsync(place, source, theirs)
    run("cp", "-a", source, copy)
    wanted = found(source)
    assert found(theirs) == found(copy) == wanted
    batches = []
    ways: list[dict[str, Any]] = [{}, {"signatures": signatures(base_copy)}, {"basis": held(base_copy)}]
    for number, options in enumerate(ways):
        ours = place + b"/ours%d" % number
        build(ours, base)
        batches.append(by_batch(source, ours, **options))
        assert found(ours) == wanted
    whole, _, with_basis = map(len, batches)
    assert with_basis <= whole * 11 // 10 + 64
    shutil.rmtree(place)


def test_a_directory_renamed_costs_no_content_although_rsync_sends_it_all(tmp_path: Path) -> None:
    place, random = os.fsencode(tmp_path), Random(3)
    inside: Node = [
        "d",
        {b"%d" % n: ["f", random.randbytes(9000), 0o644, TIMES[1]] for n in range(20)},
        0o755,
        TIMES[1],
    ]
    build(place + b"/ours", ["d", {b"old": inside}, 0o755, TIMES[1]])
    build(place + b"/theirs", ["d", {b"old": inside}, 0o755, TIMES[1]])
    build(place + b"/source", ["d", {b"new": inside}, 0o755, TIMES[1]])
    by_rsync(place, place + b"/source", place + b"/theirs")
    batch = by_batch(place + b"/source", place + b"/ours")
    assert found(place + b"/ours") == found(place + b"/theirs") == found(place + b"/source")
    assert len(batch) < 1000
    assert os.path.getsize(place + b"/batch") > 180_000
