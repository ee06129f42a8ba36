"""Checks of a claim against its recipe. A claim carries labels and salted hashes, so labels are what they can go by."""

from byok_api.assertions import RECIPE_LABEL
from byok_api.errors import Reason
from byok_signer.guard.checks import Check, Finding, shown
from byok_signer.guard.claim import Claim
from byok_signer.guard.policy import ClaimPolicy

INGREDIENT_PREFIX = "c2pa.ingredient"


def _recipe_assertion(claim: Claim, _: ClaimPolicy) -> Finding | None:
    created = [reference.label for reference in claim.created if reference.base == RECIPE_LABEL]
    gathered = [reference.label for reference in claim.gathered if reference.base == RECIPE_LABEL]
    if created == [RECIPE_LABEL] and not gathered:
        return None
    return Finding(f"{len(created)} created and {len(gathered)} gathered", f"one created {RECIPE_LABEL}")


def _required_assertions(claim: Claim, policy: ClaimPolicy) -> Finding | None:
    # What is only gathered is not attributed to the signer (C2PA 2.1, chapter 10), and so does not meet a demand.
    missing = policy.required_labels.difference([reference.base for reference in claim.created])
    if not missing:
        return None
    first, more = min(missing), len(missing) - 1
    gathered = any(reference.base == first for reference in claim.gathered)
    found = f"{first} gathered only" if gathered else f"no {first}"
    return Finding(f"{found} (and {more} more)" if more else found, "every assertion that the recipe requires, created")


def _forbidden_ingredients(claim: Claim, policy: ClaimPolicy) -> Finding | None:
    if not policy.forbid_ingredients:
        return None
    for reference in claim.references:
        if reference.base.startswith(INGREDIENT_PREFIX):
            return Finding(shown(reference.label), "no ingredients, as the recipe says")
    return None


def _required_ingredients(claim: Claim, policy: ClaimPolicy) -> Finding | None:
    if not policy.require_ingredients:
        return None
    # c2pa-rs puts ingredients among the gathered assertions.
    if any(reference.base.startswith(INGREDIENT_PREFIX) for reference in claim.references):
        return None
    return Finding("no ingredient", "an ingredient: the recipe requires an ingredient chain")


def _allowed_labels(claim: Claim, policy: ClaimPolicy) -> Finding | None:
    for reference in claim.references:
        if reference.base not in policy.allowed_labels:
            return Finding(
                shown(reference.label), "a label of C2PA, CAWG, the assertion table or the recipe's allowedLabels"
            )
    return None


RECIPE_CHECKS = (
    Check[Claim]("recipe-assertion", _recipe_assertion, Reason.RecipeNotMet),
    Check[Claim]("required-assertions", _required_assertions, Reason.RecipeNotMet),
    Check[Claim]("forbidden-ingredients", _forbidden_ingredients, Reason.RecipeNotMet),
    Check[Claim]("required-ingredients", _required_ingredients, Reason.RecipeNotMet),
    Check[Claim]("allowed-labels", _allowed_labels, Reason.RecipeNotMet),
)
