"""What an installation demands of every key: an ARN that it gives to the namespace, accepted terms, an external id.

Signer and operator are given the same rules, and both go by them.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from byok_api import keypolicy
from byok_api.errors import Reason
from byok_api.keypolicy import Grantee
from byok_api.references import ObjectName
from byok_sandbox import parts
from byok_sandbox.filling import FIRST, CertifiedKey
from byok_sandbox.owner import KeyOwner
from tests.support.cluster_requests import until
from tests.support.live import Live, Team, job, key_document, living, namespace_document, recipe_document
from tests.support.pairs import Pair, in_charge
from tests.testenv.deployment import NAME
from tests.testenv.system import Cluster

GIVEN = ("given", "accepting", "identified")
"""Namespaces that may name keys of the account; no other may name any."""
PATTERN = "arn:aws:kms:*:111122223333:key/*"
TERMS = "byok-terms-2026"
TERMS_SHA256 = hashlib.sha256(b"Bring your own key, and keep it.").hexdigest()
ACCEPTED = {
    "terms": TERMS,
    "termsSHA256": TERMS_SHA256,
    "acceptedBy": "admin",
    "acceptedAt": "2026-01-01T00:00:00Z",
}
SAID_WITHIN = 30.0
"""Seconds; the Lease of an operator that was killed lasts half of it."""


@dataclass(frozen=True)
class Ruled:
    """A cluster whose installation demands all of that."""

    live: Live
    pair: Pair

    def team(self, namespace: str, kms_key: CertifiedKey, **spec: Any) -> Team:  # noqa: ANN401 - of a ByokKey's spec
        """Set up a team whose key meets all demands, but for what `spec` says; None leaves out."""
        live = self.live
        live.take(namespace_document(namespace))
        client = self.pair.client(job(live, ObjectName(namespace, "job")))
        team = Team(live, namespace, kms_key, client)
        role = assumable(live.cluster, team.key, kms_key)
        meeting = {"aws": {"keyArn": str(kms_key.arn), "assumeRole": {"arn": role}}, "acknowledgement": ACCEPTED}
        said = {name: value for name, value in {**meeting, **spec}.items() if value is not None}
        live.take(key_document(team.key, kms_key, **said), recipe_document(team.recipe, team.key))
        return team


def assumable(cluster: Cluster, key: ObjectName, kms_key: CertifiedKey) -> str:
    """Make a role that only the signer may assume, only for this key, and that alone may use it; answers its ARN."""
    role = f"arn:aws:iam::111122223333:role/{key.namespace}-{key.name}"
    grantee = Grantee(role, keypolicy.session_tags(NAME, key), assumed_by=parts.SIGNER_ROLE)
    statements = keypolicy.trust_statements(grantee, external_id(key))
    policy = {"Version": "2012-10-17", "Statement": statements}
    cluster.around.control.put_identity(role, trust_policy=json.dumps(policy))
    KeyOwner(cluster.around.owner.access, role).grant(kms_key.arn, FIRST)
    return role


def external_id(key: ObjectName) -> str:
    return f"byok:{NAME}:{key}"


def fresh_key(cluster: Cluster) -> CertifiedKey:
    return parts.certified_key(cluster.around.owner, FIRST, cluster.around.authority)


@pytest.fixture(scope="module")
def ruled(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ruled]:
    ownership = tmp_path_factory.mktemp("rules") / "key-ownership.yaml"
    ownership.write_text(yaml.safe_dump({namespace: [PATTERN] for namespace in GIVEN}))
    rules = {
        "key-ownership": ownership,
        "required-terms": TERMS,
        "required-terms-sha256": TERMS_SHA256,
        "require-external-id": "true",
    }
    with in_charge(cluster, "ruled", both=rules) as pair, living(cluster) as live:
        yield Ruled(live, pair)


def test_a_namespace_that_is_not_given_an_arn_cannot_use_it_and_one_that_is_can_though_it_came_later(
    ruled: Ruled, tmp_path: Path
) -> None:
    kms_key = fresh_key(ruled.live.cluster)
    taker = ruled.team("not-given", kms_key)
    wanted = ("Accepted", "False", "KeyOwnershipDenied")
    ruled.live.until_condition("ByokKey", taker.key, wanted, within=SAID_WITHIN)
    taker.until_refused(tmp_path, Reason.KeyOwnershipDenied, within=SAID_WITHIN)
    owner = ruled.team("given", kms_key)
    owner.until_ready()
    owner.sign(tmp_path)
    assert taker.refusal(tmp_path) is Reason.KeyOwnershipDenied
    assert ruled.live.condition("ByokKey", taker.key, "Ready") == ("False", "KeyOwnershipDenied")


def test_a_key_signs_only_once_its_owner_has_accepted_the_terms_and_their_very_text(
    ruled: Ruled, tmp_path: Path
) -> None:
    team = ruled.team("accepting", fresh_key(ruled.live.cluster), acknowledgement=None)
    for given, named in (
        (None, TERMS),
        ({**ACCEPTED, "terms": "byok-terms-2025"}, TERMS),
        ({**ACCEPTED, "termsSHA256": hashlib.sha256(b"another text").hexdigest()}, TERMS_SHA256),
    ):
        ruled.live.change("ByokKey", team.key, {"acknowledgement": given})
        until_accepted_names(named, team)
        assert ruled.live.condition("ByokKey", team.key, "Accepted") == ("False", "AcknowledgementMissing")
        team.until_refused(tmp_path, Reason.AcknowledgementMissing, within=SAID_WITHIN)
    ruled.live.change("ByokKey", team.key, {"acknowledgement": ACCEPTED})
    team.until_ready()
    team.sign(tmp_path)


def until_accepted_names(text: str, team: Team) -> None:
    until(lambda: text in accepted(team), f"condition Accepted names {text}", within=SAID_WITHIN)


def accepted(team: Team) -> str:
    """Read the message of Accepted for the generation that there is, or nothing."""
    stored = team.live.read("ByokKey", team.key)
    conditions = stored.get("status", {}).get("conditions", ())
    messages = [
        each["message"]
        for each in conditions
        if each["type"] == "Accepted" and each["observedGeneration"] == stored["metadata"]["generation"]
    ]
    return messages[0] if messages else ""


def test_a_key_without_a_role_is_refused_and_one_with_it_signs_with_its_external_id(
    ruled: Ruled, tmp_path: Path
) -> None:
    live, control = ruled.live, ruled.live.cluster.around.control
    kms_key = fresh_key(live.cluster)
    team = ruled.team("identified", kms_key, aws={"keyArn": str(kms_key.arn)})
    live.until_condition("ByokKey", team.key, ("Accepted", "False", "KeyInvalid"), within=SAID_WITHIN)
    team.until_refused(tmp_path, Reason.KeyInvalid, within=SAID_WITHIN)
    role = assumable(live.cluster, team.key, kms_key)
    live.change("ByokKey", team.key, {"aws": {"assumeRole": {"arn": role}}})
    team.until_ready()
    team.sign(tmp_path)
    assert live.read("ByokKey", team.key)["status"]["externalId"] == external_id(team.key)
    assumed = [event["requestParameters"] for event in control.events() if event["eventName"] == "AssumeRole"]
    assert external_id(team.key) in {parameters.get("externalId") for parameters in assumed}
