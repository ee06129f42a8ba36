"""Keys, certificates and recipes that cannot work, and what status says of each: a real API server, and calls of KMS.

All are applied at once; each test waits for the verdict on one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from byok_api.references import ObjectName
from byok_sandbox import parts
from byok_sandbox.filling import FIRST
from tests.support import broken_keys as broken
from tests.support.cluster_requests import until
from tests.support.live import Live, key_document, living, namespace_document, recipe_document
from tests.testenv.system import Cluster

NAMESPACE = "bad-objects"
TOLD_WITHIN = 60.0


@dataclass(frozen=True)
class Told:
    """What status says: a condition with its status and reason, and parts of its message."""

    condition: str
    status: str
    reason: str
    words: tuple[str, ...] = ()


KEYS: Mapping[str, tuple[broken.Break, Told]] = {
    "gone": (broken.gone, Told("Resolved", "False", "KeyNotFound", (broken.GONE,))),
    "other-region": (
        broken.named("eu-central-1", "us-east-1"),
        Told("Resolved", "False", "KeyNotFound", ("us-east-1",)),
    ),
    "other-account": (broken.named("111122223333", "999988887777"), Told("Resolved", "False", "KeyAccessDenied")),
    "other-usage": (broken.of_kind("ENCRYPT_DECRYPT", "RSA_2048"), Told("Usable", "False", "KeyUsageInvalid")),
    "other-curve": (broken.of_kind("SIGN_VERIFY", "ECC_SECG_P256K1"), Told("Usable", "False", "KeyUsageInvalid")),
    "disabled": (broken.disabled, Told("Usable", "False", "KeyDisabled")),
    "pending-deletion": (broken.pending_deletion, Told("Usable", "False", "KeyInvalidState")),
    "never-granted": (broken.never_granted, Told("SignGranted", "False", "KeyAccessDenied", ("kms:Sign",))),
    "alias-moved": (broken.behind_an_alias_that_moved, Told("CertificateReady", "False", "CertificateMismatch")),
    "expired": (broken.expired, Told("CertificateReady", "False", "CertificateExpired")),
    "ca-true": (broken.of_a_ca, Told("CertificateReady", "False", "CertificateInvalid", ("LeafIsCa",))),
    "wrong-order": (
        broken.in_the_wrong_order,
        Told("CertificateReady", "False", "CertificateInvalid", ("ChainOutOfOrder",)),
    ),
    "of-another-key": (broken.of_another_key, Told("CertificateReady", "False", "CertificateMismatch")),
    "not-a-certificate": (broken.not_a_certificate, Told("CertificateReady", "False", "CertificateInvalid")),
    "without-certificate": (broken.without_a_certificate, Told("CertificateReady", "False", "CertificateMissing")),
}
RECIPES: Mapping[str, tuple[Mapping[str, Any], Told]] = {
    "round-1": ({"extends": "round-2@1"}, Told("ParentResolved", "False", "RecipeInvalid", ("round-2",))),
    "round-2": ({"extends": "round-1@1"}, Told("ParentResolved", "False", "RecipeInvalid", ("round-1",))),
    "orphan": ({"extends": "nobody@1"}, Told("ParentResolved", "False", "RecipeInvalid", ("nobody",))),
    "other-version": ({"extends": "image-basic-v1@7"}, Told("ParentResolved", "False", "RecipeInvalid", ("7",))),
    "image-basic-v1": ({}, Told("Accepted", "False", "RecipeInvalid", ("reserved",))),
    **{
        f"depth-{depth}": ({"extends": f"depth-{depth - 1}@1" if depth > 1 else "image-basic-v1@1"}, told)
        for depth, told in [
            *((depth, Told("ParentResolved", "True", "Verified")) for depth in range(1, 8)),
            (8, Told("ParentResolved", "False", "RecipeInvalid", ("8",))),
        ]
    },
}


@pytest.fixture(scope="module")
def applied(cluster: Cluster) -> Iterator[Live]:
    """All of them, applied; the connection to ask about them."""
    with living(cluster) as live:
        around = cluster.around
        live.take(namespace_document(NAMESPACE))
        for name, (change, _) in KEYS.items():
            key = parts.certified_key(around.owner, FIRST, around.authority)
            document = key_document(ObjectName(NAMESPACE, name), key)
            spec = {**document["spec"], **change(around, key)}
            live.take({**document, "spec": {field: value for field, value in spec.items() if value is not None}})
        for name, (changed, _) in RECIPES.items():
            live.take(recipe_document(ObjectName(NAMESPACE, name), None, **changed))
        yield live


def told(live: Live, kind: str, name: str, wanted: Told) -> None:
    """Wait for a verdict, and look for words in its message."""
    place = ObjectName(NAMESPACE, name)
    live.until_condition(kind, place, (wanted.condition, wanted.status, wanted.reason), within=TOLD_WITHIN)
    conditions = live.read(kind, place)["status"]["conditions"]
    (message,) = (each["message"] for each in conditions if each["type"] == wanted.condition)
    assert all(word in message for word in wanted.words), message


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_cannot_sign_is_told_so_by_name(applied: Live, name: str) -> None:
    told(applied, "ByokKey", name, KEYS[name][1])
    live = applied
    live.until_condition("ByokKey", ObjectName(NAMESPACE, name), ("Ready", "False"), within=TOLD_WITHIN)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_cannot_be_resolved_is_told_so_by_name(applied: Live, name: str) -> None:
    told(applied, "SigningRecipe", name, RECIPES[name][1])


def test_a_key_that_its_owner_mends_is_looked_at_again_on_request(applied: Live) -> None:
    around = applied.cluster.around
    arn = applied.read("ByokKey", ObjectName(NAMESPACE, "disabled"))["spec"]["aws"]["keyArn"]
    around.owner.kms.enable_key(KeyId=arn)
    asked = {"metadata": {"annotations": {"byok.dev/reverify": "mended"}}}
    name = ObjectName(NAMESPACE, "disabled")
    assert applied.admin.patch(
        {"kind": "ByokKey", "metadata": {"name": name.name, "namespace": NAMESPACE}}, asked
    ).taken
    applied.until_ready(("ByokKey", name))
    until(
        lambda: applied.read("ByokKey", name)["status"].get("lastHandledReverify") == "mended",
        "status repeats what was asked",
    )
