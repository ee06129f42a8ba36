"""byok-sign in Node.js and in Go, in pods of a consumer's namespace: c2pa trusts what it signs with them."""

import os
from collections.abc import Iterator

import pytest

from byok_client import ClientSettings
from tests.examples.programs import Program
from tests.examples.signing import sign
from tests.support import client_images, verdicts
from tests.support.client_pods import client_pod, wait_until_running
from tests.support.release import MEDIA, RECIPE, Release
from tests.testenv.binaries import node_binaries
from tests.testenv.node.chosen import Chosen

# The first test of each language builds its client.
pytestmark = pytest.mark.timeout(600)

# Settings of this machine, of which a pod sees none: it has its own, as every job.
NOT_SEEN = ClientSettings(address="nobody.invalid:1", timeout=30.0)


@pytest.fixture(scope="module", params=["nodejs", "go"])
def byok_sign(
    request: pytest.FixtureRequest, node: Chosen, release: Release, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """The client of one language, in a pod."""
    folder = tmp_path_factory.mktemp(request.param)
    archive = folder / "image.tar"
    if request.param == "nodejs":
        image, command = client_images.NODEJS, client_images.write_nodejs(folder, archive)
    else:
        visitor = node_binaries(os.environ, pytest.fail).visitor
        image, command = client_images.GO, client_images.write_go(folder, archive, visitor)
    node.load_image(archive)
    name = f"byok-sign-{request.param}"
    release.kubectl.apply(client_pod(name, MEDIA, {"image": image}))
    try:
        wait_until_running(release.kubectl, MEDIA, name)
        yield client_images.in_pod(release.kubectl, MEDIA, name, command)
    finally:
        release.kubectl("delete", "pod", name, "--namespace", MEDIA, "--wait=false")


@pytest.mark.parametrize(("recipe", "method"), [(RECIPE, "SignDigest"), (f"{RECIPE}-ed25519", "SignClaim")])
def test_an_asset_that_c2pa_builds_with_it_is_trusted(
    byok_sign: Program, release: Release, recipe: str, method: str
) -> None:
    before = answered(release, method)
    asset = sign(byok_sign, NOT_SEEN, recipe)

    with verdicts.read(asset.content, "image/jpeg", release.trust_anchors) as reader:
        assert reader.get_validation_state() == "Trusted"
    assert answered(release, method) == before + 1


def answered(release: Release, method: str) -> float:
    """Count the calls of a method that the signers have answered well."""
    return release.total("signer", "byok_signer_requests_total", method=method, code="OK")


def test_what_is_refused_is_told_with_its_reason(byok_sign: Program) -> None:
    ended = byok_sign.run(NOT_SEEN, "--recipe=nobody-v1", "--assertion")

    assert (ended.status, ended.output) == (1, b"")
    assert "RecipeNotAllowed" in ended.said
