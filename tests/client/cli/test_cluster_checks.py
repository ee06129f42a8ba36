"""What `byokctl doctor` finds out from the cluster: with every right, with those of one namespace, with none."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from byok_api.errors import Reason
from byok_client.cli.cluster_checks import cluster_checks
from byok_client.cli.doctor import Finding, Patient, Verdict
from byok_client.cli.exits import Exit
from tests.support.api_server_thread import api_server_in_thread
from tests.support.fake_api_server import FakeApiServer
from tests.support.manifests import key_document, recipe_document

KEYS, RECIPES, LEASES = "byok.dev/byokkeys", "byok.dev/signingrecipes", "coordination.k8s.io/leases"
JOB = "system:serviceaccount:media:job"
GOOD, WARNING, BAD, SKIPPED = Verdict.GOOD, Verdict.WARNING, Verdict.BAD, Verdict.SKIPPED


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApiServer]:
    """A cluster in which all is well."""
    with api_server_in_thread() as server:
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path))
        server.put(KEYS, _judged(key_document()))
        server.put(RECIPES, _judged(recipe_document()))
        server.put(LEASES, _lease())
        server.reviews = lambda _collection, body: body | {"status": {"allowed": True}}
        yield server


def _judged(document: dict[str, Any], ready: str = "True", reason: str = "Verified") -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": "said"}
    status = {"observedGeneration": 1, "conditions": [condition], "key": {"namespace": "media", "name": "brand"}}
    return document | {"status": status}


def _lease(*, holder: str = "operator-1", age: timedelta = timedelta()) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "renewTime": (datetime.now(UTC) - age).isoformat()}
    return {"metadata": {"namespace": "byok-system", "name": "byok-operator"}, "spec": spec}


def _denied(what: str = "it") -> web.Response:
    body = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": f"cannot list {what} at the cluster scope"}
    return web.json_response(body, status=403)


def _examined(recipe: str | None = "photo") -> dict[str, Finding]:
    patient = Patient(recipe, datetime.now(UTC), claims={"sub": JOB})
    return {finding.check: finding for finding in cluster_checks(patient, "byok-system")}


def _verdicts(found: dict[str, Finding]) -> dict[str, Verdict]:
    return {check: finding.verdict for check, finding in found.items()}


@pytest.mark.usefixtures("cluster")
def test_where_all_is_well_everything_is_good() -> None:
    found = _examined()
    checks = ["cluster", "operator", "right to sign", "recipe's status", "key's status", "owners"]
    assert _verdicts(found) == dict.fromkeys(checks, GOOD)
    assert found["cluster"].found == "1 ByokKeys and 1 SigningRecipes"
    assert found["operator"].found == "operator-1 leads"
    assert found["right to sign"].found == f"{JOB} may sign under media/photo"


@pytest.mark.parametrize("listed", [0, 1])
def test_a_user_of_one_namespace_is_told_of_all_but_lists(cluster: FakeApiServer, listed: int) -> None:
    cluster.put(KEYS, _judged(key_document(), "False", "KeyAccessDenied"))
    cluster.requests.clear()
    if not listed:
        cluster.answers.append(_denied("byokkeys"))
    found = _examined()
    assert found["key's status"].verdict is BAD
    assert _verdicts(found)["recipe's status"] is _verdicts(found)["right to sign"] is GOOD
    assert ("owners" in found, found["cluster"].verdict) == ((True, GOOD) if listed else (False, SKIPPED))
    assert ("GET", "/apis/byok.dev/v1alpha1/namespaces/media/byokkeys/brand") in cluster.requests
    assert ("POST", "/apis/authorization.k8s.io/v1/namespaces/media/localsubjectaccessreviews") in cluster.requests


def test_a_user_without_any_right_is_told_what_was_not_seen(cluster: FakeApiServer) -> None:
    cluster.answers += [_denied() for _ in range(4)]
    found = _examined()
    assert set(_verdicts(found).values()) == {SKIPPED}
    assert list(found) == ["cluster", "operator", "right to sign", "recipe's status"]


def test_a_key_that_is_not_there_is_bad(cluster: FakeApiServer) -> None:
    cluster.remove(KEYS, "media", "brand")
    found = _examined()
    assert (found["key's status"].verdict, found["key's status"].exit) == (BAD, Exit.FAILED)
    assert found["key's status"].found == "there is no byokkeys.byok.dev media/brand"


def test_a_cluster_without_our_kinds_is_asked_no_more(cluster: FakeApiServer) -> None:
    cluster.answers.append(web.Response(text="404 page not found\n", status=404))
    (finding,) = _examined().values()
    assert (finding.verdict, "apply crds/" in finding.remedy) == (SKIPPED, True)
    assert "knows no byokkeys.byok.dev" in finding.found


def test_a_cluster_that_does_not_answer_is_asked_once(cluster: FakeApiServer) -> None:
    cluster.answers += [web.Response(status=503) for _ in range(2)]
    (finding,) = _examined().values()
    assert (finding.verdict, finding.found.startswith("ClusterUnavailable")) == (SKIPPED, True)


@pytest.mark.parametrize("lease", [_lease(holder=""), _lease(age=timedelta(minutes=2))])
def test_an_operator_that_does_not_lead_is_a_warning(cluster: FakeApiServer, lease: dict[str, Any]) -> None:
    cluster.put(LEASES, lease)
    assert _examined()["operator"].verdict is WARNING


def test_a_job_without_the_right_is_told_of_the_role(cluster: FakeApiServer) -> None:
    asked: list[dict[str, Any]] = []

    def refuse(_collection: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body["spec"])
        return body | {"status": {"allowed": False}}

    cluster.reviews = refuse
    finding = _examined("shared/photo")["right to sign"]
    assert (finding.verdict, "byok-signer-user to it in namespace shared" in finding.remedy) == (BAD, True)
    assert asked[0]["user"] == JOB
    assert asked[0]["resourceAttributes"]["verb"] == "sign"
    assert "system:serviceaccounts:media" in asked[0]["groups"]


STATES = [
    ("True", "Verified", GOOD),
    ("False", "KeyAccessDenied", BAD),
    # The operator could not find out; the signer may sign all the same.
    ("Unknown", "SignerUnreachable", WARNING),
]


@pytest.mark.parametrize(("ready", "reason", "verdict"), STATES)
def test_a_verdict_follows_ready(cluster: FakeApiServer, ready: str, reason: str, verdict: Verdict) -> None:
    cluster.put(KEYS, _judged(key_document(), ready, reason))
    finding = _examined()["key's status"]
    assert (finding.verdict, f"Ready={ready}: {reason}: said" in finding.found) == (verdict, True)
    assert finding.remedy == ("" if verdict is GOOD else Reason[reason].facts.remedy)


@pytest.mark.parametrize("status", [{}, {"observedGeneration": 0}])
def test_what_the_operator_has_not_judged_is_a_warning(cluster: FakeApiServer, status: dict[str, Any]) -> None:
    document = _judged(recipe_document())
    cluster.put(RECIPES, document | {"status": document["status"] | status if status else {}})
    finding = _examined()["recipe's status"]
    assert (finding.verdict, "has not looked at this state" in finding.found) == (WARNING, True)


def test_a_recipe_that_is_not_there_is_bad(cluster: FakeApiServer) -> None:
    cluster.remove(RECIPES, "media", "photo")
    found = _examined()
    assert (found["recipe's status"].verdict, found["recipe's status"].exit) == (BAD, Exit.FAILED)
    assert "key's status" not in found


@pytest.mark.usefixtures("cluster")
def test_without_a_recipe_its_checks_are_left_out() -> None:
    assert _verdicts(_examined(None)) == {"cluster": GOOD, "operator": GOOD, "right to sign": SKIPPED, "owners": GOOD}


def test_owners_that_rest_on_one_identity_are_warned_of(cluster: FakeApiServer) -> None:
    cluster.put(KEYS, _judged(key_document("other/brand")))
    finding = _examined()["owners"]
    assert (finding.verdict, "2 namespaces" in finding.found, "media, other" in finding.found) == (WARNING, True, True)
