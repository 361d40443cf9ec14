"""When each message may be said, told from both ends of a link."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesync.protocol import (
    Answer,
    AnswerError,
    BatchRef,
    Begin,
    Cancel,
    Chunk,
    EndRequest,
    Error,
    Failed,
    GetHistory,
    GetLogs,
    GetManifest,
    Granted,
    Hello,
    Keep,
    Kept,
    Link,
    Message,
    Outcome,
    Progress,
    ProtocolError,
    Push,
    ReplicaState,
    Rollback,
    Side,
    Stage,
    Staged,
    StageTree,
    State,
    Step,
    Trial,
    Tried,
    Try,
    Undo,
    Undone,
    Welcome,
)
from tests.protocol.examples import EXAMPLES, GOOD, NEW, OLD, REPORT

IDE, SIDECAR, PROXY = Side.IDE, Side.SIDECAR, Side.PROXY
Said = tuple[Side, Message]

HELLO_IDE: Said = (IDE, Hello(versions=(1,), software="x", source="me"))
HELLO_SIDECAR: Said = (SIDECAR, Hello(versions=(1,), software="x", replica=ReplicaState(id="r", tree=OLD)))
WELCOME: Said = (PROXY, Welcome(version=1, software="x"))
BEGIN: Said = (IDE, Begin(push_id="p", source="me", description="", source_tree_id=""))
GRANTED: Said = (PROXY, Granted(push_id="p", deployment=EXAMPLES["granted"].deployment))  # type: ignore[attr-defined]
PUSH: Said = (
    IDE,
    Push(push_id="p", batches=(BatchRef(base=OLD, target=NEW), BatchRef(base=NEW, target=NEW))),
)
ERROR: Said = (PROXY, Error(code="busy", message="", push_id="p"))
OUTCOME: Said = (PROXY, Outcome(push_id="p", status="healthy", replicas=()))
CANCEL: Said = (IDE, Cancel(push_id="p"))
STAGE: Said = (PROXY, Stage(push_id="p", base=OLD, target=NEW, source="", description="", source_tree_id=""))
TREE: Said = (PROXY, StageTree(push_id="p", tree=OLD, restores="", source="", description=""))
STAGED: Said = (SIDECAR, Staged(push_id="p"))
TRY: Said = (PROXY, Try(push_id="p", deadline_s=1.0))
TRIED: Said = (SIDECAR, Tried(push_id="p", healthy=True, report=GOOD))
KEEP: Said = (PROXY, Keep(push_id="p"))
KEPT: Said = (SIDECAR, Kept(push_id="p", report=GOOD))
UNDO: Said = (PROXY, Undo(push_id="p", reason=""))
UNDONE: Said = (SIDECAR, Undone(push_id="p", report=REPORT))
FAILED: Said = (SIDECAR, Failed(push_id="p", phase="stage", code="x", message=""))
STATE: Said = (SIDECAR, State(replica=ReplicaState(id="r", tree=OLD)))

ANSWER = Answer(request=1, data=b"", last=False)
REFUSAL = AnswerError(request=1, code="no_replica", message="")


def chunk(side: Side, batch: int = 0, *, last: bool = True, push_id: str = "p") -> Said:
    return side, Chunk(push_id=push_id, data=b"", last=last, batch=batch)


def progress(side: Side) -> Said:
    return side, Progress(push_id="p", stage="apply", done=0, total=0)


class Conversation:
    """Both ends of one connection, in agreement: nothing is on the way."""

    def __init__(self, peer: Side, *said: Said) -> None:
        self.links = {peer: Link(peer, PROXY), PROXY: Link(PROXY, peer)}
        self.say(*said)

    def say(self, *said: Said) -> Step:
        for speaker, message in said:
            (other,) = set(self.links) - {speaker}
            self.links[speaker].send(message)
            assert self.links[other].receive(message)
            assert self.links[speaker].step is self.links[other].step
            assert self.links[speaker].push_id == self.links[other].push_id
        return self.links[PROXY].step


def ide(*said: Said) -> Conversation:
    return Conversation(IDE, HELLO_IDE, WELCOME, *said)


def sidecar(*said: Said) -> Conversation:
    return Conversation(SIDECAR, HELLO_SIDECAR, WELCOME, *said)


def test_a_push_of_two_batches_on_an_ides_link() -> None:
    talk = ide()
    assert talk.say(BEGIN) is Step.WAITING
    assert talk.say(GRANTED) is Step.PLANNING
    assert talk.say(PUSH, chunk(IDE, last=False), chunk(IDE), chunk(IDE, 1, last=False)) is Step.SENDING
    assert talk.say(chunk(IDE, 1)) is Step.FINISHING
    assert talk.say(progress(PROXY), OUTCOME) is Step.READY
    assert talk.say(BEGIN) is Step.WAITING


@pytest.mark.parametrize("end", [OUTCOME, ERROR])
@pytest.mark.parametrize(
    "before",
    [[BEGIN], [BEGIN, GRANTED], [BEGIN, GRANTED, PUSH], [BEGIN, CANCEL], [BEGIN, GRANTED, PUSH, CANCEL]],
)
def test_a_push_may_end_at_any_step(before: list[Said], end: Said) -> None:
    assert ide(*before).say(end) is Step.READY


def test_a_rollback_needs_no_plan() -> None:
    rollback = (IDE, Rollback(push_id="p", to="", source="", description=""))
    assert ide().say(rollback, progress(PROXY), OUTCOME) is Step.READY


def test_who_waits_is_told_so_whatever_it_has_asked_for() -> None:
    rollback = (IDE, Rollback(push_id="p", to="", source="", description=""))
    assert ide(BEGIN).say(progress(PROXY), GRANTED) is Step.PLANNING
    assert ide(rollback).say(progress(PROXY), CANCEL, progress(PROXY), ERROR) is Step.READY


def test_questions_and_answers_lead_nowhere() -> None:
    for question in (
        GetHistory(request=1, replica="r"),
        GetLogs(request=1, replica="r", lines=5, follow=True),
        EndRequest(request=1),
    ):
        for talk, step in ((ide(BEGIN), Step.WAITING), (ide(BEGIN, GRANTED, PUSH), Step.SENDING)):
            assert talk.say((IDE, question), (PROXY, ANSWER), (PROXY, REFUSAL)) is step
        for talk, step in ((sidecar(), Step.READY), (sidecar(STAGE), Step.STAGING)):
            assert talk.say((PROXY, question), (SIDECAR, ANSWER), (SIDECAR, REFUSAL)) is step


def test_a_push_on_a_sidecars_link() -> None:
    talk = sidecar()
    assert talk.say(STAGE, chunk(PROXY, last=False), progress(SIDECAR)) is Step.STAGING
    assert talk.say(chunk(PROXY)) is Step.VERIFYING
    assert talk.say(STAGED) is Step.STAGED
    assert talk.say(TRY, STATE) is Step.TRYING
    assert talk.say(TRIED, TRIED) is Step.TRIED
    assert talk.say(KEEP) is Step.KEEPING
    assert talk.say(KEPT) is Step.READY
    assert talk.say(TREE) is Step.VERIFYING


@pytest.mark.parametrize(
    "before",
    [
        [],
        [STAGE],
        [STAGE, chunk(PROXY)],
        [STAGE, chunk(PROXY), STAGED],
        [STAGE, chunk(PROXY), STAGED, TRY],
        [STAGE, chunk(PROXY), STAGED, TRY, TRIED],
        [STAGE, FAILED],
    ],
)
def test_undo_is_legal_from_anywhere_but_keep(before: list[Said]) -> None:
    assert sidecar(*before).say(UNDO, progress(SIDECAR), UNDONE) is Step.READY


def test_nothing_is_undone_once_it_is_being_kept() -> None:
    talk = sidecar(STAGE, chunk(PROXY), STAGED, TRY, TRIED, KEEP)
    with pytest.raises(ProtocolError, match="keeping"):
        talk.links[PROXY].send(UNDO[1])


@pytest.mark.parametrize(
    ("phase", "step", "following"),
    [("staged", Step.STAGED, TRY), ("trying", Step.TRYING, TRIED), ("healthy", Step.TRIED, KEEP)],
)
def test_a_sidecar_that_comes_back_goes_on_with_its_trial(phase: str, step: Step, following: Said) -> None:
    state = ReplicaState(id="r", tree=OLD, trial=Trial(push_id="p", phase=phase))
    talk = Conversation(SIDECAR, (SIDECAR, Hello(versions=(1,), software="x", replica=state)))
    assert talk.say(WELCOME) is step
    assert talk.links[PROXY].push_id == "p"
    talk.say(following)


# -- what crosses on the wire ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "late"),
    [
        ([STAGE], FAILED),
        ([STAGE, chunk(PROXY)], STAGED),
        ([STAGE, chunk(PROXY), STAGED, TRY], TRIED),
    ],
)
def test_what_a_sidecar_said_before_it_heard_undo_is_late(before: list[Said], late: Said) -> None:
    link = sidecar(*before).links[PROXY]
    link.send(UNDO[1])
    assert not link.receive(late[1])
    assert link.step is Step.UNDOING
    assert link.receive(UNDONE[1])


def test_what_the_proxy_said_before_it_heard_undone_is_late() -> None:
    talk = sidecar(STAGE, chunk(PROXY), STAGED, TRY, TRIED)
    talk.links[SIDECAR].send(UNDONE[1])
    talk.links[PROXY].send(KEEP[1])
    assert not talk.links[SIDECAR].receive(KEEP[1])
    assert talk.links[PROXY].receive(UNDONE[1])
    assert talk.say(STAGE) is Step.STAGING


def test_chunks_that_crossed_the_end_of_a_push_are_late() -> None:
    talk = ide(BEGIN, GRANTED, PUSH)
    talk.links[PROXY].send(ERROR[1])
    for said in (chunk(IDE, last=False), chunk(IDE), CANCEL):
        talk.links[IDE].send(said[1])
        assert not talk.links[PROXY].receive(said[1])
    assert talk.links[IDE].receive(ERROR[1])
    assert talk.links[IDE].step is Step.READY


def test_the_answer_to_an_undo_that_crossed_undone_is_late_even_if_the_push_has_begun_anew() -> None:
    talk = sidecar(STAGE, chunk(PROXY), STAGED)
    talk.links[SIDECAR].send(UNDONE[1])
    talk.links[PROXY].send(UNDO[1])
    assert talk.links[PROXY].receive(UNDONE[1])
    talk.links[PROXY].send(STAGE[1])
    assert talk.links[SIDECAR].receive(UNDO[1])
    talk.links[SIDECAR].send(UNDONE[1])
    assert talk.links[SIDECAR].receive(STAGE[1])
    assert not talk.links[PROXY].receive(UNDONE[1])
    assert talk.say(chunk(PROXY), STAGED) is Step.STAGED


# -- what is not legal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (ide(), GRANTED),
        (ide(), PUSH),
        (ide(), chunk(IDE)),
        (ide(), CANCEL),
        (ide(), OUTCOME),
        (ide(), HELLO_IDE),
        (ide(), STAGE),
        (ide(BEGIN), BEGIN),
        (ide(BEGIN), PUSH),
        (ide(BEGIN, GRANTED), chunk(IDE)),
        (ide(BEGIN, GRANTED), (IDE, Push(push_id="q", batches=PUSH[1].batches))),  # type: ignore[attr-defined]
        (ide(BEGIN, GRANTED, PUSH), chunk(IDE, 1)),
        (ide(BEGIN, GRANTED, PUSH, chunk(IDE)), chunk(IDE, 0)),
        (ide(BEGIN, GRANTED, PUSH, chunk(IDE), chunk(IDE, 1)), chunk(IDE, 2)),
        (ide(BEGIN, GRANTED, PUSH), chunk(IDE, push_id="q")),
        (ide(), (IDE, Answer(request=1, data=b"", last=True))),
        (ide(), (PROXY, GetManifest(request=1, tree=OLD))),
        (ide(), (PROXY, EndRequest(request=1))),
        (Conversation(IDE, HELLO_IDE), (IDE, EndRequest(request=1))),
        (ide(), (IDE, Error(code="x", message=""))),
        (Conversation(IDE), BEGIN),
        (Conversation(IDE), (PROXY, Welcome(version=1, software="x"))),
        (Conversation(IDE), (IDE, HELLO_SIDECAR[1])),
        (Conversation(IDE, HELLO_IDE), BEGIN),
        (sidecar(), STAGED),
        (sidecar(), TRIED),
        (sidecar(), UNDONE),
        (sidecar(), TRY),
        (sidecar(), KEEP),
        (sidecar(STAGE), STAGED),
        (sidecar(STAGE), STAGE),
        (sidecar(STAGE), UNDONE),
        (sidecar(STAGE, UNDO), (SIDECAR, Staged(push_id="q"))),
        (sidecar(STAGE), TRY),
        (sidecar(STAGE, chunk(PROXY)), chunk(PROXY)),
        (sidecar(STAGE, chunk(PROXY), STAGED), KEEP),
        (sidecar(STAGE, chunk(PROXY), STAGED), STAGED),
        (sidecar(STAGE, chunk(PROXY), STAGED, TRY), KEEP),
        (sidecar(STAGE, chunk(PROXY), STAGED, TRY), KEPT),
        (sidecar(), (SIDECAR, GetManifest(request=1, tree=OLD))),
        (sidecar(), (SIDECAR, EndRequest(request=1))),
        (sidecar(), (SIDECAR, GetLogs(request=1, replica="r", lines=1))),
        (sidecar(), (PROXY, Answer(request=1, data=b"", last=True))),
        (Conversation(SIDECAR), (SIDECAR, HELLO_IDE[1])),
        (Conversation(SIDECAR, HELLO_SIDECAR), STATE),
    ],
)
def test_what_may_not_be_said_now(talk: Conversation, said: Said) -> None:
    speaker, message = said
    for side, link in talk.links.items():
        step, push_id = link.step, link.push_id
        say = link.send if side is speaker else link.receive
        with pytest.raises(ProtocolError):
            say(message)
        assert (link.step, link.push_id) == (step, push_id)


def test_the_proxy_may_refuse_a_connection_at_any_moment() -> None:
    refusal: Said = (PROXY, Error(code="version", message=""))
    for talk in (Conversation(IDE), Conversation(SIDECAR, HELLO_SIDECAR), ide(BEGIN), sidecar(STAGE)):
        step = talk.links[PROXY].step
        assert talk.say(refusal) is step


def test_an_error_says_who_said_what_when() -> None:
    link = sidecar(STAGE).links[PROXY]
    with pytest.raises(
        ProtocolError, match="sidecar said kept about push p while the connection was staging, push p"
    ):
        link.receive(KEPT[1])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([IDE, SIDECAR]), st.lists(st.sampled_from(sorted(EXAMPLES)), max_size=12))
def test_any_sequence_of_messages_is_acted_upon_ignored_or_refused(peer: Side, names: list[str]) -> None:
    link = Link(PROXY, peer)
    for name in names:
        step = link.step
        try:
            acted = link.receive(EXAMPLES[name])
        except ProtocolError:
            acted = False
        assert acted or link.step is step
