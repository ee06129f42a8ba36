"""Jobs go on signing while the release is changed, restarted, killed, given other certificates and cut off.

One load runs through all of it. Each test looks at the calls that ended while it lasted, the client's retries allowed,
and ends when signatures have come for a while again.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import NAMESPACE
from tests.support.e2e_account import Account
from tests.support.e2e_certificates import certificates_in, remount, served_by_each, trusted_by
from tests.support.e2e_kill import kill, restarts
from tests.support.e2e_load import Calls, Load, running_load
from tests.support.release import KEYS, MEDIA, Release, merged, until
from tests.testenv.node.chosen import Chosen
from tests.testenv.node.images import Image

RATE, CALLERS = 40, 16
KEY = "brand"
KILLED = "byok-signer-0"
AGE = 5
"""Seconds until a connection's client connects anew, and so shakes hands with the certificate of that time."""
GRACE = 10
"""Seconds that a new CA is known before it issues; the operator looks every 15."""
TOLD_WITHIN = 90.0
ASKED_AGAIN_WITHIN = 30.0
"""Seconds: a limit that a loaded machine does not reach.

A key that was denied is asked for again after 10 (docs/platform.md, Quota and fairness).
"""
AWAY = 60.0
CHANGED = {
    "operator": {"settings": {"signer-tls-grace-seconds": GRACE}},
    "signer": {"settings": {"connection-age-seconds": AGE}},
}


@pytest.fixture(scope="module")
def load(release: Release, images: Mapping[str, Image]) -> Iterator[Load]:
    with running_load(release.kubectl, images["cli"], rate=RATE, callers=CALLERS) as running:
        yield running
    # Whoever comes next finds it as it was.
    release.wait_until_ready()


def uids(release: Release, component: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in release.pods(component)}


def settled(load: Load, mark: int) -> Calls:
    """What happened since a mark, when it is over."""
    load.wait_for_more()
    return load.since(mark)


def test_an_upgrade_that_rolls_every_pod_fails_no_call(release: Release, load: Load) -> None:
    mark, before = load.mark, uids(release, "signer") | uids(release, "operator")
    change(release)
    assert not before & (uids(release, "signer") | uids(release, "operator"))
    settled(load, mark).assert_none_failed()


def change(release: Release) -> None:
    """Have settings under which connections and CAs are replaced within a test."""
    if merged(release.values, CHANGED) != release.values:
        release.upgrade(CHANGED)
        release.wait_until_rolled_out()


def test_rolling_restarts_of_signer_and_operator_fail_no_call(release: Release, load: Load) -> None:
    mark, before = load.mark, uids(release, "signer") | uids(release, "operator")
    release.kubectl("rollout", "restart", "statefulset/byok-signer", "deployment/byok-operator", "-n", NAMESPACE)
    release.wait_until_rolled_out()
    assert not before & (uids(release, "signer") | uids(release, "operator"))
    settled(load, mark).assert_none_failed()


def test_a_new_ca_reaches_jobs_before_its_certificate_does_and_no_call_fails(release: Release, load: Load) -> None:
    change(release)
    pods, restarted = uids(release, "signer") | uids(release, "operator"), restarts_of_signers(release)
    mark, known, served = load.mark, trusted_by(load), served_by_each(load)
    path = '[{"op": "remove", "path": "/data/tls.key"}]'
    release.kubectl("patch", "secret", "byok-signer-ca", "-n", NAMESPACE, "--type=json", "-p", path)

    def told() -> list[str]:
        remount(release.kubectl, MEDIA, load.pod)
        assert trusted_by(load)[1:] == known, trusted_by(load)
        return trusted_by(load)

    both = until(told, "the job's file has the new CA before the old one", TOLD_WITHIN)
    assert served_by_each(load) == served, "served before jobs could know its CA"

    def moved() -> bool:
        for pod in release.pods("signer"):
            remount(release.kubectl, NAMESPACE, pod["metadata"]["name"])
        now = served_by_each(load)
        assert not set(served) & set(now), (served, now)
        return True

    until(moved, "each signer serves a new certificate", TOLD_WITHIN)
    assert certificates_in(release.secret("byok-signer-tls")["ca.crt"]) == both
    rotated = load.mark
    load.wait_for(lambda new: new.seconds > 1.5 * AGE, "all connections are new", mark=rotated, within=TOLD_WITHIN)
    load.since(mark).assert_none_failed()
    assert uids(release, "signer") | uids(release, "operator") == pods
    assert restarts_of_signers(release) == restarted


def restarts_of_signers(release: Release) -> list[int]:
    return [restarts(pod) for pod in release.pods("signer")]


def test_no_call_fails_when_a_signer_is_killed(release: Release, load: Load, images: Mapping[str, Image]) -> None:
    mark, before, restarted = load.mark, uids(release, "signer"), restarts_of_signers(release)
    kill(release.kubectl, images["cli"], NAMESPACE, KILLED)
    release.kubectl("wait", "pod", KILLED, "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=50s")
    assert uids(release, "signer") == before
    assert sum(restarts_of_signers(release)) == sum(restarted) + 1
    settled(load, mark).assert_none_failed()


def test_a_grant_that_is_taken_away_stops_signing_until_it_is_given_back(release: Release, load: Load) -> None:
    account, spec = Account(release.kubectl), release.kubectl.get("byokkey", KEY, "-n", KEYS)["spec"]
    key = spec["aws"]["keyArn"], spec["signingAlgorithm"]
    mark, before = load.mark, uids(release, "signer") | uids(release, "operator")
    try:
        account.revoke(*key)
        gone = load.mark
        refused = load.wait_for(lambda new: len(new.failed) > 50, "calls are refused", mark=mark, within=TOLD_WITHIN)
        until(lambda: says(release, "SignGranted", "False", "KeyAccessDenied"), "status says so", TOLD_WITHIN)
        until(lambda: says(release, "Ready", "False", "KeyAccessDenied"), "status says so", TOLD_WITHIN)
    finally:
        account.grant(*key)
    given_back = load.mark
    load.wait_for_more()
    until(lambda: says(release, "Ready", "True"), "status says so", TOLD_WITHIN)
    after, failed = load.since(given_back), load.since(mark).failed
    assert {(call.reason, call.code) for call in failed} == {("KeyAccessDenied", "UNAVAILABLE")}
    first = load.since(gone).all[0]
    assert not [call for call in refused.signed if call.began > first.ended], "signed without a grant"
    assert after.signed[0].began < after.all[0].ended + ASKED_AGAIN_WITHIN, after
    assert uids(release, "signer") | uids(release, "operator") == before


def says(release: Release, kind: str, status: str, reason: str | None = None) -> bool:
    """Whether a condition of the key is so."""
    found = release.kubectl.get("byokkey", KEY, "-n", KEYS)["status"]["conditions"]
    (only,) = (each for each in found if each["type"] == kind)
    assert only["status"] == status, only
    assert reason in (None, only["reason"]), only
    return True


def test_jobs_go_on_signing_while_the_api_server_is_away(node: Chosen, release: Release, load: Load) -> None:
    if not node.can_stop_api_server:
        pytest.skip("the API server of this cluster is not the tests' to stop")
    mark = load.mark
    node.stop_api_server()
    try:
        ends = time.monotonic() + AWAY
        # Nothing is waited for: it is away for so long.
        while time.monotonic() < ends:
            assert release.kubectl.attempt("get", "--raw", "/readyz", "--request-timeout=1s").status != 0
            time.sleep(1)
    finally:
        node.start_api_server()
    calls = load.wait_for(lambda new: new.seconds > AWAY, "calls of that time", mark=mark, within=TOLD_WITHIN)
    calls.assert_none_failed()
    assert len(calls.signed) > RATE * AWAY / 2, calls
    before = until(lambda: renewed(release), "an operator leads", TOLD_WITHIN)
    until(lambda: renewed(release) != before, "an operator leads again", TOLD_WITHIN)
    settled(load, mark).assert_none_failed()


def renewed(release: Release) -> str:
    """When the operator that leads last said so."""
    lease = release.kubectl.get("lease", "byok-operator", "-n", NAMESPACE)["spec"]
    assert lease.get("holderIdentity"), lease
    return str(lease["renewTime"])


def test_each_signature_of_kms_has_its_record_the_killed_signers_included(
    release: Release, load: Load, tmp_path: Path
) -> None:
    total, account = load.stop(), Account(release.kubectl)
    trails = [copied_trail(release, pod["metadata"]["name"], tmp_path) for pod in release.pods("signer")]
    assert KILLED in [trail.stem for trail in trails]
    for trail in trails:
        verified = byokctl("audit", "verify", str(trail))
        assert verified["intact"], verified["findings"]
        chains = verified["chains"]
        assert {chain["pod"] for chain in chains} == {trail.stem}
        assert [chain["predecessor"] for chain in chains] == [None, *(chain["head"] for chain in chains[:-1])]
    cloudtrail = (f"--cloudtrail={account.write_events(tmp_path / 'events.jsonl')}", f"--owner={account.administrator}")
    result = byokctl("audit", "reconcile", *map(str, trails), *cloudtrail, "--delay-minutes=0")
    assert result["agrees"], result
    assert result["complete"], result
    assert result["matched"] >= total["succeeded"] > 0


def copied_trail(release: Release, pod: str, folder: Path) -> Path:
    trail = folder / f"{pod}.jsonl"
    command = ("exec", pod, "--namespace", NAMESPACE, "--", "cat", "/var/lib/byok/audit/audit.jsonl")
    trail.write_text(release.kubectl(*command))
    return trail


def byokctl(*arguments: str) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-m", "byok_client.cli", *arguments, "-o", "json"], check=False, capture_output=True, text=True
    )
    assert ended.stdout, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == 0, answer
    return answer
