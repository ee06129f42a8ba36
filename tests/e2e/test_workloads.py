"""examples/kubernetes as it stands: Job, CronJob and Deployment sign, and c2pa trusts what they signed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples.workloads import FOLDER
from tests.support import verdicts
from tests.support.client_pods import Studio, pictures
from tests.support.release import MEDIA, RECIPE, Release, until
from tests.testenv.kubectl import Kubectl, yaml_of
from tests.testenv.node.images import Image

PHOTOS = {name: Path(verdicts.MEDIA / name) for name in ("landscape.jpg", "landscape.png")}
JPEG, PNG = PHOTOS
PUBLISHED = "byok-operator/cli:0.1.0"
"""The image that the examples name."""
SIGNED_WITHIN = 90.0


@pytest.fixture(scope="module")
def studio(release: Release, images: Mapping[str, Image]) -> Iterator[Studio]:
    """The examples applied as they stand but for the image, on volumes that photos were put on before."""
    kubectl = release.kubectl
    built = kubectl("kustomize", str(FOLDER))
    assert PUBLISHED in built
    examples = list(yaml.safe_load_all(built.replace(PUBLISHED, images["cli"].reference)))
    kubectl.apply(*(each for each in examples if each["kind"] == "PersistentVolumeClaim"))
    kubectl.apply(pictures("photos", MEDIA, *PHOTOS.values()))
    opened = Studio(kubectl, MEDIA)
    try:
        claims = {"/shoot": "shoot", "/archive": "archive", "/desk": "desk"}
        opened.open(images["cli"].reference, claims, "photos")
        for name in PHOTOS:
            opened.put(name, f"/shoot/incoming/{name}")
            opened.put(name, f"/archive/2026/{name}")
        kubectl.apply(*examples)
        yield opened
    finally:
        unwaited = ("--namespace", MEDIA, "--ignore-not-found", "--wait=false")
        kubectl("delete", f"pod/{opened.name}", "configmap/photos", *unwaited)
        # Others sign as the jobs' account too.
        own = [each for each in examples if each["kind"] != "ServiceAccount"]
        kubectl("delete", "-f", "-", *unwaited, stdin=yaml_of(own))


def assert_job_completes(kubectl: Kubectl, name: str) -> None:
    def outcome() -> str:
        job = kubectl.get("job", name, "--namespace", MEDIA)
        outcomes = [each["type"] for each in job["status"].get("conditions", ()) if each["status"] == "True"]
        assert "Complete" in outcomes or "Failed" in outcomes, f"{job['status']}"
        return "Complete" if "Complete" in outcomes else "Failed"

    ended = until(outcome, f"job {name} has ended", SIGNED_WITHIN)
    assert ended == "Complete", kubectl("logs", f"job/{name}", "--namespace", MEDIA)


def assert_trusted(release: Release, asset: bytes, name: str) -> None:
    """Have c2pa judge an asset, which was signed under the recipe."""
    with verdicts.read(asset, verdicts.mime_type(PHOTOS[name]), release.trust_anchors) as reader:
        assert reader.get_validation_state() == "Trusted"
        manifest: dict[str, Any] = json.loads(reader.json())
    active = manifest["manifests"][manifest["active_manifest"]]
    (recipe,) = (each["data"] for each in active["assertions"] if each["label"] == "dev.byok.recipe")
    assert (recipe["namespace"], recipe["name"]) == (MEDIA, RECIPE)


def test_the_job_signs_a_folder_and_leaves_the_originals(studio: Studio, release: Release) -> None:
    assert_job_completes(release.kubectl, "sign-shoot")
    assert sorted(studio.names("/shoot/signed")) == sorted(PHOTOS)
    for name, path in PHOTOS.items():
        assert_trusted(release, studio.read(f"/shoot/signed/{name}"), name)
        assert studio.read(f"/shoot/incoming/{name}") == path.read_bytes()


def test_the_cron_job_signs_in_place_each_file_once(studio: Studio, release: Release) -> None:
    signed: list[list[bytes]] = []
    for name in ("first-night", "second-night"):
        release.kubectl("create", "job", name, "--from=cronjob/sign-archive", "--namespace", MEDIA)
        assert_job_completes(release.kubectl, name)
        signed.append([studio.read(f"/archive/2026/{photo}") for photo in PHOTOS])
    assert signed[0] == signed[1]
    for name, asset in zip(PHOTOS, signed[0], strict=True):
        assert_trusted(release, asset, name)


def test_the_deployment_signs_what_is_put_into_the_inbox(studio: Studio, release: Release) -> None:
    until(lambda: "inbox" in studio.names("/desk"), "the desk is there", SIGNED_WITHIN)
    for name in PHOTOS:
        studio.put(name, f"/desk/inbox/{name}")
    until(lambda: sorted(studio.names("/desk/outbox")) == sorted(PHOTOS), "both are signed", SIGNED_WITHIN)
    for name in PHOTOS:
        assert_trusted(release, studio.read(f"/desk/outbox/{name}"), name)
    assert studio.names("/desk/refused") == []
