"""What an image is made from is pinned: one version of each distribution, by hash, from no particular index."""

import re
from pathlib import Path

import pytest

from hack.image.part_wheel import ROOTS
from tests.support.part_wheels import pins

REQUIREMENTS = Path(__file__).parent.parent.parent / "requirements"


def blocks(name: str) -> list[str]:
    """List the requirements of a file, each with the lines that continue it."""
    return re.findall(r"^\S.*(?:\n[ \t]+\S.*)*", (REQUIREMENTS / f"{name}.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [*ROOTS, "build"])
def test_every_requirement_is_one_version_by_hash(name: str) -> None:
    wanted = re.compile(r"[\w.-]+(\[[\w,]+\])?==[^\s;]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+")

    assert blocks(name)
    assert [block for block in blocks(name) if not wanted.fullmatch(block)] == []


@pytest.mark.parametrize("name", [*ROOTS, "build"])
def test_images_get_the_versions_that_the_tests_run_on(name: str) -> None:
    tested, pinned = pins("dev"), pins(name)

    assert {found for found in pinned.keys() & tested.keys() if pinned[found] != tested[found]} == set()
    assert name == "build" or pinned.keys() <= tested.keys()


def test_what_builds_is_what_is_asked_for() -> None:
    asked = re.findall(r"^([\w-]+)>=", (REQUIREMENTS / "build.in").read_text(), re.MULTILINE)

    assert asked
    assert set(asked) <= pins("build").keys()
