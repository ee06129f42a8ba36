"""What a key's owner consents to, and takes back: recipes' status follows at once, and so does the signer."""

from pathlib import Path

import pytest

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_client import ClientSettings
from tests.support.cluster_requests import until
from tests.support.live import Live, Team, found, job, namespace_document, recipe_document, refusal

SAID_WITHIN = 15.0
"""Seconds: a limit that a loaded machine does not reach until a recipe's status says what was written elsewhere.

The operator lists again once a minute.
"""
REVOKED_WITHIN = 15.0
"""Seconds: the same until what an owner takes back no longer signs; the signer does not look again so soon."""
LABEL = {"signs-for": "brand"}
SELECTOR = {"namespaceSelector": {"matchLabels": LABEL}}
AUTHORIZED = ("KeyAuthorized", "True")
NOT_ALLOWED = ("KeyAuthorized", "False", "KeyNotAllowed")


@pytest.fixture
def borrower(live: Live) -> str:
    """A namespace without any label."""
    return found(live).namespace


def borrowed(live: Live, owner: Team, namespace: str) -> ObjectName:
    """Write a recipe that signs with another namespace's key."""
    recipe = ObjectName(namespace, "borrowed")
    live.take(recipe_document(recipe, owner.key))
    return recipe


def label(live: Live, namespace: str, labels: dict[str, str]) -> None:
    live.take({**namespace_document(namespace), "metadata": {"name": namespace, "labels": labels}})


def test_a_namespaces_label_that_a_key_selects_is_at_once_in_recipes_status(live: Live, borrower: str) -> None:
    owner = found(live, allowedConsumers=SELECTOR)
    recipe = borrowed(live, owner, borrower)
    owner.until_ready()
    live.until_condition("SigningRecipe", recipe, NOT_ALLOWED, within=SAID_WITHIN)
    label(live, borrower, LABEL)
    live.until_condition("SigningRecipe", recipe, AUTHORIZED, within=SAID_WITHIN)
    label(live, borrower, {"signs-for": "somebody-else"})
    live.until_condition("SigningRecipe", recipe, NOT_ALLOWED, within=SAID_WITHIN)
    live.until_condition("SigningRecipe", recipe, ("Ready", "False", "KeyNotAllowed"), within=SAID_WITHIN)


def test_a_recipe_that_a_key_requires_is_demanded_while_it_does(live: Live, tmp_path: Path) -> None:
    team = found(live)
    team.until_ready()
    live.change("ByokKey", team.key, {"requiredRecipe": "enterprise-strict-v1@1"})
    wanted = ("KeyAuthorized", "False", "RequiredRecipeMissing")
    live.until_condition("SigningRecipe", team.recipe, wanted, within=SAID_WITHIN)
    team.until_refused(tmp_path, Reason.RequiredRecipeMissing, within=REVOKED_WITHIN)
    live.change("ByokKey", team.key, {"requiredRecipe": None})
    live.until_condition("SigningRecipe", team.recipe, AUTHORIZED, within=SAID_WITHIN)
    team.until_signed(tmp_path, within=REVOKED_WITHIN)


def test_a_recipe_that_extends_what_a_key_requires_may_use_it(live: Live) -> None:
    team = found(live, requiredRecipe="image-basic-v1@1")
    team.until_ready()
    assert live.condition("SigningRecipe", team.recipe, "KeyAuthorized")[0] == "True"


def test_consumers_that_are_taken_away_sign_no_more_at_once(live: Live, borrower: str, tmp_path: Path) -> None:
    owner = found(live, allowedConsumers={"namespaces": [borrower]})
    recipe = borrowed(live, owner, borrower)
    client = job(live, ObjectName(borrower, "borrower"))
    owner.until_ready()
    live.until_ready(("SigningRecipe", recipe))
    until_answered(client, recipe, tmp_path, None)
    live.change("ByokKey", owner.key, {"allowedConsumers": None})
    until_answered(client, recipe, tmp_path, Reason.KeyNotAllowed)
    live.until_condition("SigningRecipe", recipe, NOT_ALLOWED, within=SAID_WITHIN)


def until_answered(client: ClientSettings, recipe: ObjectName, folder: Path, reason: Reason | None) -> None:
    seen: list[Reason | None] = []

    def reached() -> bool:
        seen.append(refusal(client, recipe, folder))
        return seen[-1] is reason

    until(reached, f"{recipe} is answered {reason}", within=REVOKED_WITHIN)
