"""How long one change takes in a full cluster: from `kubectl apply` to Ready, and from consent withdrawn to refusal."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc.aio

from benchmarks.callers import add_callers, channel_to
from benchmarks.measuring import Spread
from benchmarks.objects import key, recipe
from benchmarks.reporting import Aim, at_most, milliseconds
from byok_api.algorithms import SigningAlgorithm
from byok_api.references import ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_service.kubernetes import BYOK_KEYS, SIGNING_RECIPES, JsonObject, KubernetesApi, Resource
from tests.support.manifests import KEY_ARN, pem_of_identity
from tests.support.pki import identity
from tests.testenv.service import Service
from tests.testenv.system import Cluster

OWN, GUESTS = "newcomers", "guests"
_APPLIES = 100
_CHANGES = 50
_PATIENCE = 60.0
_BETWEEN = 0.005


@dataclass(frozen=True)
class Latencies:
    """What was measured."""

    applied: Spread
    allowed: Spread
    withdrawn: Spread

    def rows(self) -> list[list[str]]:
        """Write them for a table."""
        named = {
            "a key and its recipe applied, to both Ready": self.applied,
            "allowedConsumers extended, to the first call served": self.allowed,
            "allowedConsumers taken away, to the first call refused": self.withdrawn,
        }
        return [
            [what, milliseconds(spread.p50), milliseconds(spread.p99), str(spread.count)]
            for what, spread in named.items()
        ]

    def aims(self) -> list[Aim]:
        """Judge them."""
        effect = max(self.allowed.p99, self.withdrawn.p99)
        return [
            at_most("applied to Ready, p50", self.applied.p50 * 1e3, 500, unit=" ms"),
            at_most("applied to Ready, p99", self.applied.p99 * 1e3, 2000, unit=" ms"),
            at_most("allowedConsumers to effect at the signer, p99", effect * 1e3, 1000, unit=" ms"),
        ]


async def measure_latencies(cluster: Cluster, signer: Service) -> Latencies:
    """Apply, change and follow single objects, one after the other."""
    cluster.plane.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN}})
    (token,) = add_callers(cluster, GUESTS, 1, recipes_in=OWN)
    api = await KubernetesApi.connect(str(cluster.plane.kubeconfig))
    try:
        applied = [await _applied(api, number) for number in range(_APPLIES)]
        async with channel_to(cluster, signer) as channel:
            allowed, withdrawn = await _consents(api, rpc.SignerStub(channel), token)
    finally:
        await api.close()
    return Latencies(Spread.of(applied), Spread.of(allowed), Spread.of(withdrawn))


async def _applied(api: KubernetesApi, number: int) -> float:
    # All of them name one KMS key, which in one namespace is no conflict.
    documents = {
        BYOK_KEYS: key(ObjectName(OWN, f"key-{number}"), KEY_ARN, pem_of_identity(identity(SigningAlgorithm.ES256))),
        SIGNING_RECIPES: recipe(ObjectName(OWN, f"recipe-{number}"), f"key-{number}"),
    }
    began = time.monotonic()
    created = {resource: (await api.create(resource, body, namespace=OWN)).body for resource, body in documents.items()}
    async with asyncio.timeout(_PATIENCE):
        await asyncio.gather(*(_ready(api, resource, body) for resource, body in created.items()))
    return time.monotonic() - began


async def _ready(api: KubernetesApi, resource: Resource, created: JsonObject) -> None:
    uid = created["metadata"]["uid"]
    async for event in api.watch(resource, created["metadata"]["resourceVersion"]):
        found = event.object
        if found.get("metadata", {}).get("uid") == uid and _is_ready(found):
            return


def _is_ready(found: JsonObject) -> bool:
    conditions = found.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def _consents(api: KubernetesApi, stub: "rpc.SignerAsyncStub", token: str) -> tuple[list[float], list[float]]:
    request = pb.GetRecipeRequest(recipe=f"{OWN}/recipe-0")
    metadata = (("authorization", f"Bearer {token}"),)

    async def served() -> bool:
        try:
            await stub.GetRecipe(request, metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise
            return False
        return True

    allowed, withdrawn = [], []
    for _ in range(_CHANGES):
        allowed.append(await _effect(lambda: _consent(api, [GUESTS]), served, wanted=True))
        withdrawn.append(await _effect(lambda: _consent(api, []), served, wanted=False))
    return allowed, withdrawn


async def _effect(
    change: Callable[[], Awaitable[None]], served: Callable[[], Awaitable[bool]], *, wanted: bool
) -> float:
    began = time.monotonic()
    await change()
    async with asyncio.timeout(_PATIENCE):
        while await served() is not wanted:  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(_BETWEEN)
    return time.monotonic() - began


async def _consent(api: KubernetesApi, namespaces: list[str]) -> None:
    body = key(ObjectName(OWN, "key-0"), KEY_ARN, pem_of_identity(identity(SigningAlgorithm.ES256)))
    body["spec"]["allowedConsumers"] = {"namespaces": namespaces}
    await api.apply(BYOK_KEYS, body, field_manager="benchmark")
