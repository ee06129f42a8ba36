"""What the signer makes of objects' standings: entries to sign with, what only it refuses, a catalogue kept up to date.

The rules themselves: tests/api/test_key_rules.py, tests/api/test_recipe_rules.py.
"""

import time
from datetime import UTC, datetime, timedelta

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import ByokKey
from byok_api.errors import Reason, Refusal
from byok_api.inventory import Inventory, Known
from byok_api.manifests import ManifestError
from byok_api.objects import Unreadable, parse_object, unreadable
from byok_api.ownership import KeyOwnership
from byok_api.references import KeyArn, ObjectName
from byok_signer.decisions import Rules, build_catalogue, updated_catalogue
from byok_signer.entries import Catalogue, KeyEntry, Refused, ReservedKey, SigningEntry
from tests.support.manifests import KEY_ARN, PRESETS, key, key_document, recipe
from tests.support.pki import NOW, identity

RULES = Rules(installation="test", presets_namespace=PRESETS)
PHOTO = ObjectName("media", "photo")
BRAND = ObjectName("media", "brand")
OTHER_ARN = KEY_ARN[:-1] + "f"
SPKI = identity().chain.spki_sha256


def catalogue_of(*objects: Known, rules: Rules = RULES) -> Catalogue:
    return build_catalogue(objects, rules)


def reason_of(catalogue: Catalogue, name: ObjectName = PHOTO) -> Reason | None:
    entry = catalogue.recipes[name]
    return entry.reason if isinstance(entry, Refused) else None


def key_in(catalogue: Catalogue, name: ObjectName = BRAND) -> KeyEntry:
    entry = catalogue.keys[name]
    assert isinstance(entry, KeyEntry)
    return entry


def test_a_recipe_with_an_active_certified_key_can_sign() -> None:
    entry = catalogue_of(key(), recipe()).recipes[PHOTO]
    assert isinstance(entry, SigningEntry)
    assert (entry.algorithm, entry.chain.ders) == (SigningAlgorithm.ES256, identity().chain.ders)
    assert entry.pin.spki_sha256 == SPKI


def test_what_stands_against_an_object_is_what_its_users_are_told() -> None:
    catalogue = catalogue_of(key(state="Deactivated"), recipe(), recipe("media/plain", keyRef=None))
    assert reason_of(catalogue) is Reason.KeyDeactivated
    assert reason_of(catalogue, ObjectName("media", "plain")) is Reason.RecipeWithoutKey


def test_a_key_that_cannot_sign_can_still_be_probed() -> None:
    entry = key_in(catalogue_of(key(certificate={"pem": "garbage"})))
    assert entry.handle.arn == KeyArn(KEY_ARN)
    assert (entry.problem, entry.acceptance_problem) == (entry.certificate_problem, None)
    assert entry.problem is not None


def test_validity_is_decided_for_each_signature_and_not_when_manifests_are_read() -> None:
    entry = catalogue_of(key(), recipe()).recipes[PHOTO]
    assert isinstance(entry, SigningEntry)
    entry.key.check_valid_at(NOW)
    for moment in (entry.chain.not_before - timedelta(seconds=1), entry.chain.not_after + timedelta(seconds=1)):
        with pytest.raises(Refusal) as refused:
            entry.key.check_valid_at(moment)
        assert refused.value.reason is Reason.CertificateExpired


@pytest.mark.parametrize(
    "reserved",
    [ReservedKey(frozenset({KeyArn(KEY_ARN)}), None), ReservedKey(frozenset({KeyArn(OTHER_ARN)}), SPKI)],
    ids=["its ARN", "its public key"],
)
def test_a_key_that_is_the_installations_checkpoint_key_signs_nothing_else(reserved: ReservedKey) -> None:
    rules = Rules(installation="test", presets_namespace=PRESETS, checkpoint_key=reserved)
    catalogue = catalogue_of(key(), recipe(), rules=rules)
    assert reason_of(catalogue) is Reason.KeyInvalid
    assert key_in(catalogue).acceptance_problem is not None


def test_an_installation_with_another_checkpoint_key_signs() -> None:
    reserved = ReservedKey(frozenset({KeyArn(OTHER_ARN)}), "0" * 64)
    rules = Rules(installation="test", presets_namespace=PRESETS, checkpoint_key=reserved)
    assert reason_of(catalogue_of(key(), recipe(), rules=rules)) is None


def test_what_is_wrong_with_one_object_touches_no_other() -> None:
    broken = Unreadable("SigningRecipe", ObjectName("media", "broken"), Reason.RecipeInvalid, "broken", 1)
    catalogue = catalogue_of(key(), recipe(), broken)
    assert catalogue.recipes[broken.name] == Refused(broken.name, Reason.RecipeInvalid, "broken", 1)
    assert reason_of(catalogue) is None


def test_a_broken_preset_makes_no_room_for_a_local_recipe_of_its_name() -> None:
    preset = Unreadable("SigningRecipe", ObjectName(PRESETS, "house-v1"), Reason.RecipeInvalid, "house-v1 is broken")
    local, child = recipe("media/house-v1"), recipe(extends="house-v1@1")
    catalogue = catalogue_of(key(), preset, local, child)
    assert {reason_of(catalogue, name) for name in (local.name, child.name)} == {Reason.RecipeInvalid}


# A catalogue follows its inventory.


def test_only_what_a_change_concerns_is_made_anew() -> None:
    inventory = Inventory(RULES)
    concerned = inventory.replace_all([key(), key("media/other"), recipe(), recipe("media/plain", keyRef=None)], {})
    before = updated_catalogue(Catalogue(), inventory, concerned, RULES)
    after = updated_catalogue(before, inventory, inventory.put(key(state="Deactivated")), RULES)
    other, plain = ObjectName("media", "other"), ObjectName("media", "plain")
    assert (reason_of(before), reason_of(after)) == (None, Reason.KeyDeactivated)
    assert (key_in(before).problem is None, key_in(after).problem is None) == (True, False)
    assert after.keys[other] is before.keys[other]
    assert after.recipes[plain] is before.recipes[plain]


def test_what_is_gone_is_no_longer_in_the_catalogue() -> None:
    inventory = Inventory(RULES)
    before = updated_catalogue(Catalogue(), inventory, inventory.replace_all([key(), recipe()], {}), RULES)
    after = updated_catalogue(before, inventory, inventory.remove("ByokKey", BRAND), RULES)
    assert (after.keys, reason_of(after)) == ({}, Reason.KeyMissing)


def test_a_namespaces_new_labels_reach_the_catalogue_even_if_no_object_is_concerned() -> None:
    inventory = Inventory(RULES)
    shared = key(allowedConsumers={"namespaceSelector": {"matchLabels": {"team": "media"}}})
    before = updated_catalogue(Catalogue(), inventory, inventory.put(shared), RULES)
    after = updated_catalogue(before, inventory, inventory.describe_namespace("jobs", {"team": "media"}), RULES)
    assert [each.admits(key_in(after), "jobs") for each in (before, after)] == [False, True]


# A key without certificate, once KMS has told its public key.


def aged(found: ByokKey, day: int) -> ByokKey:
    created = datetime(2026, 1, day, tzinfo=UTC)
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"creation_timestamp": created})})


def new_key(day: int) -> ByokKey:
    return aged(key("news/brand", aws={"keyArn": OTHER_ARN}, certificate=None), day)


def test_a_key_that_turns_out_to_be_anothers_is_refused() -> None:
    catalogue = catalogue_of(aged(key(), 1), new_key(2))
    with pytest.raises(Refusal) as refused:
        catalogue.check_claim(key_in(catalogue, new_key(2).name), SPKI)
    assert refused.value.reason is Reason.KeyClaimedElsewhere
    assert "media/brand" in refused.value.message


def test_a_certificate_of_another_key_does_not_hide_whose_the_kms_key_is() -> None:
    owner = aged(key(certificate=None), 1)
    thief = aged(key("thief/brand"), 2)
    catalogue = catalogue_of(owner, thief)
    assert key_in(catalogue, thief.name).acceptance_problem is None
    with pytest.raises(Refusal, match="media/brand"):
        catalogue.check_claim(key_in(catalogue, thief.name), "0" * 64)
    catalogue.check_claim(key_in(catalogue), "0" * 64)


@pytest.mark.parametrize(("day", "spki"), [(1, SPKI), (3, "0" * 64)], ids=["the older claim", "another key"])
def test_a_key_that_no_other_has_the_better_claim_to_is_not_refused(day: int, spki: str) -> None:
    catalogue = catalogue_of(aged(key(), 2), new_key(day))
    catalogue.check_claim(key_in(catalogue, new_key(day).name), spki)


def test_an_older_key_that_cannot_be_read_is_not_forgotten() -> None:
    document = key_document(newField="of a later version", certificate=None)
    document["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(ManifestError) as error:
        parse_object(document, "test")
    catalogue = catalogue_of(unreadable(document, ("ByokKey", BRAND), error.value), aged(key("thief/brand"), 2))
    with pytest.raises(Refusal, match="media/brand"):
        catalogue.check_claim(key_in(catalogue, ObjectName("thief", "brand")), "0" * 64)


def test_among_thousands_of_keys_a_claim_is_found_without_looking_at_them() -> None:
    bare = aged(key("media/k0", certificate=None), 1)
    keys = [
        bare.model_copy(
            update={
                "metadata": bare.metadata.model_copy(update={"name": f"k{number}"}),
                "spec": bare.spec.model_copy(
                    update={"aws": bare.spec.aws.model_copy(update={"key_arn": f"{KEY_ARN[:-4]}{number:04}"})}
                ),
            }
        )
        for number in range(2000)
    ]
    catalogue = catalogue_of(*keys, new_key(2))
    entry = key_in(catalogue, new_key(2).name)
    began = time.process_time()
    for _ in range(100):
        catalogue.check_claim(entry, SPKI)
    assert (time.process_time() - began) / 100 < 0.001


def test_where_ownership_decides_age_does_not() -> None:
    ownership = KeyOwnership({"media": (KEY_ARN,), "news": (OTHER_ARN,)})
    rules = Rules(installation="test", presets_namespace=PRESETS, ownership=ownership)
    catalogue = catalogue_of(aged(key(), 1), new_key(2), rules=rules)
    catalogue.check_claim(key_in(catalogue, new_key(2).name), SPKI)
