"""Whole signatures: every algorithm and every type of media ends in c2pa's `Trusted`."""

import io
from pathlib import Path

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason, Refusal
from byok_api.shapes import SOURCE_TYPES
from byok_client import ClientSettings, SignerClient, Verdict
from tests.support.fake_signer import FakeSigner, serving
from tests.support.media import MEDIA
from tests.support.pki import identity, trust_anchor

GENERATED = {"ai_generated": True}


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_every_algorithm_ends_in_trusted(algorithm: SigningAlgorithm, photo: Path, token_file: Path) -> None:
    with serving(photo.parent, identity(algorithm)) as fake:
        settings = ClientSettings(address=fake.address, token_file=token_file)
        with SignerClient(settings) as client:
            result = client.sign(photo, recipe="photo", metadata=GENERATED)
            verified = client.verify(photo, trust_anchors=trust_anchor())
    assert (verified.state, verified.algorithm) == (Verdict.TRUSTED, algorithm.value)
    assert result.algorithm == algorithm.value


@pytest.mark.parametrize("name", MEDIA)
def test_every_type_of_media_ends_in_trusted(
    name: str, signer: FakeSigner, client: SignerClient, tmp_path: Path
) -> None:
    signer.recipe.media_type = MEDIA[name].kind
    client.sign(MEDIA[name].path, recipe="photo", metadata=GENERATED, output=tmp_path / name)
    verified = client.verify(tmp_path / name, trust_anchors=trust_anchor())
    assert (verified.state, verified.media_type) == (Verdict.TRUSTED, MEDIA[name].mime)


def test_the_result_says_what_was_signed(signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    result = client.sign(photo, recipe="photo@1", metadata=GENERATED)
    verified = client.verify(photo)
    assert result.output == photo
    assert result.manifest_id == verified.manifest_id
    assert len(result.claim_sha256) == 64
    assert (result.recipe, result.recipe_hash) == ("media/photo@1", signer.recipe.effective_hash)
    assert (result.key, result.audit_id, result.verifier_url) == ("security/brand", "fake/1", None)


def test_what_was_said_can_be_read_back(signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    metadata = {
        "ai_assisted": True,
        "created_at": "2026-01-31T12:00:00Z",
        "creator": "Ada",
        "deepfake_disclosure": True,
        "editor": ["Grace"],
        "exif": {"FNumber": 2.8},
        "generator": "ComfyUI/1.2",
        "legal_case_ref": "4 O 17/26",
        "legal_entity": "Example GmbH",
        "location_hint": "Berlin",
        "model": "Flux 1",
        "prompt_hash": "ab" * 32,
        "published": True,
        "voiceclone_disclosure": False,
    }
    signer.recipe.assertions = tuple(metadata)
    client.sign(photo, recipe="photo", metadata=metadata, title="Sunrise")
    verified = client.verify(photo, trust_anchors=trust_anchor())
    assert verified.state is Verdict.TRUSTED
    assert verified.assertions == {
        **metadata,
        "ai_generated": False,
        "creator": ["Ada"],
        "digital_source_type": SOURCE_TYPES["compositeWithTrainedAlgorithmicMedia"],
        "exif": {"exif:FNumber": 2.8},
    }
    assert (verified.title, verified.organization, str(verified.recipe)) == (
        "Sunrise",
        "Example Media",
        "media/photo@1",
    )


def test_all_labels_are_vouched_for_and_end_up_in_the_claim_as_in_the_table(
    signer: FakeSigner, client: SignerClient, photo: Path
) -> None:
    client.sign(photo, recipe="photo", metadata={**GENERATED, "creator": "Ada", "prompt_hash": "ab" * 32})
    assert signer.labels() == [
        "c2pa.actions.v2",
        "dev.byok.recipe",
        "cawg.metadata",
        "dev.byok.prompt_hash",
        "c2pa.hash.data",
    ]


def test_the_signer_is_told_the_recipe_that_the_manifest_was_composed_under(
    signer: FakeSigner, client: SignerClient, photo: Path
) -> None:
    client.sign(photo, recipe="photo", metadata=GENERATED)
    assert signer.calls == ["GetRecipe photo", "SignClaim media/photo@1"]
    assert signer.claims[0].expected_recipe_hash == signer.recipe.effective_hash


def test_a_recipe_is_fetched_once_for_many_assets(signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        client.sign(photo, recipe="photo", metadata=GENERATED, output=photo.with_name(name))
    assert [call.split()[0] for call in signer.calls].count("GetRecipe") == 1


def test_streams_are_signed_from_where_they_stand(client: SignerClient, photo: Path) -> None:
    source, output = io.BytesIO(b"skipped" + photo.read_bytes()), io.BytesIO()
    source.seek(7)
    result = client.sign(source, recipe="photo", metadata=GENERATED, output=output)
    output.seek(0)
    assert result.output is None
    assert client.verify(output, trust_anchors=trust_anchor()).state is Verdict.TRUSTED


def test_an_edit_keeps_its_parent(client: SignerClient, signer: FakeSigner, photo: Path) -> None:
    signer.recipe.assertions = ()
    first = client.sign(photo, recipe="photo", metadata=GENERATED)
    client.sign(photo, recipe="photo", metadata={"creator": "Grace"})
    verified = client.verify(photo, trust_anchors=trust_anchor())
    assert verified.state is Verdict.TRUSTED
    (parent,) = verified.ingredients
    assert (parent.manifest_id, parent.relationship, parent.failures) == (first.manifest_id, "parentOf", ())
    assert signer.labels()[-1] == "c2pa.ingredient.v3"


def altered(photo: Path) -> bytes:
    content = bytearray(photo.read_bytes())
    content[-1000] ^= 0xFF
    photo.write_bytes(content)
    return bytes(content)


def test_an_altered_signed_asset_is_refused(client: SignerClient, signer: FakeSigner, photo: Path) -> None:
    client.sign(photo, recipe="photo", metadata=GENERATED)
    before = altered(photo)
    with pytest.raises(Refusal, match=r"assertion\.dataHash\.mismatch") as refused:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert refused.value.reason is Reason.InputManifestInvalid
    assert photo.read_bytes() == before
    assert len(signer.claims) == 1


def test_an_altered_signed_asset_can_be_kept_as_history(client: SignerClient, photo: Path) -> None:
    client.sign(photo, recipe="photo", metadata=GENERATED)
    altered(photo)
    client.sign(photo, recipe="photo", metadata=GENERATED, allow_invalid_input=True)
    verified = client.verify(photo, trust_anchors=trust_anchor())
    assert verified.state is Verdict.TRUSTED
    assert [failure.code for failure in verified.ingredients[0].failures] == ["assertion.dataHash.mismatch"]


@pytest.mark.parametrize(("forbid", "signed_before"), [(True, True), (False, False)])
def test_a_recipes_word_on_ingredients_is_kept(
    signer: FakeSigner, client: SignerClient, photo: Path, *, forbid: bool, signed_before: bool
) -> None:
    if signed_before:
        client.sign(photo, recipe="other", metadata=GENERATED)
    signer.recipe.forbid_ingredients, signer.recipe.require_ingredient_chain = forbid, not forbid
    with pytest.raises(Refusal) as refused:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert refused.value.reason is Reason.RecipeNotMet


def test_the_media_type_must_be_the_recipes(signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    signer.recipe.media_type = "video"
    with pytest.raises(Refusal, match=r"photo\.jpg is image/jpeg, but media/photo@1 is for video") as refused:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert refused.value.reason is Reason.MediaTypeMismatch


def test_a_wrong_signature_is_never_written(signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    before = photo.read_bytes()
    signer.signature = identity().sign(b"something else")
    with pytest.raises(Refusal) as refused:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert refused.value.reason is Reason.SigningFailed
    assert photo.read_bytes() == before


def test_metadata_of_the_client_is_for_every_call(settings: ClientSettings, photo: Path) -> None:
    with SignerClient(
        ClientSettings(address=settings.address, token_file=settings.token_file, metadata={"creator": "Ada"})
    ) as client:
        client.sign(photo, recipe="photo", metadata=GENERATED)
        assert (client.verify(photo).assertions or {})["creator"] == ["Ada"]


def test_a_configured_verifier_is_linked_to(settings: ClientSettings, photo: Path) -> None:
    url = "https://verify.example.com/?m={manifest_id}"
    with SignerClient(
        ClientSettings(address=settings.address, token_file=settings.token_file, verifier_url=url)
    ) as client:
        result = client.sign(photo, recipe="photo", metadata=GENERATED)
    assert result.verifier_url == f"https://verify.example.com/?m={result.manifest_id}"
