"""What became of a push_id, for whoever asks again: the proxy's own record first, then what is stored, then the replicas.

A push that ended before it reached the record (cancelled, its client lost) is forgotten: sent again, it begins anew.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from codesync.protocol import KEPT_STATUSES, RESULTS, Outcome, ReplicaReport, ReplicaState, Result
from codesync.proxy.chain import Chain


@dataclass(frozen=True, slots=True)
class Record:
    """The outcome of a push, and of which source tree it was (empty: a rollback)."""

    source_tree_id: str
    outcome: Outcome


@dataclass(slots=True)
class Records:
    """The last 64 outcomes of a deployment."""

    _records: OrderedDict[str, Record] = field(default_factory=OrderedDict)
    _forgotten: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def add(self, source_tree_id: str, outcome: Outcome) -> None:
        """Remember."""
        self._remember(outcome.push_id, Record(source_tree_id, outcome))

    def forget(self, push_id: str) -> None:
        """The push may be sent again, whatever a replica remembers of it."""
        self._forgotten[push_id] = None
        _bound(self._forgotten)

    def find(self, push_id: str, chain: Chain, replicas: Iterable[ReplicaState]) -> Record | None:
        """The record of a push_id, put together from what is left if this proxy has none of its own."""
        if push_id not in self._records:
            results = [(state.id, r) for state in replicas for r in state.results if r.push_id == push_id]
            record = self._rebuilt(push_id, chain, results)
            if record is None:
                return None
            self._remember(push_id, record)  # what was told once is told again
        return self._records[push_id]

    def _rebuilt(self, push_id: str, chain: Chain, results: list[tuple[str, Result]]) -> Record | None:
        kept = chain.find(push_id)
        if kept is None:
            return None if push_id in self._forgotten else _from_results(push_id, results)
        tree = kept.edges[0].target if kept.edges else None
        outcome = Outcome(push_id=push_id, status=kept.status, replicas=_reports(results), tree=tree)
        return Record(kept.source_tree_id, outcome)

    def _remember(self, push_id: str, record: Record) -> None:
        self._records[push_id] = record
        _bound(self._records)


def _from_results(push_id: str, results: list[tuple[str, Result]]) -> Record | None:
    if not results:
        return None
    kept = [result for _, result in results if result.status in KEPT_STATUSES]
    if not kept:
        status = "failed" if all(result.status == "failed" for _, result in results) else "rolled_back"
    elif len(kept) < len(results):
        status = "partial"
    else:
        status = max((result.status for result in kept), key=KEPT_STATUSES.index)
    tree = kept[-1].tree if kept else None
    outcome = Outcome(push_id=push_id, status=status, replicas=_reports(results), tree=tree)
    return Record(results[-1][1].source_tree_id, outcome)


def _reports(results: list[tuple[str, Result]]) -> tuple[ReplicaReport, ...]:
    return tuple(
        ReplicaReport(
            id=replica_id,
            status=result.status,
            generation=result.generation,
            exit_code=result.exit_code,
            signal=result.signal,
            reason=result.reason,
        )
        for replica_id, result in results
    )


def _bound(items: OrderedDict[str, Record] | OrderedDict[str, None]) -> None:
    while len(items) > RESULTS:
        items.popitem(last=False)
