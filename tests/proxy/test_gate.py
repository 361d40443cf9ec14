"""What is let in: keys, addresses and headers, asked of a real proxy."""

import json
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from codesync.protocol import (
    Begin,
    Granted,
)
from tests.proxy.loopback import KEY, Running, running_proxy

pytestmark = pytest.mark.anyio
READY = "/api/v1/push/ide/shop/dev/ready"
KEY_HEADER = f"X-Api-Key: {KEY}"


async def test_health_is_open(proxy: Running) -> None:
    assert await proxy.get("/health") == (200, '{"status": "ok"}\n')


async def test_ready_counts_replicas(proxy: Running) -> None:
    assert json.loads((await proxy.get(READY, KEY_HEADER))[1]) == {"ready": False, "replicas": 0}
    async with proxy.sidecar("r1"), proxy.sidecar("r2"):
        assert json.loads((await proxy.get(READY, KEY_HEADER))[1]) == {"ready": True, "replicas": 2}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 401),
        (("X-Api-Key: ",), 403),
        (("X-Api-Key: wrong",), 403),
        ((f"X-Api-Key: {KEY}x",), 403),
        ((f"X-Api-Key: {KEY[:-1]}",), 403),
        (("X-Api-Key: \xff\xfe",), 403),
        ((f"Authorization: Basic {KEY}",), 403),
        ((f"Authorization: {KEY}",), 403),
        ((KEY_HEADER, "X-Api-Key: wrong"), 403),
        ((KEY_HEADER, "Authorization: Bearer wrong"), 403),
        ((KEY_HEADER,), 200),
        ((f"x-api-KEY:   {KEY}  ",), 200),
        ((f"Authorization: bearer {KEY}",), 200),
        ((KEY_HEADER, f"Authorization: Bearer {KEY}"), 200),
    ],
)
async def test_a_key_is_wanted_and_must_be_right(
    proxy: Running, headers: tuple[str, ...], status: int
) -> None:
    for path in (READY, "/metrics"):
        found, body = await proxy.get(path, *headers)
        assert found == status
        assert status == 200 or (body.startswith("codesync: ") and body.count("\n") == 1 and KEY not in body)


async def test_a_key_in_the_address_is_no_key(proxy: Running) -> None:
    assert (await proxy.get(f"{READY}?api_key={KEY}"))[0] == 401


async def test_one_of_several_keys_is_enough(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, keys=("old", "new")) as proxy:
        for key in ("old", "new"):
            assert (await proxy.get(READY, f"X-Api-Key: {key}"))[0] == 200
        assert (await proxy.get(READY, "X-Api-Key: oldnew"))[0] == 403


@pytest.mark.parametrize(("key", "status"), [("", 401), ("wrong", 403)])
@pytest.mark.parametrize("side", ["ide", "sidecar"])
async def test_a_websocket_is_refused_before_the_upgrade(
    proxy: Running, side: str, key: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with proxy.connected(side, key=key):
            pass
    assert caught.value.response.status_code == status
    assert b"CODESYNC_API_KEY" in (caught.value.response.body or b"")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthy",
        "/api/v1/push/ide/shop",
        "/api/v1/push/ide/shop/dev/",
        "/api/v1/push/ide/shop/dev/ready/",
        "/api/v1/push/sidecar/shop/dev/ready",
        "/api/v1/push/ide/../dev",
        "/api/v1/push/ide/./dev",
        "/api/v1/push/ide/shop/..",
        "/api/v1/push/ide/shop/a%2Fb",
        "/api/v1/push/ide/shop/%2e%2e",
        "/api/v1/push/ide//dev",
        "/api/v1/push/ide/shop/a\x00b",
        f"/api/v1/push/ide/shop/{'x' * 129}",
        "//api/v1/push/ide/shop/dev",
        "/API/v1/push/ide/shop/dev",
    ],
)
async def test_other_addresses_are_not_found(proxy: Running, path: str) -> None:
    status, body = await proxy.get(path, KEY_HEADER)
    assert status == 404
    assert body.startswith("codesync: ")


async def test_web_pages_are_not_let_in(proxy: Running) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with proxy.connected("ide", origin="http://127.0.0.1"):
            pass
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
async def test_other_methods_are_refused(proxy: Running, method: str) -> None:
    assert (await proxy.get("/health", method=method))[0] == 405


async def test_a_request_that_wants_no_websocket_is_told_so(proxy: Running) -> None:
    assert (await proxy.get("/api/v1/push/ide/shop/dev", KEY_HEADER))[0] == 426


async def test_metrics_tell_what_happened(proxy: Running) -> None:
    async with proxy.sidecar(), proxy.ide() as ide:
        await ide.say(Begin(push_id="p", source="me", description="", source_tree_id=""))
        await ide.hear(Granted)
        _, text = await proxy.get("/metrics", KEY_HEADER)
    assert "# TYPE codesync_connections gauge\n" in text
    assert 'codesync_connections{side="ide"} 1\n' in text
    assert "codesync_replicas 1\n" in text
