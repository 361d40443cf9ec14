"""What is left of a turn when its attempt is over: the outcome, what its replicas are now, what of it is stored.

Functions of a turn and its attempt; `stored` changes the chain, nothing else changes anything.
"""

from dataclasses import replace

from codesync.protocol import MAX_MESSAGE, Code, Error, HistoryEntry, Outcome, ReplicaState, fit_report
from codesync.proxy.attempt import Attempt
from codesync.proxy.chain import Chain, Edge, KeptPush
from codesync.proxy.events import DropSpool, KeepSpool
from codesync.proxy.member import Member, Words
from codesync.proxy.turn import Kind, Turn

_OUTCOME_ROOM = MAX_MESSAGE - 64 * 1024


def outcome_of(attempt: Attempt) -> Outcome:
    """The message that ends it, small enough to be sent."""
    room = _OUTCOME_ROOM // len(attempt.members)
    return Outcome(
        push_id=attempt.words.push_id,
        status=attempt.status,
        replicas=tuple(fit_report(report, room) for report in attempt.reports),
        tree=attempt.kept[0].order.target if attempt.kept else None,
        error=attempt.failure,
    )


def cancelled(attempt: Attempt) -> Error:
    """The message that ends one that was given up; it names the replicas that may not be back at their old tree yet."""
    words = attempt.cause.message if attempt.cause else "the push was given up"
    unsure = [
        f"replica {report.id}: {report.reason}" for report in attempt.reports if report.status == "failed"
    ]
    return Error(
        code=Code.CANCELLED, message="; ".join([words, *unsure])[:4096], push_id=attempt.words.push_id
    )


def state_after(state: ReplicaState, member: Member, words: Words, at: float) -> ReplicaState:
    """What a replica that has kept it will say of itself; `at` in Unix seconds."""
    if state.history and state.history[-1].push_id == words.push_id:
        return state  # it has said so already
    generation = member.report.generation if member.report else state.generation + 1
    entry = HistoryEntry(
        push_id=words.push_id,
        generation=generation,
        tree=member.order.target,
        description=words.description,
        source=words.source,
        at=at,
        restores=member.order.restores,
    )
    changed = generation != state.generation
    return replace(
        state,
        tree=member.order.target,
        generation=generation,
        history=(*state.history, entry),
        trial=None,
        crash=None if changed else state.crash,
    )


def stored(turn: Turn, attempt: Attempt, chain: Chain, at: float) -> KeepSpool | DropSpool | None:
    """What becomes of its batches: if it was kept, the chain names them from now on. `at` is in Unix seconds."""
    push_id, push = turn.words.push_id, turn.push
    if turn.kind is Kind.REPLAY or not attempt.kept:
        return None if push is None else DropSpool(push_id)
    batches = push.batches if push is not None else ()
    names = {i: chain.name() for i, batch in enumerate(batches) if batch.base != batch.target}
    edges = _tree_edges(attempt) if push is None else _batch_edges(turn, names)
    trees = [member.order.target for member in (*attempt.kept, *attempt.members.values())]
    trees += [batch.target for batch in batches]  # also of replicas that are lost, or that may come
    evicted = chain.add(_kept_push(turn, attempt, edges, at), trees)
    return KeepSpool(push_id, names, chain.to_json(), evicted)


def _kept_push(turn: Turn, attempt: Attempt, edges: tuple[Edge, ...], at: float) -> KeptPush:
    words = turn.words
    return KeptPush(
        push_id=words.push_id,
        source=words.source[:4096],
        description=words.description[:4096],
        source_tree_id=words.source_tree_id,
        at=at,
        status=attempt.status,
        edges=edges,
        timings_ms=words.timings_ms,
    )


def _batch_edges(turn: Turn, names: dict[int, str]) -> tuple[Edge, ...]:
    """The ways its batches lead; `names` are the files of those that lead anywhere."""
    assert turn.push is not None
    return tuple(
        Edge(
            base=batch.base,
            target=batch.target,
            name=names[index],
            size=turn.sizes[index],
            hooks=batch.hooks,
        )
        for index, batch in enumerate(turn.push.batches)
        if index in names
    )


def _tree_edges(attempt: Attempt) -> tuple[Edge, ...]:
    """The ways a rollback led."""
    orders = {(member.order.base, member.order.target): member.order for member in attempt.members.values()}
    return tuple(
        Edge(base=order.base, target=order.target, restores=order.restores, hooks=order.hooks)
        for order in orders.values()
        if order.base != order.target
    )
