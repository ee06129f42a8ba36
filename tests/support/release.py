"""The chart as a release on a real node: installed, filled by its sandbox, waited for, upgraded and uninstalled.

What the sandbox made is applied as docs and NOTES tell its user: namespaces, keys and recipes from its ConfigMap. No
answer here is from a fake; KMS alone is emulated, in the release's own pod.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from tests.chart.rendering import CHART, NAMESPACE, RELEASE
from tests.support.helm import run_helm
from tests.testenv.kubectl import Kubectl, KubectlError, yaml_of
from tests.testenv.node.images import Image

KEYS = "brand-keys"
"""Namespace of the sandbox's keys."""
MEDIA = "media"
"""Namespace of the sandbox's recipes; its jobs sign, as the chart's value `consumerNamespaces` says."""
LATER = "later-media"
"""Named in that value too, but made only by the test of such namespaces."""
STRANGERS = "strangers"
"""Not named there, so that its pods may not sign; the network policy lets them ask all the same."""
ACCOUNT = "media-job"
"""ServiceAccount of the jobs, in MEDIA and LATER."""
RECIPE = "photo-v1"
"""A recipe of MEDIA, under the ES256 key; `RECIPE-es384` and so on are the same under the other keys."""
METADATA = "digital_source_type=digitalCapture"
"""What that recipe wants to be told of each photo."""
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
SIGNS = {"example.com/signs-for": "brand"}
"""Label of the namespaces that the keys' owner lets sign."""
READY_WITHIN = 180.0
_HELM_LIMIT = 300
_LOOK = 0.3

Values = Mapping[str, Any]
_Found = TypeVar("_Found")


def until(look: Callable[[], _Found], what: str, within: float = READY_WITHIN) -> _Found:
    """Look until there is something, and return it; AssertionError says what was waited for, and what was seen last.

    A look that raises AssertionError or KubectlError has seen nothing yet, and says why.
    """
    deadline, seen = time.monotonic() + within, ""
    while True:
        try:
            if found := look():
                return found
        except (AssertionError, KubectlError) as error:
            seen = f" ({error})"
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}{seen}"
        time.sleep(_LOOK)


def install_values(images: Mapping[str, Image]) -> dict[str, Any]:
    """Give the values of the tier's release: sandbox, trails on volumes, two replicas of each service."""
    settled = {"pullPolicy": "IfNotPresent", "tag": images["signer"].tag}
    stranger = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": STRANGERS}}}
    return {
        "image": settled,
        "audit": {"mode": "persistent", "persistent": {"size": "256Mi"}},
        "consumerNamespaces": [{"namespace": name, "serviceAccounts": [ACCOUNT]} for name in (MEDIA, LATER)],
        "networkPolicy": {"signer": {"extraIngress": [{"from": [stranger], "ports": [{"port": 8443}]}]}},
        "sandbox": {"enabled": True},
        "tests": {"recipe": f"{MEDIA}/{RECIPE}"},
    }


@dataclass
class Release:
    """A release of the chart, and the cluster's administrator."""

    kubectl: Kubectl
    images: Mapping[str, Image]
    values: dict[str, Any] = field(default_factory=dict)
    """What it was installed with, and what each upgrade changed."""

    def helm(self, *arguments: str, values: Values | None = None) -> str:
        """Run helm in the release's namespace and return what it printed; AssertionError says what it complained of."""
        ended = run_helm(self.kubectl, *arguments, values=values, limit=_HELM_LIMIT)
        assert ended.returncode == 0, f"helm {' '.join(arguments)}: {ended.stderr}{ended.stdout}"
        return ended.stdout

    def install(self) -> str:
        """Make the release, in a namespace of restricted pods, and return helm's notes; nothing is waited for."""
        self.values = install_values(self.images)
        self.make_namespace(NAMESPACE, SIGNS)
        return self.helm("install", RELEASE, str(CHART), "--create-namespace", values=self.values)

    def upgrade(self, changes: Values) -> str:
        """Upgrade the release by values that are merged into those so far; nothing is waited for."""
        self.values = merged(self.values, changes)
        return self.helm("upgrade", RELEASE, str(CHART), values=self.values)

    def uninstall(self) -> str:
        """Take the release away; nothing but helm itself is waited for."""
        return self.helm("uninstall", RELEASE)

    def remove(self) -> None:
        """Take away all that was made for the tests, the users' objects and the kinds included, and wait for that."""
        self.helm("uninstall", RELEASE, "--ignore-not-found")
        missing = ("--ignore-not-found", "--timeout=50s")
        self.kubectl("delete", "namespace", NAMESPACE, KEYS, MEDIA, LATER, STRANGERS, *missing)
        self.kubectl("delete", "crd", "byokkeys.byok.dev", "signingrecipes.byok.dev", *missing)

    @property
    def is_installed(self) -> bool:
        """Whether helm knows of it."""
        return bool(json.loads(self.helm("list", "-o", "json")))

    def make_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Make a namespace that admits only restricted pods, or label one that is there."""
        metadata = {"name": name, "labels": {**RESTRICTED, **(labels or {})}}
        # A manager of its own: what others applied of its labels stays.
        document = yaml_of([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        self.kubectl("apply", "--server-side", "--field-manager=e2e", "-f", "-", stdin=document)

    def apply_sandbox(self) -> None:
        """Apply the namespaces, keys and recipes that the sandbox made, and the account of the jobs."""
        self.wait_until_rolled_out()
        found = self.config_map("byok-sandbox")
        manifests = [text for name, text in sorted(found.items()) if name.endswith(".yaml")]
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin="\n---\n".join(manifests))
        self.make_namespace(KEYS)
        self.make_namespace(MEDIA)
        self.make_account(MEDIA)

    def make_account(self, namespace: str, name: str = ACCOUNT) -> None:
        """Make a ServiceAccount for jobs."""
        metadata = {"name": name, "namespace": namespace}
        self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": metadata,
                "automountServiceAccountToken": False,
            }
        )

    def wait_until_ready(self, within: float = READY_WITHIN) -> None:
        """Wait until the workloads, the keys, the recipes and what a consumer's jobs need are there and Ready."""
        self.wait_until_rolled_out(within)
        until(self._keys_and_recipes_ready, "keys and recipes are Ready", within)
        until(lambda: self.serves(MEDIA), f"what jobs need is in {MEDIA}", within)

    def wait_until_rolled_out(self, within: float = READY_WITHIN) -> None:
        """Wait until each workload of the release has as many available pods of its present kind as it wants."""
        until(self._rolled_out, "the release is rolled out", within)

    def serves(self, namespace: str) -> bool:
        """Whether a consumer's namespace has address, CA and right; AssertionError says what is missing."""
        for kind in ("configmap", "rolebinding"):
            ended = self.kubectl.attempt("get", kind, "byok-signer", "--namespace", namespace)
            assert ended.status == 0, ended.err.strip()
        return True

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Give the pods of `signer`, `operator` or `sandbox` that are not on their way out, by name."""
        selector = f"app.kubernetes.io/component={component},app.kubernetes.io/instance={RELEASE}"
        found = self.kubectl.get("pods", "--namespace", NAMESPACE, "-l", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def metrics(self, pod: str) -> str:
        """Read a pod's metrics, in Prometheus' text format, through the API server."""
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:9090/proxy/metrics")

    def total(self, component: str, metric: str, **labels: str) -> float:
        """Sum a sample of all pods of a component, over those of its labels that are not given; 0 if there is none."""
        texts = [self.metrics(pod["metadata"]["name"]) for pod in self.pods(component)]
        samples = [
            sample for text in texts for family in text_string_to_metric_families(text) for sample in family.samples
        ]
        return sum(each.value for each in samples if each.name == metric and labels.items() <= each.labels.items())

    def logs(self, pod: str, *arguments: str) -> str:
        """Read what a pod logged."""
        return self.kubectl("logs", pod, "--namespace", NAMESPACE, *arguments)

    def config_map(self, name: str) -> dict[str, str]:
        """Read the data of a ConfigMap of the release's namespace; it must not be empty."""
        data: dict[str, str] = self.kubectl.get("configmap", name, "--namespace", NAMESPACE).get("data", {})
        assert data, f"the ConfigMap {name} has not been filled in"
        return data

    def secret(self, name: str) -> dict[str, str]:
        """Read the data of a Secret of the release's namespace, decoded."""
        data = self.kubectl.get("secret", name, "--namespace", NAMESPACE).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @property
    def trust_anchors(self) -> str:
        """The CA of the signing certificates, PEM."""
        return self.config_map("byok-sandbox")["trust-anchors.pem"]

    def _rolled_out(self) -> bool:
        found = self.kubectl.get("deployments,statefulsets", "--namespace", NAMESPACE)["items"]
        assert found, f"there is no workload in {NAMESPACE}"
        waiting = [shortfall for each in found if (shortfall := _shortfall(each))]
        assert not waiting, "; ".join(waiting)
        return True

    def _keys_and_recipes_ready(self) -> bool:
        found = self.kubectl.get("byokkeys,signingrecipes", "--all-namespaces")["items"]
        # A preset has no key, and so cannot sign.
        signing = [each for each in found if each["metadata"]["namespace"] != NAMESPACE]
        assert signing, "there is neither key nor recipe"
        waiting = [told for each in signing if (told := unready(each))]
        assert not waiting, "; ".join(waiting)
        return True


def merged(values: Values, changes: Values) -> dict[str, Any]:
    """Change values as helm merges files of them: mappings by key, all else as a whole."""
    result = deepcopy(dict(values))
    for key, change in changes.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(change, Mapping):
            result[key] = merged(before, change)
        else:
            result[key] = deepcopy(change)
    return result


def _shortfall(workload: Mapping[str, Any]) -> str:
    wanted, status = workload["spec"]["replicas"], workload["status"]
    numbers = {name: status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    seen = status.get("observedGeneration", 0) >= workload["metadata"]["generation"]
    if seen and all(number == wanted for number in numbers.values()):
        return ""
    return f"{workload['kind']} {workload['metadata']['name']}: of {wanted}, {numbers}"


def unready(found: Mapping[str, Any]) -> str:
    """Say why a ByokKey or SigningRecipe is not Ready, as the operator does; empty if it is."""
    name = f"{found['kind']} {found['metadata']['namespace']}/{found['metadata']['name']}"
    conditions = found.get("status", {}).get("conditions", [])
    for condition in conditions:
        if condition["type"] == "Ready" and condition.get("observedGeneration") == found["metadata"]["generation"]:
            return "" if condition["status"] == "True" else f"{name}: {condition['reason']}: {condition['message']}"
    return f"{name} has no condition Ready yet"
