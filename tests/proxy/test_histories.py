"""Any history at all: connections lost, left behind and made again at every step, duplicates, waits, restarts.

What must hold all the time is checked by `World`; what must hold in the end, here.
"""

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from codesync.protocol import State, Step
from codesync.proxy.events import DiskFailed
from tests.proxy.peers import End, Ide, Sidecar, ref
from tests.proxy.world import World

T = TypeVar("T")

picks = st.integers(0, 7)
plans = st.sampled_from(["healthy", "healthy", "healthy", "unhealthy", "fail", "hang"])


class Histories(RuleBasedStateMachine):
    """Everything anybody may do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.may_fault = False  # everybody keeps the protocol here

    def pick(self, number: int, some: Sequence[T]) -> T | None:
        return some[number % len(some)] if some else None

    @property
    def sidecars(self) -> list[Sidecar]:
        return list(self.world.sidecars)

    @property
    def ides(self) -> list[Ide]:
        return [end for end in self.world.all if isinstance(end, Ide)]

    @initialize(replicas=st.integers(1, 3), other_tree=st.booleans())
    def begin(self, replicas: int, other_tree: bool) -> None:
        for number in range(replicas):
            self.world.sidecar(f"r{number}", tree=ref(100) if other_tree and number else ref(0))
        for eager in (True, True, False):
            self.world.ide(eager=eager)

    # -- messages ----------------------------------------------------------------------------------------------------

    @rule(number=picks, many=st.integers(1, 20))
    def hear_some(self, number: int, many: int) -> None:
        self._hear_some(number, many)

    def _hear_some(self, number: int, many: int) -> None:
        """So many messages arrive; the number says at whom."""
        for turn in range(many):
            ends = [end for end in self.world.all if end.connected and (end.inbox or end.outbox)]
            end = self.pick(number + turn * (number + 1), ends)
            if end is not None and end.inbox and ((turn + number) % 2 or not end.outbox):
                end.hear_one()
            elif end is not None:
                self.world.deliver(end)

    @rule()
    def hear_all(self) -> None:
        self.world.run()

    # -- clients -----------------------------------------------------------------------------------------------------

    @rule(number=picks, push=st.integers(1, 9), other_tree=st.sampled_from([False, False, False, True]))
    def push(self, number: int, push: int, other_tree: bool) -> None:
        ide = self.pick(number, [ide for ide in self.ides if ide.may_begin])
        if ide is not None:
            ide.begin(f"p{push}", push + 50 * other_tree)
            self._hear_some(number, 12)

    @rule(number=picks, rollback=st.integers(1, 3), to=st.sampled_from(["", "p1", "p2", "generation-0"]))
    def roll_back(self, number: int, rollback: int, to: str) -> None:
        ide = self.pick(number, [ide for ide in self.ides if ide.may_begin])
        if ide is not None:
            ide.roll_back(f"b{rollback}", to)

    @rule(number=picks, many=st.integers(1, 8))
    def send(self, number: int, many: int) -> None:
        ide = self.pick(number, [ide for ide in self.ides if ide.connected and ide.pending])
        for _ in range(many):
            if ide is not None and ide.pending:
                ide.send_one()

    @rule(number=picks)
    def cancel(self, number: int) -> None:
        busy = {Step.WAITING, Step.PLANNING, Step.SENDING, Step.FINISHING}
        ide = self.pick(number, [ide for ide in self.ides if ide.connected and ide.link.step in busy])
        if ide is not None:
            ide.cancel()

    @rule(number=picks)
    def follow(self, number: int) -> None:
        ide = self.pick(
            number, [ide for ide in self.ides if ide.connected and ide.link.step is not Step.GREETED]
        )
        if ide is not None:
            ide.follow(f"r{number % 4}")

    @rule(number=picks)
    def end_request(self, number: int) -> None:
        ide = self.pick(number, [ide for ide in self.ides if ide.connected and ide.wanted])
        if ide is not None:
            ide.end_request(min(ide.wanted))

    # -- replicas ----------------------------------------------------------------------------------------------------

    @rule(number=picks, plan=plans)
    def decide(self, number: int, plan: str) -> None:
        sidecar = self.pick(number, self.sidecars)
        assert sidecar is not None
        sidecar.plan = plan
        if plan != "hang":
            sidecar.judge()

    @rule(number=picks)
    def undo_unasked(self, number: int) -> None:
        held = [
            s
            for s in self.sidecars
            if s.trial is not None and s.link.step in {Step.STAGED, Step.TRYING, Step.TRIED}
        ]
        sidecar = self.pick(number, held)
        if sidecar is not None and sidecar.trial is not None:
            sidecar.undo(sidecar.trial.push_id)

    @rule(number=picks, launcher=st.sampled_from(["ready", "starting", "absent"]))
    def change_launcher(self, number: int, launcher: str) -> None:
        sidecar = self.pick(number, self.sidecars)
        assert sidecar is not None
        sidecar.launcher = launcher
        sidecar.say(State(replica=sidecar.state))

    @rule(number=picks, last=st.booleans())
    def answer(self, number: int, last: bool) -> None:
        sidecar = self.pick(number, [s for s in self.sidecars if s.connected and s.asked])
        if sidecar is not None:
            sidecar.answer(last=last)

    @precondition(lambda self: len(self.sidecars) < 4)
    @rule()
    def join(self) -> None:
        self.world.sidecar(f"r{len(self.sidecars)}", greet=False)

    # -- troubles ----------------------------------------------------------------------------------------------------

    @rule(number=picks)
    def cut(self, number: int) -> None:
        end = self.pick(number, [end for end in self.world.all if end.connected])
        if end is not None:
            end.cut()

    @rule(number=picks)
    def connect(self, number: int) -> None:
        end = self.pick(number, [end for end in self.world.all if not end.connected])
        if end is not None:
            _connect(end)

    @rule(number=picks)
    def connect_twice(self, number: int) -> None:
        sidecar = self.pick(number, self.sidecars)
        assert sidecar is not None
        sidecar.connect()

    @rule(push=st.integers(1, 9))
    def fill_disk(self, push: int) -> None:
        self.world.feed(DiskFailed(f"p{push}", "full"))

    @precondition(lambda self: self.world.now < 3000)
    @rule(seconds=st.sampled_from([1, 1, 1, 9, 21, 31, 61, 121, 200]))
    def wait(self, seconds: float) -> None:
        self.world.skip(seconds)

    @precondition(lambda self: self.world.deployment.busy)
    @rule()
    def restart(self) -> None:
        self.world.restart()

    # -- the end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Whatever happened: when all keep the protocol from now on, it comes to rest, and everybody knows the end."""
        for sidecar in self.sidecars:
            sidecar.plan = "healthy"
            sidecar.launcher = "ready"
            if not sidecar.connected:
                sidecar.connect()
            sidecar.say(State(replica=sidecar.state))
            sidecar.judge()
        for ide in self.ides:
            ide.eager = True
            while ide.connected and ide.pending:
                ide.send_one()
        self.world.wait(1000)
        assert not self.world.deployment.busy
        for ide in self.ides:
            assert not ide.connected or len(ide.ends) == ide.asked
            assert not ide.connected or ide.link.step is Step.READY
            assert not ide.connected or not ide.wanted
        for sidecar in self.sidecars:
            if sidecar.connected:
                assert sidecar.trial is None
                assert sidecar.link.step is Step.READY
                assert not sidecar.asked


def _connect(end: End) -> None:
    assert isinstance(end, Ide | Sidecar)
    end.connect()


Histories.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistories = Histories.TestCase
