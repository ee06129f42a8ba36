"""kopf, as far as it can be shown without an API server that it knows; tests/cluster has the rest."""

import asyncio
import gc
import itertools
import time
from pathlib import Path

import pytest
import yaml
from aiohttp import web

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


async def test_kopf_ends_within_ten_seconds_even_while_it_cannot_reach_the_api_server(kubeconfig: Path) -> None:
    thread = KopfThread(str(kubeconfig), lambda *_: None)
    thread.start()
    await asyncio.sleep(0)
    began = time.monotonic()
    await thread.stop()
    assert time.monotonic() - began < 10  # kopf itself waits five seconds for what its tasks began


# kopf leaves the session of credentials that were refused to the collector, which warns of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_kopf_comes_back_with_a_token_that_was_renewed_after_the_old_one_had_expired(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("expired")
    async with FakeApiServer() as server:
        thread = KopfThread(server.kubeconfig(tmp_path, tokenFile=str(token)), lambda *_: None)
        # Given to the first request that is let in.
        server.answers = [web.json_response({"versions": []})]
        thread.start()
        await until(lambda: len(server.requests) >= 2)
        assert server.answers
        token.write_text(TOKEN)
        await until(lambda: not server.answers, 20)
        await thread.stop()
    gc.collect()
