"""What an installation puts into a cluster before anything of it runs: CRDs, RBAC, admission policies.

The manifests are the chart's own (`charts/byok-operator/manifests`), with names to be filled in.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from byok_api.presets import RESERVED_NAMES
from byok_api.references import NAME_PATTERN, NAMESPACE_PATTERN, ObjectName

_ROOT: Final = Path(__file__).parents[2]
CRDS: Final = _ROOT / "crds"
MANIFESTS: Final = _ROOT / "charts" / "byok-operator" / "manifests"
_PLACEHOLDER: Final = re.compile(r"\$\(([A-Z_]+)\)")
_NAME: Final = re.compile(NAME_PATTERN)
_NAMESPACE: Final = re.compile(NAMESPACE_PATTERN)


@dataclass(frozen=True)
class Installation:
    """The names that are filled in; ValueError for one that no object could have."""

    namespace: str = "byok-system"
    signer: str = "byok-signer"
    operator: str = "byok-operator"
    presets: frozenset[str] = RESERVED_NAMES
    managed_key: ObjectName | None = None

    def __post_init__(self) -> None:
        key = self.managed_key
        names = (self.signer, self.operator, *self.presets, *((key.name,) if key else ()))
        namespaces = (self.namespace, *((key.namespace,) if key else ()))
        wrong = [name for name in names if not _NAME.fullmatch(name)]
        wrong += [name for name in namespaces if not _NAMESPACE.fullmatch(name)]
        if wrong:
            raise ValueError(f"{', '.join(map(repr, wrong))}: no object can be called that")

    @property
    def values(self) -> dict[str, str]:
        """Text by placeholder. A list is one in CEL and in YAML."""
        return {
            "NAMESPACE": self.namespace,
            "SIGNER": self.signer,
            "OPERATOR": self.operator,
            "PRESET_NAMES": "[" + ", ".join(f"'{name}'" for name in sorted(self.presets)) + "]",
            "MANAGED_KEY_NAMESPACE": self.managed_key.namespace if self.managed_key else "",
            "MANAGED_KEY_NAME": self.managed_key.name if self.managed_key else "",
        }

    def holds(self, file: Path) -> bool:
        """Say whether a file of manifests is for this installation; one that is not may not be rendered."""
        if file.name == "operator-presets.yaml":
            return bool(self.presets)
        if file.name == "operator-managed-key.yaml":
            return self.managed_key is not None and self.managed_key.namespace == self.namespace
        return True


def rendered(installation: Installation, folder: str) -> list[dict[str, Any]]:
    """Render the manifests in `rbac` or `admission`, in order of their files; KeyError for an unknown placeholder."""
    files = sorted((MANIFESTS / folder).glob("*.yaml"))
    return [each for file in files if installation.holds(file) for each in _documents(file, installation.values)]


def definitions() -> list[dict[str, Any]]:
    """Read the CustomResourceDefinitions."""
    return [each for file in sorted(CRDS.glob("*.yaml")) for each in _documents(file, {})]


def manifests(installation: Installation) -> list[dict[str, Any]]:
    """List all that an installation applies: its namespace, CRDs, RBAC, admission policies."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": installation.namespace}}
    return [
        namespace,
        *definitions(),
        *rendered(installation, "rbac"),
        *rendered(installation, "admission"),
    ]


def _documents(file: Path, values: dict[str, str]) -> Iterator[dict[str, Any]]:
    text = _PLACEHOLDER.sub(lambda found: values[found[1]], file.read_text())
    yield from (document for document in yaml.safe_load_all(text) if document)
