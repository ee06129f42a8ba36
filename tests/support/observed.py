"""Observations for the operator's plans from short descriptions; nothing in them is made up that could not be read."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from byok_api.byokkey import ByokKey
from byok_api.conditions import Condition
from byok_api.errors import Reason
from byok_api.installation import Rules
from byok_api.inventory import Inventory
from byok_api.key_rules import KeyStanding, Registered, judge_key
from byok_api.objects import Unreadable
from byok_api.references import ObjectName
from byok_api.signatures import spki_of
from byok_api.signingrecipe import SigningRecipe
from byok_api.statuses import ByokKeyStatus, SigningRecipeStatus
from byok_operator.key_plan import KeyPlan, plan_key
from byok_operator.observations import (
    Finding,
    KeyObservation,
    KmsFacts,
    Outcome,
    Probe,
    RecipeObservation,
    ReplicaHealth,
)
from byok_operator.recipe_plan import plan_recipe
from tests.support.kinds import KEY_ARN, PRESETS, key
from tests.support.pki import NOW as CERTIFIED
from tests.support.pki import identity

NOW = CERTIFIED + timedelta(hours=1)
"""When plans are made, unless a test says otherwise: certificates are valid."""
NAME = ObjectName("keys", "brand")
RULES = Rules(installation="test", presets_namespace=PRESETS)
PASSED = Finding(Outcome.PASSED)
DENIED = Finding(
    Outcome.FAILED,
    "KeyAccessDenied",
    f"key {NAME}: kms:Sign on {KEY_ARN}: AccessDeniedException. {Reason.KeyAccessDenied.facts.remedy}",
    '{"Effect": "Allow", "Action": "kms:Sign"}',
)
THROTTLED = Finding(Outcome.UNKNOWN, "KmsThrottled", "The account's KMS quota is used up.")


@cache
def _registered(pem: str) -> Registered:
    return Registered.read(pem)


def standing(manifest: ByokKey, rules: Rules = RULES, older_claim: ObjectName | None = None) -> KeyStanding:
    """Judge a key as signer and operator do."""
    certificate = manifest.spec.certificate
    return judge_key(manifest, _registered(certificate.pem) if certificate else None, older_claim, rules)


def certified_key(**spec: Any) -> ByokKey:  # noqa: ANN401 - any spec
    """Make the key that `probe` is of, with the session's certificate unless another is given."""
    return key(str(NAME), **({"certificate": {"pem": identity().chain_pem}} | spec))


def uncertified_key(**spec: Any) -> ByokKey:  # noqa: ANN401 - any spec
    """Make the same key without certificate."""
    return key(str(NAME), **spec)


def probe(at: datetime = NOW, **changes: Any) -> Probe:  # noqa: ANN401 - any fields
    """Make a probe in which all passed, unless `changes` say otherwise."""
    facts = KmsFacts(
        key_arn=KEY_ARN,
        public_key=spki_of(identity().public_key),
        key_spec="ECC_NIST_P256",
        algorithm="ES256",
        external_id=f"byok:test:{NAME}",
    )
    made = Probe(
        at=at,
        generation=1,
        replica="signer-0",
        public_key=PASSED,
        sign=PASSED,
        certificate=PASSED,
        standing=PASSED,
        facts=facts,
    )
    return replace(made, **changes)


def health(outcome: Outcome, since: datetime, **changes: Any) -> ReplicaHealth:  # noqa: ANN401 - any fields
    """Make the report of a replica."""
    reason = {Outcome.PASSED: "", Outcome.FAILED: "KeyAccessDenied", Outcome.UNKNOWN: "KmsUnavailable"}[outcome]
    report = ReplicaHealth(replica="signer-0", generation=1, outcome=outcome, reason=reason, since=since)
    return replace(report, **changes)


def observed(judged: KeyStanding | Unreadable | ByokKey | None = None, **changes: Any) -> KeyObservation:  # noqa: ANN401 - any fields
    """Observe a key, by default the certified one, that has no status yet."""
    judged = certified_key() if judged is None else judged
    judged = standing(judged) if isinstance(judged, ByokKey) else judged
    made = KeyObservation(name=NAME, uid="uid-1", generation=1, standing=judged, status=None)
    return replace(made, **changes)


def planned(observation: KeyObservation, now: datetime = NOW) -> KeyObservation:
    """Have the API server keep what was planned, as it gives it back."""
    return replace(observation, status=stored(plan_key(observation, now)))


def stored(plan: KeyPlan) -> ByokKeyStatus:
    """Read a planned status as the API server gives it back."""
    return ByokKeyStatus.model_validate_json(plan.status.model_dump_json(by_alias=True, exclude_none=True))


def ready_since_an_hour(**changes: Any) -> KeyObservation:  # noqa: ANN401 - any fields
    """Observe a key that was probed well an hour ago, and all that was found then is written."""
    earlier = NOW - timedelta(hours=1)
    return replace(planned(observed(probe=probe(earlier)), earlier), **changes)


def says(conditions: tuple[Condition, ...] | None) -> Mapping[str, str]:
    """Put conditions as `Status/Reason` by type."""
    return {condition.type: f"{condition.status.value}/{condition.reason}" for condition in conditions or ()}


def message(conditions: tuple[Condition, ...] | None, condition: str) -> str:
    """Find a condition's message."""
    return next(each.message for each in conditions or () if each.type == condition)


def observed_recipe(
    *objects: ByokKey | SigningRecipe | Unreadable,
    rules: Rules = RULES,
    labels: Mapping[str, Mapping[str, str]] | None = None,
    **changes: Any,  # noqa: ANN401 - any fields
) -> RecipeObservation:
    """Observe the last of these objects, a recipe, among all of them; `labels` are those of namespaces."""
    inventory = Inventory(rules)
    inventory.replace_all(objects, labels or {})
    name = objects[-1].name
    judged = inventory.recipe(name)
    assert judged is not None
    made = RecipeObservation(name=name, uid="uid-2", generation=1, standing=judged, status=None)
    return replace(made, **changes)


def planned_recipe(observation: RecipeObservation, now: datetime = NOW) -> RecipeObservation:
    """Have the API server keep what was planned, as it gives it back."""
    return replace(observation, status=stored_recipe(plan_recipe(observation, now).status))


def stored_recipe(status: SigningRecipeStatus) -> SigningRecipeStatus:
    """Read a planned status as the API server gives it back."""
    return SigningRecipeStatus.model_validate_json(status.model_dump_json(by_alias=True, exclude_none=True))
