"""CRDs of others come from pinned modules, checked, and are downloaded once."""

import os
from pathlib import Path

import pytest

from tests.testenv.foreign_crds import CRDS, FILES, foreign_crds
from tests.testenv.modules import TestenvError, required

# Stands in for the go command: says its version, and where the module that it was asked for is.
GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26.8; exit; fi
echo "$@" >> {folder}/log
echo '{{"Dir": "{folder}/module"}}'
exit {status}
"""


def environ(folder: Path, *, status: int = 0) -> dict[str, str]:
    """Return an environment with an empty cache, and a go command."""
    go = folder / "bin" / "go"
    go.parent.mkdir(exist_ok=True)
    go.write_text(GO.format(folder=folder, status=status))
    go.chmod(0o755)
    for path in (folder / "module" / file for files in FILES.values() for file in files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kind: CustomResourceDefinition\n")
    return {"PATH": f"{go.parent}:{os.defpath}", "XDG_CACHE_HOME": str(folder / "cache")}


def test_they_are_downloaded_once_and_by_version(tmp_path: Path) -> None:
    found = foreign_crds(environ(tmp_path), lambda _: None)
    assert foreign_crds(environ(tmp_path), lambda _: None) == found
    assert {path.name for path in found.iterdir()} == {Path(file).name for files in FILES.values() for file in files}
    assert (tmp_path / "log").read_text().splitlines() == [
        f"mod download -json {module}@{required(CRDS.folder, module)}" for module in FILES
    ]


def test_a_download_that_fails_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    with pytest.raises(TestenvError, match=r"cert-manager could not be downloaded .*Go module proxy"):
        foreign_crds(environ(tmp_path, status=1), lambda _: None)
    assert not [path for path in (tmp_path / "cache" / "byok-operator" / "testenv").iterdir() if path.is_dir()]


def test_what_is_downloaded_is_pinned_by_hash() -> None:
    sums = (CRDS.folder / "go.sum").read_text().splitlines()
    asked = [f"{module} {required(CRDS.folder, module)}" for module in FILES]
    assert [line.rpartition(" h1:")[0] for line in sums] == [
        f"{each}{file}" for each in asked for file in ("", "/go.mod")
    ]
