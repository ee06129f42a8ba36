"""Both services' accounts talk to a real API server, by the files of a pod or by a kubeconfig."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kubernetes.aio.config import incluster_config

from byok_api.references import ObjectName
from byok_service import kubernetes, kubernetes_connection
from byok_service.kubernetes import (
    BYOK_KEYS,
    CONFLICT,
    NOT_FOUND,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    ApiError,
    ApiUnavailable,
    KubernetesApi,
)
from tests.support.manifests import key_document
from tests.testenv.control_plane import ISSUER, ControlPlane
from tests.testenv.installed import Installation


@asynccontextmanager
async def connected(source: Path | str) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(str(source))
    try:
        yield api
    finally:
        await api.close()


@pytest.fixture
async def signer(control_plane: ControlPlane, installation: Installation) -> AsyncIterator[KubernetesApi]:
    async with connected(control_plane.kubeconfig_for(installation.signer_account)) as api:
        yield api


@pytest.fixture
async def operator(control_plane: ControlPlane, installation: Installation) -> AsyncIterator[KubernetesApi]:
    async with connected(control_plane.kubeconfig_for(installation.operator_account)) as api:
        yield api


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[KubernetesApi]:
    async with connected(control_plane.kubeconfig) as api:
        yield api


async def test_a_pod_speaks_by_its_files_and_with_a_new_token_once_the_old_one_is_refused(
    control_plane: ControlPlane, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(control_plane.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(control_plane.pki.ca_file))
    monkeypatch.setattr(kubernetes_connection, "_RETRY_SECONDS", 0.0)
    (tmp_path / "token").write_text("expired")
    async with connected("in-cluster") as api:
        with pytest.raises(ApiError, match="401"):
            await api.list(BYOK_KEYS)
        control_plane.write_token(installation.signer_account, tmp_path / "token")
        await api.list(BYOK_KEYS)


async def test_reviews_carry_the_id_by_which_the_audit_log_knows_them(
    signer: KubernetesApi, control_plane: ControlPlane, installation: Installation
) -> None:
    token = control_plane.token(ObjectName(installation.namespace, "default"), audience="byok-signer")
    spec = {"token": token, "audiences": ["byok-signer"]}
    body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": "TokenReview", "spec": spec}
    review = await signer.create(TOKEN_REVIEWS, body)
    assert review.body["status"]["authenticated"]
    attributes = {"verb": "sign", "group": "byok.dev", "resource": "signingrecipes", "namespace": "x", "name": "y"}
    user = review.body["status"]["user"]["username"]
    body = {
        "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version,
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    decision = await signer.create(SUBJECT_ACCESS_REVIEWS, body)
    assert not decision.body["status"]["allowed"]
    assert review.audit_id
    assert decision.audit_id not in ("", review.audit_id)


async def test_the_issuer_is_read_raw(signer: KubernetesApi) -> None:
    assert json.loads(await signer.get_raw("/.well-known/openid-configuration"))["issuer"] == ISSUER
    assert json.loads(await signer.get_raw("/openid/v1/jwks"))["keys"]


async def test_a_collection_is_the_same_in_pages_as_at_once(
    signer: KubernetesApi, admin: KubernetesApi, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(7):
        await admin.create(BYOK_KEYS, key_document(f"{namespace}/k{index}"), namespace=namespace)
    whole = await signer.list(BYOK_KEYS)
    monkeypatch.setattr(kubernetes, "PAGE_SIZE", 2)
    paged = await signer.list(BYOK_KEYS)
    assert paged.items == whole.items
    assert {item["kind"] for item in paged.items} == {"ByokKey"}


async def test_status_applied_over_a_newer_object_is_a_conflict_and_over_the_same_one_is_not(
    operator: KubernetesApi, admin: KubernetesApi, namespace: str
) -> None:
    created = await admin.create(BYOK_KEYS, key_document(f"{namespace}/brand"), namespace=namespace)
    newer = await admin.apply(BYOK_KEYS, key_document(f"{namespace}/brand", description="newer"), field_manager="owner")

    async def write(version: str) -> None:
        metadata = {"namespace": namespace, "name": "brand", "resourceVersion": version}
        body = {"apiVersion": BYOK_KEYS.api_version, "kind": "ByokKey", "metadata": metadata}
        status = {"status": {"phase": "Validating"}}
        await operator.apply(BYOK_KEYS, body | status, field_manager="byok-operator", subresource="status")

    with pytest.raises(ApiError) as refused:
        await write(created.body["metadata"]["resourceVersion"])
    assert refused.value.status == CONFLICT
    await write(newer["metadata"]["resourceVersion"])
    assert (await operator.get(BYOK_KEYS, namespace, "brand"))["status"]["phase"] == "Validating"


async def test_what_is_not_there_and_what_is_not_allowed_are_the_servers_own_no(
    signer: KubernetesApi, admin: KubernetesApi, namespace: str
) -> None:
    for request in (admin.get(BYOK_KEYS, namespace, "brand"), admin.delete(BYOK_KEYS, namespace, "brand")):
        with pytest.raises(ApiError) as missing:
            await request
        assert (missing.value.status, missing.value.reason) == (NOT_FOUND, "NotFound")
    with pytest.raises(ApiError) as forbidden:
        await signer.delete(BYOK_KEYS, namespace, "brand")
    assert (forbidden.value.status, forbidden.value.reason) == (403, "Forbidden")


async def test_an_api_server_whose_certificate_is_not_trusted_gets_no_token(
    control_plane: ControlPlane, installation: Installation, tmp_path: Path
) -> None:
    config = json.loads(control_plane.kubeconfig_for(installation.signer_account).read_text())
    del config["clusters"][0]["cluster"]["certificate-authority"]
    (tmp_path / "config").write_text(json.dumps(config))
    async with connected(tmp_path / "config") as api:
        with pytest.raises(ApiUnavailable, match="is not trusted"):
            await api.list(BYOK_KEYS)
