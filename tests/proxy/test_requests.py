"""Questions of clients, answered by a replica that has the tree."""

import pytest

from codesync.protocol import (
    Answer,
    AnswerError,
    GetManifest,
    GetSignatures,
    Message,
    Welcome,
)
from tests.proxy.peers import IMAGE, ref
from tests.proxy.world import World, kinds


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
