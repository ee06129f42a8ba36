"""The operator keeps certificates and consumers on a real API server, with no more rights than it has in production."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from byok_operator.certificate_keeper import CA_SECRET, TLS_SECRET, CertificateKeeper
from byok_operator.certificates import KEY, Demands, is_issued_by, kept_in, pem_of
from byok_operator.consumer_keeper import ConsumerKeeper
from byok_operator.consumers import Consumer, config_map, owner_reference, role_binding
from byok_operator.metrics import Metrics
from byok_operator.trust import Trust
from byok_service.kubernetes import ApiError, JsonObject, KubernetesApi
from byok_service.kubernetes_resources import CLUSTER_ROLES, CONFIG_MAPS, ROLE_BINDINGS, SECRETS
from tests.support.cluster_requests import RBAC, Requests, administrator, grant, may, revoke, until
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation

MEDIA = "consumer-media"
ADDRESS = "byok-signer.byok-system.svc:8443"
DEMANDS = Demands(("byok-signer.byok-system.svc",), timedelta(0))
LISTED = (Consumer(MEDIA, ("job", "other-job")), Consumer("consumer-of-tomorrow", ("job",)))


def namespace(name: str) -> JsonObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@pytest.fixture(scope="module")
def requests(control_plane: ControlPlane) -> Iterator[Requests]:
    with administrator(control_plane) as requests:
        assert requests.create(namespace(MEDIA)).taken
        yield requests
        requests.delete(namespace(MEDIA))


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(str(control_plane.kubeconfig))
    yield api
    await api.close()


@pytest.fixture
async def api(control_plane: ControlPlane, installation: Installation) -> AsyncIterator[KubernetesApi]:
    """The operator's own connection."""
    api = await KubernetesApi.connect(str(control_plane.kubeconfig_for(installation.operator_account)))
    yield api
    await api.close()


@pytest.fixture
async def secrets(admin: KubernetesApi, installation: Installation) -> AsyncIterator[None]:
    """Both Secrets, as the chart makes them."""
    place = installation.namespace
    for name in (CA_SECRET, TLS_SECRET):
        metadata = {"name": name, "namespace": place}
        body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}
        await admin.create(SECRETS, body, namespace=place)
    yield
    for name in (CA_SECRET, TLS_SECRET):
        await admin.delete(SECRETS, place, name)


def certificates(api: KubernetesApi, installation: Installation) -> CertificateKeeper:
    metrics = Metrics(lambda: datetime.now(UTC))
    return CertificateKeeper(api, installation.namespace, DEMANDS, now=lambda: datetime.now(UTC), metrics=metrics)


def consumers(api: KubernetesApi, listed: Sequence[Consumer] = LISTED) -> ConsumerKeeper:
    metrics = Metrics(lambda: datetime.now(UTC))
    return ConsumerKeeper(api, listed, address=ADDRESS, namespaces=lambda: (MEDIA, "default"), metrics=metrics)


@pytest.mark.usefixtures("secrets")
async def test_empty_secrets_are_filled_and_consumers_are_told_and_let_in(
    api: KubernetesApi, admin: KubernetesApi, installation: Installation, requests: Requests
) -> None:
    keeper, given = certificates(api, installation), consumers(api)
    await Trust(keeper, given, ca_file=Path("/nowhere"), seconds=time.monotonic).refresh()
    assert (keeper.problems, given.problems) == ((), ())
    secret = kept_in((await admin.get(SECRETS, installation.namespace, TLS_SECRET))["data"])
    told = (await admin.get(CONFIG_MAPS, MEDIA, "byok-signer"))["data"]
    assert told == {"address": ADDRESS, "ca.crt": pem_of(secret.bundle).decode()}
    right = {"namespace": MEDIA, "group": "byok.dev", "resource": "signingrecipes", "verb": "sign", "name": "photo"}
    until(lambda: may(requests, f"system:serviceaccount:{MEDIA}:job", right), "a job may sign")
    assert not may(requests, f"system:serviceaccount:{MEDIA}:stranger", right)


@pytest.mark.usefixtures("requests", "secrets")
async def test_what_is_as_it_should_be_is_not_written(
    api: KubernetesApi, admin: KubernetesApi, installation: Installation
) -> None:
    trust = Trust(certificates(api, installation), consumers(api), ca_file=Path("/nowhere"), seconds=time.monotonic)
    # The second look writes down that all have the CA.
    for _ in range(2):
        await trust.refresh()
    places = (SECRETS, installation.namespace, CA_SECRET), (SECRETS, installation.namespace, TLS_SECRET)
    given = (CONFIG_MAPS, MEDIA, "byok-signer"), (ROLE_BINDINGS, MEDIA, "byok-signer")
    before = [(await admin.get(*place))["metadata"]["resourceVersion"] for place in (*places, *given)]
    for each in (
        trust,
        Trust(certificates(api, installation), consumers(api), ca_file=Path("/nowhere"), seconds=time.monotonic),
    ):
        await each.refresh()
    assert [(await admin.get(*place))["metadata"]["resourceVersion"] for place in (*places, *given)] == before


@pytest.mark.usefixtures("requests", "secrets")
async def test_a_ca_whose_key_is_taken_away_is_rotated(
    api: KubernetesApi, admin: KubernetesApi, installation: Installation
) -> None:
    place, keeper = installation.namespace, certificates(api, installation)
    trust = Trust(keeper, consumers(api), ca_file=Path("/nowhere"), seconds=time.monotonic)
    for _ in range(2):
        await trust.refresh()
    before, secret = keeper.bundle, await admin.get(SECRETS, place, CA_SECRET)
    assert before is not None
    del secret["data"][KEY]
    await admin.replace(SECRETS, secret)
    await trust.refresh()
    told = (await admin.get(CONFIG_MAPS, MEDIA, "byok-signer"))["data"]["ca.crt"].encode()
    assert (told.endswith(before), told.count(b"BEGIN")) == (True, 2)
    # It is written down that all have it; after the grace, which is none here, a certificate is issued.
    for _ in range(2):
        await trust.refresh()
    serving = kept_in((await admin.get(SECRETS, place, TLS_SECRET))["data"])
    assert serving.certificate is not None
    assert [is_issued_by(serving.certificate, each) for each in serving.bundle] == [True, False]


@pytest.mark.usefixtures("requests")
async def test_what_somebody_changed_or_deleted_is_restored(api: KubernetesApi, admin: KubernetesApi) -> None:
    keeper = consumers(api)
    await keeper.refresh(b"CA\n", seconds=0)
    stored = await admin.get(CONFIG_MAPS, MEDIA, "byok-signer")
    await admin.replace(CONFIG_MAPS, {**stored, "data": {"address": "elsewhere:1", "note": "theirs"}})
    bound = await admin.get(ROLE_BINDINGS, MEDIA, "byok-signer")
    thief = {"kind": "ServiceAccount", "name": "thief", "namespace": MEDIA}
    await admin.replace(ROLE_BINDINGS, {**bound, "subjects": [thief]})
    await keeper.refresh(b"CA\n", seconds=0)
    data = (await admin.get(CONFIG_MAPS, MEDIA, "byok-signer"))["data"]
    assert data == {"address": ADDRESS, "ca.crt": "CA\n", "note": "theirs"}
    subjects = (await admin.get(ROLE_BINDINGS, MEDIA, "byok-signer"))["subjects"]
    assert [each["name"] for each in subjects] == ["job", "other-job"]
    for resource in (CONFIG_MAPS, ROLE_BINDINGS):
        await admin.delete(resource, MEDIA, "byok-signer")
    await keeper.refresh(b"CA\n", seconds=0)
    assert keeper.problems == ()
    assert (await admin.get(ROLE_BINDINGS, MEDIA, "byok-signer"))["subjects"] == subjects


@pytest.mark.usefixtures("requests")
async def test_what_the_policy_does_not_list_is_not_given_and_said(api: KubernetesApi) -> None:
    keeper = consumers(api, (Consumer("default", ("job",)), Consumer(MEDIA, ("thief",))))
    await keeper.refresh(b"CA\n", seconds=0)
    assert len(keeper.problems) == 3
    assert all("was not written: refused by the API server" in problem for problem in keeper.problems)
    assert keeper.known is None


@pytest.mark.usefixtures("requests")
async def test_a_binding_of_another_role_is_named_and_how_to_make_room(
    api: KubernetesApi, admin: KubernetesApi
) -> None:
    keeper = consumers(api)
    await keeper.refresh(b"CA\n", seconds=0)
    await admin.delete(ROLE_BINDINGS, MEDIA, "byok-signer")
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"}
    body = {"metadata": {"name": "byok-signer"}, "roleRef": role, "subjects": []}
    await admin.create(ROLE_BINDINGS, body, namespace=MEDIA)
    await keeper.refresh(b"CA\n", seconds=0)
    (problem,) = keeper.problems
    assert f"kubectl -n {MEDIA} delete rolebindings byok-signer" in problem
    await admin.delete(ROLE_BINDINGS, MEDIA, "byok-signer")
    await keeper.refresh(b"CA\n", seconds=0)
    assert keeper.problems == ()


async def test_a_namespace_that_is_no_consumer_any_more_loses_what_the_operator_gave_it_and_nothing_else(
    api: KubernetesApi, admin: KubernetesApi, requests: Requests
) -> None:
    owner = owner_reference((await admin.get(CLUSTER_ROLES, "", "byok-operator"))["metadata"]["uid"])
    given = {
        CONFIG_MAPS: config_map("default", owner, address="a:1", bundle=b""),
        ROLE_BINDINGS: role_binding(Consumer("default", ("job",)), owner),
    }
    for manager, stays in (("byok-operator", ()), ("somebody", (CONFIG_MAPS,))):
        for resource, body in given.items():
            await admin.apply(resource, body, field_manager=manager)
        keeper = consumers(api)
        await keeper.refresh(b"CA\n", seconds=0)
        assert keeper.problems == ()
        assert tuple(resource for resource, body in given.items() if requests.read(body).taken) == stays
    await admin.delete(CONFIG_MAPS, "default", "byok-signer")


def test_a_tenant_who_may_not_bind_changes_of_a_role_binding_only_what_lets_nobody_in(requests: Requests) -> None:
    role = {"kind": "ClusterRole", "metadata": {"name": "byok-operator"}}
    owner = owner_reference(requests.read(role).body["metadata"]["uid"])
    body = {**role_binding(Consumer(MEDIA, ("job",)), owner), "metadata": tenants_metadata()}
    assert requests.create(body).taken
    tenant = "tenant"
    grant(requests, "admin", tenant, MEDIA)
    for change, taken in (
        ({"managedFields": [{}]}, True),
        ({"finalizers": ["example.com/stay"]}, True),
        ({"finalizers": []}, True),
        ({"ownerReferences": [owner]}, True),
        ({"labels": {"app.kubernetes.io/managed-by": None}}, False),
        ({"annotations": {"a": "b"}}, False),
    ):
        answer = requests.named(tenant).patch(body, {"metadata": change})
        assert answer.taken is taken, answer.message
    revoke(requests, "admin", tenant, MEDIA)
    assert requests.delete(body).taken


def tenants_metadata() -> JsonObject:
    return {"name": "of-a-tenant", "namespace": MEDIA, "labels": {"app.kubernetes.io/managed-by": "byok-operator"}}


async def test_a_tenant_who_keeps_a_revoked_role_binding_by_a_finalizer_keeps_nobody_signing(
    api: KubernetesApi, admin: KubernetesApi, requests: Requests
) -> None:
    owner = owner_reference((await admin.get(CLUSTER_ROLES, "", "byok-operator"))["metadata"]["uid"])
    body = role_binding(Consumer("default", ("job",)), owner)
    right = {"namespace": "default", "group": "byok.dev", "resource": "signingrecipes", "verb": "sign", "name": "photo"}
    await admin.apply(ROLE_BINDINGS, body, field_manager="byok-operator")
    change = {"finalizers": ["example.com/stay"], "managedFields": [{}]}
    assert requests.patch(body, {"metadata": change}).taken
    until(lambda: may(requests, "system:serviceaccount:default:job", right), "a job may sign")
    keeper = consumers(api)
    await keeper.refresh(b"CA\n", seconds=0)
    assert keeper.problems == ()
    until(lambda: not may(requests, "system:serviceaccount:default:job", right), "no job may sign any more")
    assert requests.read(body).body["metadata"]["deletionTimestamp"]
    assert requests.patch(body, {"metadata": {"finalizers": []}}).taken
    until(lambda: requests.read(body).status == 404, "it is gone")


async def test_what_is_given_goes_with_the_cluster_role_that_owns_it(
    api: KubernetesApi, admin: KubernetesApi, requests: Requests
) -> None:
    await consumers(api).refresh(b"CA\n", seconds=0)
    owner = await admin.get(CLUSTER_ROLES, "", "byok-operator")
    (reference,) = (await admin.get(CONFIG_MAPS, MEDIA, "byok-signer"))["metadata"]["ownerReferences"]
    assert reference == owner_reference(owner["metadata"]["uid"])
    release = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "another-release"}, "rules": []}
    uid = requests.create(release).body["metadata"]["uid"]
    owned = config_map("default", {**owner_reference(uid), "name": "another-release"}, address="a:1", bundle=b"")
    assert requests.create(owned).taken
    assert requests.delete(release).taken
    until(lambda: requests.read(owned).status == 404, "it went with its owner", within=90.0)


async def test_other_secrets_cannot_be_read_nor_any_made(api: KubernetesApi, installation: Installation) -> None:
    keeper = certificates(api, installation)
    await keeper.refresh(None)
    assert "Secret byok-system/byok-signer-ca is missing" in keeper.problems[0]
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CA_SECRET, "namespace": installation.namespace}}
    for attempt in (
        api.create(SECRETS, body, namespace=installation.namespace),
        api.apply(SECRETS, body, field_manager="byok-operator"),
        api.get(SECRETS, installation.namespace, "another"),
        api.get(SECRETS, "default", CA_SECRET),
    ):
        with pytest.raises(ApiError, match="forbidden"):
            await attempt
