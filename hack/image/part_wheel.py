#!/usr/bin/env python3
"""Builds the wheel of one image: that part's packages, programs and requirements, and no others.

`part_wheel.py PART FOLDER` prints the wheel's path. pyproject.toml describes the distribution of everything; what is
left of it here is what lies in the part's source roots, under the same name and version.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.wheel import WheelBuilder

ROOTS = {
    "operator": ("api", "service", "operator"),
    "signer": ("api", "service", "signer"),
    "cli": ("api", "service", "client"),
    "sandbox": ("api", "service", "signer", "client", "sandbox"),
}
"""Source roots of each image; .importlinter says that these can stand without the others."""
USAGE = 2


def main(arguments: list[str]) -> int:
    """Build the wheel and print its path; exit status 2 for wrong arguments."""
    match arguments:
        case [part, folder] if part in ROOTS:
            sys.stdout.write(f"{build(part, Path(folder))}\n")
            return 0
    sys.stderr.write(f"usage: part_wheel.py {'|'.join(ROOTS)} FOLDER\n")
    return USAGE


def build(part: str, folder: Path) -> Path:
    """Build the wheel of a part from the checkout that this file is in."""
    checkout = Path(__file__).resolve().parent.parent.parent
    whole = tomllib.loads((checkout / "pyproject.toml").read_text())
    builder: Any = WheelBuilder(str(checkout), config=reduced(whole, part))
    (wheel,) = builder.build(directory=str(folder.resolve()), versions=["standard"])
    return Path(wheel)


def reduced(whole: dict[str, Any], part: str) -> dict[str, Any]:
    """Reduce the content of pyproject.toml to a part; the extra of the same name becomes its requirements."""
    project, wheel = whole["project"], whole["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = [path for path in wheel["packages"] if path.partition("/")[0] in ROOTS[part]]
    names = {Path(path).name for path in packages}
    extras = project["optional-dependencies"]
    own = {key: value for key, value in project.items() if key != "optional-dependencies"} | {
        "dependencies": sorted({*project["dependencies"], *_flat(extras, part, project["name"])}),
        "scripts": _of(names, project["scripts"]),
        "entry-points": {group: _of(names, entries) for group, entries in project["entry-points"].items()},
    }
    included = {
        source: target for source, target in wheel["force-include"].items() if target.partition("/")[0] in names
    }
    target = {"packages": packages, "force-include": included}
    return {"project": own, "tool": {"hatch": {"build": {"targets": {"wheel": target}}}}}


def _flat(extras: dict[str, list[str]], name: str, project: str) -> set[str]:
    """List an extra's requirements, those of the extras that it names (`project[a,b]`) included."""
    found: set[str] = set()
    for requirement in extras[name]:
        head, bracket, rest = requirement.partition("[")
        if bracket and head == project:
            for other in rest.rstrip("]").split(","):
                found |= _flat(extras, other, project)
        else:
            found.add(requirement)
    return found


def _of(packages: set[str], entries: dict[str, str]) -> dict[str, str]:
    return {name: target for name, target in entries.items() if target.partition(".")[0] in packages}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
