"""`python -m tests.testenv`: makes sure that the cluster tier's programs are there, and prints where."""

import os
import sys

from tests.testenv.binaries import control_plane_binaries, say_on_stderr
from tests.testenv.modules import TestenvError


def main() -> int:
    """Find or build; the exit status is 1 when something is missing."""
    try:
        binaries = control_plane_binaries(os.environ, say_on_stderr)
    except TestenvError as error:
        say_on_stderr(str(error))
        return 1
    for path in (binaries.etcd, binaries.kube_apiserver, binaries.kube_controller_manager, binaries.kubectl):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
