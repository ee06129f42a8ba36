"""`helm uninstall` leaves what was asked to stay and nothing else; what stayed is there for the next release.

The last tests of a release: the second one leaves another release in its place.
"""

import pytest

from byok_api.audit.chain import ChainReport, verify_chain
from tests.chart.rendering import NAMESPACE, RELEASE
from tests.support.inventory import Inventory, Known, inventory
from tests.support.release import ACCOUNT, KEYS, LATER, MEDIA, RECIPE, Release, until
from tests.testenv.kubectl import Kubectl

# Pods of the release are given the time that they need to end.
GONE_WITHIN = 150.0
# What the cluster itself puts into each namespace.
EVERYWHERE = (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default"))
STAYING = frozenset({NAMESPACE, KEYS, MEDIA, LATER})
"""Namespaces that tests of other files have not removed."""
KINDS = frozenset({"ByokKey", "SigningRecipe"})
CRDS = frozenset(
    {
        Known("CustomResourceDefinition", "", "byokkeys.byok.dev"),
        Known("CustomResourceDefinition", "", "signingrecipes.byok.dev"),
        Known("APIService", "", "v1alpha1.byok.dev"),
    }
)


def trails(kubectl: Kubectl) -> Inventory:
    """List the volumes of the signers' audit trails."""
    claims = kubectl.get("pvc", "--namespace", NAMESPACE, "-l", "app.kubernetes.io/name=byok-signer")["items"]
    names = [(each["metadata"]["name"], each["spec"]["volumeName"]) for each in claims]
    assert len(names) == 2
    return frozenset(
        known
        for claim, volume in names
        for known in (
            Known("PersistentVolumeClaim", NAMESPACE, claim),
            Known("PersistentVolume", "", volume),
        )
    )


def users(found: Inventory) -> Inventory:
    """Pick what users made and asked to stay: namespaces, accounts of jobs, whatever is of the chart's kinds."""
    namespaces = {each.name for each in found if each.kind == "Namespace" and each.name in STAYING}
    made = {each for each in found if each.namespace in namespaces and (each.kind in KINDS or each.name == ACCOUNT)}
    given = {Known(kind, namespace, name) for namespace in namespaces for kind, name in EVERYWHERE}
    return frozenset({Known("Namespace", "", name) for name in namespaces} | made | given)


@pytest.mark.timeout(400)
def test_kinds_keys_recipes_and_audit_trails_stay_and_nothing_else(
    release: Release, kubectl: Kubectl, before_release: Inventory
) -> None:
    expected = CRDS | trails(kubectl) | users(inventory(kubectl) - before_release)
    assert Known("SigningRecipe", MEDIA, RECIPE) in expected
    release.uninstall()

    def is_so() -> bool:
        left = inventory(kubectl) - before_release
        assert left == expected, f"left: {sorted(left - expected)}; missing: {sorted(expected - left)}"
        return True

    until(is_so, "only what was asked to stay is left", GONE_WITHIN)


@pytest.mark.timeout(400)
def test_the_next_release_takes_up_what_stayed(release: Release, kubectl: Kubectl) -> None:
    if release.is_installed:
        release.uninstall()
        until(lambda: not release.pods("signer"), "the signers have ended", GONE_WITHIN)
    stayed = kubectl.get("signingrecipe", RECIPE, "--namespace", MEDIA)["metadata"]["uid"]
    release.install()
    # The emulated KMS has other keys now; a real one would have kept them.
    release.apply_sandbox()
    release.wait_until_ready()

    release.helm("test", RELEASE, "--timeout=240s")
    assert kubectl.get("signingrecipe", RECIPE, "--namespace", MEDIA)["metadata"]["uid"] == stayed
    for pod in release.pods("signer"):
        report = trail(kubectl, pod["metadata"]["name"])
        assert report.intact, report.findings
        assert [each.predecessor for each in report.chains[1:]] == [each.head.id for each in report.chains[:-1]]
        assert len(report.chains) > 1


def trail(kubectl: Kubectl, pod: str) -> ChainReport:
    """Verify the audit trail on a signer's volume."""
    text = kubectl("exec", pod, "--namespace", NAMESPACE, "--", "cat", "/var/lib/byok/audit/audit.jsonl")
    return verify_chain(text.encode().splitlines(keepends=True))
