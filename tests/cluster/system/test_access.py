"""Who may sign what, with which key, decided by a real API server's RBAC and by what the owners wrote.

{recipe -> key, caller -> recipe, caller -> key} x {same namespace, other ungranted, granted, revoked}
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_client import ClientSettings
from tests.support.cluster_requests import until
from tests.support.live import Live, allow, found, job, namespace_document, recipe_document, reference, refusal

SPEC_WITHIN = 15.0
"""Seconds: a limit that a loaded machine does not reach until what an owner writes holds.

Nothing that is remembered ends so soon.
"""
RBAC_WITHIN = 45.0
"""Seconds: the same for what RBAC says no longer holds; a decision is remembered for 30."""
APPLIED_WITHIN = 30.0
"""Seconds: the same for what is allowed."""

Answered = Callable[[Reason | None, float], None]
"""Waits, for at most so many seconds, until signing is refused for a reason, or for none."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def asking(client: ClientSettings, recipe: ObjectName, folder: Path) -> Answered:
    def answered(reason: Reason | None, within: float) -> None:
        seen: list[Reason | None] = []

        def reached() -> bool:
            seen.append(refusal(client, recipe, folder))
            return seen[-1] is reason

        until(reached, f"{recipe} is answered {reason}", within=within)

    return answered


def test_in_one_namespace_a_recipe_may_use_the_key_and_a_job_that_may_sign_does(live: Live, folder: Path) -> None:
    team = found(live)
    asking(team.client, team.recipe, folder)(None, APPLIED_WITHIN)


def test_a_recipe_of_another_namespace_needs_the_key_owners_word(live: Live, folder: Path) -> None:
    owner, other = found(live), f"{found(live).namespace}"
    recipe = ObjectName(other, "borrowed")
    live.take(recipe_document(recipe, owner.key))
    client = job(live, ObjectName(other, "borrower"))
    answered = asking(client, recipe, folder)
    answered(Reason.KeyNotAllowed, APPLIED_WITHIN)
    live.until_condition("SigningRecipe", recipe, ("KeyAuthorized", "False", "KeyNotAllowed"), within=APPLIED_WITHIN)
    live.change("ByokKey", owner.key, {"allowedConsumers": {"namespaces": [other]}})
    answered(None, APPLIED_WITHIN)
    live.until_condition("SigningRecipe", recipe, ("Ready", "True"), within=APPLIED_WITHIN)
    live.change("ByokKey", owner.key, {"allowedConsumers": None})
    answered(Reason.KeyNotAllowed, SPEC_WITHIN)


def test_a_namespaces_label_admits_it_to_a_key_and_its_removal_ends_that(live: Live, folder: Path) -> None:
    selector = {"namespaceSelector": {"matchLabels": {"signs-for": "owner"}}}
    owner, other = found(live, allowedConsumers=selector), found(live).namespace
    recipe = ObjectName(other, "borrowed")
    live.take(recipe_document(recipe, owner.key))
    answered = asking(job(live, ObjectName(other, "borrower")), recipe, folder)
    answered(Reason.KeyNotAllowed, APPLIED_WITHIN)
    live.take({**namespace_document(other), "metadata": {"name": other, "labels": {"signs-for": "owner"}}})
    answered(None, APPLIED_WITHIN)
    live.take(namespace_document(other))
    answered(Reason.KeyNotAllowed, SPEC_WITHIN)


def test_a_job_needs_the_verb_sign_in_its_own_namespace_too(live: Live, folder: Path) -> None:
    team = found(live)
    stranger = job(live, ObjectName(team.namespace, "stranger"), may_sign=False)
    asking(team.client, team.recipe, folder)(None, APPLIED_WITHIN)
    asking(stranger, team.recipe, folder)(Reason.RecipeNotAllowed, APPLIED_WITHIN)


def test_a_job_of_another_namespace_needs_the_verb_sign_and_the_key_owners_word(live: Live, folder: Path) -> None:
    team, other = found(live), found(live).namespace
    account = ObjectName(other, "visitor")
    answered = asking(job(live, account), team.recipe, folder)
    answered(Reason.RecipeNotAllowed, APPLIED_WITHIN)
    binding = allow(live, account, team.namespace)
    # RBAC lets it in, but the key's owner has not.
    answered(Reason.KeyNotAllowed, RBAC_WITHIN)
    live.change("ByokKey", team.key, {"allowedConsumers": {"namespaces": [other]}})
    answered(None, APPLIED_WITHIN)
    live.change("ByokKey", team.key, {"allowedConsumers": {"namespaces": []}})
    answered(Reason.KeyNotAllowed, SPEC_WITHIN)
    live.change("ByokKey", team.key, {"allowedConsumers": {"namespaces": [other]}})
    answered(None, APPLIED_WITHIN)
    live.delete("RoleBinding", binding)
    answered(Reason.RecipeNotAllowed, RBAC_WITHIN)


def test_unknown_and_not_allowed_are_one_answer(live: Live, folder: Path) -> None:
    team = found(live)
    stranger = job(live, ObjectName(team.namespace, "stranger"), may_sign=False)
    assert refusal(stranger, team.recipe, folder) is refusal(stranger, ObjectName(team.namespace, "none"), folder)


@pytest.mark.parametrize("taken", ["account", "namespace"])
def test_a_deleted_account_no_longer_signs(live: Live, taken: str, folder: Path) -> None:
    team = found(live)
    answered = asking(team.client, team.recipe, folder)
    answered(None, APPLIED_WITHIN)
    path = f"api/v1/namespaces/{team.namespace}"
    gone = live.admin.ask("DELETE", f"{path}/serviceaccounts/job" if taken == "account" else path)
    assert gone.taken, gone.message
    until(lambda: refusal(team.client, team.recipe, folder) is not None, "it is refused", within=RBAC_WITHIN)


def test_the_same_kms_key_in_a_second_namespace_is_refused_and_the_older_goes_on(live: Live, folder: Path) -> None:
    first = found(live)
    # Timestamps have seconds, and of two claims made in the same one neither wins.
    created = datetime.fromisoformat(live.read("ByokKey", first.key)["metadata"]["creationTimestamp"])
    until(lambda: datetime.now(UTC) > created + timedelta(seconds=1), "the next second")
    second = found(live)
    asking(second.client, second.recipe, folder)(None, APPLIED_WITHIN)
    stolen = live.read("ByokKey", first.key)["spec"]
    live.change("ByokKey", second.key, {name: stolen[name] for name in ("aws", "certificate")})
    asking(second.client, second.recipe, folder)(Reason.KeyClaimedElsewhere, APPLIED_WITHIN)
    live.until_condition("ByokKey", second.key, ("Accepted", "False", "KeyClaimedElsewhere"), within=APPLIED_WITHIN)
    asking(first.client, first.recipe, folder)(None, APPLIED_WITHIN)


def test_a_forged_status_lets_nobody_sign_and_is_put_right(live: Live, folder: Path) -> None:
    team = found(live, state="Deactivated")
    live.until_condition("ByokKey", team.key, ("Ready", "False", "KeyDeactivated"), within=APPLIED_WITHIN)
    honest = live.read("ByokKey", team.key)["status"]
    forged = [{**condition, "status": "True", "reason": "Ready"} for condition in honest["conditions"]]
    change = {"status": {"phase": "Active", "conditions": forged}}
    # Policies refuse everybody but the operator, so it is the operator's name that a forger would have to have.
    account = live.cluster.deployment.installation.operator_account
    refused = live.admin.patch(reference("ByokKey", team.key), change, subresource="status")
    assert "only" in refused.message
    operator = live.admin.named(f"system:serviceaccount:{account.namespace}:{account.name}")
    assert operator.patch(reference("ByokKey", team.key), change, subresource="status").taken
    assert refusal(team.client, team.recipe, folder) is Reason.KeyDeactivated
    live.until_condition("ByokKey", team.key, ("Ready", "False", "KeyDeactivated"), within=90.0)
