"""What a folder of manifests gives, file by file, when files change and break."""

from pathlib import Path

import pytest

from byok_api.byokkey import ByokKey
from byok_api.errors import Reason
from byok_api.objects import Unreadable
from byok_api.references import ObjectName
from byok_signer.decisions import Rules
from byok_signer.entries import Catalogue, SigningEntry
from byok_signer.folder import FileState, Folder, FolderCatalogue, merge, read_state
from tests.support.manifests import PRESETS, key_document, recipe_document, yaml_of

KEY = ObjectName("media", "brand")
PHOTO = ObjectName("media", "photo")


def state_of(*contents: str) -> FileState:
    """Give one file these contents, one after the other."""
    state = FileState()
    for content in contents:
        state = read_state(state, content.encode(), "key.yaml", None)
    return state


def key_in(state: FileState) -> object:
    return merge({"key.yaml": state}).objects.get(("ByokKey", KEY))


GOOD = yaml_of(key_document())


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        "a: &a [*a]",
        yaml_of(key_document(aws={"keyArn": "nonsense"})),
        yaml_of(key_document(descripton="typo")),
        GOOD.replace("name: brand", "nome: brand"),
        GOOD + "---\n" + GOOD.replace("kind: ByokKey", "kind: Unknown"),
    ],
    ids=["no YAML", "alias", "bad value", "unknown field", "no name", "unknown kind"],
)
def test_a_broken_file_is_reported_and_its_last_good_objects_stay(broken: str) -> None:
    state = state_of(GOOD, broken)
    assert isinstance(key_in(state), ByokKey)
    assert all("key.yaml" in problem for problem in state.problems)
    assert state.problems


@pytest.mark.parametrize("state", ["Deactivated", "deactivated", "Nonsense", "", False])
def test_a_broken_file_that_no_longer_calls_its_key_active_deactivates_it(state: object) -> None:
    found = key_in(state_of(GOOD, yaml_of(key_document(state=state, descripton="typo"))))
    assert isinstance(found, Unreadable)
    assert found.reason is Reason.KeyDeactivated


def test_an_object_that_its_file_no_longer_names_is_gone_even_if_the_rest_is_broken() -> None:
    assert key_in(state_of(GOOD, yaml_of(recipe_document(version="one")))) is None


def test_an_object_that_never_was_good_is_refused_by_its_findings() -> None:
    found = key_in(state_of(yaml_of(key_document(descripton="typo"))))
    assert isinstance(found, Unreadable)
    assert (found.reason, "descripton" in found.message) == (Reason.KeyInvalid, True)


def test_an_object_in_two_files_is_refused_naming_both() -> None:
    merged = merge({"a.yaml": state_of(GOOD), "b.yaml": state_of(GOOD)})
    assert isinstance(merged.objects["ByokKey", KEY], Unreadable)
    assert "a.yaml and b.yaml" in merged.problems[0]


def test_an_object_twice_in_one_file_is_refused() -> None:
    state = state_of(GOOD + "---\n" + GOOD)
    assert isinstance(key_in(state), Unreadable)
    assert "twice" in state.problems[0]


@pytest.fixture
def folder(tmp_path: Path) -> FolderCatalogue:
    return folder_of(tmp_path)


def folder_of(tmp_path: Path) -> FolderCatalogue:
    (tmp_path / "key.yaml").write_text(GOOD)
    (tmp_path / "recipe.yaml").write_text(yaml_of(recipe_document()))
    rules = Rules(installation="test", presets_namespace=PRESETS)
    catalogue = FolderCatalogue([Folder(tmp_path)], rules, changed=lambda _: None)
    catalogue.refresh()
    return catalogue


def can_sign(catalogue: Catalogue) -> bool:
    return isinstance(catalogue.recipes.get(PHOTO), SigningEntry)


def test_files_are_read_once_until_they_change(folder: FolderCatalogue, tmp_path: Path) -> None:
    assert can_sign(folder.current())
    assert not folder.refresh()
    (tmp_path / "key.yaml").write_text(yaml_of(key_document(state="Deactivated")))
    assert folder.refresh()
    assert not can_sign(folder.current())


def test_deleting_a_file_deletes_its_objects(folder: FolderCatalogue, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").unlink()
    folder.refresh()
    assert PHOTO not in folder.current().recipes


def test_a_folder_that_cannot_be_read_keeps_what_was_read(
    folder: FolderCatalogue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.rename(tmp_path.with_name("moved"))
    folder.refresh()
    assert can_sign(folder.current())
    assert "manifest not taken" in caplog.text
    tmp_path.with_name("moved").rename(tmp_path)


def test_a_swapped_mount_is_seen(tmp_path: Path) -> None:
    # As the kubelet does: data behind a symbolic link that is replaced by a rename.
    for version, state in (("1", "Active"), ("2", "Deactivated")):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "all.yaml").write_text(yaml_of(key_document(state=state), recipe_document()))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "all.yaml").symlink_to("..data/all.yaml")
    rules = Rules(installation="test", presets_namespace=PRESETS)
    catalogue = FolderCatalogue([Folder(tmp_path)], rules, changed=lambda _: None)
    catalogue.refresh()
    assert can_sign(catalogue.current())
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    catalogue.refresh()
    assert not can_sign(catalogue.current())


def names_of(catalogue: FolderCatalogue) -> list[str]:
    return sorted(str(name) for name in catalogue.current().keys)


@pytest.mark.parametrize(
    "limit", [("FILES_LIMIT", 2), ("BYTES_LIMIT", 100), ("OBJECTS_LIMIT", 2)], ids=["files", "bytes", "objects"]
)
def test_a_file_too_many_is_named_and_not_taken_and_the_others_are_still_heeded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, int]
) -> None:
    folder = folder_of(tmp_path)
    monkeypatch.setattr(f"byok_signer.folder.{limit[0]}", limit[1])
    (tmp_path / "a-new-one.yaml").write_text(yaml_of(key_document("media/other")))
    (tmp_path / "key.yaml").write_text(yaml_of(key_document(state="Deactivated")))
    folder.refresh()
    assert names_of(folder) == [str(KEY)]
    assert "a-new-one.yaml" in str([vars(record)["found"] for record in caplog.records])
    assert not can_sign(folder.current())


def test_a_file_that_was_too_many_is_taken_once_there_is_room(
    folder: FolderCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byok_signer.folder.FILES_LIMIT", 2)
    (tmp_path / "another.yaml").write_text(yaml_of(key_document("media/other")))
    folder.refresh()
    (tmp_path / "recipe.yaml").unlink()
    folder.refresh()
    assert names_of(folder) == [str(KEY), "media/other"]


def test_a_file_that_grows_beyond_what_is_taken_is_heeded_for_what_it_held(
    folder: FolderCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byok_signer.folder.OBJECTS_LIMIT", 2)
    (tmp_path / "key.yaml").write_text(yaml_of(key_document(state="Deactivated"), key_document("media/other")))
    folder.refresh()
    assert names_of(folder) == [str(KEY)]
    assert not can_sign(folder.current())
