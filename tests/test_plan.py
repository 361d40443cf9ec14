"""plan() as a table: a source, a replica's tree, what was tracked, and the tree that must come out."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.delta.manifest import Entry, Kind, Manifest, Skipped, tracked_id
from codesync.plan import GuardError, Modes, Plan, check_conflict, check_deletes, check_size, plan, show


def entry(spec: str) -> Entry:
    """`path=content`, `path*=content` (executable), `path/`, `path->target`; `@octal` at the end is the mode."""
    spec, _, octal = spec.partition("@")
    if spec.endswith("/"):
        return Entry(spec[:-1].encode(), Kind.DIRECTORY, int(octal or "755", 8), 1)
    if "->" in spec:
        path, _, target = spec.partition("->")
        return Entry(path.encode(), Kind.SYMLINK, 0o777, 1, target=target.encode())
    path, _, content = spec.partition("=")
    mode = int(octal, 8) if octal else 0o755 if path.endswith("*") else 0o644
    data = content.encode()
    return Entry(path.rstrip("*").encode(), Kind.FILE, mode, 1, len(data), hashlib.sha256(data).digest())


def tree(specs: str, skipped: Iterable[str] = ()) -> Manifest:
    return Manifest.of(map(entry, specs.split()), [Skipped(path.encode(), "fifo") for path in skipped])


@dataclass
class Case:
    source: str
    replica: str
    expected: str
    tracked: str = ""
    ignored: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    mirror: bool = False
    modes: Modes = "executable"
    tracked_after: str = field(default="")

    def run(self) -> Plan:
        ignored = {path.encode() for path in self.ignored}
        return plan(
            tree(self.source, self.skipped),
            tree(self.replica),
            frozenset(self.tracked.encode().split()),
            lambda path, _: any(path == rule or path.startswith(rule + b"/") for rule in ignored),
            mirror=self.mirror,
            modes=self.modes,
        )


CASES = {
    "what is equal stays": Case("a=1", "a=1", "a=1"),
    "a new file is added": Case("a=1 b=2", "a=1", "a=1 b=2"),
    "a changed file is replaced": Case("a=2", "a=1", "a=2"),
    "what the replica has and nobody tracked stays": Case("a=1", "a=1 x=9", "a=1 x=9"),
    "a tracked path that is gone is deleted": Case("a=1", "a=1 x=9", "a=1", tracked="a x"),
    "mirror deletes known paths that were never tracked": Case("a=1", "a=1 x=9", "a=1", mirror=True),
    "an ignored path is never deleted": Case("a=1", "a=1 x=9", "a=1 x=9", tracked="a x", ignored=("x",)),
    "an ignored path is never deleted, not by mirror either": Case(
        "a=1", "a=1 log/ log/x=9", "a=1 log/ log/x=9", ignored=("log",), mirror=True
    ),
    "a directory goes with its files": Case("a=1", "a=1 d/ d/x=9", "a=1", tracked="a d d/x"),
    "a directory that holds something untracked stays": Case(
        "a=1", "a=1 d/ d/x=9 d/y=8", "a=1 d/ d/y=8", tracked="a d d/x"
    ),
    "a directory that holds something ignored stays": Case(
        "a=1", "a=1 d/ d/e/ d/e/x=9", "a=1 d/ d/e/ d/e/x=9", tracked="a d d/e d/e/x", ignored=("d/e/x",)
    ),
    "what the source could not read keeps its remote copy": Case(
        "a=1", "a=1 ff=9", "a=1 ff=9", tracked="a ff", skipped=("ff",), tracked_after="a ff"
    ),
    "what lies in a directory the source could not read keeps its remote copy": Case(
        "d/ a=1", "a=1 d/ d/s/ d/s/x=9", "a=1 d/ d/s/ d/s/x=9", tracked="a d d/s d/s/x", skipped=("d/s",),
        tracked_after="a d d/s d/s/x",
    ),
    "a renamed directory moves": Case("new/ new/f=1", "old/ old/f=1", "new/ new/f=1", tracked="old old/f"),
    "an empty directory is created": Case("d/", "", "d/"),
    "a symlink is retargeted": Case("l->b", "l->a", "l->b"),
    "a file becomes a directory": Case("a/ a/b=1", "a=1", "a/ a/b=1", tracked="a"),
    "a directory becomes a file": Case("a=1", "a/ a/b=1", "a=1", tracked="a a/b"),
    "a directory becomes a symlink": Case("a->b b=1", "a/ a/b=1 b=1", "a->b b=1", tracked="a a/b b"),
    "a new file gets 0644 whatever its mode": Case("a=1@600", "", "a=1@644"),
    "a new executable gets 0755": Case("a*=1@700", "", "a=1@755"),
    "a new directory gets 0755": Case("d/@700", "", "d/@755"),
    "other mode bits are no change": Case("a=1@600", "a=1@640", "a=1@640"),
    "a replaced file keeps its mode": Case("a=2@644", "a=1@640", "a=2@640"),
    "the executable bit is set for those who may read": Case("a=1@755", "a=1@640", "a=1@750"),
    "the executable bit is taken from all": Case("a=1@644", "a=1@755", "a=1@644"),
    "exact modes carry all of 0777": Case("a=1@600 d/@711", "a=1@640 d/", "a=1@600 d/@711", modes="exact"),
    "a file that was a directory gets a new file's mode": Case("a=1@600", "a/@700", "a=1@644", tracked="a"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_target_is(case: Case) -> None:
    found = case.run()
    assert [(e.path, e.kind, oct(e.mode), e.digest, e.target) for e in found.target] == [
        (e.path, e.kind, oct(e.mode), e.digest, e.target) for e in tree(case.expected)
    ]
    expected = case.tracked_after.encode().split() or [e.path for e in tree(case.source)]
    assert found.tracked == frozenset(expected)


def test_an_mtime_alone_is_no_change() -> None:
    old = Manifest.of([Entry(b"a", Kind.FILE, 0o644, 1, 1, b"d" * 32)])
    new = Manifest.of([Entry(b"a", Kind.FILE, 0o644, 2, 1, b"d" * 32)])
    assert not plan(new, old, frozenset(), lambda *_: False).changes_tree


def test_an_mtime_travels_with_its_content() -> None:
    old = Manifest.of([Entry(b"a", Kind.FILE, 0o644, 1, 1, b"d" * 32)])
    new = Manifest.of([Entry(b"a", Kind.FILE, 0o644, 2, 1, b"e" * 32)])
    assert plan(new, old, frozenset(), lambda *_: False).target[b"a"].mtime_ns == 2


def test_tracking_alone_is_something_to_tell() -> None:
    found = Case("a=1", "a=1", "").run()
    assert not found.changes_tree
    assert not found.is_empty
    assert Case("a=1", "a=1", "", tracked="a").run().is_empty


@pytest.mark.parametrize(
    "case",
    [
        Case("a=1", "a/ a/x=9", "", tracked="a"),
        Case("a=1", "a/ a/x=9", "", tracked="a a/x", ignored=("a/x",)),
        Case("a->b", "a/ a/b/ a/b/x=9", "", tracked="a a/b"),
    ],
    ids=["untracked", "ignored", "deep"],
)
def test_a_file_in_the_place_of_a_directory_that_must_stay_is_refused(case: Case) -> None:
    with pytest.raises(GuardError, match="must not delete") as caught:
        case.run()
    assert caught.value.paths[0] == b"a"


def many(count: int, folder: str = "d") -> str:
    return f"{folder}/ " + " ".join(f"{folder}/f{n}={n}{folder[0]}" for n in range(count))


def everything(specs: str) -> str:
    return " ".join(e.path.decode() for e in tree(specs))


def test_deleting_more_than_twenty_paths_and_half_of_the_tree_is_refused() -> None:
    case = Case("a=1", f"a=1 {many(21)}", "", tracked=everything(many(21)))
    found = case.run()
    with pytest.raises(GuardError, match=r"deletes 22 of 23 known paths .*d/f0.* and 17 more") as caught:
        check_deletes(found, tree(case.source), allow_mass_delete=False)
    assert caught.value.override == "allow_mass_delete"
    check_deletes(found, tree(case.source), allow_mass_delete=True)


def test_deleting_twenty_paths_is_fine() -> None:
    case = Case("a=1", f"a=1 {many(19)}", "", tracked=everything(many(19)))
    check_deletes(case.run(), tree(case.source), allow_mass_delete=False)


def test_deleting_less_than_half_is_fine() -> None:
    case = Case(many(40, "keep"), f"{many(40, 'keep')} {many(30)}", "", tracked=everything(many(30)))
    check_deletes(case.run(), tree(case.source), allow_mass_delete=False)


def test_moved_content_is_not_deleted() -> None:
    moved = many(30).replace("d/", "e/")
    case = Case(moved, many(30), "", tracked=everything(many(30)))
    check_deletes(case.run(), tree(case.source), allow_mass_delete=False)


def test_an_empty_source_is_refused() -> None:
    case = Case("", "a=1", "", tracked="a")
    with pytest.raises(GuardError, match="source is empty") as caught:
        check_deletes(case.run(), tree(""), allow_mass_delete=False)
    assert caught.value.override == "allow_mass_delete"


def large(size: int) -> Manifest:
    return Manifest.of([Entry(b"model.bin", Kind.FILE, 0o644, 1, size, b"x" * 32)])


def test_more_than_64_mib_are_refused() -> None:
    found = plan(large(64 * 2**20 + 1), Manifest.of(()), frozenset(), lambda *_: False)
    with pytest.raises(GuardError, match=r"64 MiB, more than 64 MiB .model.bin") as caught:
        check_size(found, allow_large=False)
    assert caught.value.override == "allow_large"
    check_size(found, allow_large=True)


def test_a_large_file_that_is_there_already_is_fine() -> None:
    found = plan(large(2**30), large(2**30), frozenset(), lambda *_: False)
    check_size(found, allow_large=False)


def test_bytes_measured_on_the_wire_count_too() -> None:
    with pytest.raises(GuardError, match="65 MiB"):
        check_size(Case("a=1", "", "").run(), allow_large=False, wire_bytes=65 * 2**20)


@pytest.mark.parametrize("path", [".venv/ .venv/x=1", "web/ web/node_modules/ web/node_modules/x=1"])
def test_installed_dependencies_are_refused(path: str) -> None:
    with pytest.raises(GuardError, match="installed dependencies") as caught:
        check_size(Case(path, "", "").run(), allow_large=False)
    assert caught.value.override == "allow_large"


def test_a_push_over_another_source_is_a_conflict() -> None:
    found = Case("a=2", "a=1", "").run()
    about = {"last": "eve@x:/app", "last_at": "yesterday", "push_id": "p7"}
    with pytest.raises(GuardError, match=r"p7.*eve@x:/app at yesterday.*take_over") as caught:
        check_conflict(found, mine="bob@y:/app", take_over=False, **about)
    assert caught.value.override == "take_over"
    check_conflict(found, mine="bob@y:/app", take_over=True, **about)
    check_conflict(found, mine="eve@x:/app", take_over=False, **about)


def test_the_same_tree_from_another_source_is_no_conflict() -> None:
    found = Case("a=1", "a=1", "").run()
    check_conflict(found, mine="b", last="a", last_at="", push_id="p", take_over=False)


@pytest.mark.parametrize(
    ("path", "text"), [(b"a b", "a b"), ("é".encode(), "é"), (b"a\nb", "a\\nb"), (b"\xff", "\\xff")]
)
def test_paths_are_shown_on_one_line(path: bytes, text: str) -> None:
    assert show(path) == text


NAMES = st.sampled_from(["a", "b", "c"])


@st.composite
def trees(draw: st.DrawFn) -> Manifest:
    entries: dict[bytes, Entry] = {}
    for parts in draw(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8)):
        path = "/".join(parts)
        parents = ["/".join(parts[:n]).encode() for n in range(1, len(parts))]
        inside = any(key.startswith(path.encode() + b"/") for key in entries)
        if inside or any(p in entries and entries[p].kind != Kind.DIRECTORY for p in parents):
            continue
        for parent in parents:
            entries.setdefault(parent, entry(parent.decode() + "/"))
        entries[path.encode()] = entry(path + draw(st.sampled_from(["=1", "=2", "*=1", "->x", "/"])))
    return Manifest.of(entries.values())


@settings(max_examples=200, deadline=None)
@given(trees(), trees(), st.booleans())
def test_after_a_push_and_all_tracked_the_replica_holds_the_source(
    source: Manifest, replica: Manifest, mirror: bool
) -> None:
    tracked = frozenset() if mirror else frozenset(replica.paths)
    found = plan(source, replica, tracked, lambda *_: False, mirror=mirror)
    assert found.target.tree_id == source.tree_id
    assert plan(source, found.target, found.tracked, lambda *_: False).is_empty


def above(path: bytes) -> list[bytes]:
    """The path itself and the directories above it."""
    parts = path.split(b"/")
    return [b"/".join(parts[:n]) for n in range(len(parts), 0, -1)]


def entry_by_entry(
    source: Manifest,
    replica: Manifest,
    tracked: frozenset[bytes],
    ignored: set[bytes],
    *,
    mirror: bool,
    modes: Modes,
) -> tuple[list[Entry], frozenset[bytes]]:
    """The same without a thought for speed: all of the source, then what of the replica must stay."""
    left_out = {skipped.path for skipped in source.skipped}
    target = {}
    for new in source:
        old = replica.get(new.path)
        same_kind = old is not None and old.kind is new.kind
        if new.kind is Kind.SYMLINK:
            mode = 0o777
        elif modes == "exact":
            mode = new.mode
        elif old is not None and same_kind:
            mode = old.mode
            if new.kind is Kind.FILE and (old.mode ^ new.mode) & 0o100:
                mode = old.mode | 0o100 | (old.mode & 0o044) >> 2 if new.mode & 0o100 else old.mode & ~0o111
        else:
            mode = 0o755 if new.kind is Kind.DIRECTORY or new.mode & 0o100 else 0o644
        same = old is not None and same_kind and (old.digest, old.target) == (new.digest, new.target)
        target[new.path] = (old if same and old is not None else new)._replace(mode=mode)
    for old in reversed(replica.entries):
        stays = (
            not (mirror or old.path in tracked)
            or not left_out.isdisjoint(above(old.path))
            or not ignored.isdisjoint(above(old.path))
            or (old.kind is Kind.DIRECTORY and any(path.startswith(old.path + b"/") for path in target))
        )
        if stays:
            target.setdefault(old.path, old)
    still = {path for path in tracked if not left_out.isdisjoint(above(path))}
    return sorted(target.values(), key=lambda e: e.path), frozenset(source.paths).union(still)


PATHS = [b"a", b"b", b"a/b", b"b/a", b"a/b/c", b"c"]


@settings(max_examples=500, deadline=None)
@given(st.data(), trees(), trees(), st.booleans(), st.sampled_from(["executable", "exact"]))
def test_a_plan_is_what_going_through_it_entry_by_entry_gives(
    data: st.DataObject, source: Manifest, replica: Manifest, mirror: bool, modes: Modes
) -> None:
    some = st.sets(st.sampled_from(PATHS), max_size=3)
    tracked = frozenset(data.draw(some)) | data.draw(st.sampled_from([frozenset(), frozenset(replica.paths)]))
    ignored, skipped = data.draw(some), data.draw(some)
    chosen = st.sampled_from([0o600, 0o644, 0o700, 0o755])
    replica = Manifest.of(
        e if e.kind is Kind.SYMLINK else e._replace(mode=data.draw(chosen), mtime_ns=7) for e in replica
    )
    source = Manifest.of(source, [Skipped(path, "fifo") for path in skipped if path not in source])

    def by_rule(path: bytes, is_directory: bool) -> bool:
        return not ignored.isdisjoint(above(path))

    try:
        found = plan(source, replica, tracked, by_rule, mirror=mirror, modes=modes)
    except GuardError:
        return  # there is a test of its own for what cannot stand together
    target, tracked_then = entry_by_entry(source, replica, tracked, ignored, mirror=mirror, modes=modes)
    assert list(found.target) == target
    assert found.tracked == tracked_then
    fresh = Manifest.of(target)
    assert found.target.tree_id == fresh.tree_id
    assert found.target.columns == fresh.columns


def test_what_has_not_changed_is_the_replicas_own_object() -> None:
    replica = tree("a=1 b=2 c/")
    tracked = frozenset(replica.paths)
    found = plan(tree("a=1 b=3 c/"), replica, tracked, lambda *_: False)
    assert found.target[b"a"] is replica[b"a"]
    assert found.tracked is tracked
    assert plan(tree("a=1 b=2 c/"), replica, tracked, lambda *_: False).target is replica


def test_the_id_of_a_tracked_set_does_not_depend_on_how_it_came_about() -> None:
    assert (
        tracked_id([b"b", b"a", b"b"])
        == tracked_id(frozenset({b"a", b"b"}))
        == tracked_id({b"a": 1, b"b": 2})
    )
