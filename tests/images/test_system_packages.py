"""An image's SBOM names what its base brings."""

import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from hack.image.system_packages import components, main

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u13
Description: GNU C Library
 Depends: not a field
 .

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: libgcc-s1
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14+deb12u1)
Version: 1:12.2.0-14~1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2025b-0+deb12u2
"""
RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\n# More.\nID=debian\n'


def base(folder: Path, status: str = STATUS, release: str = RELEASE) -> Path:
    for name, text in (("var/lib/dpkg/status", status), ("etc/os-release", release)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    return folder


def purls(found: list[dict[str, Any]]) -> list[str]:
    return [each["purl"] for each in found if "purl" in each]


def test_installed_packages_are_named_by_package_url_with_their_source(tmp_path: Path) -> None:
    assert purls(components(base(tmp_path)))[1:] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12&upstream=glibc",
        "pkg:deb/debian/libgcc-s1@1:12.2.0-14~1?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2.0-14%2Bdeb12u1",
        "pkg:deb/debian/tzdata@2025b-0%2Bdeb12u2?arch=all&distro=debian-12",
    ]


def test_the_system_and_python_are_named_beside_them(tmp_path: Path) -> None:
    system, python, *_ = components(base(tmp_path))
    assert (system["type"], system["name"], system["version"]) == ("operating-system", "debian", "12")
    assert python["purl"] == f"pkg:generic/python@{platform.python_version()}"


def test_debians_own_python_is_named_once(tmp_path: Path) -> None:
    name = f"python3.{sys.version_info.minor}-minimal"
    found = components(base(tmp_path, STATUS.replace("Package: tzdata", f"Package: {name}")))
    assert [each["name"] for each in found if "python" in each["name"]] == [name]


def test_a_base_without_debian_packages_has_python_alone(tmp_path: Path) -> None:
    assert purls(components(tmp_path)) == [f"pkg:generic/python@{platform.python_version()}"]


def test_what_the_sbom_had_stays_and_no_component_is_there_twice(tmp_path: Path) -> None:
    bom = tmp_path / "sbom.json"
    had = {"type": "library", "name": "kopf", "bom-ref": "kopf==1"}
    bom.write_text(json.dumps({"bomFormat": "CycloneDX", "components": [had], "dependencies": []}))
    assert main([str(bom), str(base(tmp_path / "root"))]) == 0
    written = json.loads(bom.read_text())
    references = [each["bom-ref"] for each in written["components"]]
    assert written["components"][0] == had
    assert len(references) == len(set(references)) == 6
    assert written["dependencies"] == []


def test_this_machines_packages_can_be_read() -> None:
    # Whatever it is: a release or a state of dpkg that the table above does not know.
    references = [each["bom-ref"] for each in components(Path("/"))]
    assert len(references) == len(set(references)) >= 1


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_wrong_arguments_are_answered_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: system_packages.py SBOM [ROOT]" in capsys.readouterr().err
