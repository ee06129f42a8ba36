"""Nobody accepts the installation's terms in another's name."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cluster_requests import Answer, Requests, grant
from tests.support.kinds import KEY_ARN, manifest

OWNER, OTHER = "alice@example.com", "carol@example.com"
JOB = "system:serviceaccount:ci:deployer"
TERMS = {"terms": "byok-2026", "acceptedAt": "2026-11-22T07:00:00Z"}
BY_OWNER, BY_OTHER = TERMS | {"acceptedBy": OWNER}, TERMS | {"acceptedBy": OTHER}

# What the key says, and what the owner makes of it.
CHANGES: list[tuple[dict[str, Any] | None, dict[str, Any] | None, str]] = [
    (None, BY_OWNER, "taken"),
    (None, BY_OTHER, "acknowledgement"),
    (BY_OWNER, BY_OTHER, "acknowledgement"),
    (BY_OWNER, {"terms": "byok-2027"}, "taken"),
    (BY_OTHER, {"terms": "byok-2027"}, "acknowledgement"),
    (BY_OTHER, {"acceptedAt": "2026-11-22T08:00:00Z"}, "acknowledgement"),
    (BY_OTHER, {"termsSHA256": "0" * 64}, "acknowledgement"),
    (BY_OTHER, BY_OWNER, "taken"),
    (BY_OTHER, BY_OTHER, "taken"),
    (BY_OTHER, None, "taken"),
    (None, None, "taken"),
]


def key(namespace: str, acknowledgement: dict[str, Any] | None) -> dict[str, Any]:
    given = {"acknowledgement": acknowledgement} if acknowledgement else {}
    return manifest("ByokKey", f"{namespace}/brand", {"aws": {"keyArn": KEY_ARN}, **given})


def created(admin: Requests, namespace: str, acknowledgement: dict[str, Any] | None) -> dict[str, Any]:
    """Have a key written by whoever accepted its terms."""
    writer = (acknowledgement or BY_OWNER)["acceptedBy"]
    document = key(namespace, acknowledgement)
    assert admin.named(writer, "system:masters").create(document).taken
    return document


@pytest.mark.parametrize(("before", "change", "expected"), CHANGES, ids=str)
def test_who_sets_or_changes_an_acknowledgement_is_the_one_in_it(  # noqa: PLR0913 - a table's columns and fixtures
    before: dict[str, Any] | None,
    change: dict[str, Any] | None,
    expected: str,
    *,
    admin: Requests,
    owner: Requests,
    keys: str,
    verdict: Callable[[Answer], str],
) -> None:
    document = created(admin, keys, before)
    assert verdict(owner.patch(document, {"spec": {"acknowledgement": change}})) == expected


@pytest.mark.parametrize(
    ("acknowledgement", "expected"), [(None, "taken"), (BY_OWNER, "taken"), (BY_OTHER, "acknowledgement")], ids=str
)
def test_a_key_is_created_with_no_name_but_ones_own(
    owner: Requests, keys: str, verdict: Callable[[Answer], str], acknowledgement: dict[str, Any] | None, expected: str
) -> None:
    document = key(keys, acknowledgement)
    assert verdict(owner.create(document, dry_run=True)) == expected
    assert verdict(owner.apply(document)) == expected


def test_a_service_account_accepts_in_its_own_name(admin: Requests, keys: str) -> None:
    grant(admin, "byok-key-owner", JOB, keys)
    assert admin.named(JOB).create(key(keys, TERMS | {"acceptedBy": JOB})).message == ""
    assert f"write acceptedBy: {JOB}, or leave" in admin.named(JOB).apply(key(keys, BY_OTHER)).message


def test_what_else_the_key_says_may_be_changed_by_others(admin: Requests, owner: Requests, keys: str) -> None:
    document = created(admin, keys, BY_OTHER)
    stored = admin.read(document).body
    deactivated = {**stored, "spec": {**stored["spec"], "state": "Deactivated"}}
    answers = [owner.replace(stored), owner.replace(deactivated), owner.apply(document)]
    assert [answer.message for answer in answers] == ["", "", ""]
