"""Nothing that happens to a collection is lost on its follower, whatever happens to the connection."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from byok_service import kubernetes, reflector
from byok_service.kubernetes import BYOK_KEYS, KubernetesApi
from byok_service.reflector import pause_after
from tests.support.eventually import until
from tests.support.fake_api_server import Body, FakeApiServer
from tests.support.followers import Follower, running

KEYS = "byok.dev/byokkeys"


def document(name: str, **spec: object) -> Body:
    return {"metadata": {"namespace": "media", "name": name}, "spec": spec}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        yield server


@pytest.fixture
async def api(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
    yield api
    await api.close()


@pytest.fixture
async def follower(api: KubernetesApi, server: FakeApiServer) -> AsyncIterator[Follower]:
    """One that has listed `first` and watches."""
    server.put(KEYS, document("first"))
    async with running(Follower(api)) as follower:
        await until(lambda: server.watching == 1)
        yield follower


async def test_what_is_there_is_listed_and_what_changes_is_followed(follower: Follower, server: FakeApiServer) -> None:
    assert follower.reflector.synced
    server.put(KEYS, document("second"))
    server.put(KEYS, document("second", a=1))
    server.remove(KEYS, "media", "first")
    await until(lambda: len(follower.heard) == 4)
    assert follower.heard == [("replaced", ""), ("changed", "second"), ("changed", "second"), ("deleted", "first")]
    assert follower.objects["second"]["spec"] == {"a": 1}


async def test_a_watch_that_is_cut_goes_on_where_it_was(follower: Follower, server: FakeApiServer) -> None:
    server.cut()
    server.put(KEYS, document("second"))
    server.remove(KEYS, "media", "first")
    await until(lambda: follower.names == {"second"})
    assert follower.heard == [("replaced", ""), ("changed", "second"), ("deleted", "first")]


async def test_what_was_deleted_in_a_time_that_nobody_remembers_is_gone(
    follower: Follower, server: FakeApiServer
) -> None:
    before = len(server.requests)
    server.cut()
    server.remove(KEYS, "media", "first")
    server.compact()
    await until(lambda: follower.lists == 2)
    assert follower.names == set()
    # At once: the watch that is too late, then the list.
    assert ["watch=true" in path for _, path in server.requests[before : before + 2]] == [True, False]


async def test_a_list_that_expires_between_pages_is_begun_again(
    api: KubernetesApi, server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "PAGE_SIZE", 2)
    for index in range(4):
        server.put(KEYS, document(f"k{index}"))
    pages = api.pages(BYOK_KEYS)
    await anext(pages)
    server.compact()
    with pytest.raises(kubernetes.ApiError, match="410"):
        await anext(pages)
    async with running(Follower(api)) as follower:
        await until(lambda: len(follower.objects) == 4)


async def test_a_connection_that_says_nothing_is_replaced(
    api: KubernetesApi, server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "SILENCE_SECONDS", 0.1)
    server.silent = True
    async with running(Follower(api)) as follower:
        await until(lambda: server.watching == 1)
        server.put(KEYS, document("second"))
        await until(lambda: len(server.requests) >= 3)
        server.silent = False
        await until(lambda: follower.names == {"second"})


async def test_an_api_server_that_was_away_is_caught_up_with(follower: Follower, server: FakeApiServer) -> None:
    await server.stop()
    server.put(KEYS, document("second"))
    server.remove(KEYS, "media", "first")
    await until(lambda: follower.reflector._failures >= 2)  # noqa: SLF001 - that it noticed
    assert follower.names == {"first"}
    await server.start()
    await until(lambda: follower.names == {"second"})


def bookmark_of(version: str) -> web.Response:
    event = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}
    return web.Response(text=json.dumps(event) + "\n")


async def test_an_api_server_that_goes_back_in_time_is_asked_for_everything(
    follower: Follower, server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    listed = (follower.reflector.confirmed_at or 0.0, follower.lists)
    server.answers = [bookmark_of("99")]
    server.cut()
    await until(lambda: follower.lists == 2 and server.watching == 1)
    assert ((follower.reflector.confirmed_at or 0.0) > listed[0], listed[1]) == (True, 1)
    assert "gone back in time" in caplog.text
    # Of what comes next nothing is missed: the version is that of the list.
    server.put(KEYS, document("second"))
    await until(lambda: follower.names == {"first", "second"})


@pytest.mark.parametrize("told", ["101", "v1", "", "102"])
async def test_a_version_that_is_not_older_changes_nothing(
    follower: Follower, server: FakeApiServer, told: str
) -> None:
    before = len(server.requests)
    server.answers = [bookmark_of(told)]
    server.cut()
    await until(lambda: len(server.requests) == before + 2)
    assert (follower.lists, server.requests[-1][1].count(f"resourceVersion={told or 101}&")) == (1, 1)


async def test_a_watch_that_is_cut_again_and_again_loses_nothing(follower: Follower, server: FakeApiServer) -> None:
    chance = random.Random(5)  # noqa: S311 - a test's choices
    expected = []
    for round_ in range(300):
        name = f"k{chance.randrange(20)}"
        if ("media", name) in server.objects[KEYS] and chance.random() < 0.5:
            server.remove(KEYS, "media", name)
            expected.append(("deleted", name))
        else:
            server.put(KEYS, document(name, round=round_))
            expected.append(("changed", name))
        if round_ % 10 == 0:
            server.cut()
        await asyncio.sleep(0)
    await until(lambda: len(follower.heard) > len(expected), 30)
    assert follower.heard == [("replaced", ""), *expected]


async def test_a_collection_that_no_longer_exists_is_empty_and_comes_back(
    follower: Follower, server: FakeApiServer
) -> None:
    server.answers = [web.Response(status=404, text="404 page not found") for _ in range(2)]
    server.cut()
    await until(lambda: follower.names == set())
    await until(lambda: follower.names == {"first"})
    assert follower.heard == [("replaced", "")] * 3


async def test_a_collection_that_never_existed_is_not_known(api: KubernetesApi, server: FakeApiServer) -> None:
    server.answers = [web.Response(status=404, text="404 page not found") for _ in range(3)]
    async with running(Follower(api)) as follower:
        await until(lambda: follower.reflector._failures == 3)  # noqa: SLF001 - that it was told no
        assert (follower.reflector.synced, follower.reflector.confirmed_at, follower.heard) == (False, None, [])
        await until(lambda: follower.reflector.synced)


async def test_after_failures_in_a_row_the_collection_is_listed_again(
    follower: Follower, server: FakeApiServer
) -> None:
    server.answers = [web.Response(status=504) for _ in range(4)]
    server.cut()
    await until(lambda: follower.heard == [("replaced", "")] * 2)


@pytest.mark.usefixtures("follower")
async def test_a_watch_that_ends_as_soon_as_it_begins_is_not_opened_without_pause(server: FakeApiServer) -> None:
    before = len(server.requests)
    server.answers = [web.Response(text="") for _ in range(3)]
    started = asyncio.get_running_loop().time()
    server.cut()
    await until(lambda: len(server.requests) == before + 4)
    assert asyncio.get_running_loop().time() - started >= pause_after(2, 0.0) + pause_after(3, 0.0)


async def test_every_word_of_the_api_server_confirms_what_is_known(api: KubernetesApi, server: FakeApiServer) -> None:
    clock = iter(range(10_000))
    server.bookmark_seconds = 0.01
    async with running(Follower(api, clock=lambda: float(next(clock)))) as follower:
        await until(lambda: server.watching == 1)
        first = follower.reflector.confirmed_at or 0.0
        await until(lambda: (follower.reflector.confirmed_at or 0.0) > first)


async def test_events_that_come_together_leave_others_their_turn(
    follower: Follower, server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "_TURN", 0.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while len(follower.heard) < 200:
            turns += 1
            await asyncio.sleep(0)

    for index in range(200):
        server.put(KEYS, document(f"k{index}"))
    await other()
    assert turns >= 200


@pytest.mark.parametrize(
    ("failures", "luck", "asked", "seconds"),
    [
        (0, 0.5, None, 0.0),
        (1, 1.0, None, 0.0),
        (2, 0.0, None, 0.125),
        (2, 1.0, None, 0.25),
        (4, 1.0, None, 1.0),
        (50, 1.0, None, 5.0),
        (10**6, 0.0, None, 2.5),
        (1, 0.0, 3.0, 3.0),
        (1, 0.0, 3600.0, 30.0),
    ],
)
def test_the_first_retry_is_at_once_then_pauses_double_up_to_five_seconds(
    failures: int, luck: float, asked: float | None, seconds: float
) -> None:
    assert pause_after(failures, luck, asked=asked) == seconds
