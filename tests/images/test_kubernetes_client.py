"""What the images of operator and signer leave out of the Kubernetes client is nothing that either of them loads."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

INSTALL = (Path(__file__).parents[2] / "hack" / "image" / "install").read_text()
# Imports every module of the packages that are named, reads a kubeconfig as the services do, and tells what was loaded.
PROGRAM = """
import asyncio, importlib, json, pkgutil, sys

missing, kubeconfig, packages = set(json.load(sys.stdin)), sys.argv[1], sys.argv[2:]

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for package in packages:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)

from byok_service.kubernetes_connection import Connection

async def connect():
    connection = await Connection.open(kubeconfig)
    await connection.close()

asyncio.run(connect())
print(json.dumps([name for name in sys.modules if name.startswith("kubernetes.")]))
"""


def left_out() -> set[str]:
    """Names of the modules that the images do not get, by the pattern in hack/image/install."""
    (pattern,) = re.findall(r"-regex '(.*)' ! -name __init__\.py -delete", INSTALL)
    spec = find_spec("kubernetes")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    # What `find` reads is a basic regular expression.
    expression = re.compile(pattern.replace(r"\(", "(").replace(r"\)", ")").replace(r"\|", "|"))
    files = [path for path in root.rglob("*.py") if path.name != "__init__.py" and expression.fullmatch(str(path))]
    return {str(path.relative_to(root.parent).with_suffix("")).replace("/", ".") for path in files}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """A kubeconfig whose token comes from a plug-in, the most that the client's loaders have to do."""
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}
    plug_in = {"apiVersion": answer["apiVersion"], "command": "/bin/echo", "args": [json.dumps(answer)]}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": "https://127.0.0.1:6443"}}],
        "users": [{"name": "me", "user": {"exec": {**plug_in, "interactiveMode": "Never"}}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


def test_generated_calls_and_models_are_left_out_and_nothing_else() -> None:
    found = left_out()
    assert {name.rsplit(".", 1)[0] for name in found} == {
        f"kubernetes.{client}.{part}" for client in ("client", "aio.client") for part in ("api", "models")
    }
    assert len(found) > 1000


@pytest.mark.parametrize("package", ["byok_operator", "byok_signer"])
def test_the_services_do_without_them(package: str, kubeconfig: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(kubeconfig), package, "byok_service", "byok_api"],
        check=False,
        capture_output=True,
        text=True,
        input=json.dumps(sorted(left_out())),
    )
    assert ended.returncode == 0, ended.stderr
    loaded = set(json.loads(ended.stdout))
    assert "kubernetes.aio.client.rest" in loaded
    assert not loaded & left_out()
