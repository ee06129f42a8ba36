"""Who may use which recipe and probe which key, and that those who may not learn nothing."""

from datetime import UTC, datetime
from typing import Any

import grpc.aio
import pytest

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_api.signer.v1 import signer_pb2 as pb
from byok_sandbox.issuer import ServiceAccount
from byok_signer.access import OwnNamespaceAccess, Right
from byok_signer.authentication import Caller
from byok_signer.authorization import authorize, authorize_key, right_to_sign
from byok_signer.entries import Catalogue
from tests.support.manifests import key_document, recipe_document
from tests.support.refusals import refusal_of, status_in
from tests.support.signer import Bench, catalogue_of

STRANGER = ServiceAccount("other", "job")
BOTH = {"allowedConsumers": {"namespaces": ["sports"]}}


def caller_of(namespace: str) -> Caller:
    return Caller(f"system:serviceaccount:{namespace}:job", namespace, "job", "uid", None, datetime.now(UTC))


def reason_of(catalogue: Catalogue, namespace: str, recipe: str) -> Reason | None:
    caller = caller_of(namespace)
    try:
        reference, right = right_to_sign(caller, recipe)
        assert right.name is not None
        allowed = OwnNamespaceAccess().recall(caller, right).allowed
        authorize(catalogue, caller, right.name, reference.version, allowed=allowed)
    except Refusal as refusal:
        return refusal.reason
    return None


CASES: dict[str, tuple[dict[str, Any], str, str, Reason | None]] = {
    "by its name": ({}, "media", "photo", None),
    "with namespace and version": ({}, "media", "media/photo@1", None),
    "another version": ({}, "media", "photo@2", Reason.RecipeNotAllowed),
    "unknown": ({}, "media", "nothing", Reason.RecipeNotAllowed),
    "a stranger": ({}, "other", "media/photo", Reason.RecipeNotAllowed),
    "a stranger's namespace by default": ({}, "other", "photo", Reason.RecipeNotAllowed),
    "a consumer of the key, but no user of the recipe": (BOTH, "sports", "media/photo", Reason.RecipeNotAllowed),
    "deactivated": ({"state": "Deactivated"}, "media", "photo", Reason.KeyDeactivated),
    "deactivated, a stranger": ({"state": "Deactivated"}, "other", "media/photo", Reason.RecipeNotAllowed),
    "deactivated, another version": ({"state": "Deactivated"}, "media", "photo@2", Reason.RecipeNotAllowed),
    "no name": ({}, "media", "", Reason.InvalidRequest),
    "no such form": ({}, "media", "a/b/c", Reason.InvalidRequest),
    "a very long name": ({}, "media", "x" * 100_000, Reason.InvalidRequest),
}


@pytest.mark.parametrize(("spec", "namespace", "recipe", "expected"), CASES.values(), ids=CASES)
def test_recipes_are_for_callers_of_their_own_namespace(
    spec: dict[str, Any], namespace: str, recipe: str, expected: Reason | None
) -> None:
    assert reason_of(catalogue_of(key_document(**spec), recipe_document()), namespace, recipe) is expected


@pytest.mark.parametrize(("spec", "expected"), [(BOTH, None), ({}, Reason.KeyNotAllowed)], ids=["admitted", "not"])
def test_a_key_must_admit_the_namespace_of_recipe_and_caller(spec: dict[str, Any], expected: Reason | None) -> None:
    assert reason_of(catalogue_of(key_document(**spec), recipe_document("sports/photo")), "sports", "photo") is expected


@pytest.mark.parametrize(("verb", "reason"), [("probe", Reason.ProbeNotAllowed), ("certify", Reason.CertifyNotAllowed)])
@pytest.mark.parametrize(("namespace", "name"), [("media", "brand"), ("other", "brand"), ("media", "nothing")])
def test_keys_are_probed_and_certified_by_callers_of_their_own_namespace(
    namespace: str, name: str, verb: str, reason: Reason
) -> None:
    catalogue, right = catalogue_of(key_document(**BOTH)), Right(verb, "byokkeys", ObjectName("media", name))
    caller = caller_of(namespace)
    decision = OwnNamespaceAccess().recall(caller, right)
    if (namespace, name) == ("media", "brand"):
        assert authorize_key(catalogue, caller, right, decision).name == right.name
        return
    with pytest.raises(Refusal, match=f"key media/{name}: there is no such key, or") as caught:
        authorize_key(catalogue, caller, right, decision)
    assert caught.value.reason is reason


def calls_of(bench: Bench, recipe: str) -> dict[str, grpc.aio.UnaryUnaryCall[Any, Any]]:
    signer, metadata = bench.signer, bench.metadata
    return {
        "GetRecipe": signer.GetRecipe(pb.GetRecipeRequest(recipe=recipe), metadata=metadata),
        "SignClaim": signer.SignClaim(pb.SignClaimRequest(recipe=recipe), metadata=metadata),
        "SignDigest": signer.SignDigest(pb.SignDigestRequest(recipe=recipe), metadata=metadata),
        "Verify": signer.Verify(pb.VerifyRequest(recipe=recipe), metadata=metadata),
        "GetPublicKey": signer.GetPublicKey(pb.GetPublicKeyRequest(recipe=recipe), metadata=metadata),
    }


async def bytes_of(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> tuple[object, ...]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details(), status_in(caught.value).SerializeToString()


async def test_an_unknown_recipe_and_a_foreign_one_are_answered_with_the_same_bytes(bench: Bench) -> None:
    bench.call_as(STRANGER)
    there = {name: await bytes_of(call) for name, call in calls_of(bench, "media/photo").items()}
    bench.apply()
    assert there == {name: await bytes_of(call) for name, call in calls_of(bench, "media/photo").items()}
    assert len(set(there.values())) == 1


async def test_an_unknown_key_and_a_foreign_one_are_answered_with_the_same_bytes(bench: Bench) -> None:
    bench.call_as(STRANGER)
    request = pb.ProbeKeyRequest(namespace="media", name="brand")
    there = await bytes_of(bench.probe.ProbeKey(request, metadata=bench.metadata))
    bench.apply()
    assert there == await bytes_of(bench.probe.ProbeKey(request, metadata=bench.metadata))


@pytest.mark.parametrize("method", ["GetRecipe", "SignClaim", "SignDigest", "Verify", "GetPublicKey"])
async def test_every_method_demands_a_token_first(bench: Bench, method: str) -> None:
    bench.token = ""
    assert (await refusal_of(calls_of(bench, "not/a/recipe")[method])).reason is Reason.TokenMissing
