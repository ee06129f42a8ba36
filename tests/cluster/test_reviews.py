"""The signer's doorkeepers on a real API server, with the rights that the signer has in production.

Tokens are TokenRequest's, rights are RBAC's. Nothing runs but the control plane and the modules that ask it.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_service.kubernetes import KubernetesApi
from byok_signer.access import LIMIT, Decision, ReviewedAccess, Right
from byok_signer.authentication import Caller, JwtAuthenticator
from byok_signer.jwks import ClusterKeys, cluster_issuer
from byok_signer.metrics import Metrics
from byok_signer.review_desk import ReviewDesk
from byok_signer.reviews import ReviewedAuthenticator
from tests.testenv.control_plane import ISSUER, ControlPlane
from tests.testenv.installed import Installation

AUDIENCE = "byok-signer"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
WITHIN = 30.0
"""Seconds until what was taken away no longer counts (docs: how fast)."""
_LOOK = 0.25
_MOMENTS = 30.0
"""Seconds: a limit that a loaded machine does not reach."""


@dataclass
class Doors:
    """A signer's doorkeepers, and the administrator of the cluster that they ask."""

    plane: ControlPlane
    api: KubernetesApi
    authenticator: ReviewedAuthenticator
    access: ReviewedAccess
    metrics: Metrics
    ahead: list[float] = field(default_factory=lambda: [0.0])
    """Seconds by which the doorkeepers' clock is ahead."""

    def create(self, path: str, body: dict[str, Any]) -> None:
        self.plane.api.request("POST", path, body)

    def account(self, namespace: str, name: str = "") -> ObjectName:
        account = ObjectName(namespace, name or f"job-{secrets.token_hex(4)}")
        self.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account.name}})
        return account

    def token(self, account: ObjectName, *, pod: str = "", audience: str = AUDIENCE) -> str:
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 3600}
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod}
        path = f"/api/v1/namespaces/{account.namespace}/serviceaccounts/{account.name}/token"
        return str(_read(self.plane.api.request("POST", path, {"spec": spec}))["status"]["token"])

    def grant(self, account: ObjectName, namespace: str, *names: str) -> str:
        """Let an account sign under recipes of a namespace, and give the binding's path."""
        rule: dict[str, Any] = {"apiGroups": ["byok.dev"], "resources": ["signingrecipes"], "verbs": ["sign"]}
        role = f"sign-{secrets.token_hex(4)}"
        rules = [rule | ({"resourceNames": list(names)} if names else {})]
        self.create(f"{RBAC}/namespaces/{namespace}/roles", {"metadata": {"name": role}, "rules": rules})
        subject = {"kind": "ServiceAccount", "namespace": account.namespace, "name": account.name}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
        binding = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject]}
        self.create(f"{RBAC}/namespaces/{namespace}/rolebindings", binding)
        return f"{RBAC}/namespaces/{namespace}/rolebindings/{role}"

    def delete(self, path: str) -> None:
        self.plane.api.request("DELETE", path)

    async def check(self, caller: Caller, recipe: str) -> Decision:
        return await self.access.check(caller, Right("sign", "signingrecipes", ObjectName.parse(recipe)))

    async def comes_to(self, caller: Caller, recipe: str, *, allowed: bool) -> Decision:
        """Have decisions made until RBAC, which follows what is written in moments, has one."""
        async with asyncio.timeout(_MOMENTS):
            while (decision := await self.check(caller, recipe)).allowed is not allowed:
                self.ahead[0] += LIMIT
                await asyncio.sleep(_LOOK)
        return decision


def _read(answer: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(answer)
    return document


@pytest.fixture
async def doors(control_plane: ControlPlane, installation: Installation) -> AsyncIterator[Doors]:
    ahead, metrics = [0.0], Metrics()
    async with AsyncExitStack() as stack:
        api = await KubernetesApi.connect(str(control_plane.kubeconfig_for(installation.signer_account)))
        stack.push_async_callback(api.close)
        desk = ReviewDesk(api, clock=lambda: time.monotonic() + ahead[0], observe=metrics.reviewed)
        stack.push_async_callback(desk.close)
        keys = ClusterKeys(api, clock=time.monotonic)
        stack.push_async_callback(keys.close)
        issuer = await cluster_issuer(api)
        local = JwtAuthenticator(issuer=issuer, audience=AUDIENCE, keys=keys, clock=lambda: datetime.now(UTC))
        authenticator = ReviewedAuthenticator(local, desk, audience=AUDIENCE)
        yield Doors(control_plane, api, authenticator, ReviewedAccess(desk), metrics, ahead)


async def refusal_of(answer: Awaitable[object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await answer
    return caught.value


async def seconds_until(ended: Callable[[], Awaitable[bool]]) -> float:
    """Look again and again, as a busy caller would."""
    began = time.monotonic()
    async with asyncio.timeout(WITHIN + 10):
        while not await ended():  # noqa: ASYNC110 - what is waited for raises no event
            await asyncio.sleep(_LOOK)
    return time.monotonic() - began


async def test_the_issuer_is_the_clusters(doors: Doors) -> None:
    assert await cluster_issuer(doors.api) == ISSUER


async def test_a_real_token_names_its_account_with_groups_and_credential(doors: Doors, namespace: str) -> None:
    account = doors.account(namespace)
    caller = await doors.authenticator.authenticate(doors.token(account))
    assert caller.username == f"system:serviceaccount:{account.namespace}:{account.name}"
    assert f"system:serviceaccounts:{namespace}" in caller.groups
    assert "authentication.kubernetes.io/credential-id" in dict(caller.extra)


@pytest.mark.parametrize("audience", [ISSUER, "vault"])
async def test_a_token_for_another_audience_is_refused_before_anybody_is_asked(
    doors: Doors, namespace: str, audience: str
) -> None:
    token = doors.token(doors.account(namespace), audience=audience)
    assert (await refusal_of(doors.authenticator.authenticate(token))).reason is Reason.TokenInvalid
    assert 'kind="TokenReview"' not in doors.metrics.exposition().decode()


async def test_a_decision_has_the_audit_id_of_its_review(doors: Doors, namespace: str) -> None:
    account = doors.account(namespace)
    caller = await doors.authenticator.authenticate(doors.token(account))
    denied = await doors.check(caller, f"{namespace}/photo")
    assert not denied.allowed
    doors.grant(account, namespace)
    allowed = await doors.comes_to(caller, f"{namespace}/photo", allowed=True)
    assert len({denied.id, allowed.id, ""}) == 3


async def test_a_right_is_for_the_recipes_and_the_namespace_that_its_role_names(doors: Doors, namespace: str) -> None:
    account, other = doors.account(namespace), "byok-system"
    doors.grant(account, namespace, "photo")
    doors.grant(account, other)
    caller = await doors.authenticator.authenticate(doors.token(account))
    for granted in (f"{namespace}/photo", f"{other}/photo"):
        await doors.comes_to(caller, granted, allowed=True)
    found = {
        recipe: (await doors.check(caller, recipe)).allowed
        for recipe in (f"{namespace}/photo", f"{namespace}/video", f"{other}/photo", "kube-system/photo")
    }
    assert list(found.values()) == [True, False, True, False]


MATRIX = [(own, state) for own in (True, False) for state in ("ungranted", "granted", "revoked")]


@pytest.mark.parametrize(("own", "state"), MATRIX)
async def test_rbac_alone_decides_on_callers_of_the_same_and_of_another_namespace(
    doors: Doors, namespace: str, state: str, *, own: bool
) -> None:
    account = doors.account(namespace if own else "default")
    caller = await doors.authenticator.authenticate(doors.token(account))
    assert not (await doors.check(caller, f"{namespace}/photo")).allowed
    if state != "ungranted":
        binding = doors.grant(account, namespace)
        await doors.comes_to(caller, f"{namespace}/photo", allowed=True)
    if state == "revoked":
        doors.delete(binding)
        await doors.comes_to(caller, f"{namespace}/photo", allowed=False)


def _pod(account: ObjectName) -> dict[str, Any]:
    container = {"name": "job", "image": "job"}
    return {"metadata": {"name": "job-0"}, "spec": {"serviceAccountName": account.name, "containers": [container]}}


async def test_what_is_taken_from_busy_callers_is_refused_within_thirty_seconds(doors: Doors, namespace: str) -> None:
    """A deleted account, a deleted pod and a removed binding, side by side in real time."""
    gone, podless, unbound = (doors.account(namespace) for _ in range(3))
    doors.create(f"/api/v1/namespaces/{namespace}/pods", _pod(podless))
    token, bound = doors.token(gone), doors.token(podless, pod="job-0")
    binding = doors.grant(unbound, namespace)
    caller = await doors.authenticator.authenticate(doors.token(unbound))

    async def refused(token: str) -> bool:
        try:
            await doors.authenticator.authenticate(token)
        except Refusal as refusal:
            return refusal.reason is Reason.TokenInvalid
        return False

    async def denied() -> bool:
        return not (await doors.check(caller, f"{namespace}/photo")).allowed

    await doors.comes_to(caller, f"{namespace}/photo", allowed=True)
    assert not any([await refused(token), await refused(bound)])
    doors.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/{gone.name}")
    doors.account(namespace, gone.name)  # of the same name, but another one
    doors.delete(f"/api/v1/namespaces/{namespace}/pods/job-0?gracePeriodSeconds=0")
    doors.delete(binding)
    seconds = await asyncio.gather(
        seconds_until(lambda: refused(token)), seconds_until(lambda: refused(bound)), seconds_until(denied)
    )
    assert max(seconds) <= WITHIN


async def test_an_api_server_that_ends_and_starts_again_costs_known_callers_no_call(
    doors: Doors, namespace: str
) -> None:
    account, other = doors.account(namespace), doors.account(namespace)
    doors.grant(account, namespace)
    token, unknown = doors.token(account), doors.token(other)
    calls = 0

    async def call(after: float = LIMIT) -> None:
        nonlocal calls
        # By default a call finds all that is remembered too old.
        doors.ahead[0] += after
        caller = await doors.authenticator.authenticate(token)
        assert (await doors.check(caller, f"{namespace}/photo")).allowed
        calls += 1

    caller = await doors.authenticator.authenticate(token)
    await doors.comes_to(caller, f"{namespace}/photo", allowed=True)
    await asyncio.to_thread(doors.plane.stop_api_server)
    await call()
    refusal = await refusal_of(doors.authenticator.authenticate(unknown))
    assert (refusal.reason, (refusal.retry_after or 0) > 0) == (Reason.ClusterUnavailable, True)
    starting = asyncio.create_task(asyncio.to_thread(doors.plane.start_api_server))
    while not starting.done():
        # Too old it is already, and real seconds pass, in each of which the API server is tried again. If they were put
        # forward, the minute would be over, after which one that starts is believed, before it has read all roles.
        await call(after=0.0)
        await asyncio.sleep(0.02)
    await starting
    for _ in range(50):
        await call()
    assert calls > 60
    assert (await doors.authenticator.authenticate(unknown)).service_account == other.name
