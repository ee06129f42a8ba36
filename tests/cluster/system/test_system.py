"""The main story, on a real API server: apply, Ready, sign, lose the grant, get it back; and what is told of it."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from byok_api.audit import bounded_lines, verify_chain
from byok_api.audit.agreement import Period
from byok_api.errors import Reason
from byok_client import SignerClient, Verdict
from byok_client.cli.exits import Exit
from byok_client.cli.reconciling import Question, reconcile
from byok_sandbox.filling import FIRST, STAMPED
from tests.support.cluster_requests import until
from tests.support.command_line import BYOKCTL
from tests.support.live import CREATED, PHOTO, Live, Team, found, records

READY_WITHIN = 30.0
"""Seconds: a limit that a loaded machine does not reach; it takes about one where nothing else runs."""
TOLD_WITHIN = 30.0
"""Seconds: the same until `status` says what signers see, while somebody tries to sign; that takes some tenths."""
BACK_WITHIN = 30.0
"""Seconds: the same until a grant that was given back signs again, for which a call is let through every 10 s."""
REVOKED_WITHIN = 15.0
"""Seconds: the same until what an owner writes holds at the signer, which does not look again so soon."""
STILL = 3.0
"""Seconds for which an object that nobody writes any more has stayed as it is."""


def test_the_examples_are_ready_and_sign_trusted_photos(live: Live, tmp_path: Path) -> None:
    around = live.cluster.around
    live.cluster.plane.kubectl("apply", "-f", str(live.cluster.manifests))
    key, recipe = around.filled.keys[FIRST], around.filled.recipes[FIRST]["photo-v1"]
    live.until_ready(("ByokKey", key), ("SigningRecipe", recipe), within=READY_WITHIN)
    with SignerClient(live.cluster.client) as client:
        for name in (recipe, STAMPED):
            output = tmp_path / f"{name.name}.jpg"
            client.sign(PHOTO, recipe=str(name), metadata=CREATED, output=output)
            assert client.verify(output, trust_anchors=around.trust_anchors).state is Verdict.TRUSTED


def test_the_printed_exports_are_all_that_byokctl_needs(team: Team, tmp_path: Path) -> None:
    output = tmp_path / "signed.jpg"
    environ = {**os.environ, **team.live.cluster.exports, "BYOK_SIGNER_TOKEN_FILE": str(team.client.token_file)}
    asked = [str(PHOTO), "--recipe", str(team.recipe), "--metadata", "digital_source_type=digitalCreation"]
    command = [*BYOKCTL, "sign", *asked, "--output", str(output)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environ)
    assert ended.returncode == 0, ended.stderr
    anchors = team.live.cluster.around.trust_anchors
    with SignerClient(team.client) as client:
        assert client.verify(output, trust_anchors=anchors).state is Verdict.TRUSTED


def test_a_grant_that_is_removed_and_given_back_shows_in_signing_and_in_status(team: Team, tmp_path: Path) -> None:
    live, owner, arn = team.live, team.live.cluster.around.owner, team.kms_key.arn
    team.sign(tmp_path)
    owner.revoke(arn)
    removed = time.monotonic()
    assert team.refusal(tmp_path) is Reason.KeyAccessDenied
    live.until_condition("ByokKey", team.key, ("SignGranted", "False", "KeyAccessDenied"), within=TOLD_WITHIN)
    live.until_condition("ByokKey", team.key, ("Ready", "False", "KeyAccessDenied"), within=TOLD_WITHIN)
    live.until_condition("SigningRecipe", team.recipe, ("Ready", "False"), within=TOLD_WITHIN)
    assert time.monotonic() - removed < TOLD_WITHIN
    owner.grant(arn, FIRST)
    team.until_signed(tmp_path, within=BACK_WITHIN)
    live.until_condition("ByokKey", team.key, ("SignGranted", "True"), within=TOLD_WITHIN)
    team.until_ready(within=TOLD_WITHIN)


def test_describe_tells_the_whole_story(team: Team, tmp_path: Path) -> None:
    team.live.cluster.around.owner.revoke(team.kms_key.arn)
    team.until_refused(tmp_path, Reason.KeyAccessDenied, within=REVOKED_WITHIN)
    team.live.until_condition("ByokKey", team.key, ("SignGranted", "False"), within=TOLD_WITHIN)
    team.live.cluster.around.owner.grant(team.kms_key.arn, FIRST)
    team.until_signed(tmp_path, within=BACK_WITHIN)
    team.until_ready(within=TOLD_WITHIN)
    until(lambda: len(team.live.events(team.key)) >= 2, "events of the grant removed and given back")
    told = team.live.cluster.plane.kubectl("describe", "byokkey", team.key.name, "--namespace", team.namespace)
    for word in ("SignGranted", "KeyAccessDenied", "kms:Sign", str(team.kms_key.arn), "Events:", "byok.dev/operator"):
        assert word in told, told


def test_a_steady_state_writes_nothing(team: Team) -> None:
    before = settled_version(team)
    team.live.cluster.operator.stop()
    team.live.cluster.operator.start()
    team.live.cluster.operator.wait_until_ready()
    # The restarted operator writes of this one, which comes after the other.
    other = found(team.live)
    other.until_ready()
    assert version(team) == before


def version(team: Team) -> str:
    return str(team.live.read("ByokKey", team.key)["metadata"]["resourceVersion"])


def settled_version(team: Team) -> str:
    """Wait until what earlier tests began is written, and give the version after that."""
    seen, since = version(team), time.monotonic()

    def stays() -> bool:
        nonlocal seen, since
        if (now := version(team)) != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() > since + STILL

    until(stays, "the key is not written any more", within=READY_WITHIN)
    return seen


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "Deactivated"}, Reason.KeyDeactivated),
        ({"requiredRecipe": "enterprise-strict-v1@1"}, Reason.RequiredRecipeMissing),
        ({"certificate": None}, Reason.CertificateMissing),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else next(iter(value)),
)
def test_what_an_owner_writes_holds_at_once(
    live: Live, change: dict[str, object], reason: Reason, tmp_path: Path
) -> None:
    team = found(live)
    team.until_signed(tmp_path, within=READY_WITHIN)
    live.change("ByokKey", team.key, change)
    team.until_refused(tmp_path, reason, within=REVOKED_WITHIN)
    live.until_condition("SigningRecipe", team.recipe, ("Ready", "False", reason.name), within=READY_WITHIN)


@pytest.mark.parametrize("kind", ["ByokKey", "SigningRecipe"])
def test_what_is_deleted_signs_no_more_at_once(live: Live, kind: str, tmp_path: Path) -> None:
    team = found(live)
    team.until_signed(tmp_path, within=READY_WITHIN)
    # Deleting a key that has recipes asks for this annotation, once status says so.
    annotation = {"metadata": {"annotations": {"byok.dev/allow-delete": "true"}}}
    name = team.key if kind == "ByokKey" else team.recipe
    team.live.admin.patch({"kind": kind, "metadata": {"name": name.name, "namespace": name.namespace}}, annotation)
    live.delete(kind, name)
    wanted = Reason.KeyMissing if kind == "ByokKey" else Reason.RecipeNotAllowed
    team.until_refused(tmp_path, wanted, within=REVOKED_WITHIN)
    if kind == "ByokKey":
        live.until_condition("SigningRecipe", team.recipe, ("Ready", "False", "KeyMissing"), within=TOLD_WITHIN)


def test_every_signature_names_the_decision_that_let_it_through(team: Team, tmp_path: Path) -> None:
    team.sign(tmp_path)
    mine = [record for record in records(team.live.cluster.audit) if record.get("recipe") == f"{team.recipe}@1"]
    assert mine
    assert all(record["decision"] for record in mine)
    with team.live.cluster.audit.open("rb") as trail:
        assert verify_chain(bounded_lines(trail)).intact


def test_kubectl_get_shows_what_to_know_at_a_glance(team: Team) -> None:
    kubectl = team.live.cluster.plane.kubectl
    header, line = kubectl("get", "byokkeys", "--namespace", team.namespace).splitlines()
    assert dict(zip(header.split(), line.split(), strict=True))["PHASE"] == "Active"
    wide = json.loads(kubectl("get", "byok", "--namespace", team.namespace, "-o", "json"))
    assert sorted(item["kind"] for item in wide["items"]) == ["ByokKey", "SigningRecipe"]


def test_after_all_that_every_signature_of_kms_has_its_record(team: Team, tmp_path: Path) -> None:
    cluster = team.live.cluster
    team.sign(tmp_path)
    question = Question(
        # Tests of faults start further signers.
        trails=sorted(cluster.folder.glob("audit*.jsonl")),
        cloudtrail=[cluster.folder / "kms-events.jsonl"],
        keys=[str(team.kms_key.arn)],
        owners=["arn:aws:iam::111122223333:user/administrator"],
        period=Period(),
        delay=0,
    )
    report = reconcile(question)
    assert report.exit == Exit.OK, report.document
    assert report.document["matched"] >= 1


def test_after_all_that_no_log_holds_a_token_or_a_secret(team: Team) -> None:
    folder = team.live.cluster.folder
    files = [*folder.glob("client/*token*"), *folder.glob("operator/token"), *folder.glob("control-plane/*.token")]
    # A test may have emptied one of its own.
    secrets = [text for path in files if (text := path.read_text().strip())]
    secrets.append(team.live.cluster.around.owner.access.secret_access_key)
    logs = [*folder.glob("logs/*.log"), *folder.glob("audit*.jsonl")]
    assert len(secrets) > 4
    assert len(logs) > 4
    leaks = [path.name for path in logs for secret in secrets if secret in path.read_text(errors="replace")]
    assert leaks == []
