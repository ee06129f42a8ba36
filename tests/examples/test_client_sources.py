"""What the examples in other languages hold of this project's own: the same .proto, pins without a registry's host."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import google.rpc
import pytest

from tests.examples.building import EXAMPLES, needed

REPOSITORY = EXAMPLES.parent
NODEJS, GO = EXAMPLES / "nodejs", EXAMPLES / "go"
SIGNER_PROTO = Path("signer/v1/signer.proto")


def test_the_protos_of_the_nodejs_client_are_the_projects_and_googles() -> None:
    assert (NODEJS / "protos/byok" / SIGNER_PROTO).read_bytes() == (
        REPOSITORY / "api/byok_api" / SIGNER_PROTO
    ).read_bytes()
    (googles,) = map(Path, google.rpc.__path__)
    for name in ("status.proto", "error_details.proto"):
        assert (NODEJS / "protos/google/rpc" / name).read_bytes() == (googles / name).read_bytes()


@pytest.mark.timeout(600)  # builds protoc's plugins
def test_the_go_stubs_are_what_the_proto_generates(tmp_path: Path) -> None:
    needed("go")
    ended = subprocess.run(
        [GO / "generate.sh", tmp_path],
        env={**os.environ, "PYTHON": sys.executable},
        check=False,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stderr
    generated = {path.name: without_versions(path) for path in tmp_path.iterdir()}
    assert generated == {path.name: without_versions(path) for path in (GO / "signerpb").iterdir()}, (
        "run examples/go/generate.sh"
    )


def without_versions(path: Path) -> str:
    # grpcio-tools brings a protoc, whose version says nothing of the stubs.
    return re.sub(r"^// (\t|- )protoc +v.*\n", "", path.read_text(), flags=re.MULTILINE)


def test_the_lock_file_pins_every_package_by_hash_and_names_no_registry() -> None:
    packages = json.loads((NODEJS / "package-lock.json").read_text())["packages"]
    del packages[""]

    assert packages
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())


def test_dependencies_are_pinned_exactly() -> None:
    pins = json.loads((NODEJS / "package.json").read_text())["dependencies"].values()

    assert all(re.fullmatch(r"\d+\.\d+\.\d+", pin) for pin in pins)


@pytest.mark.timeout(600)  # fetches modules
@pytest.mark.parametrize("command", [["gofmt", "-l", "."], ["go", "vet", "./..."], ["go", "mod", "tidy", "-diff"]])
def test_the_go_client_passes_gos_own_checks(command: list[str]) -> None:
    needed(command[0])
    ended = subprocess.run(command, cwd=GO, check=False, capture_output=True, text=True)

    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
