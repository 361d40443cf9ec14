"""What a put is made of: a delta where the base's content is at hand and that is smaller, else the file as it is."""

import os
from io import BytesIO
from pathlib import Path
from random import Random
from typing import BinaryIO

import pytest

from codesync.delta import (
    Entry,
    Manifest,
    SourceChanged,
    apply_batch,
    inspect_batch,
    scan,
    signature,
    write_batch,
)
from tests.delta.material import Tree, plant

TEXT = b"".join(b"line %d of some text that is edited now and then\n" % n for n in range(3000))
NOISE = Random(8).randbytes(700_000)


def between(place: Path, base: Tree, target: Tree) -> tuple[bytes, bytes]:
    top = os.fsencode(place)
    return plant(top + b"/base", base), plant(top + b"/target", target, 1_600_000_000_123_456_789)


class Shelf:
    """Contents at hand, by path; remembers what was asked for and which files are still open."""

    def __init__(self, **contents: bytes) -> None:
        self._contents = contents
        self.asked: list[bytes] = []
        self.given: list[BytesIO] = []

    def __call__(self, entry: Entry) -> BinaryIO | None:
        self.asked.append(entry.path)
        if entry.path.decode() not in self._contents:
            return None
        self.given.append(BytesIO(self._contents[entry.path.decode()]))
        return self.given[-1]


def written(old: bytes, new: bytes, **options: object) -> bytes:
    out = BytesIO()
    summary = write_batch(out, new, scan(old), scan(new), **options)  # type: ignore[arg-type]
    info = inspect_batch(BytesIO(out.getvalue()))
    assert (info.literal_bytes, info.copied_bytes) == (summary.literal_bytes, summary.copied_bytes)
    apply_batch(BytesIO(out.getvalue()), old, durable=False)
    assert scan(old) == scan(new)
    return out.getvalue()


def told(batch: bytes) -> list[tuple[str, bytes]]:
    return [(path.what, path.path) for path in inspect_batch(BytesIO(batch)).paths]


@pytest.mark.parametrize("content", [TEXT, NOISE], ids=["small", "large"])
def test_a_held_basis_makes_a_line_cost_little_more_than_itself(content: bytes, tmp_path: Path) -> None:
    edited = content[:100_000] + b"one edited line\n" + content[100_000:]
    old, new = between(tmp_path, {b"a": ("f", content, 0o644)}, {b"a": ("f", edited, 0o644)})
    shelf = Shelf(a=content)
    # a signature is not looked at where the basis is held
    batch = written(old, new, basis=shelf, signatures={b"a": signature(content[:-1])})
    assert told(batch) == [("delta", b"a")]
    assert len(batch) < 250
    assert shelf.asked == [b"a"]
    assert [file.closed for file in shelf.given] == [True]


def test_what_is_not_held_goes_by_its_signature_or_whole(tmp_path: Path) -> None:
    base: Tree = {name: ("f", NOISE[:9000] + name, 0o644) for name in (b"a", b"b", b"c")}
    target: Tree = {name: ("f", NOISE[:9001] + name, 0o644) for name in (b"a", b"b", b"c")}
    old, new = between(tmp_path, base, target)
    shelf = Shelf(b=NOISE[:9000])  # not as long as its entry says
    sigs = {name: signature(base[name][1]) for name in (b"a", b"b")}
    assert told(written(old, new, basis=shelf, signatures=sigs)) == [
        ("delta", b"a"),
        ("delta", b"b"),
        ("put", b"c"),
    ]
    assert shelf.asked == [b"a", b"b", b"c"]
    assert shelf.given[0].closed


def test_nothing_is_asked_for_that_cannot_help(tmp_path: Path) -> None:
    base: Tree = {
        b"emptied": ("f", TEXT, 0o644),
        b"filled": ("f", b"", 0o644),
        b"link": ("l", b"x", 0),
        b"same": ("f", NOISE, 0o644),
    }
    target: Tree = {
        b"copied": ("f", NOISE, 0o644),
        b"emptied": ("f", b"", 0o644),
        b"filled": ("f", TEXT, 0o644),
        b"link": ("f", b"was a link", 0o644),
        b"new": ("f", b"new", 0o644),
        b"same": ("f", NOISE, 0o644),
    }
    old, new = between(tmp_path, base, target)
    shelf = Shelf()
    written(old, new, basis=shelf, exact=True)
    assert shelf.asked == []


def test_a_delta_can_be_made_against_another_path_that_is_held(tmp_path: Path) -> None:
    old, new = between(tmp_path, {b"old": ("f", NOISE, 0o644)}, {b"new": ("f", NOISE + b"appended", 0o644)})
    batch = written(old, new, basis=Shelf(old=NOISE), sources={b"new": b"old"})
    assert told(batch) == [("delete", b"old"), ("copy", b"new")]
    assert len(batch) < 250


@pytest.mark.parametrize("hold", [True, False])
def test_a_small_file_written_anew_goes_whole(tmp_path: Path, *, hold: bool) -> None:
    base, target = NOISE[:300], TEXT[:300]
    old, new = between(tmp_path, {b"a": ("f", base, 0o644)}, {b"a": ("f", target, 0o644)})
    options = {"basis": Shelf(a=base)} if hold else {"signatures": {b"a": signature(base)}}
    assert told(written(old, new, **options)) == [("put", b"a")]


def test_a_source_that_changed_is_told_whatever_it_is_compared_with(tmp_path: Path) -> None:
    for content in (TEXT, NOISE):
        place = tmp_path / str(len(content))
        place.mkdir()
        old, new = between(place, {b"a": ("f", content[1:], 0o644)}, {b"a": ("f", content, 0o644)})
        base, target = scan(old), scan(new)
        (Path(os.fsdecode(new)) / "a").write_bytes(content[:-1] + b"?")
        with pytest.raises(SourceChanged) as caught:
            write_batch(BytesIO(), new, base, target, basis=Shelf(a=content[1:]))
        assert caught.value.path == b"a"


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codesync.transaction import Root

    opened: list[bytes] = []
    original = Root.open

    def counted(self: Root, path: bytes) -> BinaryIO:
        opened.append(path)
        return original(self, path)

    base: Tree = {b"a": ("f", TEXT, 0o644), b"b": ("f", NOISE, 0o644)}
    target: Tree = {b"a": ("f", TEXT + b"x", 0o644), b"b": ("f", NOISE + b"x", 0o644)}
    old, new = between(tmp_path, base, target)
    before, after = scan(old), scan(new)
    monkeypatch.setattr(Root, "open", counted)
    write_batch(BytesIO(), new, before, after, basis=Shelf(a=TEXT, b=NOISE))
    assert opened == [b"a", b"b"]


def test_nothing_but_digests_is_taken_from_the_base(tmp_path: Path) -> None:
    """A base is only its manifest: its files may be on another machine."""
    entries = scan(plant(os.fsencode(tmp_path) + b"/base", {b"a": ("f", TEXT, 0o644)}))
    target = plant(os.fsencode(tmp_path) + b"/target", {b"b": ("f", TEXT, 0o644)})
    summary = write_batch(BytesIO(), target, Manifest.of(entries), scan(target))
    assert (summary.renamed, summary.literal_bytes) == (1, 0)
