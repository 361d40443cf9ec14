"""What is let in: the address, the key, the headers of a request, judged before the upgrade. Pure.

Keys are compared in constant time, each with each, so that neither a key nor how much of it was right can be measured.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from codesync.protocol import Side, is_id

_ADDRESS = re.compile(r"/api/v1/push/(ide|sidecar)/([^/]*)/([^/]*)(/ready)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """The part of an HTTP request that counts: the path without its query, headers with their names as they came."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer in place of what was wanted; `text` is one line that says what to do."""

    status: HTTPStatus
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """One of the plain pages: health, metrics, ready (of `app_id`, `deployment_id`)."""

    name: str
    app_id: str = ""
    deployment_id: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """A websocket of a deployment."""

    side: Side
    app_id: str
    deployment_id: str


class Keys:
    """The keys that are accepted; none: everybody is."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, key: bytes) -> bool:
        """Whether it is one of them; the time taken depends on nothing secret."""
        digest = _digest(key)
        return any([hmac.compare_digest(digest, known) for known in self._digests])  # noqa: C419 - all are compared

    def __repr__(self) -> str:
        return f"<{len(self._digests)} keys>"


def judge(request: Request, keys: Keys) -> Door | Page | Refusal:
    """What the request gets."""
    if request.method != "GET":
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "codesync: only GET is understood here")
    if request.path == "/health":
        return Page("health")
    refusal = _check_key(request, keys)
    if refusal is not None:
        return refusal
    if request.path == "/metrics":
        return Page("metrics")
    return _door(request)


def _door(request: Request) -> Door | Page | Refusal:
    match = _ADDRESS.fullmatch(request.path)
    if match is None or (match[4] and match[1] != Side.IDE):
        words = "codesync: no such address; websockets are at /api/v1/push/ide|sidecar/APP_ID/DEPLOYMENT_ID"
        return Refusal(HTTPStatus.NOT_FOUND, words)
    app_id, deployment_id = match[2], match[3]
    if not is_id(app_id) or not is_id(deployment_id):
        words = "codesync: app_id and deployment_id are 1 to 128 of A-Z a-z 0-9 . _ - each; correct them"
        return Refusal(HTTPStatus.NOT_FOUND, words)
    if match[4]:
        return Page("ready", app_id, deployment_id)
    if request.values("origin"):
        return Refusal(
            HTTPStatus.FORBIDDEN, "codesync: web pages (requests with an Origin header) are not let in"
        )
    return Door(Side(match[1]), app_id, deployment_id)


def _check_key(request: Request, keys: Keys) -> Refusal | None:
    if not keys:
        return None
    presented = _presented(request)
    if not presented:
        words = "codesync: a key is wanted; set CODESYNC_API_KEY (sent as X-Api-Key or Authorization: Bearer)"
        return Refusal(HTTPStatus.UNAUTHORIZED, words)
    # every one that is presented must be right, or two proxies in a row could judge by different ones
    if not all([keys.accept(key) for key in presented]):  # noqa: C419 - all are compared
        return Refusal(
            HTTPStatus.FORBIDDEN, "codesync: that key is not accepted here; correct CODESYNC_API_KEY"
        )
    return None


def _presented(request: Request) -> list[bytes]:
    keys = request.values("x-api-key")
    for value in request.values("authorization"):
        scheme, _, key = value.partition(" ")
        keys.append(key if scheme.lower() == "bearer" else "")
    return [key.strip().encode("latin-1", "replace") for key in keys]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def usable_keys(keys: Sequence[str]) -> list[str]:
    """Keys without blanks around them; empty ones count as none."""
    return [key.strip() for key in keys if key.strip()]
