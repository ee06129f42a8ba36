#!/usr/bin/env python3
"""Adds to an SBOM what the image's base brings: the operating system, its Debian packages, and Python itself.

`system_packages.py SBOM [ROOT]`: SBOM is a CycloneDX document, changed in place; ROOT the root of the base's files, `/`
by default. Runs in the build, on the same base as the image. Without Debian packages there it names Python alone, and
the operating system if it says what it is. Package URLs: purl-spec, type `deb`, with the `upstream` of syft and grype.
"""

import json
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

USAGE = 2
_INSTALLED = "install ok installed"


def main(arguments: list[str]) -> int:
    """Change the SBOM; exit status 2 for wrong arguments."""
    match arguments:
        case [file]:
            root = "/"
        case [file, root]:
            pass
        case _:
            sys.stderr.write("usage: system_packages.py SBOM [ROOT]\n")
            return USAGE
    path = Path(file)
    bom = json.loads(path.read_text())
    bom["components"] = [*bom.get("components", ()), *components(Path(root))]
    path.write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")
    return 0


def components(root: Path) -> list[dict[str, Any]]:
    """List what a base brings, as components of CycloneDX, in a fixed order."""
    system = _os_release(root)
    packages = sorted(_packages(root), key=lambda package: (package["Package"], package["Architecture"]))
    found = [_debian(package, system) for package in packages]
    # Debian's own Python is among its packages.
    if f"python3.{sys.version_info.minor}-minimal" not in {package["Package"] for package in packages}:
        found.insert(0, _python())
    if "ID" in system:
        found.insert(0, _operating_system(system))
    return found


def _packages(root: Path) -> Iterator[dict[str, str]]:
    """Read dpkg's list of what is installed (deb822 paragraphs, dpkg(1))."""
    status = root / "var/lib/dpkg/status"
    if not status.is_file():
        return
    for paragraph in status.read_text(errors="replace").split("\n\n"):
        # What begins with a blank goes on with the field before, none of which is wanted here.
        fields = dict(line.split(":", 1) for line in paragraph.splitlines() if ":" in line and line[0] not in " \t")
        package = {name: value.strip() for name, value in fields.items()}
        if package.get("Status") == _INSTALLED:
            yield package


def _debian(package: Mapping[str, str], system: Mapping[str, str]) -> dict[str, Any]:
    name, version, architecture = package["Package"], package["Version"], package["Architecture"]
    vendor = system.get("ID", "debian")
    qualifiers = {"arch": architecture}
    if "VERSION_ID" in system:
        qualifiers["distro"] = f"{vendor}-{system['VERSION_ID']}"
    if "Source" in package:
        # `Source: glibc (2.36-9)`: with its version only where that is another one.
        source, _, its_version = package["Source"].partition(" ")
        qualifiers["upstream"] = f"{source}@{its_version.strip('()')}" if its_version else source
    written = "&".join(f"{key}={quote(value, safe=':~')}" for key, value in sorted(qualifiers.items()))
    purl = f"pkg:deb/{vendor}/{quote(name, safe='')}@{quote(version, safe=':~')}?{written}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _python() -> dict[str, Any]:
    version = platform.python_version()
    purl = f"pkg:generic/python@{version}"
    return {"type": "platform", "bom-ref": purl, "name": "python", "version": version, "purl": purl}


def _operating_system(system: Mapping[str, str]) -> dict[str, Any]:
    found = {"type": "operating-system", "bom-ref": f"os:{system['ID']}", "name": system["ID"]}
    return found | ({"version": system["VERSION_ID"]} if "VERSION_ID" in system else {})


def _os_release(root: Path) -> dict[str, str]:
    """Read os-release(5), which is written as assignments of a shell."""
    file = root / "etc/os-release"
    if not file.is_file():
        return {}
    return dict(word.split("=", 1) for word in shlex.split(file.read_text(), comments=True) if "=" in word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
