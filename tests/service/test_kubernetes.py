"""Requests to an API server: what comes back, what is refused, and what never shows."""

import asyncio
import json
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web

from byok_sandbox.parts import write_server_certificate
from byok_service import kubernetes, kubernetes_connection
from byok_service.kubernetes import (
    BYOK_KEYS,
    NAMESPACES,
    SUBJECT_ACCESS_REVIEWS,
    ApiError,
    ApiUnavailable,
    KubernetesApi,
    SourceError,
    WatchEvent,
)
from tests.support.eventually import until
from tests.support.fake_api_server import TOKEN, Body, FakeApiServer

KEYS = "byok.dev/byokkeys"


def document(name: str = "brand", **spec: object) -> Body:
    return {
        "apiVersion": "byok.dev/v1alpha1",
        "kind": "ByokKey",
        "metadata": {"namespace": "media", "name": name},
        "spec": spec,
    }


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        yield server


@pytest.fixture
async def api(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
    yield api
    await api.close()


async def second_event(api: KubernetesApi) -> WatchEvent:
    """What follows OPENED."""
    async with aclosing(api.watch(BYOK_KEYS, "1")) as events:
        await anext(events)
        return await anext(events)


async def test_an_object_is_created_read_replaced_applied_and_deleted(api: KubernetesApi) -> None:
    created = await api.create(BYOK_KEYS, document(a=1), namespace="media")
    assert created.audit_id.startswith("audit-")
    assert await api.get(BYOK_KEYS, "media", "brand") == created.body
    replaced = await api.replace(BYOK_KEYS, {**created.body, "spec": {"a": 2}})
    assert replaced["metadata"]["generation"] == 2
    applied = await api.apply(
        BYOK_KEYS, {**document(), "status": {"phase": "Active"}}, field_manager="test", subresource="status"
    )
    assert (applied["spec"], applied["status"]) == ({"a": 2}, {"phase": "Active"})
    await api.delete(BYOK_KEYS, "media", "brand")
    with pytest.raises(ApiError) as refused:
        await api.get(BYOK_KEYS, "media", "brand")
    assert (refused.value.status, refused.value.reason) == (404, "NotFound")


async def test_a_write_over_a_newer_resource_version_is_a_conflict(api: KubernetesApi, server: FakeApiServer) -> None:
    old = server.put(KEYS, document())
    server.put(KEYS, document(a=1))
    with pytest.raises(ApiError, match="Conflict") as refused:
        await api.apply(BYOK_KEYS, {**document(), "metadata": old["metadata"]}, field_manager="test")
    assert refused.value.status == kubernetes.CONFLICT


async def test_a_collection_is_read_in_pages_with_kinds_and_without_managed_fields(
    api: KubernetesApi, server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "PAGE_SIZE", 3)
    for index in range(7):
        body = {"metadata": {"name": f"n{index}", "managedFields": [{}]}}
        server.put("/namespaces", body)
    listing = await api.list(NAMESPACES)
    assert [item["metadata"]["name"] for item in listing.items] == [f"n{index}" for index in range(7)]
    assert listing.resource_version == str(server.revision)
    assert len(server.requests) == 3
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "Namespace")}
    assert not any("managedFields" in item["metadata"] for item in listing.items)


async def test_pages_that_are_too_large_are_asked_for_with_fewer_objects(
    api: KubernetesApi, server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(20):
        server.put(KEYS, document(f"k{index}", text="x" * 1000))
    monkeypatch.setattr(kubernetes, "_PAGE_LIMIT", 3000)
    assert len((await api.list(BYOK_KEYS)).items) == 20
    monkeypatch.setattr(kubernetes, "_PAGE_LIMIT", 500)
    with pytest.raises(ApiUnavailable, match="over 500 bytes"):
        await api.list(BYOK_KEYS)


async def test_a_review_is_answered_with_its_audit_id(api: KubernetesApi, server: FakeApiServer) -> None:
    server.reviews = lambda _, body: {**body, "status": {"allowed": True}}
    answer = await api.create(SUBJECT_ACCESS_REVIEWS, {"spec": {"user": "someone"}})
    assert (answer.body["status"]["allowed"], answer.audit_id) == (True, "audit-1")


async def test_a_watch_gives_what_happened_after_its_version_then_bookmarks(
    api: KubernetesApi, server: FakeApiServer
) -> None:
    server.bookmark_seconds = 0.01
    version = server.put(KEYS, document())["metadata"]["resourceVersion"]
    server.put(KEYS, document(a=1))
    server.remove(KEYS, "media", "brand")
    events: list[WatchEvent] = []
    async for event in api.watch(BYOK_KEYS, version):
        events.append(event)
        if event.type == "BOOKMARK":
            break
    assert [event.type for event in events] == ["OPENED", "MODIFIED", "DELETED", "BOOKMARK"]
    assert events[-1].resource_version == str(server.revision)


async def test_a_watch_of_a_version_that_is_no_longer_known_is_expired(
    api: KubernetesApi, server: FakeApiServer
) -> None:
    server.compact()
    with pytest.raises(ApiError) as refused:
        await second_event(api)
    assert refused.value.status == kubernetes.EXPIRED


async def test_a_watch_that_falls_silent_is_given_up(
    api: KubernetesApi, server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "SILENCE_SECONDS", 0.05)
    server.silent = True
    with pytest.raises(ApiUnavailable, match="did not answer in time"):
        await second_event(api)


async def test_a_watch_that_is_cut_is_unavailable(api: KubernetesApi, server: FakeApiServer) -> None:
    server.put(KEYS, document())
    events = api.watch(BYOK_KEYS, "1")
    assert [(await anext(events)).type for _ in range(2)] == ["OPENED", "ADDED"]
    server.cut()
    with pytest.raises(ApiUnavailable):
        await anext(events)


@pytest.mark.parametrize(
    "line",
    [b"nonsense\n", b"[]\n", b'{"type": 1, "object": {}}\n', b"[" * 100_000 + b"\n", b"x" * (5 * 1024 * 1024)],
    ids=["no JSON", "no object", "no event", "too deep", "too long"],
)
async def test_a_watch_that_sends_nonsense_is_unavailable(
    api: KubernetesApi, server: FakeApiServer, line: bytes
) -> None:
    server.answers.append(web.Response(body=line))
    with pytest.raises(ApiUnavailable):
        await second_event(api)


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (lambda: web.json_response({"reason": "TooMany"}, status=429, headers={"Retry-After": "7"}), 7.0),
        (lambda: web.json_response({}, status=503), None),
        (lambda: web.Response(status=500, text="panic", headers={"Retry-After": "soon"}), None),
        (lambda: web.Response(text="[]"), None),
        (lambda: web.Response(body=b"x" * (5 * 1024 * 1024)), None),
        (lambda: web.Response(status=307, headers={"Location": "/elsewhere"}), None),
    ],
    ids=["429", "503", "500", "no object", "too large", "redirection"],
)
async def test_an_answer_that_says_nothing_about_the_request_is_unavailable(
    api: KubernetesApi, server: FakeApiServer, answer: object, wait: float | None
) -> None:
    assert callable(answer)
    server.answers.append(answer())
    with pytest.raises(ApiUnavailable) as failed:
        await api.get(BYOK_KEYS, "media", "brand")
    assert failed.value.retry_after == wait
    assert len(server.requests) == 1


async def test_a_server_that_is_away_is_unavailable(api: KubernetesApi, server: FakeApiServer) -> None:
    await server.stop()
    with pytest.raises(ApiUnavailable, match="cannot be used: "):
        await api.get(BYOK_KEYS, "media", "brand")


async def test_the_issuers_keys_are_read_raw(api: KubernetesApi) -> None:
    assert json.loads(await api.get_raw("/openid/v1/jwks")) == {"keys": []}


async def test_names_cannot_leave_their_place_in_a_path(api: KubernetesApi, server: FakeApiServer) -> None:
    with pytest.raises(ApiError):
        await api.get(BYOK_KEYS, "media", "../../x?watch=1")
    assert server.requests[0][1].endswith("/byokkeys/..%2F..%2Fx%3Fwatch=1")


async def test_a_token_file_is_read_again_after_it_was_refused(
    server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_connection, "_RETRY_SECONDS", 0.0)
    (tmp_path / "token").write_text(TOKEN + "\n")
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path, tokenFile=str(tmp_path / "token")))
    server.put(KEYS, document())
    assert await api.get(BYOK_KEYS, "media", "brand")
    (tmp_path / "token").write_text("renewed")
    server.tokens = {"renewed"}
    both = await asyncio.gather(*(api.get(BYOK_KEYS, "media", "brand") for _ in range(2)))
    assert len(both) == 2
    await api.close()


async def test_a_token_file_is_read_again_as_time_goes_by(
    server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_connection, "_REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(kubernetes_connection, "_RETRY_SECONDS", 0.0)
    (tmp_path / "token").write_text(TOKEN)
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path, tokenFile=str(tmp_path / "token")))
    (tmp_path / "token").write_text("renewed")
    server.tokens = {"renewed"}
    await api.list(BYOK_KEYS)
    assert len(server.requests) == 1
    (tmp_path / "token").unlink()
    await api.list(BYOK_KEYS)
    await api.close()


async def test_a_plugin_gives_the_token(server: FakeApiServer, tmp_path: Path) -> None:
    plugin = plugin_of(tmp_path, json.dumps(credential()))
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path, **plugin))
    assert (await api.list(BYOK_KEYS)).items == []
    await api.close()


def credential(token: str = TOKEN) -> Body:
    return {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}


def plugin_of(folder: Path, output: str) -> Body:
    program = folder / "plugin"
    program.write_text(f"#!/bin/sh\necho '{output}'; echo '{TOKEN}' >&2\n")
    program.chmod(stat.S_IRWXU)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        f"users: [{{name: a, user: {{token: {TOKEN}}}",
        f"users: [{{nome: a, user: {{token: {TOKEN}}}}}]\ncurrent-context: a\nclusters: []\ncontexts: []",
        f"users: [{{name: a, user: {{token: {TOKEN}}}}}]\ncurrent-context: b\nclusters: []\ncontexts: []",
        "x" * (1024 * 1024 + 1),
    ],
    ids=["empty", "no YAML", "broken", "no name", "no context", "too large"],
)
async def test_a_kubeconfig_that_cannot_be_used_is_named_and_not_quoted(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config").write_text(content)
    with pytest.raises(SourceError) as refused:
        await KubernetesApi.connect(str(tmp_path / "config"))
    assert str(tmp_path / "config") in str(refused.value)
    assert TOKEN not in str(refused.value) + caplog.text


@pytest.mark.parametrize("output", ["", "{}", "exit"], ids=["nothing", "no credential", "no JSON"])
async def test_a_plugin_that_gives_nothing_is_refused_without_its_output(
    server: FakeApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    with pytest.raises(SourceError, match="neither token nor client certificate") as refused:
        await KubernetesApi.connect(server.kubeconfig(tmp_path, **plugin_of(tmp_path, output)))
    assert TOKEN not in str(refused.value) + caplog.text


@pytest.mark.parametrize("token", ["two\nlines", "\u00e4", "x" * 70_000], ids=["lines", "not ASCII", "too long"])
async def test_a_token_that_fits_into_no_header_is_refused(server: FakeApiServer, tmp_path: Path, token: str) -> None:
    with pytest.raises(SourceError) as refused:
        await KubernetesApi.connect(server.kubeconfig(tmp_path, token=token))
    assert token not in str(refused.value)


async def test_a_process_outside_of_a_pod_has_no_credentials_of_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SourceError, match="run it in a pod"):
        await KubernetesApi.connect("in-cluster")


async def test_a_refused_token_is_the_servers_own_no_and_never_quoted(server: FakeApiServer, tmp_path: Path) -> None:
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path, token="wrong-token"))
    with pytest.raises(ApiError) as refused:
        await api.list(BYOK_KEYS)
    assert refused.value.status == 401
    assert "wrong-token" not in repr(refused.value)
    await api.close()


async def test_a_token_that_becomes_unusable_is_not_sent(
    server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_connection, "_REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(kubernetes_connection, "_RETRY_SECONDS", 0.0)
    (tmp_path / "token").write_text(TOKEN)
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path, tokenFile=str(tmp_path / "token")))
    (tmp_path / "token").write_text("two\nlines")
    assert (await api.list(BYOK_KEYS)).items == []
    await api.close()


async def test_a_slow_plugin_holds_up_only_those_whose_token_is_refused(
    server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_connection, "_PATIENCE", 0.05)
    monkeypatch.setattr(kubernetes_connection, "_RETRY_SECONDS", 0.0)
    plugin = plugin_of(tmp_path, json.dumps(credential()))
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path, **plugin))
    slow = f"#!/bin/sh\nuntil [ -e {tmp_path}/go ]; do sleep 0.05; done; echo '{json.dumps(credential('renewed'))}'\n"
    Path(plugin["exec"]["command"]).write_text(slow)
    with monkeypatch.context() as due:
        due.setattr(kubernetes_connection, "_REFRESH_SECONDS", 0.0)
        assert (await api.list(BYOK_KEYS)).items == []
    server.tokens = {"renewed"}
    waiting = asyncio.create_task(api.list(BYOK_KEYS))
    await until(lambda: len(server.requests) == 2)
    assert not waiting.done()
    (tmp_path / "go").touch()
    assert (await waiting).items == []
    await api.close()


async def test_a_long_refusal_that_comes_in_parts_is_read_whole(api: KubernetesApi, server: FakeApiServer) -> None:
    server.answers.append(web.json_response({"reason": "Invalid", "message": "m" * 60_000}, status=422))
    with pytest.raises(ApiError) as refused:
        await api.get(BYOK_KEYS, "media", "brand")
    assert (refused.value.reason, refused.value.message) == ("Invalid", "m" * 1000)


async def test_a_server_that_is_not_trusted_is_unavailable(tmp_path: Path) -> None:
    write_server_certificate(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    source = FakeApiServer().kubeconfig(tmp_path)
    Path(source).write_text(Path(source).read_text().replace("http://127.0.0.1:0", f"https://127.0.0.1:{port}"))
    api = await KubernetesApi.connect(source)
    with pytest.raises(ApiUnavailable, match="is not trusted"):
        await api.list(BYOK_KEYS)
    await api.close()
    listener.close()
