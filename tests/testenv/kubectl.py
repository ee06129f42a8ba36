"""The kubectl command, for one identity."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_LIMIT = 60.0


class KubectlError(Exception):
    """kubectl ended with a status other than 0; str() is what it said."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl with one kubeconfig."""

    binary: Path
    kubeconfig: Path

    @property
    def environ(self) -> dict[str, str]:
        """What makes kubectl talk to this control plane; its cache of the API is not shared with another one's."""
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.kubeconfig.parent / "kube-cache")}

    def attempt(self, *arguments: str, stdin: str | None = None) -> Ended:
        """Run a command, whatever it ends with."""
        ended = subprocess.run(
            [self.binary, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            input=stdin,
            env={**os.environ, **self.environ},
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a command and return what it printed; KubectlError unless it ends with 0."""
        ended = self.attempt(*arguments, stdin=stdin)
        if ended.status != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {ended.err.strip()}")
        return ended.out

    def apply(self, *documents: Mapping[str, Any]) -> str:
        """Apply objects server-side."""
        return self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml_of(documents))

    def get(self, *arguments: str) -> dict[str, Any]:
        """Get an object, or a list, as it is stored."""
        found: dict[str, Any] = json.loads(self("get", *arguments, "-o", "json"))
        return found


def yaml_of(documents: Sequence[Mapping[str, Any]]) -> str:
    """Write objects as one stream of YAML."""
    return "---\n".join(yaml.safe_dump(dict(document), sort_keys=False) for document in documents)
