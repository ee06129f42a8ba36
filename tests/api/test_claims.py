"""What a claim to a KMS key survives, and what it does not: an older one must not evaporate under a younger one."""

from collections.abc import Callable
from typing import Any

import pytest

from byok_api.byokkey import ByokKey
from byok_api.errors import Reason
from byok_api.installation import Rules
from byok_api.inventory import KEY, Inventory, Known
from byok_api.legible import EVER, legible_in
from byok_api.manifests import ManifestError
from byok_api.objects import Unreadable, parse_object, unreadable
from byok_api.references import KeyArn, ObjectName
from tests.support.manifests import KEY_ARN, PRESETS, key_document

Document = dict[str, Any]
Change = Callable[[Document], object]

RULES = Rules(installation="test", presets_namespace=PRESETS)
OWNER, THIEF = ObjectName("media", "brand"), ObjectName("evil", "brand")
ALIAS = KEY_ARN.split(":key/")[0] + ":alias/brand"
NEW_FIELD = {"newField": "of a later version"}


def document(name: ObjectName, created: str, **spec: Any) -> Document:  # noqa: ANN401 - any part of a spec
    made = key_document(str(name), **spec)
    made["metadata"]["creationTimestamp"] = created
    return made


def owners(change: Change = lambda _made: None, **spec: Any) -> Known:  # noqa: ANN401 - any part of a spec
    """The older key, after a change to its document."""
    made = document(OWNER, "2020-01-01T00:00:00Z", **spec)
    change(made)
    return known(made)


def thiefs(**spec: Any) -> Known:  # noqa: ANN401 - any part of a spec
    return known(document(THIEF, "2024-01-01T00:00:00Z", **spec))


def known(made: Document) -> Known:
    try:
        found = parse_object(made, "test")
    except ManifestError as error:
        return unreadable(made, (KEY, ObjectName(made["metadata"]["namespace"], made["metadata"]["name"])), error)
    assert isinstance(found, ByokKey)
    return found


def refused(inventory: Inventory, name: ObjectName = THIEF) -> bool:
    """Whether a key is not accepted, for another's claim and nothing else."""
    standing = inventory.key(name)
    assert standing is not None
    assert not isinstance(standing, Unreadable)
    assert standing.acceptance is None or standing.acceptance.reason is Reason.KeyClaimedElsewhere
    return standing.acceptance is not None


BREAKS: dict[str, Change] = {
    "a field of another version": lambda made: made["spec"].update(NEW_FIELD),
    "no API version": lambda made: made.update(apiVersion="byok.dev/v2"),
    "a state that stops it": lambda made: made["spec"].update(state="Paused"),
    "a certificate of another form": lambda made: made["spec"]["certificate"].update(NEW_FIELD),
    "one replica that is none": lambda made: made["spec"]["aws"].update(replicas=["nonsense", 5]),
    "a wrong role": lambda made: made["spec"]["aws"].update(assumeRole="everybody"),
}
BREAKS_OF_THE_CLAIM: dict[str, Change] = {
    "no spec": lambda made: made.update(spec="none"),
    "no certificate": lambda made: made["spec"].pop("certificate") and made["spec"].update(NEW_FIELD),
    "an ARN that is none": lambda made: made["spec"]["aws"].update(keyArn="nonsense"),
    "no ARN and no certificate": lambda made: made.update(spec={"state": "Paused"}),
    "no time": lambda made: made["metadata"].update(creationTimestamp="yesterday"),
}


@pytest.mark.parametrize("broken", BREAKS | BREAKS_OF_THE_CLAIM)
def test_while_the_older_object_cannot_be_read_the_younger_one_stays_refused(broken: str) -> None:
    inventory = Inventory(RULES)
    inventory.replace_all([owners(), thiefs()], {})
    change = (BREAKS | BREAKS_OF_THE_CLAIM)[broken]
    found = owners(change)
    assert isinstance(found, Unreadable)
    inventory.put(found)
    assert refused(inventory)
    inventory.put(owners(lambda made: (change(made), made["metadata"].update(labels={"a": "b"}))))
    assert refused(inventory)


@pytest.mark.parametrize("broken", BREAKS)
def test_after_a_restart_an_object_that_cannot_be_read_claims_what_is_legible(broken: str) -> None:
    inventory = Inventory(RULES)
    concerned = inventory.replace_all([thiefs(), owners(BREAKS[broken])], {})
    assert (refused(inventory), (KEY, THIEF) in concerned) == (True, True)


def test_an_object_that_becomes_legible_or_goes_concerns_the_younger_one() -> None:
    inventory = Inventory(RULES)
    inventory.replace_all([thiefs()], {})
    assert inventory.put(owners(BREAKS["a wrong role"])) == {(KEY, OWNER), (KEY, THIEF)}
    assert inventory.remove(KEY, OWNER) == {(KEY, OWNER), (KEY, THIEF)}
    assert not refused(inventory)


def test_a_certificate_that_says_nothing_to_this_version_lets_the_arn_count_against_certified_keys() -> None:
    inventory = Inventory(RULES)
    later = owners(lambda made: made["spec"].update(certificate={"secretRef": "brand"}))
    assert inventory.replace_all([thiefs()], {})
    assert (KEY, THIEF) in inventory.put(later)
    assert refused(inventory)
    inventory.put(owners(lambda made: made["spec"].update(NEW_FIELD), certificate=None))
    assert not refused(inventory)


def test_it_does_so_too_where_older_objects_claim_the_arn_and_take_nothing_by_it() -> None:
    inventory = Inventory(RULES)
    others = (ObjectName(namespace, "brand") for namespace in ("a", "b"))
    older = [known(document(name, "2019-01-01T00:00:00Z", certificate=None)) for name in others]
    inventory.replace_all([*older, thiefs()], {})
    assert not refused(inventory)
    inventory.put(owners(lambda made: made["spec"].update(certificate={"secretRef": "brand"})))
    assert refused(inventory)


def test_an_unreadable_younger_object_takes_nothing() -> None:
    inventory = Inventory(RULES)
    younger = document(THIEF, "2024-01-01T00:00:00Z", **NEW_FIELD)
    inventory.replace_all([owners(), known(younger)], {})
    assert not refused(inventory, OWNER)


def test_an_object_that_was_made_again_has_nothing_of_the_claim_before() -> None:
    inventory = Inventory(RULES)
    inventory.replace_all([owners(), thiefs()], {})
    again = document(OWNER, "2025-01-01T00:00:00Z", aws={"keyArn": ALIAS}, certificate=None, **NEW_FIELD)
    inventory.put(known(again))
    assert not refused(inventory)


def test_what_an_object_claims_while_it_cannot_be_read_does_not_pile_up() -> None:
    inventory = Inventory(RULES)
    inventory.replace_all([owners(aws={"keyArn": ALIAS}, certificate=None), thiefs()], {})
    inventory.put(owners(BREAKS["a field of another version"]))
    assert refused(inventory)
    inventory.put(owners(lambda made: made["spec"].update(NEW_FIELD), aws={"keyArn": ALIAS}, certificate=None))
    assert not refused(inventory)


@pytest.mark.parametrize("certificate", [None, {"pem": "garbage"}], ids=["taken out", "does not parse"])
def test_a_key_without_a_public_key_to_show_claims_by_arn_and_takes_nothing_from_one_that_shows_it(
    certificate: Document | None,
) -> None:
    inventory = Inventory(RULES)
    inventory.replace_all(
        [owners(), thiefs(), known(document(ObjectName("late", "brand"), "2025-01-01T00:00:00Z"))], {}
    )
    inventory.put(owners(certificate=certificate))
    assert not refused(inventory)
    inventory.put(thiefs(certificate=None))
    assert refused(inventory)


@pytest.mark.parametrize(
    ("made", "created", "arns"),
    [
        ({}, None, set()),
        ({"metadata": [], "spec": 5}, None, set()),
        ({"metadata": {"creationTimestamp": 5}, "spec": {"aws": []}}, EVER, set()),
        ({"metadata": {"creationTimestamp": "2026-01-01T00:00:00"}}, EVER, set()),
        ({"spec": {"aws": {"keyArn": {}, "replicas": "x"}, "certificate": 5}}, None, set()),
        ({"spec": {"aws": {"keyArn": KEY_ARN, "replicas": [ALIAS, None]}}}, None, {KEY_ARN, ALIAS}),
        ({"spec": {"aws": {"replicas": [*["x"] * 64, ALIAS]}, "certificate": {"pem": "x" * 40_000}}}, None, set()),
        ({"spec": {"certificate": {"pem": "-----BEGIN EC PRIVATE KEY-----"}}}, None, set()),
    ],
)
def test_of_any_document_what_is_legible_is_read(made: Document, created: object, arns: set[str]) -> None:
    found = legible_in(made)
    assert (found.created, found.arns, found.pem) == (created, frozenset(map(KeyArn, arns)), None)
    assert found.has_certificate is ("certificate" in str(made))
