"""`helm install` with the sandbox gives a working, locked-down installation."""

from typing import Any

from tests.chart.rendering import NAMESPACE, RELEASE
from tests.support.release import KEYS, MEDIA, RECIPE, Release, unready
from tests.testenv.kubectl import Kubectl


def restarts(pod: dict[str, Any]) -> int:
    return sum(each["restartCount"] for each in pod["status"]["containerStatuses"])


def signatures(release: Release) -> float:
    return release.total("signer", "byok_signer_signatures_total", recipe=f"{MEDIA}/{RECIPE}")


def test_everything_becomes_ready_without_a_restart(release: Release, kubectl: Kubectl) -> None:
    assert [len(release.pods(component)) for component in ("operator", "sandbox", "signer")] == [2, 1, 2]
    assert sum(map(restarts, kubectl.get("pods", "--namespace", NAMESPACE)["items"])) == 0
    assert unready(kubectl.get("byokkey", "brand", "--namespace", KEYS)) == ""
    assert unready(kubectl.get("signingrecipe", RECIPE, "--namespace", MEDIA)) == ""


def test_helm_test_is_green_and_makes_a_real_signature(release: Release) -> None:
    before = signatures(release)
    said = release.helm("test", RELEASE, "--logs", "--timeout=240s")
    assert "Phase:          Succeeded" in said
    assert signatures(release) == before + 1
