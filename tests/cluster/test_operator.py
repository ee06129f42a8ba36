"""The operator on a real API server, with production's RBAC; the signers' part is played by a script."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from byok_api.inventory import KEY, RECIPE
from byok_operator.lease import Elector, identity_of_process
from byok_operator.means import Means
from byok_operator.running import Operator
from byok_operator.settings import PROGRAM
from byok_service.kubernetes import BYOK_KEYS, EVENTS, SIGNING_RECIPES, ApiError, KubernetesApi
from tests.support.eventually import until
from tests.support.observed import DENIED
from tests.support.reconciling import ScriptedSigners, answering, key_spec, manifest, recipe_spec
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation, install_crds
from tests.testenv.kubectl import Kubectl

_RESOURCES = {KEY: BYOK_KEYS, RECIPE: SIGNING_RECIPES}
_OTHER_ARN = "arn:aws:kms:eu-central-1:111122223333:key/another"
_LIMIT = 30.0
_AT_ONCE = 20.0
"""Seconds: a limit that a loaded machine does not reach; on a quiet one it is some tenths."""


@dataclass
class Running:
    """An operator at work, and the administrator's view of what it does."""

    operator: Operator
    signers: ScriptedSigners
    admin: KubernetesApi
    namespace: str

    async def apply(self, kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - any metadata
        body = manifest(kind, f"{self.namespace}/{name}", spec, **metadata)
        return await self.admin.apply(_RESOURCES[kind], body, field_manager="test")

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object, a key that is in use too."""
        if kind == KEY:
            body = manifest(kind, f"{self.namespace}/{name}", {}, annotations={"byok.dev/allow-delete": "true"})
            del body["spec"]
            await self.admin.apply(BYOK_KEYS, body, field_manager="deleting")
        await self.admin.delete(_RESOURCES[kind], self.namespace, name)

    async def stored(self, kind: str, name: str) -> dict[str, Any]:
        return await self.admin.get(_RESOURCES[kind], self.namespace, name)

    async def says(self, kind: str, name: str, condition: str = "Ready") -> str:
        try:
            status = (await self.stored(kind, name)).get("status") or {}
        except ApiError:
            return "gone"
        found = (each for each in status.get("conditions", ()) if each["type"] == condition)
        return next((f"{each['status']}/{each['reason']}" for each in found), "")

    async def until(self, kind: str, name: str, says: str, *, within: float = _LIMIT) -> None:
        said = ""
        try:
            async with asyncio.timeout(within):
                while (said := await self.says(kind, name)) != says:  # noqa: ASYNC110 - another process's event
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{kind} {name} says {said!r}, not {says!r}, after {within} s") from None

    async def until_ready(self) -> None:
        await self.until(KEY, "key", "True/Verified")
        await self.until(RECIPE, "photo", "True/Verified")

    def writes(self, kind: str) -> float:
        name = "byok_operator_status_writes_total"
        return self.operator.metrics.registry.get_sample_value(name, {"kind": kind}) or 0.0


class Cell:
    """Starts operators as their ServiceAccount, one after the other."""

    def __init__(self, plane: ControlPlane, installation: Installation, namespace: str) -> None:
        self.plane = plane
        self.installation = installation
        self.namespace = namespace
        self.signers = ScriptedSigners()
        self.running: list[tuple[asyncio.Task[None], Operator, tuple[KubernetesApi, ...]]] = []

    async def start(self) -> Running:
        kubeconfig = self.plane.kubeconfig_for(self.installation.operator_account)
        settings = PROGRAM.read(_flags(kubeconfig, self.installation.namespace), {})
        api, admin = [await KubernetesApi.connect(str(path)) for path in (kubeconfig, self.plane.kubeconfig)]
        elector = Elector(api, settings.namespace, identity=identity_of_process())
        operator = Operator(settings, api, elector, consumers=(), means=Means.real())
        task = asyncio.create_task(operator.run(self.signers))
        self.running.append((task, operator, (api, admin)))
        await until(lambda: task.done() or not operator.unreadiness(), _LIMIT)
        return Running(operator, self.signers, admin, self.namespace)

    async def stop(self) -> None:
        task, operator, apis = self.running.pop()
        task.cancel()
        await asyncio.wait([task])
        await operator.close()
        for api in apis:
            await api.close()


def _flags(kubeconfig: Path, namespace: str) -> list[str]:
    # No signer is asked: a script answers in its place.
    values = {
        "kubernetes": kubeconfig,
        "namespace": namespace,
        "installation": "test",
        "signers": "127.0.0.1:1",
        "signer-ca-file": kubeconfig,
        "signer-token-file": kubeconfig,
    }
    return [f"--{name}={value}" for name, value in values.items()]


@pytest.fixture
async def cell(control_plane: ControlPlane, installation: Installation, namespace: str) -> AsyncIterator[Cell]:
    cell = Cell(control_plane, installation, namespace)
    yield cell
    while cell.running:
        await cell.stop()


@pytest.fixture
async def running(cell: Cell) -> Running:
    running = await cell.start()
    await running.apply(KEY, "key", key_spec())
    await running.apply(RECIPE, "photo", recipe_spec())
    await running.until_ready()
    return running


@pytest.fixture
def no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an operator that starts list nothing again while a test runs: it says only what it hears of."""
    monkeypatch.setattr("byok_operator.lists._FIRST", 600.0)


async def test_kubectl_shows_both_ready(running: Running, kubectl: Kubectl) -> None:
    for kind, shown in (("byokkey", ["key", "Active", "True", "Verified"]), ("signingrecipe", ["photo", "1", "True"])):
        line = kubectl("get", kind, "-n", running.namespace, "--no-headers")
        assert line.split()[: len(shown)] == shown


async def test_users_objects_get_no_finalizer_and_no_annotation(running: Running) -> None:
    for kind, name in ((KEY, "key"), (RECIPE, "photo")):
        metadata = (await running.stored(kind, name))["metadata"]
        assert metadata.keys().isdisjoint({"finalizers", "annotations"})
        managers = {field["manager"]: field.get("subresource") for field in metadata["managedFields"]}
        assert managers == {"test": None, "byok-operator": "status"}


@pytest.mark.usefixtures("no_lists")
async def test_a_recipe_says_at_once_that_its_key_is_deleted_and_that_it_is_back(running: Running) -> None:
    await running.delete(KEY, "key")
    await running.until(RECIPE, "photo", "False/KeyMissing", within=_AT_ONCE)
    await running.apply(KEY, "key", key_spec())
    await running.until(RECIPE, "photo", "True/Verified", within=_AT_ONCE)


@pytest.mark.usefixtures("no_lists")
async def test_a_child_says_at_once_that_its_parent_is_deleted(running: Running) -> None:
    await running.apply(RECIPE, "child", {"version": 1, "extends": "photo@1"})
    await running.until(RECIPE, "child", "True/Verified", within=_AT_ONCE)
    await running.delete(RECIPE, "photo")
    await running.until(RECIPE, "child", "False/RecipeInvalid", within=_AT_ONCE)


@pytest.mark.usefixtures("no_lists")
async def test_a_forged_status_is_overwritten_and_what_was_forged_beside_it_not_fought_over(
    running: Running, cell: Cell
) -> None:
    running.signers.answer = answering(sign=DENIED)
    await running.apply(KEY, "key", key_spec(description="again"))
    await running.until(KEY, "key", "False/KeyAccessDenied")
    before = running.writes(KEY)
    await _forge(cell, {"phase": "Active", "conditions": [_condition("Ready"), _condition("Trusted")]})
    await running.until(KEY, "key", "False/KeyAccessDenied", within=_AT_ONCE)
    await asyncio.sleep(1)
    assert running.writes(KEY) - before <= 2


async def _forge(cell: Cell, status: dict[str, Any]) -> None:
    """Write a status as the one account that admission lets do so, but by other means than the operator's."""
    api = await KubernetesApi.connect(str(cell.plane.kubeconfig_for(cell.installation.operator_account)))
    body = manifest(KEY, f"{cell.namespace}/key", {}) | {"status": status}
    del body["spec"]
    await api.apply(BYOK_KEYS, body, field_manager="forger", subresource="status")
    await api.close()


def _condition(kind: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": "True",
        "reason": "Verified",
        "message": "trust me",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


async def test_a_restart_writes_nothing(cell: Cell, running: Running) -> None:
    before = [
        (await running.stored(*each))["metadata"]["resourceVersion"] for each in ((KEY, "key"), (RECIPE, "photo"))
    ]
    asked = len(cell.signers.requests)
    await cell.stop()
    again = await cell.start()
    await until(lambda: _worked_off(again), _LIMIT)
    after = [(await again.stored(*each))["metadata"]["resourceVersion"] for each in ((KEY, "key"), (RECIPE, "photo"))]
    assert (after, again.writes(KEY), again.writes(RECIPE)) == (before, 0, 0)
    assert len(cell.signers.requests) == asked


def _worked_off(running: Running) -> bool:
    labels = {"kind": RECIPE, "outcome": "unchanged"}
    registry = running.operator.metrics.registry
    return bool(registry.get_sample_value("byok_operator_reconcile_seconds_count", labels))


async def test_kinds_that_are_deleted_and_applied_again_are_reconciled_again(
    running: Running, control_plane: ControlPlane, kubectl: Kubectl
) -> None:
    # Not in this loop, in which the operator renews its Lease.
    await asyncio.to_thread(kubectl, "delete", "crd", "byokkeys.byok.dev", "signingrecipes.byok.dev")
    await asyncio.to_thread(install_crds, control_plane)
    await running.apply(RECIPE, "photo", recipe_spec())
    await running.apply(KEY, "key", key_spec())
    await running.until_ready()


async def test_events_tell_what_has_happened(running: Running) -> None:
    await running.delete(KEY, "key")
    await running.until(RECIPE, "photo", "False/KeyMissing")

    async def told() -> set[tuple[str, str]]:
        events = (await running.admin.list(EVENTS)).items
        return {
            (event["regarding"]["name"], event["reason"])
            for event in events
            if event["metadata"]["namespace"] == running.namespace
        }

    async with asyncio.timeout(_LIMIT):
        while not {("key", "Verified"), ("photo", "KeyMissing")} <= await told():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)


async def test_a_namespace_that_ends_leaves_nothing_behind(running: Running, kubectl: Kubectl) -> None:
    name = f"ending-{secrets.token_hex(3)}"
    # Not in this loop, in which the operator renews its Lease.
    await asyncio.to_thread(kubectl, "create", "namespace", name)
    ending = Running(running.operator, running.signers, running.admin, name)
    await ending.apply(KEY, "key", {"aws": {"keyArn": _OTHER_ARN}, "certificate": {"pem": "none"}})
    await ending.until(KEY, "key", "False/CertificateInvalid")
    await asyncio.to_thread(kubectl, "delete", "namespace", name, "--timeout=30s")
    assert await ending.says(KEY, "key") == "gone"
