"""`byokctl recipe`: importing, rendering and linting without a signer."""

from pathlib import Path

import pytest
import yaml

from tests.support.command_line import Cli

PRESETS = Path(__file__).parents[3] / "charts" / "byok-operator" / "presets"
PORTABLE = """\
id: portrait-v1
version: 1
extends: image-basic-v1@1
media_type: image
c2pa: {enabled: true, assertions: [creator], require_ingredient_chain: false}
kms_mode: byok
signer_pinning: {key_alias: studio}
billing: {meter: signatures, unit: each}
"""
SPEC: dict[str, object] = {
    "version": 2,
    "extends": "image-basic-v1@1",
    "c2pa": {"assertions": ["creator"], "defaults": {"creator": "Newsroom"}},
    "keyRef": {"name": "studio"},
    "watermark": {"enabled": True, "engine": "trustmark"},
}
RECIPE: dict[str, object] = {
    "apiVersion": "byok.dev/v1alpha1",
    "kind": "SigningRecipe",
    "metadata": {"namespace": "media", "name": "photo-v2"},
    "spec": SPEC,
}


@pytest.fixture
def portable(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.yaml"
    path.write_text(PORTABLE)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "photo.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


def test_an_imported_recipe_is_a_manifest_that_lints(cli: Cli, portable: Path, tmp_path: Path) -> None:
    ended = cli("recipe", "import", portable, "-n", "media")
    manifest = yaml.safe_load(ended.out)
    assert (ended.status, manifest["metadata"]) == (0, {"name": "portrait-v1", "namespace": "media"})
    assert manifest["spec"]["keyRef"] == {"name": "studio"}
    written = tmp_path / "written.yaml"
    written.write_text(ended.out)
    assert cli("recipe", "lint", written, "--presets", PRESETS).status == 0


def test_the_key_can_be_named_and_the_manifest_printed_as_json(cli: Cli, portable: Path) -> None:
    ended = cli("recipe", "import", portable, "--key", "security/brand", "-o", "json")
    assert ended.document["spec"]["keyRef"] == {"namespace": "security", "name": "brand"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [(PORTABLE.replace("meter:", "metre:"), "billing.metre"), ("", "holds 0 recipes"), ("a: [", "is not YAML")],
)
def test_a_bad_portable_recipe_is_refused_with_what_is_wrong(
    cli: Cli, portable: Path, content: str, expected: str
) -> None:
    portable.write_text(content)
    ended = cli("recipe", "import", portable, "-o", "json")
    assert ended.status == 1
    assert expected in ended.document["error"]["message"]


def test_a_malformed_key_name_is_wrong_usage(cli: Cli, portable: Path) -> None:
    assert cli("recipe", "import", portable, "--key", "brand").status == 2


def test_rendering_shows_marks_lineage_and_who_vouches(cli: Cli, folder: Path) -> None:
    document = cli("recipe", "render", "media/photo-v2@2", "-f", folder, "--presets", PRESETS, "-o", "json").document
    fields = {field["path"]: (field["value"], field["effect"], field["inheritance"]) for field in document["fields"]}
    assert fields["watermark.engine"] == ("trustmark", "recorded", "override")
    assert fields["mediaType"] == ("image", "enforced", "tighten-only")
    assert fields["keyRef"] == ({"namespace": "media", "name": "studio"}, "enforced", "override")
    assert document["lineage"][0]["recipe"] == "byok-system/image-basic-v1@1"
    vouched = {row["name"]: (row["vouchedForBy"], row["default"]) for row in document["assertions"]}
    assert vouched["creator"] == ("client", ["Newsroom"])
    assert vouched["generator"][0] == "signer"


def test_rendering_in_text_notes_what_has_no_effect(cli: Cli, folder: Path) -> None:
    ended = cli("recipe", "render", "photo-v2", "-f", folder, "--presets", PRESETS)
    assert ended.status == 0
    assert "media/photo-v2@2" in ended.out.splitlines()[0]
    assert "note: watermark.enabled is recorded and not put into effect by this version" in ended.out


def test_every_preset_renders(cli: Cli, folder: Path) -> None:
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    assert [cli("recipe", "render", name, "-f", folder, "--presets", PRESETS).status for name in names] == [0] * len(
        names
    )
    assert names


@pytest.mark.parametrize("reference", ["nothing", "media/photo-v2@1", "other/photo-v2"])
def test_a_recipe_that_is_not_there_is_refused_with_those_that_are(cli: Cli, folder: Path, reference: str) -> None:
    ended = cli("recipe", "render", reference, "-f", folder)
    assert (ended.status, "found: media/photo-v2@2" in ended.err) == (1, True)


@pytest.mark.parametrize("reference", ["Not A Name", "a@0"])
def test_a_malformed_reference_is_wrong_usage(cli: Cli, folder: Path, reference: str) -> None:
    assert cli("recipe", "render", reference, "-f", folder).status == 2


def test_a_good_folder_lints_and_says_what_has_no_effect(cli: Cli, folder: Path) -> None:
    (folder / "other.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\n")
    ended = cli("recipe", "lint", folder, "--presets", PRESETS, "-o", "json")
    assert (ended.status, ended.document["recipes"], ended.document["otherObjects"]) == (0, 1, 1)
    assert {finding["rule"] for finding in ended.document["findings"]} == {"WithoutEffect"}


BROKEN = [
    ({**RECIPE, "spec": {**SPEC, "extends": "gone@1"}}, "RecipeInvalid"),
    ({**RECIPE, "spec": {"version": "one"}}, "int_type"),
    ({**RECIPE, "spec": {"version": 1, "colour": "red"}}, "extra_forbidden"),
    ({**RECIPE, "kind": "SigningRecipes"}, "kind"),
]


@pytest.mark.parametrize(("document", "rule"), BROKEN)
def test_a_broken_recipe_fails_with_file_object_and_rule(
    cli: Cli, folder: Path, document: dict[str, object], rule: str
) -> None:
    (folder / "photo.yaml").write_text(yaml.safe_dump(document))
    ended = cli("recipe", "lint", folder, "--presets", PRESETS, "-o", "json")
    assert ended.status == 1
    finding = next(finding for finding in ended.document["findings"] if finding["rule"] == rule)
    assert str(folder / "photo.yaml") in finding["source"]
    assert "media/photo-v2" in finding["subject"]


def test_an_object_that_is_there_twice_fails(cli: Cli, folder: Path) -> None:
    (folder / "again.yaml").write_text(yaml.safe_dump(RECIPE))
    ended = cli("recipe", "lint", folder, "--presets", PRESETS)
    assert (ended.status, "[Duplicate]" in ended.out) == (1, True)


def test_a_path_that_is_not_there_is_refused(cli: Cli, tmp_path: Path) -> None:
    ended = cli("recipe", "lint", tmp_path / "nothing")
    assert (ended.status, "cannot be read: No such file or directory" in ended.err) == (1, True)


def test_a_presets_folder_that_is_not_there_is_wrong_usage(cli: Cli, folder: Path) -> None:
    ended = cli("recipe", "lint", folder, "--presets", folder / "nothing")
    assert (ended.status, "--presets" in ended.err) == (2, True)
