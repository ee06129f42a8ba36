"""helm, on a cluster's release: its one namespace, its one name."""

import os
import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

from tests.chart.rendering import NAMESPACE
from tests.testenv.binaries import helm_binary, say_on_stderr
from tests.testenv.kubectl import Kubectl


def run_helm(
    kubectl: Kubectl, *arguments: str, values: Mapping[str, Any] | None = None, limit: float = 90
) -> subprocess.CompletedProcess[str]:
    """Run helm in the release's namespace, whatever it ends with; `limit` in seconds."""
    command = [str(helm_binary(os.environ, say_on_stderr)), *arguments, "--namespace", NAMESPACE]
    if values is not None:
        command += ["--values", "-"]
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        input=None if values is None else yaml.safe_dump(dict(values)),
        env={**os.environ, **kubectl.environ},
        timeout=limit,
    )
