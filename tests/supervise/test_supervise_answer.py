"""An HTTP answer, piece by piece."""

import pytest

from codesync.supervise.answer import judge_answer

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Type: text/plain\r\nCONTENT-LENGTH: 7\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: gzip, Chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "wanted", "expected"),
    [
        (b"HTTP/1.0 204 No Content\r\n", "", ""),
        (b"HTTP/1.1 302\r\nLocation: /\r\n\r\n", "", ""),
        (b"HTTP/1.1 503 no\r\n", "", "HTTP status 503"),
        (b"HTTP/1.1 503 no\r\n\r\nup", "up", "HTTP status 503"),
        (b"220 ready\r\n", "", "the answer is not HTTP"),
        (b"x" * 2000, "", "the answer is not HTTP"),
        (b"HTTP/1.1 2", "", None),
        (OK, "up", None),
        (LENGTH + b"all up", "up", ""),
        (LENGTH + b"all u", "up", None),
        (LENGTH + b"all is ", "up", "the answer does not contain 'up'"),
        (LENGTH + b"all is up", "up", "the answer does not contain 'up'"),  # beyond what it says is the body
        (OK + b"X: up\r\n\r\n", "up", None),
        (OK + b"\r\nsays \xc3\xbcber", "über", ""),
        (CHUNKED + b"6\r\nall up\r\n", "up", ""),
        (CHUNKED + b"5;x=y\r\nall u\r\n1\r\np\r\n", "up", ""),
        (CHUNKED + b"3\r\nall\r\n0\r\n\r\nup", "up", "the answer does not contain 'up'"),
        (CHUNKED + b"3\r\nall\r\n", "3", None),  # a chunk's size is no text
        (CHUNKED + b"what?\r\nup", "up", "the answer does not contain 'up'"),
        (CHUNKED + b"-1\r\nup", "up", "the answer does not contain 'up'"),
    ],
)
def test_what_has_come_is_enough_or_more_must_come(answer: bytes, wanted: str, expected: str | None) -> None:
    assert judge_answer(answer, ended=False, wanted=wanted) == expected


@pytest.mark.parametrize(
    ("answer", "wanted", "expected"),
    [
        (b"", "", "the answer is not HTTP"),
        (b"HTTP/1.1 200", "", ""),
        (OK, "up", "the answer does not contain 'up'"),
        (LENGTH + b"all u", "up", "the answer does not contain 'up'"),
        (OK + b"\r\nall is well", "well", ""),
    ],
)
def test_when_nothing_more_comes_it_must_do(answer: bytes, wanted: str, expected: str) -> None:
    assert judge_answer(answer, ended=True, wanted=wanted) == expected


@pytest.mark.parametrize("body", [LENGTH + b"all up\n", CHUNKED + b"4\r\nall \r\n2\r\nup\r\n0\r\n\r\n"])
def test_wherever_it_is_cut_the_verdict_comes_with_the_piece_that_tells_it(body: bytes) -> None:
    verdicts = [judge_answer(body[:end], ended=False, wanted="up") for end in range(len(body) + 1)]

    assert verdicts == sorted(verdicts, key=lambda verdict: verdict is not None)
    assert set(verdicts) == {None, ""}
