"""What c2pa-python writes passes: every algorithm, every kind of media, fresh and edited."""

import hashlib
import io
import json
from dataclasses import replace

import c2pa
import cbor2
import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_signer.guard import check_claim
from tests.signer.guard.cases import more_created
from tests.support.claims import (
    MEDIA,
    MEDIA_FOLDER,
    CapturedClaim,
    created_claim,
    created_manifest,
    edit,
    edited_claim,
    edited_manifest,
    policy_of,
    sign,
)
from tests.support.pki import Identity, chain_of, identity

every_algorithm = pytest.mark.parametrize("algorithm", SigningAlgorithm)
every_medium = pytest.mark.parametrize("media", MEDIA)


@every_algorithm
@every_medium
def test_a_claim_of_fresh_content_passes(algorithm: SigningAlgorithm, media: str) -> None:
    captured = created_claim(algorithm, media)
    labels = check_claim(captured.sig_structure, captured.policy).labels
    assert labels[:2] == ("c2pa.actions.v2", "dev.byok.recipe")
    assert len(labels) == 3


@every_algorithm
@every_medium
def test_a_claim_of_an_edit_passes_where_a_chain_is_required(algorithm: SigningAlgorithm, media: str) -> None:
    captured = edited_claim(algorithm, media)
    policy = replace(captured.policy, require_ingredients=True)
    assert "c2pa.ingredient.v3" in check_claim(captured.sig_structure, policy).labels


def test_the_answer_names_the_manifest_that_c2pas_reader_finds() -> None:
    captured = created_claim()
    report = json.loads(c2pa.Reader("image/jpeg", io.BytesIO(captured.asset)).json())
    checked = check_claim(captured.sig_structure, captured.policy)
    assert checked.manifest_id == report["active_manifest"]
    assert report["validation_state"] == "Valid"


def test_the_answer_carries_the_hash_of_the_claim_as_it_stands_in_the_asset() -> None:
    captured = created_claim()
    claim: bytes = cbor2.loads(captured.sig_structure)[3]
    checked = check_claim(captured.sig_structure, captured.policy)
    assert claim in captured.asset
    assert checked.claim_sha256 == hashlib.sha256(claim).hexdigest()


def test_the_answer_names_the_generator() -> None:
    captured = created_claim()
    assert check_claim(captured.sig_structure, captured.policy).generator == "byok-tests/1.0"


def test_a_chain_of_one_certificate_passes() -> None:
    signer = identity(SigningAlgorithm.ES256)
    alone = Identity(signer.algorithm, signer.private_key, chain_of(signer.chain.leaf))
    captured = _png(alone)
    check_claim(captured.sig_structure, captured.policy)


def test_a_header_in_the_other_order_passes_since_it_says_the_same() -> None:
    captured = created_claim()
    context, header, external_aad, claim = cbor2.loads(captured.sig_structure)
    turned = cbor2.dumps(dict(reversed(cbor2.loads(header).items())))
    assert turned != header
    check_claim(cbor2.dumps([context, turned, external_aad, claim]), captured.policy)


def test_icon_thumbnail_vendor_and_several_ingredients_pass() -> None:
    source = (MEDIA_FOLDER / "landscape.png").read_bytes()

    def prepare(builder: c2pa.Builder) -> None:
        edit(builder)
        builder.add_resource("icon.png", io.BytesIO(source))
        for relationship in ("componentOf", "inputTo"):
            builder.add_ingredient({"title": "part", "relationship": relationship}, "image/png", io.BytesIO(source))

    manifest = edited_manifest({"label": "c2pa.metadata", "data": {"@context": {}}, "created": True})
    manifest["vendor"] = "acme"
    manifest["thumbnail"] = {"format": "image/png", "identifier": "icon.png"}
    manifest["claim_generator_info"][0] |= {
        "icon": {"format": "image/png", "identifier": "icon.png"},
        "com.example.build": {"numbers": [1, 2.5, None, True]},
    }
    captured = sign(
        identity(SigningAlgorithm.ES256),
        "image/png",
        _png(identity(SigningAlgorithm.ES256)).asset,
        manifest,
        prepare=prepare,
    )
    checked = check_claim(captured.sig_structure, captured.policy)
    assert checked.manifest_id.endswith(":acme")
    assert {"c2pa.icon", "c2pa.thumbnail.claim", "c2pa.ingredient.v3__2"} <= set(checked.labels)


def test_labels_that_c2pa_repeats_pass() -> None:
    captured = created_claim()
    message = more_created("c2pa.thumbnail.ingredient", "c2pa.thumbnail.ingredient__1")(captured)
    check_claim(message, captured.policy)


def test_a_label_that_the_recipe_allows_passes_repeated_too() -> None:
    captured = created_claim()
    message = more_created("com.example.note", "com.example.note__1")(captured)
    policy = replace(captured.policy, allowed_labels=captured.policy.allowed_labels | {"com.example.note"})
    assert "com.example.note__1" in check_claim(message, policy).labels


def test_a_claim_with_380_assertions_passes() -> None:
    captured = created_claim()
    message = more_created(*(f"c2pa.metadata__{number}" for number in range(1, 378)))(captured)
    assert len(check_claim(message, captured.policy).labels) == 380


def _png(who: Identity) -> CapturedClaim:
    source = (MEDIA_FOLDER / "landscape.png").read_bytes()
    captured = sign(who, "image/png", source, created_manifest())
    assert captured.policy == policy_of(who)
    return captured
