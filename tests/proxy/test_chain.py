"""Ways between trees by what was kept, and how much of it is kept."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.protocol import GENERATION_0, HistoryEntry, Hook, TreeRef
from codesync.proxy.chain import Chain, ChainError, Edge, KeptPush
from tests.proxy.loopback import ref


def kept(number: int, *ways: tuple[int, int], size: int = 10, restores: str = "") -> KeptPush:
    """A push of one batch for each way; a rollback has no batches."""
    edges = tuple(
        Edge(
            base=ref(base),
            target=ref(target),
            name="" if restores else f"{number:08d}.batch",
            size=0 if restores else size,
            restores=restores,
        )
        for base, target in ways
    )
    return KeptPush(
        push_id=f"p{number}",
        source="me",
        description="d",
        source_tree_id="ab",
        at=float(number),
        status="healthy",
        edges=edges,
    )


def chain_of(*pushes: tuple[KeptPush, int], **bounds: int) -> Chain:
    chain = Chain(**bounds)  # type: ignore[arg-type]
    for push, tree in pushes:
        chain.add(push, [ref(tree)])
    return chain


def way(chain: Chain, base: int) -> list[str]:
    return [push.push_id for push, _ in chain.path(ref(base))]


LINE = [(kept(1, (0, 1)), 1), (kept(2, (1, 2)), 2), (kept(3, (2, 3)), 3)]


def test_the_way_leads_through_all_that_was_kept() -> None:
    chain = chain_of(*LINE)
    assert [way(chain, base) for base in range(4)] == [["p1", "p2", "p3"], ["p2", "p3"], ["p3"], []]


def test_there_is_no_way_from_an_unknown_tree() -> None:
    assert way(chain_of(*LINE), 9) == way(Chain(), 0) == []


def test_the_shortest_way_is_taken() -> None:
    chain = chain_of(*LINE, (kept(4, (3, 4), (1, 4)), 4))
    assert way(chain, 0) == ["p1", "p4"]


def test_after_a_rollback_the_way_ends_where_it_went() -> None:
    chain = chain_of(*LINE, (kept(4, (3, 1), restores="p1"), 1))
    assert way(chain, 0) == ["p1"]
    assert way(chain, 3) == ["p4"]
    assert way(chain, 2) == ["p3", "p4"]


def test_the_same_tree_with_other_tracked_paths_is_another_place() -> None:
    chain = chain_of(*LINE)
    assert chain.path(TreeRef(ref(0).tree_id, "ff")) == []


def test_old_pushes_are_dropped_for_their_number() -> None:
    chain = Chain(max_pushes=2)
    assert [chain.add(push, [ref(tree)]) for push, tree in LINE] == [(), (), ("00000001.batch",)]
    assert way(chain, 0) == []
    assert way(chain, 1) == ["p2", "p3"]


def test_old_pushes_are_dropped_for_their_size() -> None:
    chain = Chain(max_bytes=25)
    assert [chain.add(push, [ref(tree)]) for push, tree in LINE] == [(), (), ("00000001.batch",)]


def test_a_push_that_is_larger_than_all_that_is_kept_is_not_kept_and_counts_all_the_same() -> None:
    chain = chain_of(*LINE, max_bytes=35)
    dropped = chain.add(kept(4, (3, 4), size=36), [ref(4)])
    assert dropped == ("00000001.batch", "00000002.batch", "00000003.batch", "00000004.batch")
    assert chain.last is not None
    assert chain.last.tree == ref(4)


def test_names_are_never_used_twice() -> None:
    chain = chain_of(*LINE)
    first = chain.name()
    again = Chain.from_json(json.loads(json.dumps(chain.to_json())))
    assert first != again.name()


def test_a_later_push_of_another_proxy_is_adopted() -> None:
    chain = chain_of(*LINE)
    for push_id, at in ((GENERATION_0, 99.0), ("p1", 99.0), ("elsewhere", 2.0)):
        chain.adopt(HistoryEntry(push_id=push_id, generation=1, tree=ref(8), at=at), 99.0)
        assert chain.last is not None
        assert chain.last.tree == ref(3)
    chain.adopt(HistoryEntry(push_id="elsewhere", generation=1, tree=ref(8), at=4.0), 99.0)
    assert chain.last is not None
    assert chain.last.tree == ref(8)


def test_a_push_may_leave_several_trees() -> None:
    chain = Chain()
    chain.add(kept(1, (0, 1), (10, 11)), [ref(1), ref(11)])
    assert way(chain, 0) == way(chain, 10) == ["p1"]
    assert way(chain, 1) == way(chain, 11) == []
    chain.adopt(HistoryEntry(push_id="p1", generation=1, tree=ref(21), at=9.0), 99.0)
    assert way(chain, 21) == []
    assert chain.last is not None
    assert chain.last.tree == ref(1)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=12), st.integers(0, 6)
)
@settings(max_examples=200, deadline=None)
def test_a_way_begins_and_ends_where_it_should(pushes: list[tuple[int, int, bool]], start: int) -> None:
    chain = Chain(max_pushes=8)
    for number, (base, target, restores) in enumerate(pushes):
        if base != target:
            chain.add(kept(number, (base, target), restores="p0" if restores else ""), [ref(target)])
    again = Chain.from_json(json.loads(json.dumps(chain.to_json())))
    assert again.to_json() == chain.to_json()
    here = ref(start)
    steps = chain.path(here)
    for _, edge in steps:
        assert edge.base == here
        here = edge.target
    assert not steps or here in chain.ends
    assert len({edge.base for _, edge in steps}) == len(steps)


INSTALL = Hook(run="pip install -r requirements.txt", moment="before_start", seconds=120.0, when="*.txt")


def test_hooks_and_timings_come_back_from_the_index() -> None:
    push = kept(1, (0, 1))
    edges = tuple(replace(edge, hooks=(INSTALL,)) for edge in push.edges)
    chain = chain_of((replace(push, edges=edges, timings_ms={"scan": 7}), 1))
    again = Chain.from_json(json.loads(json.dumps(chain.to_json())))
    assert again == chain
    assert again.pushes[0].edges[0].hooks == (INSTALL,)


def test_an_index_of_version_1_is_read() -> None:
    chain = chain_of(*LINE)
    record: Any = chain.to_json()
    record["version"] = 1
    for push in record["pushes"]:
        del push["timings_ms"]
        for edge in push["edges"]:
            del edge["hooks"]
    assert Chain.from_json(record) == chain


@pytest.mark.parametrize("change", [{"moment": "at noon"}, {"seconds": "long"}, {"run": None}, {"when": 5}])
def test_a_damaged_hook_is_an_error(change: dict[str, Any]) -> None:
    push = kept(1, (0, 1))
    chain = chain_of((replace(push, edges=(replace(push.edges[0], hooks=(INSTALL,)),)), 1))
    record: Any = chain.to_json()
    record["pushes"][0]["edges"][0]["hooks"][0].update(change)
    with pytest.raises(ChainError):
        Chain.from_json(record)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"last": 5},
        {"pushes": [{}]},
        {"next_name": "x"},
        {"pushes": None},
        {"last": {"push_id": 5, "source": "", "description": "", "at": 0, "tree": ["a", "b"]}},
        {"last": {"push_id": "p", "source": "", "description": "", "at": 0, "tree": ["a"]}},
    ],
)
def test_a_damaged_index_is_an_error(change: dict[str, Any]) -> None:
    with pytest.raises(ChainError):
        Chain.from_json({**chain_of(*LINE).to_json(), **change})


def test_a_replica_with_a_fast_clock_wins_once() -> None:
    chain = chain_of(*LINE)
    for push_id, tree, at, now in (
        ("fast", 8, 1e12, 5.0),
        ("later", 9, 6.0, 7.0),
        ("fast", 8, 1e12, 8.0),
    ):
        chain.adopt(HistoryEntry(push_id=push_id, generation=1, tree=ref(tree), at=at), now)
    assert chain.last is not None
    assert (chain.last.tree, chain.last.at) == (ref(9), 6.0)
