"""What may sign, as a table: one change to a system that works, and the reason that its users are told."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import ByokKey
from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn, ObjectName
from byok_api.signingrecipe import SigningRecipe
from byok_sandbox.ca import pem_of
from byok_signer.decisions import Rules, build_catalogue
from byok_signer.entries import Catalogue, Inventory, Refused, ReservedKey, SigningEntry
from tests.support.manifests import KEY_ARN, PRESETS, key, recipe
from tests.support.pki import NOW, Leaf, extensions, identity

RULES = Rules(installation="test", presets_namespace=PRESETS)
PHOTO = ObjectName("media", "photo")
OTHER_ARN = KEY_ARN[:-1] + "f"


def catalogue_of(
    *objects: ByokKey | SigningRecipe,
    rules: Rules = RULES,
    labels: Mapping[str, Mapping[str, str]] | None = None,
) -> Catalogue:
    keys = {found.name: found for found in objects if isinstance(found, ByokKey)}
    recipes = {found.name: found for found in objects if isinstance(found, SigningRecipe)}
    return build_catalogue(Inventory(keys, recipes, labels or {}), rules, now=NOW)


def reason_of(catalogue: Catalogue, name: ObjectName = PHOTO) -> Reason | None:
    entry = catalogue.recipes[name]
    return entry.reason if isinstance(entry, Refused) else None


def test_a_recipe_with_an_active_certified_key_can_sign() -> None:
    entry = catalogue_of(key(), recipe()).recipes[PHOTO]
    assert isinstance(entry, SigningEntry)
    assert (entry.algorithm, entry.chain.ders) == (SigningAlgorithm.ES256, identity().chain.ders)
    assert entry.pin.spki_sha256 == identity().chain.spki_sha256


KEY_CASES: dict[str, tuple[dict[str, Any], Reason]] = {
    "deactivated": ({"state": "Deactivated"}, Reason.KeyDeactivated),
    "no certificate": ({"certificate": None}, Reason.CertificateMissing),
    "garbage for a certificate": ({"certificate": {"pem": "garbage"}}, Reason.CertificateInvalid),
    "another key's algorithm": ({"signingAlgorithm": "PS256"}, Reason.KeyInvalid),
    "a required recipe that is not extended": ({"requiredRecipe": "strict@1"}, Reason.RequiredRecipeMissing),
    "a required recipe in a foreign namespace": ({"requiredRecipe": "other/strict@1"}, Reason.KeyInvalid),
}


@pytest.mark.parametrize(("spec", "expected"), KEY_CASES.values(), ids=KEY_CASES)
def test_a_key_that_cannot_be_used_names_why(spec: dict[str, Any], expected: Reason) -> None:
    assert reason_of(catalogue_of(key(**spec), recipe())) is expected


RECIPE_CASES: dict[str, tuple[dict[str, Any], Reason]] = {
    "disabled": ({"c2pa": {"enabled": False}}, Reason.SigningDisabled),
    "without a key": ({"keyRef": None}, Reason.RecipeWithoutKey),
    "a key that is not there": ({"keyRef": {"name": "nobody"}}, Reason.KeyMissing),
    "a foreign key that is not there": ({"keyRef": {"name": "x", "namespace": "other"}}, Reason.KeyNotAllowed),
    "a foreign key that is not shared": ({"keyRef": {"name": "secret", "namespace": "vault"}}, Reason.KeyNotAllowed),
    "an unknown parent": ({"extends": "nobody@1"}, Reason.RecipeInvalid),
    "a managed key where none is": ({"keyRef": None, "kmsMode": "managed"}, Reason.RecipeWithoutKey),
}


@pytest.mark.parametrize(("spec", "expected"), RECIPE_CASES.values(), ids=RECIPE_CASES)
def test_a_recipe_that_cannot_sign_names_why(spec: dict[str, Any], expected: Reason) -> None:
    vault = key("vault/secret", certificate=None)
    assert reason_of(catalogue_of(key(), vault, recipe(**spec))) is expected


def test_a_foreign_key_that_is_missing_and_one_that_is_not_shared_are_told_alike() -> None:
    there = catalogue_of(key("vault/secret"), recipe(keyRef={"name": "secret", "namespace": "vault"}))
    missing = catalogue_of(recipe(keyRef={"name": "secret", "namespace": "vault"}))
    assert there.recipes[PHOTO] == missing.recipes[PHOTO]


def test_a_key_of_another_namespace_signs_for_those_that_its_owner_selects() -> None:
    shared = key("vault/brand", allowedConsumers={"namespaceSelector": {"matchLabels": {"team": "media"}}})
    photo = recipe(keyRef={"name": "brand", "namespace": "vault"})
    assert reason_of(catalogue_of(shared, photo, labels={"media": {"team": "media"}})) is None
    assert reason_of(catalogue_of(shared, photo, labels={"media": {"team": "other"}})) is Reason.KeyNotAllowed
    assert reason_of(catalogue_of(shared, photo)) is Reason.KeyNotAllowed


def test_a_certificate_that_breaks_the_profile_is_refused_by_its_finding() -> None:
    chain = Leaf(extensions=extensions(without=x509.ExtendedKeyUsage)).chain()
    entry = catalogue_of(key(certificate={"pem": pem_of(chain.certificates)}), recipe()).recipes[PHOTO]
    assert isinstance(entry, Refused)
    assert entry.reason is Reason.CertificateInvalid
    assert "ExtendedKeyUsageMissing" in entry.message


def test_validity_is_decided_for_each_signature_and_not_when_manifests_are_read() -> None:
    entry = catalogue_of(key(), recipe()).recipes[PHOTO]
    assert isinstance(entry, SigningEntry)
    entry.key.check_valid_at(NOW)
    for moment in (entry.chain.not_before - timedelta(seconds=1), entry.chain.not_after + timedelta(seconds=1)):
        with pytest.raises(Refusal) as refused:
            entry.key.check_valid_at(moment)
        assert refused.value.reason is Reason.CertificateExpired


def aged(found: ByokKey, day: int | None) -> ByokKey:
    created = datetime(2026, 1, day, tzinfo=UTC) if day else None
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"creation_timestamp": created})})


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [(1, 2, None), (2, 1, Reason.KeyClaimedElsewhere), (1, 1, Reason.KeyClaimedElsewhere), (1, None, None)],
)
def test_of_two_namespaces_that_claim_one_key_the_older_has_it(
    mine: int | None, theirs: int | None, expected: Reason | None
) -> None:
    assert reason_of(catalogue_of(aged(key(), mine), aged(key("thief/brand"), theirs), recipe())) is expected


def test_without_creation_times_both_claims_are_refused() -> None:
    assert reason_of(catalogue_of(key(), key("thief/brand"), recipe())) is Reason.KeyClaimedElsewhere


def test_one_namespace_may_name_a_key_twice() -> None:
    assert reason_of(catalogue_of(key(), key("media/second"), recipe())) is None


@pytest.mark.parametrize(
    "reserved",
    [
        ReservedKey(frozenset({KeyArn(KEY_ARN)}), None),
        ReservedKey(frozenset({KeyArn(OTHER_ARN)}), identity().chain.spki_sha256),
    ],
    ids=["its ARN", "its public key"],
)
def test_a_key_that_is_the_installations_checkpoint_key_signs_nothing_else(reserved: ReservedKey) -> None:
    rules = Rules(installation="test", presets_namespace=PRESETS, checkpoint_key=reserved)
    assert reason_of(catalogue_of(key(), recipe(), rules=rules)) is Reason.KeyInvalid


def test_an_installation_with_another_checkpoint_key_signs() -> None:
    reserved = ReservedKey(frozenset({KeyArn(OTHER_ARN)}), "0" * 64)
    rules = Rules(installation="test", presets_namespace=PRESETS, checkpoint_key=reserved)
    assert reason_of(catalogue_of(key(), recipe(), rules=rules)) is None


def test_terms_that_an_installation_demands_must_be_the_ones_acknowledged() -> None:
    rules = Rules(installation="test", presets_namespace=PRESETS, required_terms="terms-2")
    accepted = {"acceptedBy": "ada", "acceptedAt": "2026-01-01T00:00:00Z"}
    assert reason_of(catalogue_of(key(), recipe(), rules=rules)) is Reason.KeyInvalid
    assert reason_of(catalogue_of(key(acknowledgement={"terms": "terms-1"} | accepted), recipe(), rules=rules)) is (
        Reason.KeyInvalid
    )
    assert reason_of(catalogue_of(key(acknowledgement={"terms": "terms-2"} | accepted), recipe(), rules=rules)) is None


def test_what_is_wrong_with_one_object_touches_no_other() -> None:
    broken = Refused(ObjectName("media", "broken"), Reason.RecipeInvalid, "broken")
    inventory = Inventory({key().name: key()}, {recipe().name: recipe(), broken.name: broken})
    catalogue = build_catalogue(inventory, RULES, now=NOW)
    assert catalogue.recipes[broken.name] is broken
    assert reason_of(catalogue) is None


def test_a_broken_preset_makes_no_room_for_a_local_recipe_of_its_name() -> None:
    preset = Refused(ObjectName(PRESETS, "house-v1"), Reason.RecipeInvalid, "house-v1 is broken")
    local, child = recipe("media/house-v1"), recipe(extends="house-v1@1")
    recipes = {found.name: found for found in (preset, local, child)}
    catalogue = build_catalogue(Inventory({key().name: key()}, recipes), RULES, now=NOW)
    assert {reason_of(catalogue, name) for name in (local.name, child.name)} == {Reason.RecipeInvalid}
