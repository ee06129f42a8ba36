"""Lists of the operator's own: what they find, and what they leave as it is when they cannot be had."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from byok_api.inventory import Inventory
from byok_operator.lists import Lists
from byok_operator.store import Store
from byok_service.kubernetes import KubernetesApi
from tests.support.eventually import until
from tests.support.fake_api_server import FakeApiServer
from tests.support.observed import RULES
from tests.support.reconciling import COLLECTIONS, key_spec, manifest

_NO_SUCH_KIND = 404
_AWAY = 500


class Bench:
    def __init__(self, server: FakeApiServer, api: KubernetesApi) -> None:
        self.server = server
        self.store = Store(Inventory(RULES), wake=lambda _: None)
        self.lists = Lists(api, self.store, random=lambda: 0.0)

    def put_keys(self, count: int) -> None:
        for number in range(count):
            self.server.put(COLLECTIONS["ByokKey"], manifest("ByokKey", f"media/k{number}", key_spec()))

    def answer(self, *statuses: int) -> None:
        """Answer the next lists, of Namespaces, ByokKeys and SigningRecipes, with a status each; 200: an empty list."""
        empty = {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []}
        self.server.answers = [
            web.json_response(empty if status == 200 else {"kind": "Status"}, status=status) for status in statuses
        ]

    @property
    def known(self) -> int:
        return len(self.store.identities())


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with FakeApiServer() as server:
        api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
        yield Bench(server, api)
        await api.close()


async def test_nothing_is_known_before_all_kinds_were_listed(bench: Bench) -> None:
    bench.put_keys(1200)
    assert len(bench.lists.missing) == 3
    await bench.lists.fill()
    assert bench.lists.missing == []
    assert bench.known == 1200


async def test_kinds_that_are_not_installed_are_named_and_waited_for(bench: Bench) -> None:
    bench.put_keys(1)
    bench.answer(200, _NO_SUCH_KIND, _AWAY)
    filling = asyncio.create_task(bench.lists.fill())
    await until(lambda: "not been listed" not in str(bench.lists.missing))
    missing = bench.lists.missing
    assert len(missing) == 2
    assert "ByokKey could not be listed: the API server knows no byokkeys.byok.dev; apply the CRDs" in missing[0]
    await asyncio.wait_for(filling, 5)
    assert bench.known == 1


async def test_a_kind_that_was_deleted_has_no_objects_any_more(bench: Bench) -> None:
    bench.put_keys(3)
    await bench.lists.fill()
    bench.answer(200, _NO_SUCH_KIND, _NO_SUCH_KIND)
    await bench.lists.fill_again()
    assert bench.known == 0
    assert bench.lists.missing == []


@pytest.mark.parametrize("status", [_AWAY, 429, 403, 410])
async def test_a_list_that_cannot_be_had_deletes_nothing(bench: Bench, status: int) -> None:
    bench.put_keys(3)
    await bench.lists.fill()
    bench.answer(status, status, status)
    await bench.lists.fill_again()
    assert bench.known == 3


async def test_a_list_that_breaks_off_between_pages_deletes_nothing(bench: Bench) -> None:
    bench.put_keys(600)
    await bench.lists.fill()
    page = {"kind": "ByokKeyList", "metadata": {"resourceVersion": "1", "continue": "more"}, "items": []}
    namespaces = {"kind": "NamespaceList", "metadata": {"resourceVersion": "1"}, "items": []}
    gone = web.json_response({"kind": "Status", "reason": "Expired"}, status=410)
    bench.server.answers = [web.json_response(namespaces), web.json_response(page), gone]
    await bench.lists.fill_again()
    assert bench.known == 600
