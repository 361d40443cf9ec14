"""Moves: whatever was renamed, swapped, nested or replaced, the batch makes the target, and says it shortly."""

import os
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta import (
    BatchError,
    Entry,
    Kind,
    LimitExceeded,
    Limits,
    Manifest,
    TrackedChange,
    apply_batch,
    difference,
    inspect_batch,
    read_batch,
    scan,
    unpack_batch,
    write_batch,
)
from codesync.delta.batch.finding import find_moves
from codesync.delta.batch.moves import carried
from codesync.delta.batch.unpack import changed
from codesync.transaction import DELETE, DIRECTORY, FILE, Change, Root, TransactionError
from tests.delta.material import Tree, plant, sealed, trailer, trees

WHEN = 1_700_000_000_000_000_000


def parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def subtree(tree: Tree, path: bytes) -> Tree:
    return {p: node for p, node in tree.items() if p == path or p.startswith(path + b"/")}


def without(tree: Tree, path: bytes) -> Tree:
    return {p: node for p, node in tree.items() if p not in subtree(tree, path)}


def moved(tree: Tree, old: bytes, new: bytes) -> Tree:
    """As `mv -T` would, with whatever stood at `new` gone, and directories made above it."""
    taken = {new + p[len(old) :]: node for p, node in subtree(tree, old).items()}
    rest = without(without(tree, old), new)
    parts = new.split(b"/")
    for depth in range(1, len(parts)):
        above = b"/".join(parts[:depth])
        if rest.get(above, ("d",))[0] != "d":
            rest = without(rest, above)
        rest.setdefault(above, ("d", b"", 0o755))
    return dict(sorted((rest | taken).items()))


def swapped(tree: Tree, one: bytes, other: bytes) -> Tree:
    if (one + b"/").startswith(other + b"/") or (other + b"/").startswith(one + b"/"):
        return tree
    return moved(moved(moved(tree, one, b"aside"), other, one), b"aside", other)


@st.composite
def rearranged(draw: st.DrawFn) -> tuple[Tree, Tree]:
    """A tree, and what a few moves, swaps, edits and deletions have made of it."""
    base = draw(trees()) | draw(trees())
    base = {p: n for p, n in sorted(base.items()) if all(base[a][0] == "d" for a in above_in(base, p))}
    target = base
    for _ in range(draw(st.integers(1, 4))):
        if not target:
            break
        one, other = draw(st.sampled_from(sorted(target))), draw(st.sampled_from(sorted(target)))
        below = one + b"/" + draw(st.sampled_from([b"a", b"x", b"deeper/still"]))
        match draw(st.sampled_from(["move", "over", "swap", "into", "within", "edit", "delete", "copy"])):
            case "move":
                target = moved(
                    target, one, draw(st.sampled_from([b"new", b"a/new", b"c/b/new", other + b"-new"]))
                )
            case "over" if not other.startswith(one + b"/"):
                target = moved(target, one, other) if one != other else target
            case "swap":
                target = swapped(target, one, other)
            case "into":  # a directory into a new one where it was
                target = moved(moved(target, one, b"aside"), b"aside", below)
            case "within" if target[other][0] == "d" and not other.startswith(one):
                target = moved(target, one, other + b"/" + one.rpartition(b"/")[2])
            case "edit" if target[one][0] == "f":
                target = target | {
                    one: ("f", target[one][1] + b"edited", draw(st.sampled_from([0o644, 0o755])))
                }
            case "delete":
                target = without(target, one)
            case "copy":
                copy = {b"copy" + p[len(one) :]: node for p, node in subtree(target, one).items()}
                target = dict(sorted((without(target, b"copy") | copy).items()))
    return base, target


def above_in(tree: Tree, path: bytes) -> list[bytes]:
    found = []
    while path := parent(path):
        if path in tree:
            found.append(path)
    return found


def planted(place: Path, base: Tree, target: Tree, later: int = 0) -> tuple[bytes, bytes]:
    top = os.fsencode(place)
    return plant(top + b"/base", base, WHEN), plant(top + b"/target", target, WHEN + later)


def held(tree: Tree) -> object:
    return lambda entry: BytesIO(tree[entry.path][1])


def written(old: bytes, new: bytes, **options: object) -> bytes:
    out = BytesIO()
    write_batch(out, new, scan(old), scan(new), **options)  # type: ignore[arg-type]
    return out.getvalue()


def told(batch: bytes) -> list[tuple[object, ...]]:
    """What a batch holds, a tuple each: what, path, and where a move comes from."""
    return [
        (p.what, p.path, p.source) if p.source else (p.what, p.path)
        for p in inspect_batch(BytesIO(batch)).paths
    ]


@settings(max_examples=150, deadline=None)
@given(rearranged(), st.booleans(), st.booleans(), st.booleans())
def test_whatever_was_rearranged_the_batch_makes_the_target(
    tmp_path_factory: pytest.TempPathFactory,
    pair: tuple[Tree, Tree],
    exact: bool,
    later: bool,
    hold: bool,
) -> None:
    base, target = pair
    old, new = planted(tmp_path_factory.mktemp("trees"), base, target, later)
    wanted = scan(new)
    before = scan(old)
    tracked = TrackedChange.between(before.paths[1::2], wanted, wanted.paths[::2])
    data = written(old, new, exact=exact, tracked=tracked, basis=held(base) if hold else None)
    with Root(old) as root:
        unpacked = unpack_batch(read_batch(BytesIO(data)), root, lambda change: BytesIO(), before)
    assert unpacked.target(before) == apply_batch(BytesIO(data), old, durable=False)
    assert unpacked.tracked.apply(before.paths[1::2], wanted) == frozenset(wanted.paths[::2])
    found = scan(old)
    assert found.tree_id == wanted.tree_id
    for one, other in zip(found, wanted, strict=True):
        assert one.mode == other.mode or one.kind is Kind.SYMLINK
        assert one.mtime_ns == other.mtime_ns or not exact


def manifest(tree: Tree) -> Manifest:
    kinds = {"f": Kind.FILE, "d": Kind.DIRECTORY, "l": Kind.SYMLINK}
    return Manifest.of(
        Entry(path, kinds[kind], mode or 0o777, WHEN, len(content), sha256(content).digest())
        if kind == "f"
        else Entry(path, kinds[kind], mode or 0o777, WHEN, target=content)
        for path, (kind, content, mode) in tree.items()
    )


@settings(max_examples=150, deadline=None)
@given(rearranged())
def test_moves_carry_nothing_to_where_the_target_has_nothing(pair: tuple[Tree, Tree]) -> None:
    base, target = map(manifest, pair)
    moves, deleted = find_moves(base, target, difference(base, target))
    placed = carried(base, moves, deleted, lambda path, size: None)  # refuses two things at one path
    assert all(path in target for path in placed)
    assert all(path in base and path not in target for path in deleted)
    gone = {entry.path for entry in base if entry.path not in target}
    assert gone <= deleted | {old.path for old in placed.values()}


# --- what they cost ------------------------------------------------------------------------------------------------


def package(top: bytes, files: int = 20) -> Tree:
    tree: Tree = {top: ("d", b"", 0o755), top + b"/sub": ("d", b"", 0o755)}
    for n in range(files):
        tree[top + b"/%02d.py" % n] = ("f", Random(n).randbytes(900), 0o644)
        tree[top + b"/sub/%02d.py" % n] = ("f", Random(1000 + n).randbytes(900), 0o644)
    return tree | {top + b"/__init__.py": ("f", b"", 0o644), top + b"/link": ("l", b"00.py", 0)}


@pytest.mark.parametrize(
    ("change", "records"),
    [
        (lambda tree: moved(tree, b"p", b"q"), [("move", b"q", b"p")]),
        (
            lambda tree: moved(tree, b"p/sub", b"p/other"),
            [("move", b"p/other", b"p/sub")],
        ),
        (
            lambda tree: moved(moved(tree, b"p", b"q"), b"q/sub", b"q/other"),
            [("move", b"q", b"p"), ("move", b"q/other", b"p/sub")],
        ),
        (
            lambda tree: moved(tree, b"p", b"far/away"),
            [("move", b"far/away", b"p"), ("directory", b"far")],
        ),
        (
            lambda tree: moved(moved(tree, b"p", b"aside"), b"aside", b"p/inner"),
            [("move", b"p/inner", b"p"), ("directory", b"p")],
        ),
        (
            lambda tree: moved(moved(tree, b"p", b"q"), b"q/03.py", b"q/three.py"),
            [("move", b"q", b"p"), ("move", b"q/three.py", b"p/03.py")],
        ),
        (
            lambda tree: moved(without(tree, b"p/sub/03.py"), b"p", b"q"),
            [("delete", b"p/sub/03.py"), ("move", b"q", b"p")],
        ),
        (
            lambda tree: (
                without(moved(tree, b"p", b"q"), b"q/kept") | {b"p/kept": tree[b"p/kept"], b"p": tree[b"p"]}
            ),
            [
                ("move", b"p/kept", b"p/kept"),
                ("move", b"q", b"p"),
                ("directory", b"p"),
            ],
        ),
        (
            lambda tree: moved(tree, b"p", b"q") | {b"q/new.py": ("f", b"new", 0o644)},
            [("move", b"q", b"p"), ("put", b"q/new.py")],
        ),
        (
            lambda tree: moved(tree, b"p", b"q") | {b"q/link": ("l", b"01.py", 0)},
            [("move", b"q", b"p"), ("symlink", b"q/link")],
        ),
        (
            lambda tree: moved(tree, b"p", b"q") | {b"q/00.py": ("f", tree[b"p/00.py"][1], 0o755)},
            [("move", b"q", b"p"), ("attributes", b"q/00.py")],
        ),
        (
            lambda tree: moved(tree, b"p", b"stays") | {b"stays/mine": tree[b"stays/mine"]},
            [("move", b"stays", b"p")],
        ),
        (lambda tree: moved(tree, b"p/00.py", b"stays/00.py"), [("move", b"stays/00.py", b"p/00.py")]),
    ],
)
def test_what_was_renamed_is_said_shortly(change: object, records: list[object], tmp_path: Path) -> None:
    base = package(b"p") | {b"stays": ("d", b"", 0o755), b"stays/mine": ("f", b"mine", 0o644)}
    base[b"p/kept"] = ("f", b"kept", 0o644)
    target: Tree = dict(sorted(change(base).items()))  # type: ignore[operator]
    old, new = planted(tmp_path, base, target)
    batch = written(old, new)
    assert told(batch) == records
    assert apply_batch(BytesIO(batch), old, durable=False).tree_id == scan(old).tree_id == scan(new).tree_id


def test_a_directory_that_stays_where_all_around_it_moves_is_said_once(tmp_path: Path) -> None:
    docs = {b"p/docs": ("d", b"", 0o755)} | {b"p/docs/%d" % n: ("f", b"%d" % n, 0o644) for n in range(9)}
    base = package(b"p")
    old, new = planted(tmp_path, base | docs, moved(base, b"p", b"q") | {b"p": base[b"p"]} | docs)
    batch = written(old, new)
    assert told(batch) == [("move", b"p/docs", b"p/docs"), ("move", b"q", b"p"), ("directory", b"p")]
    assert apply_batch(BytesIO(batch), old, durable=False).tree_id == scan(new).tree_id


def test_directories_that_move_on_may_not_leave_what_another_brings(tmp_path: Path) -> None:
    """`d/x` can neither follow `d` nor stay: every file moves by itself then."""
    names = [b"c", b"c/1", b"c/2", b"c/3", b"c/x", b"d", b"d/4", b"d/5", b"d/6", b"d/x"]
    base: Tree = {n: ("f", b"content of " + n, 0o644) if b"/" in n else ("d", b"", 0o755) for n in names}
    target = moved(without(moved(base, b"d", b"e"), b"e/x"), b"c", b"d")
    old, new = planted(tmp_path, base, target)
    batch = written(old, new)
    assert [what for what, *_ in told(batch)].count("move") == 6
    assert apply_batch(BytesIO(batch), old, durable=False).tree_id == scan(old).tree_id == scan(new).tree_id


def test_a_file_edited_in_a_directory_that_was_renamed_is_a_delta_against_its_old_path(
    tmp_path: Path,
) -> None:
    base = package(b"p")
    target = moved(base, b"p", b"q")
    target[b"q/05.py"] = ("f", base[b"p/05.py"][1] + b"one more line", 0o644)
    old, new = planted(tmp_path, base, target)
    batch = written(old, new, basis=held(base))
    assert told(batch) == [("move", b"q", b"p"), ("copy", b"q/05.py", b"p/05.py")]
    assert len(batch) < 250
    assert apply_batch(BytesIO(batch), old, durable=False).tree_id == scan(new).tree_id


def test_a_renamed_directory_of_500_files_is_less_than_200_bytes(tmp_path: Path) -> None:
    base = package(b"a-package", 250)
    old, new = planted(tmp_path, base, moved(base, b"a-package", b"its-new-name"))
    before, after = scan(old), scan(new)
    assert len(written(old, new, exact=True)) < 150
    kept = ("untracked", "tracked and gone")
    tracked = TrackedChange.between(
        {*before.paths, *map(str.encode, kept)} - {b"a-package/00.py"},
        after,
        set(after.paths) - {b"its-new-name/00.py"},
    )
    assert len(written(old, new, tracked=tracked)) < 200


def test_mtimes_are_those_of_the_base_unless_exact_is_asked_for(tmp_path: Path) -> None:
    base = package(b"p", 2)
    old, new = planted(tmp_path, base, moved(base, b"p", b"q"), later=5)
    batch, exact = written(old, new), written(old, new, exact=True)
    assert told(batch) == [("move", b"q", b"p")]
    assert told(exact)[1:] == [("attributes", path) for path in scan(new).paths]
    assert [entry.mtime_ns for entry in apply_batch(BytesIO(batch), old, durable=False)] == [WHEN] * 8
    assert {entry.mtime_ns for entry in scan(old)} == {WHEN}


# --- what they become ----------------------------------------------------------------------------------------------


def test_moves_become_changes_of_single_paths(tmp_path: Path) -> None:
    base: Tree = {b"d": ("d", b"", 0o750), b"d/a": ("f", b"1", 0o644), b"d/b": ("f", b"22", 0o644)}
    target: Tree = {b"d": ("f", b"file", 0o644), b"e": ("d", b"", 0o750), b"e/a": ("f", b"1", 0o644)}
    target[b"e/c"] = ("f", b"22", 0o644)
    old, new = planted(tmp_path, base, target)
    made: dict[bytes, BytesIO] = {}

    class Kept(BytesIO):
        def close(self) -> None:
            """Stay readable."""

    def create(change: Change) -> BinaryIO:
        made[change.path] = Kept()
        return made[change.path]

    batch = written(old, new)
    assert [what for what, *_ in told(batch)] == ["move", "move", "put"]
    with Root(old) as root:
        unpacked = unpack_batch(read_batch(BytesIO(batch)), root, create, scan(old))
        with pytest.raises(BatchError, match="nobody said what that is"):
            unpack_batch(read_batch(BytesIO(batch)), root, create)
        with pytest.raises(BatchError, match="made against tree"):
            unpack_batch(read_batch(BytesIO(batch)), root, create, scan(new))
    assert [(change.kind, change.path) for change in unpacked.changes] == [
        (DELETE, b"d/b"),
        (DELETE, b"d/a"),
        (FILE, b"d"),
        (DIRECTORY, b"e"),
        (FILE, b"e/a"),
        (FILE, b"e/c"),
    ]
    assert {path: file.getvalue() for path, file in made.items()} == {
        b"d": b"file",
        b"e/a": b"1",
        b"e/c": b"22",
    }
    assert unpacked.target(scan(old)) == scan(new)


def test_moved_content_is_verified(tmp_path: Path) -> None:
    base = package(b"p")
    old, new = planted(tmp_path, base, moved(base, b"p", b"q"))
    before, batch = scan(old), written(old, new)
    Path(os.fsdecode(old + b"/p/sub/07.py")).write_bytes(bytes(900))
    with pytest.raises(BatchError, match="another SHA-256") as caught:
        apply_batch(BytesIO(batch), old, base=before, durable=False)
    assert caught.value.path == b"q/sub/07.py"
    assert sorted(os.listdir(old)) == [b"p"]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_files=44),
        Limits(max_total_bytes=35_999),
        Limits(max_path=11),
        Limits(max_path_bytes=400),
    ],
)
def test_what_moves_is_held_against_the_limits(limits: Limits, tmp_path: Path) -> None:
    base = package(b"p")
    old, new = planted(tmp_path, base, moved(base, b"p", b"quux"))
    batch = written(old, new)
    inspect_batch(BytesIO(batch), limits)
    with pytest.raises(LimitExceeded):
        apply_batch(BytesIO(batch), old, limits=limits, durable=False)
    assert os.listdir(old) == [b"p"]
    enough = Limits(max_files=45, max_total_bytes=36_000, max_path=16)
    apply_batch(BytesIO(batch), old, limits=enough, durable=False)
    assert os.listdir(old) == [b"quux"]


# --- whatever a batch says -----------------------------------------------------------------------------------------

BASE: Tree = {
    b"a": ("d", b"", 0o755),
    b"a/f": ("f", b"one", 0o644),
    b"a/s": ("d", b"", 0o700),
    b"a/s/f": ("f", b"two", 0o644),
    b"f": ("f", b"three", 0o600),
    b"l": ("l", b"a", 0),
    b"z": ("d", b"", 0o755),
    b"z/f": ("f", b"", 0o755),
}
PLACES = st.sampled_from([*BASE, b"n", b"a/n", b"a/s/n", b"z/s", b"n/f", b"f/n", b"l/n", b"z/f/n"])


@st.composite
def any_records(draw: st.DrawFn) -> list[list[object]]:
    """Records in order, which mean something or not."""
    deletes = draw(st.sets(st.sampled_from(sorted(BASE)), max_size=3))
    moves = draw(st.dictionaries(PLACES, st.sampled_from(sorted(BASE)), max_size=4))
    stands = draw(st.dictionaries(PLACES, st.sampled_from("dlpa"), max_size=3))
    records: list[list[object]] = [[1, path] for path in sorted(deletes, reverse=True)]
    records += [[12, path, source] for path, source in sorted(moves.items())]
    for path, what in sorted(stands.items()):
        match what:
            case "d":
                records.append([2, path, 0o711, 7])
            case "l":
                records.append([3, path, 7, b"away"])
            case "p":
                records += [[4, path, 0, 0o640, 7, 3, sha256(b"new").digest(), b""], [5, b"new"]]
            case _:
                records.append([7, path, 0o755, None])
    return records


@settings(max_examples=300, deadline=None)
@given(any_records())
def test_whatever_a_batch_says_the_tree_is_what_it_leads_to_or_stays_what_it_was(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[object]]
) -> None:
    root = plant(os.fsencode(tmp_path_factory.mktemp("any")) + b"/base", BASE, WHEN)
    before = scan(root)

    def batch(target: str) -> BytesIO:
        header = [0, bytes.fromhex(before.tree_id), bytes.fromhex(target), "", 0, b"", b""]
        return BytesIO(sealed(header, *records, trailer(*records)))

    try:
        with Root(root) as tree:
            changes = unpack_batch(
                read_batch(batch("0" * 64)), tree, lambda change: BytesIO(), before
            ).changes
        assert len({change.path for change in changes}) == len(changes)
        wanted = changed(before, changes)
        told = apply_batch(batch(wanted.tree_id), root, durable=False)
    except (BatchError, TransactionError):  # the latter: nothing is there to put it in
        assert scan(root) == before
    else:
        assert told == wanted
        assert scan(root).tree_id == wanted.tree_id
