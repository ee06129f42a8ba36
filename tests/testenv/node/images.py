"""The project's images as archives: those of a folder that a variable names, else built by hack/build-images."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.testenv.go_toolchain import Say
from tests.testenv.modules import TestenvError

IMAGES_VARIABLE = "BYOK_E2E_IMAGES"
"""Names a folder with TARGET.tar for each target, as `hack/build-images --output` writes them."""
TAG_VARIABLE = "BYOK_E2E_TAG"
"""Tag of the images there; `e2e` if not given."""
TARGETS = ("operator", "signer", "cli", "sandbox")
_CHECKOUT = Path(__file__).parents[3]
_TAG = "e2e"
"""Another one than a release's, so that a cluster that has such a one does not run it."""


@dataclass(frozen=True)
class Image:
    """An image, as pods name it, and its archive."""

    reference: str
    archive: Path

    @property
    def repository(self) -> str:
        """The reference without its tag."""
        return self.reference.rpartition(":")[0]

    @property
    def tag(self) -> str:
        """Its tag."""
        return self.reference.rpartition(":")[2]


def images(folder: Path, environ: Mapping[str, str], say: Say) -> dict[str, Image]:
    """Find the images by target, or build them into `folder`; TestenvError says what is missing, or failed."""
    given = environ.get(IMAGES_VARIABLE)
    if given:
        return _given(Path(given), environ.get(TAG_VARIABLE) or _TAG)
    say("building the images; the first time this takes some minutes")
    command = [str(_CHECKOUT / "hack" / "build-images"), "--output", str(folder), "--tag", _TAG]
    ended = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**environ, "PYTHON": sys.executable},
    )
    if ended.returncode != 0:
        raise TestenvError(
            f"{' '.join(command)} failed (what it said is above); {IMAGES_VARIABLE} names a folder of archives instead"
        )
    return _listed(ended.stdout)


def _listed(printed: str) -> dict[str, Image]:
    pairs = (line.rsplit(" ", 1) for line in printed.splitlines())
    found = [Image(reference, Path(archive)) for reference, archive in pairs]
    return {image.repository.rpartition("/")[2]: image for image in found}


def _given(folder: Path, tag: str) -> dict[str, Image]:
    found = {target: Image(f"byok-operator/{target}:{tag}", folder / f"{target}.tar") for target in TARGETS}
    missing = [str(image.archive) for image in found.values() if not image.archive.is_file()]
    if missing:
        raise TestenvError(f"{IMAGES_VARIABLE}={folder}: there is no {' and no '.join(missing)}")
    return found
