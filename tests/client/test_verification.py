"""The verdict, with what c2pa says put into words."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byok_api.assertions import ACTIONS_LABEL, KNOWN_NAMES, METADATA_LABEL, RECIPE_LABEL
from byok_api.errors import Reason, Refusal
from byok_api.shapes import SOURCE_TYPES
from byok_client import Severity, SignerClient, Verdict
from byok_client.codes import EXPLANATIONS
from byok_client.reading import values_of
from tests.support.media import MEDIA, Sample
from tests.support.pki import foreign_authority, trust_anchor

GENERATED = {"ai_generated": True}


@pytest.fixture
def signed(client: SignerClient, photo: Path) -> Path:
    client.sign(photo, recipe="photo", metadata=GENERATED)
    return photo


def test_with_the_trust_anchor_it_is_trusted(client: SignerClient, signed: Path, tmp_path: Path) -> None:
    (tmp_path / "anchors.pem").write_text(trust_anchor())
    for anchors in (trust_anchor(), tmp_path / "anchors.pem"):
        verified = client.verify(signed, trust_anchors=anchors)
        assert (verified.state, verified.failures) == (Verdict.TRUSTED, ())


@pytest.mark.parametrize("anchors", [None, foreign_authority().trust_anchor_pem])
def test_without_it_or_with_another_it_is_only_valid(client: SignerClient, signed: Path, anchors: str | None) -> None:
    verified = client.verify(signed, trust_anchors=anchors)
    assert verified.state is Verdict.VALID
    assert [failure.code for failure in verified.failures] == ["signingCredential.untrusted"]


def test_altered_content_is_invalid_and_said_in_words(client: SignerClient, signed: Path) -> None:
    content = bytearray(signed.read_bytes())
    content[-1000] ^= 0xFF
    verified = client.verify(io.BytesIO(content), trust_anchors=trust_anchor())
    assert verified.state is Verdict.INVALID
    assert [(failure.code, failure.explanation) for failure in verified.failures] == [
        ("assertion.dataHash.mismatch", "The asset was altered after it was signed.")
    ]


def test_a_signed_asset_that_was_cut_off_is_invalid(client: SignerClient, signed: Path) -> None:
    content = signed.read_bytes()
    assert client.verify(io.BytesIO(content[:-100])).state is Verdict.INVALID


@pytest.mark.parametrize("sample", MEDIA.values(), ids=lambda sample: sample.path.name)
def test_an_asset_without_manifest_is_unsigned(client: SignerClient, sample: Sample) -> None:
    verified = client.verify(sample.path)
    assert (verified.state, verified.media_type) == (Verdict.UNSIGNED, sample.mime)
    assert (verified.manifest_id, verified.recipe, verified.findings) == (None, None, ())


def test_findings_come_worst_first_and_explained(client: SignerClient, signed: Path) -> None:
    findings = client.verify(signed).findings
    ranks = [list(reversed(Severity)).index(finding.severity) for finding in findings]
    assert ranks == sorted(ranks)
    assert all(finding.explanation == EXPLANATIONS[finding.code] for finding in findings)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff"])
def test_what_is_no_asset_is_refused(client: SignerClient, content: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        client.verify(io.BytesIO(content))
    assert refused.value.reason is Reason.AssetUnreadable


@pytest.mark.parametrize("anchors", ["", "anchors.pem", Path("/nowhere/anchors.pem"), Path("/dev/null"), "\ud800"])
def test_anchors_that_are_none_are_refused(client: SignerClient, signed: Path, anchors: str | Path) -> None:
    with pytest.raises(Refusal) as refused:
        client.verify(signed, trust_anchors=anchors)
    assert refused.value.reason is Reason.ConfigurationInvalid


def test_damage_is_found_or_does_not_change_what_is_said(client: SignerClient, signed: Path) -> None:
    content = signed.read_bytes()
    before = client.verify(signed, trust_anchors=trust_anchor())
    for position in range(0, len(content), 173):
        damaged = content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
        try:
            after = client.verify(io.BytesIO(damaged), trust_anchors=trust_anchor())
        except Refusal as refusal:
            assert refusal.reason is Reason.AssetUnreadable  # noqa: PT017 - either is right
        else:
            # The padding that c2pa leaves after a signature is covered by no hash.
            assert after == before or after.state in {Verdict.INVALID, Verdict.UNSIGNED}, position


KEYS = st.sampled_from(["actions", "action", "digitalSourceType", "dc:creator", "exif:FNumber", "sha256", "x"])
JSON = st.recursive(
    st.sampled_from([None, True, 7, "c2pa.published", SOURCE_TYPES["print"]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
LABELS = st.sampled_from([ACTIONS_LABEL, METADATA_LABEL, RECIPE_LABEL, "dev.byok.prompt_hash"])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(LABELS, JSON), JSON)
def test_assertions_of_others_are_read_as_far_as_they_make_sense(contents: dict[str, object], version: object) -> None:
    values = values_of(contents, {"name": "x", "version": version})
    assert set(values) <= set(KNOWN_NAMES)
    json.dumps(values)
