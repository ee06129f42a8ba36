"""The operator keeps its presets on a real API server, with no more rights than it has in production."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from byok_operator.presets import Presets
from byok_service.kubernetes import SIGNING_RECIPES, JsonObject, KubernetesApi
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import PRESETS, Installation

NAME = "text-basic-v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped presets, to be changed."""
    for path in PRESETS.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    return tmp_path


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(str(control_plane.kubeconfig))
    yield api
    await api.close()


@pytest.fixture
async def presets(control_plane: ControlPlane, installation: Installation, folder: Path) -> AsyncIterator[Presets]:
    api = await KubernetesApi.connect(str(control_plane.kubeconfig_for(installation.operator_account)))
    presets = Presets(api, installation.namespace, folder=folder, managed_key_file=None)
    await presets.refresh()
    assert presets.problems == ()
    yield presets
    await api.close()


async def stored(admin: KubernetesApi, installation: Installation) -> JsonObject:
    return await admin.get(SIGNING_RECIPES, installation.namespace, NAME)


@pytest.mark.usefixtures("presets")
async def test_all_that_is_shipped_is_there(admin: KubernetesApi, installation: Installation) -> None:
    listing = await admin.list(SIGNING_RECIPES)
    names = {
        item["metadata"]["name"] for item in listing.items if item["metadata"]["namespace"] == installation.namespace
    }
    assert set(installation.preset_names) <= names


async def test_what_is_as_it_should_be_is_not_written(
    presets: Presets, admin: KubernetesApi, installation: Installation
) -> None:
    before = await stored(admin, installation)
    await presets.refresh()
    assert (await stored(admin, installation))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_what_somebody_changed_or_deleted_is_restored(
    presets: Presets, admin: KubernetesApi, installation: Installation
) -> None:
    before = await stored(admin, installation)
    await admin.replace(SIGNING_RECIPES, {**before, "spec": {**before["spec"], "description": "mine"}})
    await presets.refresh()
    assert presets.problems == ()
    assert (await stored(admin, installation))["spec"] == before["spec"]
    await admin.delete(SIGNING_RECIPES, installation.namespace, NAME)
    await presets.refresh()
    assert presets.problems == ()
    assert (await stored(admin, installation))["spec"] == before["spec"]


async def test_a_field_that_a_file_no_longer_sets_is_removed_by_the_next_operator_too(
    presets: Presets, control_plane: ControlPlane, admin: KubernetesApi, installation: Installation, folder: Path
) -> None:
    path = folder / f"{NAME}.yaml"
    text = path.read_text()
    path.write_text(text.replace("spec:\n", "spec:\n  billing:\n    unit: asset\n", 1))
    await presets.refresh()
    assert "billing" in (await stored(admin, installation))["spec"]
    path.write_text(text)
    api = await KubernetesApi.connect(str(control_plane.kubeconfig_for(installation.operator_account)))
    await Presets(api, installation.namespace, folder=folder, managed_key_file=None).refresh()
    await api.close()
    assert "billing" not in (await stored(admin, installation))["spec"]


async def test_what_may_not_change_and_what_may_not_be_written_is_named_and_the_rest_applied(
    presets: Presets, folder: Path
) -> None:
    path = folder / f"{NAME}.yaml"
    path.write_text(path.read_text().replace("mediaType: text", "mediaType: audio"))
    foreign = folder / "foreign.yaml"
    foreign.write_text(path.read_text().replace(NAME, "not-shipped-v1"))
    await presets.refresh()
    assert len(presets.problems) == 2
    assert any(
        f"{path}: SigningRecipe" in problem and "mediaType cannot be changed" in problem for problem in presets.problems
    )
    assert any("not-shipped-v1 was refused by the API server" in problem for problem in presets.problems)
