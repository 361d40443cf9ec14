"""Questions of clients, answered by a replica that has the tree."""

from dataclasses import replace

import pytest

from codesync.protocol import (
    Answer,
    AnswerError,
    EndRequest,
    FileRanges,
    GetDetails,
    GetHistory,
    GetLogs,
    GetManifest,
    GetSignatures,
    Message,
    State,
    Welcome,
)
from codesync.proxy.events import Lost
from tests.proxy.peers import IMAGE, Sidecar, ref
from tests.proxy.world import World, judge, kinds, on_trial


def test_a_question_is_answered_by_a_replica_that_has_the_tree(world: World) -> None:
    first, second = world.sidecar("r1"), world.sidecar("r2", tree=ref(5))
    ide = world.ide()
    world.run()
    questions: list[Message] = []
    second.hear = questions.append  # type: ignore[method-assign,assignment]
    ide.say(GetManifest(request=4, tree=ref(5)))
    ide.say(GetSignatures(request=5, tree_id=ref(5).tree_id, paths=(b"a",)))
    world.run()
    assert kinds(first) == [Welcome]
    for number, last in ((0, False), (1, True), (0, True)):
        question = questions[number]
        assert isinstance(question, GetManifest | GetSignatures)
        second.say(Answer(request=question.request, data=b"x", last=last))
    world.run()
    answers = [(m.request, m.last) for m in ide.heard if isinstance(m, Answer)]
    assert answers == [(4, False), (5, True), (4, True)]


def test_a_question_about_a_tree_nobody_has_is_refused(world: World) -> None:
    world.sidecar()
    ide = world.ide()
    ide.say(GetManifest(request=1, tree=ref(9)))
    world.run()
    assert isinstance(ide.heard[-1], AnswerError)
    assert ide.heard[-1].code == "no_replica"


@pytest.mark.parametrize("how", ["lost", "silent"])
def test_a_question_that_is_not_answered_ends_with_an_error(world: World, how: str) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    sidecar.hear = lambda message: None  # type: ignore[method-assign]
    ide.say(GetManifest(request=1, tree=IMAGE))
    world.run()
    if how == "lost":
        sidecar.cut()
    world.wait(60)
    assert isinstance(ide.heard[-1], AnswerError)
    assert ide.heard[-1].code == ("replica_lost" if how == "lost" else "timeout")


def test_an_answer_for_a_client_that_left_is_ignored(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    sidecar.hear = lambda message: None  # type: ignore[method-assign]
    ide.say(GetManifest(request=1, tree=IMAGE))
    world.run()
    ide.cut()
    sidecar.say(Answer(request=1, data=b"", last=True))
    world.run()
    assert sidecar.connected


def test_a_client_may_not_ask_without_end(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    sidecar.hear = lambda message: None  # type: ignore[method-assign]
    for number in range(20):
        ide.say(GetManifest(request=number, tree=IMAGE))
    world.run()
    refused = [m for m in ide.heard if isinstance(m, AnswerError)]
    assert [m.code for m in refused] == ["busy"] * 4


def test_a_question_to_a_replica_that_connects_anew_ends_with_an_error(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    sidecar.hear = lambda message: None  # type: ignore[method-assign]
    ide.say(GetManifest(request=1, tree=IMAGE))
    world.run()
    sidecar.connect()
    world.run()
    assert isinstance(ide.heard[-1], AnswerError)
    assert ide.heard[-1].code == "replica_lost"


# -- a question that not every replica knows --------------------------------------------------------------------------

DETAILS = GetDetails(request=7, tree_id=IMAGE.tree_id, files=(FileRanges(path=b"a", seed=1, ranges=(0, 64)),))


def test_details_come_from_a_replica_that_says_it_knows_them(world: World) -> None:
    old, new, ide = world.sidecar("r1"), world.sidecar("r2"), world.ide()
    new.say(State(replica=replace(new.state, questions=("get_details",))))
    heard: list[Message] = []
    new.hear = heard.append  # type: ignore[method-assign,assignment]
    ide.say(DETAILS)
    world.run()
    assert kinds(old) == [Welcome]
    assert heard == [replace(DETAILS, request=1)]
    new.say(Answer(request=1, data=b"x", last=True))
    world.run()
    assert ide.heard[-1] == Answer(request=7, data=b"x", last=True)


def test_a_replica_that_does_not_know_details_is_never_asked(world: World) -> None:
    old, ide = world.sidecar(), world.ide()
    ide.say(DETAILS)
    world.run()
    refusal = ide.heard[-1]
    assert isinstance(refusal, AnswerError)
    assert (refusal.request, refusal.code) == (7, "no_replica")
    assert kinds(old) == [Welcome]
    assert old.connected


def test_details_keep_a_client_that_plans_from_being_idle(world: World) -> None:
    sidecar = world.sidecar()
    sidecar.say(State(replica=replace(sidecar.state, questions=("get_details",))))
    sidecar.hear = lambda message: None  # type: ignore[method-assign]
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.wait(59)
    ide.say(DETAILS)
    world.wait(30)
    sidecar.say(Answer(request=1, data=b"x", last=True))
    world.wait(59)
    assert isinstance(ide.heard[-1], Answer)


# -- questions to one replica ----------------------------------------------------------------------------------------


def requests(sidecar: Sidecar, kind: type[Message]) -> list[Message]:
    return [message for message in sidecar.heard if isinstance(message, kind)]


@pytest.mark.parametrize(
    "question",
    [
        GetHistory(request=7, replica="r2"),
        GetLogs(request=7, replica="r2", lines=200, since_push="p1"),
        GetLogs(request=7, replica="r2", lines=0, follow=True),
    ],
)
def test_history_and_logs_come_from_the_replica_that_is_named(
    world: World, question: GetHistory | GetLogs
) -> None:
    first, second, ide = world.sidecar("r1"), world.sidecar("r2"), world.ide()
    heard: list[Message] = []
    second.hear = heard.append  # type: ignore[method-assign,assignment]
    ide.say(question)
    world.run()
    assert kinds(first) == [Welcome]
    assert heard == [replace(question, request=1)]
    second.say(Answer(request=1, data=b"[]", last=True))
    world.run()
    assert ide.heard[-1] == Answer(request=7, data=b"[]", last=True)


def test_a_replica_that_is_not_there_is_refused_with_those_that_are(world: World) -> None:
    away, ide = world.sidecar("r1"), world.ide()
    world.sidecar("r2")
    world.sidecar("r3")
    away.cut()
    ide.say(GetHistory(request=1, replica="r1"))
    world.run()
    refusal = ide.heard[-1]
    assert isinstance(refusal, AnswerError)
    assert (refusal.request, refusal.code) == (1, "no_replica")
    words = "replica r1 is not connected; ask one that is (connected now: r2, r3)"
    assert refusal.message == words


def test_without_any_replica_that_is_said(world: World) -> None:
    ide = world.ide()
    ide.follow("r1")
    world.run()
    assert isinstance(ide.heard[-1], AnswerError)
    assert "no replica is connected now" in ide.heard[-1].message


def test_logs_are_followed_as_long_as_something_comes_and_ended_by_the_asker(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    request = ide.follow("r1")
    for _ in range(10):
        world.wait(59)
        sidecar.answer(last=False)
        world.run()
    assert [m.last for m in ide.heard if isinstance(m, Answer)] == [False] * 10
    ide.end_request(request)
    sidecar.answer(last=False)  # it crosses the end
    world.run()
    assert requests(sidecar, EndRequest) == [EndRequest(request=1)]
    assert sidecar.asked == set()
    assert world.deployment.next_deadline is None
    assert len([m for m in ide.heard if isinstance(m, Answer)]) <= 11


def test_an_end_that_crosses_the_end_of_the_answer_is_no_harm(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    request = ide.follow("r1")
    world.run()
    sidecar.answer(last=True)
    world.run()
    ide.say(EndRequest(request=request))
    ide.say(EndRequest(request=99))
    world.run()
    assert ide.connected
    assert requests(sidecar, EndRequest) == []


@pytest.mark.parametrize("how", ["lost", "silent"])
def test_a_replica_is_told_when_nobody_waits_for_its_answer_any_more(world: World, how: str) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    ide.follow("r1")
    world.run()
    if how == "lost":
        ide.cut()
    world.wait(60)
    assert requests(sidecar, EndRequest) == [EndRequest(request=1)]


def test_a_replica_that_is_sent_away_for_its_silence_ends_what_it_was_asked(world: World) -> None:
    (first, second), _ = on_trial(world, "r1", "r2")
    watcher = world.ide()
    watcher.follow("r1")
    world.run()
    first.deadline = None
    first.hear = lambda message: None  # type: ignore[method-assign]
    connection = first.connection
    judge(world, second, plan="unhealthy")
    while first.connected:
        world.wait(15)
        if first.connected:
            first.say(Answer(request=1, data=b"", last=False))
    world.feed(Lost(connection))
    world.run()
    assert isinstance(watcher.heard[-1], AnswerError)
    assert watcher.heard[-1].code == "replica_lost"


def test_followed_logs_count_among_the_open_questions(world: World) -> None:
    world.sidecar()
    ide = world.ide()
    for _ in range(17):
        ide.follow("r1")
    world.run()
    refused = [m for m in ide.heard if isinstance(m, AnswerError)]
    assert [(m.request, m.code) for m in refused] == [(17, "busy")]
    ide.end_request(1)
    ide.follow("r1")
    world.run()
    assert len([m for m in ide.heard if isinstance(m, AnswerError)]) == 1


def test_logs_do_not_make_a_client_that_plans_less_idle(world: World) -> None:
    sidecar = world.sidecar()
    ide = world.ide(eager=False)
    ide.begin("p1", 1)
    world.wait(30)
    ide.follow("r1")
    ide.say(GetHistory(request=99, replica="nobody"))
    world.wait(29)
    sidecar.answer(last=False)
    world.wait(1)
    assert ide.error.code == "timeout"
    assert "plan_idle" in ide.error.message


def test_who_reads_a_log_too_slowly_is_told_and_holds_nothing_up(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    questions: list[Message] = []
    sidecar.hear = questions.append  # type: ignore[method-assign,assignment]
    ide.say(GetLogs(request=7, replica=sidecar.state.id, lines=1, follow=True))
    world.run()
    asked = questions[-1]
    assert isinstance(asked, GetLogs)
    sidecar.say(Answer(request=asked.request, data=b"a line", last=False))
    world.run()
    assert isinstance(ide.heard[-1], Answer)
    world.deployment._board.is_behind = lambda connection: True
    sidecar.say(Answer(request=asked.request, data=b"a line", last=False))
    world.run()
    assert isinstance(ide.heard[-1], AnswerError)
    assert (ide.heard[-1].request, ide.heard[-1].code) == (7, "too_large")
    assert questions[-1] == EndRequest(request=asked.request)


def test_lines_that_end_are_told_however_slowly_they_are_read(world: World) -> None:
    sidecar, ide = world.sidecar(), world.ide()
    questions: list[Message] = []
    sidecar.hear = questions.append  # type: ignore[method-assign,assignment]
    ide.say(GetLogs(request=7, replica=sidecar.state.id, lines=1))
    world.run()
    world.deployment._board.is_behind = lambda connection: True
    asked = questions[-1]
    assert isinstance(asked, GetLogs)
    sidecar.say(Answer(request=asked.request, data=b"a line", last=True))
    world.run()
    assert ide.heard[-1] == Answer(request=7, data=b"a line", last=True)
