"""What an installation puts into a cluster, put there as the chart will: CRDs, roles, admission policies.

The manifests are the chart's own, with placeholders such as `$(NAMESPACE)`; this module fills them in.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from byok_api.crds import KINDS
from byok_api.fields import API_GROUP, API_VERSION
from byok_api.references import ObjectName
from tests.testenv.control_plane import ControlPlane
from tests.testenv.kubectl import Ended, Kubectl
from tests.testenv.modules import TestenvError

_CHECKOUT = Path(__file__).parents[2]
_CRDS = _CHECKOUT / "crds"
_MANIFESTS = _CHECKOUT / "charts" / "byok-operator" / "manifests"
_LIMIT = 30.0
_INTERVAL = 0.1
PRESETS = _CHECKOUT / "charts" / "byok-operator" / "presets"


@dataclass(frozen=True)
class Installation:
    """What an installation decides about its manifests."""

    namespace: str = "byok-system"
    operator: str = "byok-operator"
    signer: str = "byok-signer"
    preset_names: tuple[str, ...] = ()
    managed_key: ObjectName | None = None
    consumers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Namespaces whose jobs sign, and the ServiceAccounts of each."""
    self_managed: bool = True
    """Whether the operator keeps the signer's certificates."""

    @property
    def operator_account(self) -> ObjectName:
        """ServiceAccount of the operator."""
        return ObjectName(self.namespace, self.operator)

    @property
    def signer_account(self) -> ObjectName:
        """ServiceAccount of the signer."""
        return ObjectName(self.namespace, self.signer)

    def documents(self, folder: Path) -> list[dict[str, Any]]:
        """Fill in the manifests of a folder; TestenvError for a placeholder that this module does not know."""
        documents: list[dict[str, Any]] = []
        # acknowledgement.yaml comes last: when that policy is in force, so are the others.
        for path in sorted(folder.glob("*.yaml"), reverse=True):
            if self._has(path.name):
                documents += [document for document in yaml.safe_load_all(self._render(path)) if document]
        return documents

    def _has(self, file: str) -> bool:
        if file == "operator-managed-key.yaml":
            return self.managed_key is not None and self.managed_key.namespace == self.namespace
        if file == "operator-certificates.yaml":
            return self.self_managed
        return file != "operator-presets.yaml" or bool(self.preset_names)

    def _render(self, path: Path) -> str:
        values = {
            "NAMESPACE": self.namespace,
            "OPERATOR": self.operator,
            "SIGNER": self.signer,
            # A list in YAML's flow style and in CEL alike.
            "PRESET_NAMES": f"[{', '.join(repr(name) for name in self.preset_names)}]",
            # A map from strings to lists of strings in CEL.
            "CONSUMERS": f"{{{', '.join(f'{name!r}: {list(accounts)!r}' for name, accounts in self.consumers)}}}",
            "MANAGED_KEY_NAMESPACE": self.managed_key.namespace if self.managed_key else "",
            "MANAGED_KEY_NAME": self.managed_key.name if self.managed_key else "",
        }

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                raise TestenvError(f"{path}: {match[0]} is no placeholder that {__name__} fills in")
            return values[match[1]]

        return re.sub(r"\$\(([A-Z_]+)\)", value, path.read_text())


def shipped_presets() -> tuple[str, ...]:
    """Names of the preset recipes."""
    return tuple(yaml.safe_load(path.read_text())["metadata"]["name"] for path in sorted(PRESETS.glob("*.yaml")))


def install_crds(plane: ControlPlane) -> None:
    """Apply both kinds and wait until they are served."""
    plane.kubectl("apply", "--server-side", "-f", str(_CRDS))
    wait_until_served(plane.kubectl)


def wait_until_served(kubectl: Kubectl) -> None:
    """Wait until the API server takes objects of both kinds."""
    crds = [f"crd/{kind.plural}.{API_GROUP}" for kind in KINDS]
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds)
    # For a moment after that it does not know them yet.
    for kind in KINDS:
        listed = partial(kubectl.attempt, "get", "--raw", f"/apis/{API_VERSION}/{kind.plural}?limit=1")
        _try_until(lambda ended: ended.status == 0, listed, f"{kind.plural} are not served")


def install(plane: ControlPlane, installation: Installation) -> None:
    """Apply CRDs, release namespace, roles and admission policies, and wait until all are in force."""
    install_crds(plane)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": installation.namespace}}
    rbac = installation.documents(_MANIFESTS / "rbac")
    plane.kubectl.apply(namespace, *rbac, *installation.documents(_MANIFESTS / "admission"))
    _wait_for_policies(plane)


def _wait_for_policies(plane: ControlPlane) -> None:
    # The API server looks for new policies about once a second. This key breaks the last one that was applied.
    key = {
        "apiVersion": "byok.dev/v1alpha1",
        "kind": "ByokKey",
        "metadata": {"name": "policies-in-force", "namespace": "default"},
        "spec": {
            "aws": {"keyArn": "arn:aws:kms:eu-central-1:111122223333:key/0"},
            "acknowledgement": {"acceptedBy": "somebody-else", "terms": "none", "acceptedAt": "2026-01-01T00:00:00Z"},
        },
    }
    create = partial(plane.kubectl.attempt, "create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(key))
    _try_until(
        lambda ended: "ValidatingAdmissionPolicy" in ended.err, create, "the admission policies are not in force"
    )


def _try_until(is_done: Callable[[Ended], bool], attempt: Callable[[], Ended], otherwise: str) -> None:
    deadline = time.monotonic() + _LIMIT
    while not is_done(tried := attempt()):
        if time.monotonic() > deadline:
            raise TestenvError(f"{otherwise} after {_LIMIT:.0f} s: {tried.err or tried.out}")
        time.sleep(_INTERVAL)
