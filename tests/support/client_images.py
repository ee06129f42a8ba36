"""Images of the clients in examples/nodejs and examples/go: what was built on this machine, and nothing else."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.examples.building import build_go, build_nodejs
from tests.examples.programs import Program
from tests.testenv.kubectl import Kubectl
from tests.testenv.node.one_program import write_files

NODEJS, GO = "localhost/byok-sign-nodejs:1", "localhost/byok-sign-go:1"
_WAITS_IN_NODE = ("-e", "process.on('SIGTERM', () => process.exit()); setInterval(() => {}, 1e6)")
_LIBRARY = re.compile(r"(/\S+) \(0x")


def write_nodejs(folder: Path, archive: Path) -> tuple[str, ...]:
    """Write an image that waits to be told, and give the command in it."""
    built = build_nodejs(folder)
    node = Path(built.command[0]).resolve()
    files = {"/usr/bin/node": node, **{str(path): path.resolve() for path in _libraries(node)}}
    files |= {f"/app/{path.relative_to(built.home)}": path for path in built.home.rglob("*") if path.is_file()}
    write_files(NODEJS, files, ("/usr/bin/node", *_WAITS_IN_NODE), archive)
    return ("/usr/bin/node", "/app/src/byok-sign.mjs")


def write_go(folder: Path, archive: Path, visitor: Path) -> tuple[str, ...]:
    """Write an image that waits to be told, and give the command in it."""
    (program,) = build_go(folder).command
    write_files(GO, {"/byok-sign": Path(program), "/visitor": visitor}, ("/visitor", "serve", ":8080"), archive)
    return ("/byok-sign",)


def in_pod(kubectl: Kubectl, namespace: str, pod: str, command: tuple[str, ...]) -> Program:
    """Have `byok-sign` of a pod run as if it were a program of this machine; it has the settings of the pod."""
    kubeconfig = f"--kubeconfig={kubectl.kubeconfig}"
    return Program(
        (str(kubectl.binary), kubeconfig, "exec", "--stdin", f"--namespace={namespace}", pod, "--", *command)
    )


def _libraries(program: Path) -> Iterator[Path]:
    """The shared libraries that a program is loaded with, its loader included (ldd(1))."""
    told = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout  # noqa: S607 - as its user finds it
    yield from (Path(found) for found in _LIBRARY.findall(told))
