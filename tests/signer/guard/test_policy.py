"""From a recipe, as people write it, to what the guard demands."""

import cbor2
import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.objects import parse_object
from byok_api.resolution import resolve
from byok_api.signingrecipe import SigningRecipe
from byok_signer.guard import ClaimPolicy, check_claim, policy_for
from byok_signer.guard.checks import run
from byok_signer.guard.envelope import HEADER_CHECKS, HEADER_SHAPE, header_of
from tests.support.claims import created_claim, policy_of
from tests.support.pki import Identity, chain_of, identity


def policy(**c2pa: object) -> ClaimPolicy:
    document = {
        "apiVersion": "byok.dev/v1alpha1",
        "kind": "SigningRecipe",
        "metadata": {"name": "photo", "namespace": "media"},
        "spec": {"version": 1, "keyRef": {"name": "key"}, "c2pa": {"enabled": True, **c2pa}},
    }
    recipe = parse_object(document, "test")
    assert isinstance(recipe, SigningRecipe)
    effective = resolve(recipe, lambda _: None, presets_namespace="presets", managed_key=None)
    signer = identity(SigningAlgorithm.ES256)
    return policy_for(effective, signer.algorithm, signer.chain.ders)


def test_every_recipe_demands_that_it_be_named_and_that_there_are_actions() -> None:
    assert policy().required_labels == {"dev.byok.recipe", "c2pa.actions.v2"}


def test_required_names_become_the_labels_that_they_stand_under() -> None:
    demanded = policy(assertions=["creator", "ai_generated", "legal_entity"]).required_labels
    assert demanded == {"dev.byok.recipe", "c2pa.actions.v2", "cawg.metadata", "dev.byok.legal_entity"}


def test_allowed_labels_come_on_top_of_the_table_and_the_standard() -> None:
    allowed = policy(allowedLabels=["com.example.note"]).allowed_labels
    assert {"com.example.note", "dev.byok.legal_entity", "cawg.metadata", "c2pa.hash.data"} <= allowed
    assert "com.example.note" not in policy().allowed_labels


def test_ingredients_are_allowed_unless_the_recipe_says_otherwise() -> None:
    assert (policy().forbid_ingredients, policy().require_ingredients) == (False, False)
    assert policy(ingredients="Forbid").forbid_ingredients
    assert policy(requireIngredientChain=True).require_ingredients


def test_a_real_claim_passes_a_resolved_recipe() -> None:
    check_claim(created_claim().sig_structure, policy(assertions=["digital_source_type"]))


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_the_header_that_needs_no_looking_into_is_the_one_that_c2pa_writes_and_that_passes(
    algorithm: SigningAlgorithm,
) -> None:
    captured = created_claim(algorithm)
    header = captured.policy.protected_header
    assert header == cbor2.loads(captured.sig_structure)[1]
    run(HEADER_SHAPE, cbor2.loads(header), captured.policy)
    run(HEADER_CHECKS, header_of(cbor2.loads(header)), captured.policy)


def test_the_same_holds_for_a_chain_of_one() -> None:
    signer = identity(SigningAlgorithm.ES256)
    alone = policy_of(Identity(signer.algorithm, signer.private_key, chain_of(signer.chain.leaf)))
    assert cbor2.loads(alone.protected_header) == {1: -7, 33: signer.chain.ders[0]}
    run(HEADER_SHAPE, cbor2.loads(alone.protected_header), alone)
    run(HEADER_CHECKS, header_of(cbor2.loads(alone.protected_header)), alone)
