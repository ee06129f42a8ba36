import time
from datetime import UTC, datetime
from typing import Any

import pytest

from byok_api.byokkey import ByokKey
from byok_api.errors import Reason
from byok_api.manifests import ManifestError, load_documents
from byok_api.objects import Namespace, Unreadable, identity_of, parse_object, unreadable
from byok_api.references import ObjectName
from tests.support.kinds import KEY_ARN, key, manifest

ACCEPTED = {"terms": "t", "acceptedBy": "x", "acceptedAt": "2026-01-01T00:00:00Z"}


def findings(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ManifestError) as refused:
        parse_object(document, "test.yaml")
    return {finding.path: finding.rule for finding in refused.value.findings}


def recipe_findings(**spec: Any) -> dict[str, str]:  # noqa: ANN401 - any spec
    return findings(manifest("SigningRecipe", "media/photo", {"version": 1, **spec}))


@pytest.mark.parametrize(
    ("spec", "path", "rule"),
    [
        ({"nonsense": 1}, "spec.nonsense", "extra_forbidden"),
        ({"c2pa": {"assertion": []}}, "spec.c2pa.assertion", "extra_forbidden"),
        ({"media_type": "image"}, "spec.media_type", "extra_forbidden"),
        ({"version": "1"}, "spec.version", "int_type"),
        ({"version": True}, "spec.version", "int_type"),
        ({"version": 1.5}, "spec.version", "int_type"),
        ({"version": 0}, "spec.version", "greater_than_equal"),
        ({"version": 10**9}, "spec.version", "less_than_equal"),
        ({"description": 5}, "spec.description", "string_type"),
        ({"description": "x" * 257}, "spec.description", "string_too_long"),
        ({"description": None}, "spec.description", "null"),
        ({"c2pa": []}, "spec.c2pa", "model_type"),
        ({"c2pa": {"enabled": "true"}}, "spec.c2pa.enabled", "bool_type"),
        ({"c2pa": {"enabled": 1}}, "spec.c2pa.enabled", "bool_type"),
        ({"c2pa": {"assertions": "creator"}}, "spec.c2pa.assertions", "tuple_type"),
        ({"c2pa": {"assertions": ["generator", "genre"]}}, "spec.c2pa.assertions[1]", "assertion_name"),
        ({"c2pa": {"assertions": ["creator", "creator"]}}, "spec.c2pa.assertions", "unique_items"),
        ({"c2pa": {"defaults": {"genre": "x"}}}, "spec.c2pa.defaults", "assertion_name"),
        ({"c2pa": {"defaults": {"ai_generated": "yes"}}}, "spec.c2pa.defaults", "default_value"),
        ({"c2pa": {"defaults": {"creator": ["x", None]}}}, "spec.c2pa.defaults.creator[1]", "null"),
        ({"c2pa": {"allowedLabels": ["no label"]}}, "spec.c2pa.allowedLabels[0]", "string_pattern_mismatch"),
        ({"c2pa": {"allowedLabels": [f"com.x{i}" for i in range(65)]}}, "spec.c2pa.allowedLabels", "too_long"),
        ({"watermark": {"engine": "ink"}}, "spec.watermark.engine", "enum"),
        ({"softBinding": {"methods": ["glue"]}}, "spec.softBinding.methods[0]", "enum"),
        ({"anchoring": {"methods": ["ship"]}}, "spec.anchoring.methods[0]", "enum"),
        ({"mediaType": "hologram"}, "spec.mediaType", "enum"),
        ({"extends": "parent"}, "spec.extends", "string_pattern_mismatch"),
        ({"extends": "other/parent@1"}, "spec.extends", "string_pattern_mismatch"),
        ({"extends": "parent@0"}, "spec.extends", "string_pattern_mismatch"),
        ({"retention": {"manifestDays": -1}}, "spec.retention.manifestDays", "greater_than_equal"),
        ({"verification": {"minimumConfidence": 1.1}}, "spec.verification.minimumConfidence", "less_than_equal"),
        ({"timestamp": {}}, "spec.timestamp.url", "missing"),
        ({"timestamp": {"url": "ftp://tsa"}}, "spec.timestamp.url", "string_pattern_mismatch"),
        ({"timestamp": {"url": "http://user@tsa"}}, "spec.timestamp.url", "string_pattern_mismatch"),
        ({"keyRef": {"name": "No_Name"}}, "spec.keyRef.name", "string_pattern_mismatch"),
    ],
)
def test_a_bad_field_of_a_recipe_is_found_by_path_and_rule(spec: dict[str, Any], path: str, rule: str) -> None:
    assert recipe_findings(**spec) == {path: rule}


@pytest.mark.parametrize(
    ("spec", "path", "rule"),
    [
        ({}, "spec.aws", "missing"),
        ({"gcp": {}, "aws": {"keyArn": KEY_ARN}}, "spec.gcp", "extra_forbidden"),
        ({"aws": {"keyArn": "1234abcd"}}, "spec.aws.keyArn", "string_pattern_mismatch"),
        ({"aws": {"keyArn": KEY_ARN + "\n"}}, "spec.aws.keyArn", "string_pattern_mismatch"),
        ({"aws": {"keyArn": KEY_ARN, "region": "x"}}, "spec.aws.region", "extra_forbidden"),
        ({"aws": {"keyArn": KEY_ARN, "endpoint": "file:///"}}, "spec.aws.endpoint", "string_pattern_mismatch"),
        ({"aws": {"keyArn": KEY_ARN, "endpoint": "http://a@b"}}, "spec.aws.endpoint", "string_pattern_mismatch"),
        ({"aws": {"keyArn": KEY_ARN}, "state": "Off"}, "spec.state", "enum"),
        ({"aws": {"keyArn": KEY_ARN}, "signingAlgorithm": "RS256"}, "spec.signingAlgorithm", "enum"),
        ({"aws": {"keyArn": KEY_ARN}, "certificate": {}}, "spec.certificate.pem", "missing"),
        (
            {"aws": {"keyArn": KEY_ARN}, "certificate": {"issuerRef": {"name": "x"}, "pem": "x"}},
            "spec.certificate.issuerRef",
            "extra_forbidden",
        ),
        (
            {"aws": {"keyArn": KEY_ARN}, "certificate": {"pem": "x" * 32769}},
            "spec.certificate.pem",
            "string_too_long",
        ),
        ({"aws": {"keyArn": KEY_ARN}, "requiredRecipe": "base"}, "spec.requiredRecipe", "string_pattern_mismatch"),
        (
            {"aws": {"keyArn": KEY_ARN}, "acknowledgement": {"terms": "t", "acceptedBy": "x", "acceptedAt": "soon"}},
            "spec.acknowledgement.acceptedAt",
            "datetime_parsing",
        ),
        (
            {"aws": {"keyArn": KEY_ARN}, "acknowledgement": ACCEPTED | {"termsSHA256": "ABCD" * 16}},
            "spec.acknowledgement.termsSHA256",
            "string_pattern_mismatch",
        ),
        (
            {"aws": {"keyArn": KEY_ARN}, "verification": {"staleAfter": "1 day"}},
            "spec.verification.staleAfter",
            "string_pattern_mismatch",
        ),
    ],
)
def test_a_bad_field_of_a_key_is_found_by_path_and_rule(spec: dict[str, Any], path: str, rule: str) -> None:
    assert findings(manifest("ByokKey", "keys/brand", spec)) == {path: rule}


def test_every_finding_is_named_at_once_with_its_line_and_remedy() -> None:
    text = b"""apiVersion: byok.dev/v1alpha1
kind: SigningRecipe
metadata: {name: photo, namespace: media}
spec:
  version: '1'
  description: null
  colour: red
"""
    (document,) = load_documents(text, "photo.yaml")
    with pytest.raises(ManifestError) as refused:
        parse_object(document, "photo.yaml")
    assert refused.value.reason is Reason.RecipeInvalid
    assert str(refused.value) == (
        "photo.yaml:6: SigningRecipe media/photo: spec.description: is null (leave it out); "
        "spec.version: should be a valid integer, not '1' (write a whole number without quotes); "
        "spec.colour: is no known field (remove it or correct its spelling)"
    )
    assert [finding.line for finding in refused.value.findings] == [6, 5, 7]


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [("v1", "Pod"), ("byok.dev/v1", "ByokKey"), ("byok.dev/v1alpha1", "Namespace"), (None, None), (["v1"], {"a": 1})],
)
def test_other_kinds_are_refused(api_version: object, kind: object) -> None:
    assert findings({"apiVersion": api_version, "kind": kind}) == {"kind": "kind"}


@pytest.mark.parametrize("metadata", [None, [], "x", {}, {"name": "photo"}, {"name": "UP", "namespace": "media"}])
def test_an_object_without_a_good_name_is_refused(metadata: object) -> None:
    document = {**manifest("SigningRecipe", "media/photo", {"version": 1}), "metadata": metadata}
    assert all(path.startswith("metadata") for path in findings(document))


def test_an_unknown_field_of_metadata_is_refused() -> None:
    document = manifest("SigningRecipe", "media/photo", {"version": 1})
    document["metadata"]["lables"] = {}
    assert findings(document) == {"metadata.lables": "extra_forbidden"}


def test_a_namespace_is_filled_in_where_the_caller_knows_it() -> None:
    document = manifest("ByokKey", "/brand", {"aws": {"keyArn": KEY_ARN}})
    del document["metadata"]["namespace"]
    parsed = parse_object(document, "test.yaml", namespace="keys")
    assert isinstance(parsed, ByokKey)
    assert parsed.name == ObjectName("keys", "brand")


def test_what_the_api_server_adds_is_read_or_left_alone() -> None:
    document = manifest("ByokKey", "keys/brand", {"aws": {"keyArn": KEY_ARN}})
    document["metadata"] |= {
        "uid": "u",
        "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "7",
        "managedFields": [{"anything": None}],
    }
    document["status"] = {"phase": "Forged", "junk": None}
    metadata = parse_object(document, "test.yaml").metadata
    assert (metadata.uid, metadata.generation) == ("u", 3)
    assert metadata.creation_timestamp == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_namespace_cannot_lie_about_its_name() -> None:
    labels = {"team": "a", "kubernetes.io/metadata.name": "other"}
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "media", "labels": labels}}
    parsed = parse_object({**document, "spec": {"finalizers": ["kubernetes"]}}, "test.yaml")
    assert isinstance(parsed, Namespace)
    assert parsed.labels == {"team": "a", "kubernetes.io/metadata.name": "media"}


def test_a_manifest_with_a_hundred_faults_is_answered_briefly() -> None:
    document = manifest("SigningRecipe", "media/photo", {"version": 1, **{f"f{i}" * 50: "x" for i in range(100)}})
    with pytest.raises(ManifestError, match="and 80 more") as refused:
        parse_object(document, "test.yaml")
    assert len(refused.value.findings) == 100
    assert len(str(refused.value)) < 4000


def test_a_value_nested_without_end_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    assert recipe_findings(c2pa={"defaults": {"exif": nested}}) == {"spec": "DepthLimit"}


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**400, 10**5000], ids=["2^53", "-2^53", "10^400", "10^5000"])
def test_a_number_of_which_json_readers_lose_digits_is_refused(number: int) -> None:
    exif = {"FNumber": number}
    assert recipe_findings(c2pa={"defaults": {"exif": exif}}) == {"spec.c2pa.defaults.exif.FNumber": "NumberLimit"}


def test_only_what_is_null_is_left_to_that_finding() -> None:
    assert recipe_findings(k10=None, k1=1) == {"spec.k10": "null", "spec.k1": "extra_forbidden"}


HEAVY = {
    "nulls": dict.fromkeys(f"k{number}" for number in range(20_000)),
    "empty lists": {"exif": [[]] * 400_000},
    "text": {"exif": "x" * 1_300_000},
    "keys": {"exif": {f"{number:x<200}": 1 for number in range(5_000)}},
}


@pytest.mark.parametrize("defaults", HEAVY.values(), ids=HEAVY)
def test_what_would_take_seconds_to_read_is_refused_at_once(defaults: dict[str, Any]) -> None:
    began = time.process_time()
    assert recipe_findings(c2pa={"defaults": defaults}) == {"spec": "SizeLimit"}
    assert time.process_time() - began < 0.5


def test_annotations_do_not_count_towards_an_objects_size() -> None:
    document = manifest("SigningRecipe", "media/photo", {"version": 1})
    document["metadata"]["annotations"] = {"note": "x" * 300_000}
    assert parse_object(document, "test.yaml").metadata.name == "photo"


def test_a_long_value_is_not_repeated() -> None:
    with pytest.raises(ManifestError) as refused:
        key(certificate={"pem": "-----BEGIN EC PRIVATE KEY-----" + "MHcC" * 10_000})
    assert "MHcC" not in str(refused.value)


@pytest.mark.parametrize("field", ["certificate", "state", "requiredRecipe"])
def test_a_private_key_in_the_wrong_place_is_not_repeated(field: str) -> None:
    with pytest.raises(ManifestError) as refused:
        key(**{field: "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIFk1"})
    assert "MHcC" not in str(refused.value)


def test_a_message_is_one_printable_line_whatever_is_in_the_manifest() -> None:
    document = manifest("SigningRecipe", "media/pho\nto\x1b[31m", {"version": 1, "a\nb\ud800": 1})
    with pytest.raises(ManifestError) as refused:
        parse_object(document, "test.yaml")
    assert str(refused.value).isprintable()


def test_models_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        key().spec.aws.key_arn = "other"  # type: ignore[misc]  # that it is refused is the point


def test_a_creation_time_without_a_zone_is_refused() -> None:
    document = manifest("ByokKey", "media/brand", {"aws": {"keyArn": KEY_ARN}})
    document["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00"
    with pytest.raises(ManifestError, match="creationTimestamp"):
        parse_object(document, "key.yaml")


def refused(kind: str, name: str, spec: dict[str, Any]) -> Unreadable:
    """Read a manifest that is refused, and keep what can be kept."""
    document = manifest(kind, name, spec)
    with pytest.raises(ManifestError) as error:
        parse_object(document, "test.yaml")
    return unreadable(document, (kind, ObjectName.parse(name)), error.value)


def test_an_object_that_is_refused_is_there_nevertheless_by_name_and_finding() -> None:
    found = refused("SigningRecipe", "media/photo", {"version": 2, "typo": 1})
    assert (found.kind, found.name, found.reason) == (
        "SigningRecipe",
        ObjectName("media", "photo"),
        Reason.RecipeInvalid,
    )
    assert (found.version, "typo" in found.message) == (2, True)


@pytest.mark.parametrize("state", ["Deactivated", "deactivated", "Nonsense", "", False, ["Active"]])
def test_a_refused_key_that_is_not_plainly_active_counts_as_deactivated(state: object) -> None:
    assert refused("ByokKey", "media/brand", {"state": state, "typo": 1}).reason is Reason.KeyDeactivated


@pytest.mark.parametrize("version", [True, "1", None, 1.5])
def test_a_refused_recipes_version_is_told_only_if_it_is_one(version: object) -> None:
    assert refused("SigningRecipe", "media/photo", {"version": version}).version is None


def test_every_object_is_known_by_kind_and_name() -> None:
    namespace = parse_object({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "media"}}, "test.yaml")
    names = [identity_of(found) for found in (key(), namespace, refused("ByokKey", "media/x", {}))]
    assert [(kind, str(name)) for kind, name in names] == [
        ("ByokKey", "keys/brand"),
        ("Namespace", "/media"),
        ("ByokKey", "media/x"),
    ]
