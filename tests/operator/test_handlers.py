"""kopf, as far as it can be shown without an API server that it knows; tests/cluster has the rest."""

import asyncio
import contextlib
import gc
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml
from aiohttp import web
from kopf._cogs.clients.errors import APINotFoundError

from byok_operator import handlers
from byok_operator.handlers import KopfThread
from tests.support.eventually import until
from tests.support.fake_api_server import TOKEN, FakeApiServer


def test_kopf_leaves_objects_alone_and_comes_back_soon() -> None:
    chosen = handlers.settings()
    assert chosen.peering.standalone
    assert not chosen.posting.enabled
    backoffs = list(itertools.islice(iter(chosen.networking.error_backoffs), 1000))  # type: ignore[arg-type] # or a number
    assert len(backoffs) == 1000
    assert max(backoffs) <= 2
    assert max(chosen.queueing.error_delays) <= 2


# kopf leaves the session of credentials that were refused to the collector, which warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Leave none of that to other tests."""
    yield
    gc.collect()


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("first\n")
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"tokenFile": str(tmp_path / "token")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
    return tmp_path / "kubeconfig"


async def test_kopf_logs_in_as_the_rest_of_the_operator_does_with_the_token_of_the_moment(kubeconfig: Path) -> None:
    found = await handlers.connection(str(kubeconfig))
    assert found.server == "https://127.0.0.1:1"
    assert found.as_http_headers() == {"Authorization": "Bearer first"}
    (kubeconfig.parent / "token").write_text("second\n")
    assert (await handlers.connection(str(kubeconfig))).token == "second"


@pytest.mark.parametrize(
    ("loaded", "token"), [("Bearer abc", "abc"), ("bearer abc", "abc"), ("abc\n", "abc"), ("", None), (None, None)]
)
def test_the_token_is_found_in_whatever_a_loader_makes_of_it(loaded: str | None, token: str | None) -> None:
    assert handlers.bare(loaded) == token


async def test_kopf_ends_within_ten_seconds_even_while_it_cannot_reach_the_api_server(
    kubeconfig: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thread = KopfThread(str(kubeconfig), lambda *_: None)
    thread.start()
    await asyncio.sleep(0)
    await thread.stop()
    # It is given ten; kopf itself waits five seconds for what its tasks began.
    assert "kopf did not end in time" not in caplog.messages


_LISTED = {"singularName": "", "namespaced": True, "verbs": ["list", "watch"]}
_GROUP_VERSION = {"groupVersion": "byok.dev/v1alpha1", "version": "v1alpha1"}
_OURS = "/apis/byok.dev/v1alpha1"
_DISCOVERY: dict[str, dict[str, Any]] = {
    "/version": {},
    "/api": {"versions": ["v1"]},
    "/apis": {"groups": [{"name": "byok.dev", "preferredVersion": _GROUP_VERSION, "versions": [_GROUP_VERSION]}]},
    "/api/v1": {"resources": [{"name": "namespaces", "kind": "Namespace"} | _LISTED]},
    _OURS: {
        "resources": [
            {"name": "byokkeys", "kind": "ByokKey"} | _LISTED,
            {"name": "signingrecipes", "kind": "SigningRecipe"} | _LISTED,
        ]
    },
}


class DiscoveryOnly(FakeApiServer):
    """Still tells of kinds that it does not serve any more, as an API server does for a moment."""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        found = _DISCOVERY.get(request.path)
        gone = {"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no such resource"}
        return web.json_response(gone, status=404) if found is None else web.json_response(found)


class OpenDiscovery(FakeApiServer):
    """Tells of our kinds without a token, and of nothing else."""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(_DISCOVERY[_OURS]) if request.path == _OURS else await super()._handle(request)


async def test_kopf_comes_back_with_a_token_that_was_renewed_after_the_old_one_had_expired(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("expired")
    async with OpenDiscovery() as server:
        thread = KopfThread(server.kubeconfig(tmp_path, tokenFile=str(token)), lambda *_: None)
        # Given to the first request that is let in.
        server.answers = [web.json_response({"versions": []})]
        thread.start()
        await until(lambda: len(server.requests) >= 2, 30)
        assert server.answers
        token.write_text(TOKEN)
        await until(lambda: not server.answers, 20)
        await thread.stop()


@pytest.mark.parametrize("served", [{}, {"resources": _DISCOVERY[_OURS]["resources"][:1]}])
async def test_kopf_waits_until_both_kinds_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: dict[str, Any]
) -> None:
    complete = _DISCOVERY[_OURS]
    monkeypatch.setitem(_DISCOVERY, _OURS, served)
    async with DiscoveryOnly() as server:
        thread = KopfThread(server.kubeconfig(tmp_path), lambda *_: None)
        thread.start()
        await until(lambda: len(server.requests) >= 2, 20)
        assert {path for _, path in server.requests} == {_OURS}
        monkeypatch.setitem(_DISCOVERY, _OURS, complete)
        await until(lambda: ("GET", "/api/v1") in server.requests, 20)
        await thread.stop()


# As above.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_end_of_kopf_with_the_crds_is_told_once_and_without_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with DiscoveryOnly() as server:
        thread = KopfThread(server.kubeconfig(tmp_path), lambda *_: None)
        thread.start()
        await until(lambda: "watching ended and begins again" in caplog.messages, 20)
        await thread.stop()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    # What asyncio tells may be left of another test's kopf.
    assert [record.getMessage() for record in errors if record.name != "asyncio"] == []


async def test_kopf_comes_back_although_one_of_its_tasks_loses_a_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def lose_a_cancellation() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def spawn(**_: object) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(fail()), asyncio.create_task(lose_a_cancellation())]

    monkeypatch.setattr(kopf, "spawn_tasks", spawn)
    async with OpenDiscovery() as server:
        thread = KopfThread(server.kubeconfig(tmp_path), lambda *_: None)
        thread.start()
        await until(lambda: caplog.messages.count("watching ended and begins again") >= 2, 30)
        await thread.stop()
    assert "kopf did not end in time" not in caplog.messages


@pytest.mark.parametrize("logger", ["kopf._core.reactor.running", "kopf._core.reactor.orchestration", "asyncio"])
@pytest.mark.parametrize(
    ("error", "told"), [(ZeroDivisionError(), 1), (APINotFoundError("gone", status=404, headers={}), 0)]
)
def test_a_bug_in_kopf_keeps_its_traceback_and_a_no_of_the_api_server_has_none(
    caplog: pytest.LogCaptureFixture, logger: str, error: Exception, told: int
) -> None:
    handlers.quieten()
    logging.getLogger(logger).error("it has failed", exc_info=error)
    assert caplog.messages.count("it has failed") == told
