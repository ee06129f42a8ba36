"""What holds of every plan, whatever was observed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from byok_api.byokkey import ByokKey
from byok_api.conditions import (
    ByokKeyConditionType,
    Condition,
    ConditionReason,
    ConditionStatus,
    Phase,
    SigningRecipeConditionType,
)
from byok_api.crds import KINDS, crd
from byok_api.errors import Reason
from byok_api.fields import Model
from byok_api.objects import Unreadable
from byok_api.references import ObjectName
from byok_api.statuses import ByokKeyStatus, SigningRecipeStatus
from byok_operator.key_plan import plan_key
from byok_operator.observations import (
    Finding,
    KeyObservation,
    KmsFacts,
    Outcome,
    Probe,
    ProbeFailure,
    RecipeObservation,
    ReplicaHealth,
)
from byok_operator.recipe_plan import plan_recipe
from byok_operator.schedule import attempted, begin, look_again_at, occasion_of, probe_due_at
from byok_operator.transitions import NOTE_LIMIT, Event
from tests.support.kinds import recipe
from tests.support.observed import (
    NAME,
    NOW,
    RULES,
    certified_key,
    observed_recipe,
    standing,
    stored_recipe,
    uncertified_key,
)

CLASSES = settings(max_examples=40, deadline=None)
SPAN = timedelta(days=2)
REASONS = [*Reason.__members__, "", "no reason", "x" * 80]

moments = st.integers(-int(SPAN.total_seconds()), int(SPAN.total_seconds())).map(lambda s: NOW + timedelta(seconds=s))
anytime = st.one_of(moments, moments.map(lambda moment: moment.replace(tzinfo=None)))
texts = st.one_of(st.sampled_from(["", "told"]), st.text(max_size=40), st.none().map(lambda _: "é" * 3000))
reasons = st.sampled_from(REASONS)
findings = st.builds(Finding, st.sampled_from(Outcome), reasons, texts, texts)
generations = st.integers(0, 2)
kms_facts = st.builds(
    KmsFacts,
    key_arn=texts,
    public_key=st.binary(max_size=80),
    key_spec=texts,
    key_state=st.sampled_from(["", "Enabled", "Disabled", "PendingDeletion"]),
    origin=texts,
    multi_region=st.none() | st.booleans(),
    algorithm=st.sampled_from(["", "ES256", "HS256"]),
    external_id=texts,
)
probes = st.builds(
    Probe,
    at=moments,
    generation=generations,
    replica=st.sampled_from(["signer-0", "signer-1"]),
    public_key=findings,
    sign=findings,
    certificate=findings,
    standing=findings,
    least_privilege=st.none() | findings,
    facts=kms_facts,
    reverify=st.none() | texts,
)
reports = st.builds(
    ReplicaHealth,
    replica=st.sampled_from(["signer-0", "signer-1", "signer-2"]),
    generation=generations,
    outcome=st.sampled_from(Outcome),
    reason=reasons,
    message=texts,
    since=moments,
    last_verified=st.none() | moments,
)
condition_statuses = st.sampled_from(ConditionStatus)


def one_of_these(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    # Their representations would fill pages.
    return st.integers(0, len(values) - 1).map(values.__getitem__)


def models(model: type[Model], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # `builds` would also make up values for the aliases.
    return st.fixed_dictionaries(fields).map(lambda given_fields: model(**given_fields))


def condition_lists(types: type[ByokKeyConditionType | SigningRecipeConditionType]) -> st.SearchStrategy[Any]:
    names = [each.value for each in types] + ["Foreign"]
    known = [reason for reason in REASONS if reason.isalpha() and len(reason) < 64]
    one = models(
        Condition,
        type=st.sampled_from(names),
        status=condition_statuses,
        reason=st.sampled_from([*known, *(reason.value for reason in ConditionReason)]),
        message=st.sampled_from(["", "told"]),
        last_transition_time=anytime,
        observed_generation=st.none() | generations,
    )
    return st.none() | st.lists(one, max_size=9, unique_by=lambda condition: condition.type).map(tuple)


key_statuses = models(
    ByokKeyStatus,
    observed_generation=st.none() | generations,
    phase=st.none() | st.sampled_from(Phase),
    conditions=condition_lists(ByokKeyConditionType),
    recipes=st.none() | st.integers(0, 9),
    last_verified_time=st.none() | anytime,
    last_handled_reverify=st.none() | st.just("again"),
    resolved_key_arn=st.none() | st.just("arn"),
)
KEYS: list[ByokKey | Unreadable] = [
    certified_key(),
    uncertified_key(),
    certified_key(state="Deactivated", leastPrivilege="Warn", verification={"interval": "2h", "staleAfter": "2h"}),
    certified_key(certificate={"pem": "junk"}),
    Unreadable("ByokKey", NAME, Reason.KeyInvalid, "broken " * 500),
]
standings = one_of_these(
    [key if isinstance(key, Unreadable) else standing(key) for key in KEYS]
    + [standing(certified_key(), replace(RULES, required_terms="t")), standing(certified_key(), RULES, NAME)]
)
key_observations = st.builds(
    KeyObservation,
    name=st.just(NAME),
    uid=st.just("uid-1"),
    generation=generations,
    standing=standings,
    status=st.none() | key_statuses,
    probe=st.none() | probes,
    probe_failure=st.none() | st.builds(ProbeFailure, moments, reasons, texts),
    health=st.lists(reports, max_size=3, unique_by=lambda report: report.replica).map(tuple),
    recipes=st.integers(0, 9),
    recipes_written=st.none() | moments,
    reverify=st.none() | st.sampled_from(["again", "x" * 500]),
)
RECIPES = [
    observed_recipe(certified_key(), recipe("keys/photo", keyRef={"name": "brand"})).standing,
    observed_recipe(recipe("keys/photo", keyRef={"name": "brand"})).standing,
    observed_recipe(recipe("keys/photo", extends="gone@1")).standing,
    observed_recipe(recipe("keys/photo", c2pa={"enabled": False})).standing,
    Unreadable("SigningRecipe", ObjectName("keys", "photo"), Reason.RecipeInvalid, "broken " * 500),
]
recipe_observations = st.builds(
    RecipeObservation,
    name=st.just(ObjectName("keys", "photo")),
    uid=st.just("uid-2"),
    generation=generations,
    standing=one_of_these(RECIPES),
    status=st.none()
    | models(
        SigningRecipeStatus,
        observed_generation=st.none() | generations,
        conditions=condition_lists(SigningRecipeConditionType),
    ),
    key_ready=condition_lists(ByokKeyConditionType).map(lambda found: found[0] if found else None),
)


def schema_of(kind: str) -> Draft202012Validator:
    (found,) = [each for each in KINDS if each.name == kind]
    schema: dict[str, Any] = crd(found)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    return Draft202012Validator(schema)


KEY_SCHEMA, RECIPE_SCHEMA = schema_of("ByokKey"), schema_of("SigningRecipe")


def as_json(status: Model) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def check_events(events: tuple[Event, ...]) -> None:
    for event in events:
        assert len(event.note.encode()) <= NOTE_LIMIT
        assert event.reason.isalpha()


@CLASSES
@given(key_observations, moments)
def test_every_observation_of_a_key_gives_one_whole_status(observation: KeyObservation, now: datetime) -> None:
    plan = plan_key(observation, now)
    KEY_SCHEMA.validate(as_json(plan.status))
    assert [condition.type for condition in plan.status.conditions or ()] == [
        *(each.value for each in ByokKeyConditionType if each is not ByokKeyConditionType.READY),
        "Ready",
    ]
    assert plan.status.phase in set(Phase)
    check_events(plan.events)


@CLASSES
@given(key_observations, moments)
def test_planning_a_key_again_changes_nothing(observation: KeyObservation, now: datetime) -> None:
    plan = plan_key(observation, now)
    kept = ByokKeyStatus.model_validate_json(plan.status.model_dump_json(by_alias=True, exclude_none=True))
    again = plan_key(replace(observation, status=kept), now)
    assert as_json(again.status) == as_json(kept)
    assert again.events == ()


@CLASSES
@given(recipe_observations, moments)
def test_every_observation_of_a_recipe_gives_one_whole_status(observation: RecipeObservation, now: datetime) -> None:
    plan = plan_recipe(observation, now)
    RECIPE_SCHEMA.validate(as_json(plan.status))
    assert [condition.type for condition in plan.status.conditions or ()] == list(SigningRecipeConditionType)
    check_events(plan.events)


@CLASSES
@given(recipe_observations, moments)
def test_planning_a_recipe_again_changes_nothing(observation: RecipeObservation, now: datetime) -> None:
    kept = stored_recipe(plan_recipe(observation, now).status)
    again = plan_recipe(replace(observation, status=kept), now)
    assert as_json(again.status) == as_json(kept)
    assert again.events == ()


@CLASSES
@given(key_observations, moments, st.floats(0, 1))
def test_every_key_has_a_next_probe_unless_its_spec_is_refused(
    observation: KeyObservation, now: datetime, chance: float
) -> None:
    first = begin(observation, now, chance)
    later = attempted(first, observation, asked_for=occasion_of(observation, now), now=now, chance=chance)
    due = probe_due_at(later, observation, now)
    judged = observation.standing
    assert (due is None) == (isinstance(judged, Unreadable) or judged.acceptance is not None)
    assert due is None or now < due <= now + timedelta(hours=24)
    again = look_again_at(observation, now)
    assert again is None or again > now


@pytest.mark.parametrize("status", list(ConditionStatus))
def test_ready_is_never_false_for_what_could_not_be_asked(status: ConditionStatus) -> None:
    away = Finding(Outcome.UNKNOWN, "KmsUnavailable", "KMS could not be reached")
    probe = Probe(at=NOW, generation=1, replica="r", public_key=away, sign=away, certificate=away, standing=away)
    before = Condition(
        type="Ready", status=status, reason="Verified", message="", last_transition_time=NOW, observed_generation=1
    )
    observation = KeyObservation(
        name=NAME,
        uid="uid-1",
        generation=1,
        standing=standing(certified_key()),
        status=ByokKeyStatus(conditions=(before,)),
        probe=probe,
    )
    conditions = plan_key(observation, NOW).status.conditions or ()
    assert ConditionStatus.FALSE not in {condition.status for condition in conditions}
