"""The release namespace holds what the mounted files say."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from byok_api.signingrecipe import SigningRecipe
from byok_operator import presets
from byok_operator.applied import covers
from byok_operator.presets import Presets, read_file
from byok_service.kubernetes import KubernetesApi
from tests.support.fake_api_server import Body, FakeApiServer
from tests.support.manifests import key_document, recipe_document, yaml_of
from tests.support.our_logs import ours

RECIPES = "byok.dev/signingrecipes"
KEYS = "byok.dev/byokkeys"
HOME = "byok-system"
SHIPPED = Path(__file__).parents[2] / "charts" / "byok-operator" / "presets"


def preset(name: str, **spec: object) -> Body:
    document = recipe_document(f"{HOME}/{name}", keyRef=None, **spec)
    del document["metadata"]["namespace"]
    return document


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        yield server


@pytest.fixture
async def api(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
    yield api
    await api.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "basic.yaml").write_text(yaml_of(preset("basic", description="as shipped")))
    return folder


@pytest.fixture
def applier(api: KubernetesApi, folder: Path) -> Presets:
    return Presets(api, HOME, folder=folder, managed_key_file=None)


def description(server: FakeApiServer) -> object:
    return server.objects[RECIPES][HOME, "basic"]["spec"].get("description")


async def test_what_is_shipped_is_applied_and_a_second_look_writes_nothing(
    api: KubernetesApi, server: FakeApiServer
) -> None:
    applier = Presets(api, HOME, folder=SHIPPED, managed_key_file=None)
    await applier.refresh()
    assert {name for _, name in server.objects[RECIPES]} == {path.stem for path in SHIPPED.iterdir()}
    writes = server.writes()
    assert all("fieldManager=byok-operator&force=true" in path for _, path in writes)
    await applier.refresh()
    assert (server.writes(), applier.problems) == (writes, ())


async def test_an_operator_that_starts_applies_all_once_as_objects_may_hold_what_files_no_longer_set(
    api: KubernetesApi, server: FakeApiServer, folder: Path
) -> None:
    for _ in range(2):
        applier = Presets(api, HOME, folder=folder, managed_key_file=None)
        await applier.refresh()
        await applier.refresh()
    assert [method for method, _ in server.writes()] == ["PATCH", "PATCH"]


async def test_the_managed_key_is_applied(api: KubernetesApi, server: FakeApiServer, tmp_path: Path) -> None:
    (tmp_path / "key.yaml").write_text(yaml_of(key_document(f"{HOME}/managed")))
    applier = Presets(api, HOME, folder=None, managed_key_file=tmp_path / "key.yaml")
    await applier.refresh()
    assert list(server.objects[KEYS]) == [(HOME, "managed")]
    assert applier.problems == ()


async def test_what_somebody_changed_or_deleted_is_restored_and_what_they_added_stays(
    applier: Presets, server: FakeApiServer
) -> None:
    await applier.refresh()
    stored = server.objects[RECIPES][HOME, "basic"]
    changed = {**stored, "spec": {**stored["spec"], "description": "mine", "billing": {"unit": "asset"}}}
    server.put(RECIPES, changed)
    await applier.refresh()
    assert description(server) == "as shipped"
    assert server.objects[RECIPES][HOME, "basic"]["spec"]["billing"] == {"unit": "asset"}
    server.remove(RECIPES, HOME, "basic")
    await applier.refresh()
    assert description(server) == "as shipped"


async def test_a_file_that_changes_is_applied_and_one_that_goes_deletes_nothing(
    applier: Presets, server: FakeApiServer, folder: Path
) -> None:
    await applier.refresh()
    (folder / "basic.yaml").write_text(yaml_of(preset("basic", description="newer")))
    await applier.refresh()
    assert description(server) == "newer"
    (folder / "basic.yaml").unlink()
    await applier.refresh()
    assert description(server) == "newer"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "wrong.yaml"),
        (yaml_of(preset("other", descripton="typo")), "descripton"),
        (yaml_of(recipe_document("elsewhere/other")), "elsewhere/other has no place here"),
        (yaml_of(key_document(f"{HOME}/key")), f"ByokKey {HOME}/key has no place here"),
        (yaml_of(preset("basic")), "basic.yaml already; keep one"),
        ("#" * (1024 * 1024 + 1), "wrong.yaml"),
    ],
    ids=["no YAML", "unknown field", "elsewhere", "wrong kind", "twice", "too large"],
)
async def test_a_bad_file_is_named_and_the_others_are_applied(
    applier: Presets, server: FakeApiServer, folder: Path, content: str, words: str
) -> None:
    (folder / "wrong.yaml").write_text(content)
    await applier.refresh()
    assert description(server) == "as shipped"
    assert words in str(applier.problems)


async def test_a_bad_file_is_logged_once(applier: Presets, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "wrong.yaml").write_text("{")
    for _ in range(3):
        await applier.refresh()
    assert [record.message for record in ours(caplog)] == ["preset or managed key not applied"]


async def test_good_objects_of_a_file_with_bad_ones_are_applied(
    applier: Presets, server: FakeApiServer, folder: Path
) -> None:
    (folder / "more.yaml").write_text(yaml_of(preset("bad", version="one"), preset("good")))
    await applier.refresh()
    assert (HOME, "good") in server.objects[RECIPES]


async def test_what_the_api_server_refuses_is_named_and_the_others_are_applied(
    applier: Presets, server: FakeApiServer, folder: Path
) -> None:
    (folder / "another.yaml").write_text(yaml_of(preset("another")))
    refusal = {"reason": "Invalid", "message": "spec: content is immutable; make a new version"}
    server.answers.append(web.json_response(refusal, status=422))
    await applier.refresh()
    assert "another was refused by the API server: spec: content is immutable" in applier.problems[0]
    assert applier.problems[0].endswith("; correct the file")
    assert description(server) == "as shipped"
    await applier.refresh()
    assert applier.problems == ()


@pytest.mark.parametrize(("reason", "status"), [("MethodNotAllowed", 405), ("NotFound", 404), ("Forbidden", 403)])
async def test_nobody_is_sent_to_the_file_for_what_is_wrong_with_the_cluster(
    applier: Presets, server: FakeApiServer, reason: str, status: int
) -> None:
    refusal = {"reason": reason, "message": "create not allowed while custom resource definition is terminating"}
    server.answers.append(web.json_response(refusal, status=status))
    await applier.refresh()
    assert applier.problems[0].endswith("is terminating; it is tried again")


async def test_an_api_server_that_is_away_is_asked_again(applier: Presets, server: FakeApiServer) -> None:
    await server.stop()
    await applier.refresh()
    assert "tried again" in applier.problems[0]
    await server.start()
    await applier.refresh()
    assert (description(server), applier.problems) == ("as shipped", ())


async def test_a_folder_that_is_missing_or_too_full_is_named(
    applier: Presets, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "FILES_LIMIT", 0)
    await applier.refresh()
    assert "one file too many" in applier.problems[0]
    (folder / "basic.yaml").unlink()
    folder.rmdir()
    await applier.refresh()
    assert applier.problems == (f"{folder}: No such file or directory",)


def test_only_what_is_applied_is_compared() -> None:
    stored = {"spec": {"a": [1, 2], "b": {"c": 1, "d": 2}}, "status": {}}
    assert covers(stored, {"spec": {"a": [1, 2], "b": {"c": 1}}})
    assert not covers(stored, {"spec": {"a": [1]}})
    assert not covers(stored, {"spec": {"e": {}}})
    assert not covers(None, {})


def test_nothing_but_name_labels_annotations_and_spec_is_applied() -> None:
    document = preset("basic") | {"status": {"conditions": []}}
    document["metadata"] |= {"labels": {"a": "b"}, "resourceVersion": "5", "finalizers": ["x"]}
    found = read_file(yaml_of(document).encode(), "file", HOME, SigningRecipe)
    assert found.wanted[0].body["metadata"] == {"name": "basic", "namespace": HOME, "labels": {"a": "b"}}
    assert "status" not in found.wanted[0].body
