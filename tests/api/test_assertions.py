import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byok_api.assertions import (
    ACTIONS_LABEL,
    ASSERTIONS,
    KNOWN_NAMES,
    METADATA_LABEL,
    RECIPE_LABEL,
    STANDARD_LABELS,
    AssertionType,
    Derivation,
    EnforcedBy,
    label_base,
)
from byok_api.shapes import software

PROMISED = [
    "ai_generated",
    "ai_assisted",
    "generator",
    "model",
    "prompt_hash",
    "created_at",
    "creator",
    "editor",
    "location_hint",
    "published",
    "exif",
    "legal_entity",
    "legal_case_ref",
    "deepfake_disclosure",
    "voiceclone_disclosure",
    "digital_source_type",
]
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
HASH = "0123456789abcdef" * 4

ACCEPTED = [
    ("ai_generated", True, True),
    ("ai_assisted", False, False),
    ("published", True, True),
    ("digital_source_type", "trainedAlgorithmicMedia", TRAINED),
    ("digital_source_type", TRAINED, TRAINED),
    ("digital_source_type", TRAINED.replace("http:", "https:"), TRAINED),
    ("digital_source_type", "empty", "http://c2pa.org/digitalsourcetype/empty"),
    ("generator", "ComfyUI/1.2", "ComfyUI/1.2"),
    ("model", "Flux ü 1", "Flux ü 1"),
    ("created_at", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
    ("created_at", "2026-01-31t13:00:00.5+01:00", "2026-01-31T12:00:00.500000Z"),
    ("created_at", "2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456Z"),
    ("created_at", datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1))), "2026-01-31T12:00:00Z"),
    ("creator", "Ada", ["Ada"]),
    ("editor", ["Ada", "Grace"], ["Ada", "Grace"]),
    ("location_hint", "Berlin", "Berlin"),
    ("exif", {"FNumber": 2.8, "tiff:Make": "X", "exif:ISOSpeedRatings": [100]}, None),
    ("prompt_hash", HASH.upper(), HASH),
    ("legal_entity", "Example GmbH", "Example GmbH"),
    ("legal_case_ref", "4 O 17/26", "4 O 17/26"),
    ("deepfake_disclosure", True, True),
    ("deepfake_disclosure", "The face was replaced.", "The face was replaced."),
    ("voiceclone_disclosure", False, False),
]

REFUSED = [
    ("ai_generated", "true"),
    ("ai_generated", 1),
    ("ai_assisted", None),
    ("published", "2026-01-31"),
    ("digital_source_type", "photo"),
    ("digital_source_type", "http://example.com/trainedAlgorithmicMedia"),
    ("digital_source_type", ["print"]),
    ("generator", ""),
    ("generator", "   "),
    ("generator", "x" * 257),
    ("generator", "a\x00b"),
    ("model", "\ud800"),
    ("model", 7),
    ("created_at", "yesterday"),
    ("created_at", "2026-01-31"),
    ("created_at", "2026-01-31T12:00:00"),
    ("created_at", "2026-02-30T12:00:00Z"),
    ("created_at", "0001-01-01T00:00:00+10:00"),
    ("created_at", datetime(2026, 1, 31)),  # noqa: DTZ001 - a time without offset is what must be refused
    ("created_at", 1769860800),
    ("creator", []),
    ("creator", ["Ada", 3]),
    ("editor", ["x"] * 33),
    ("creator", {"name": "Ada"}),
    ("location_hint", "Ber\nlin"),
    ("exif", {}),
    ("exif", {"bad tag": 1}),
    ("exif", {"dc:creator": "Ada"}),
    ("exif", {"FNumber": 1, "exif:FNumber": 2}),
    ("exif", {"FNumber": float("nan")}),
    ("exif", {"FNumber": 2**64}),
    ("exif", {"FNumber": True}),
    ("exif", {"FNumber": {"a": 1}}),
    ("exif", {"FNumber": []}),
    ("exif", {f"T{n}": 1 for n in range(65)}),
    ("exif", {f"T{n}": "x" * 256 for n in range(64)}),
    ("exif", "f/2.8"),
    ("prompt_hash", "a cat"),
    ("prompt_hash", HASH + "0"),
    ("legal_entity", b"GmbH"),
    ("deepfake_disclosure", "x" * 1025),
    ("voiceclone_disclosure", 0),
]


def test_the_table_has_exactly_the_promised_names() -> None:
    assert sorted(PROMISED) == list(KNOWN_NAMES) == sorted(ASSERTIONS)


@pytest.mark.parametrize("row", ASSERTIONS.values(), ids=lambda row: row.name)
def test_each_row_can_be_carried_by_c2pa(row: AssertionType) -> None:
    assert row.name == next(name for name, other in ASSERTIONS.items() if other is row)
    assert row.label in {ACTIONS_LABEL, METADATA_LABEL, f"dev.byok.{row.name}"}
    # c2pa drops a .vN from labels that are not its own.
    assert row.label == ACTIONS_LABEL or not re.search(r"\.v[0-9]+$", row.label)
    assert row.path
    assert row.description.endswith(".")


@pytest.mark.parametrize("row", ASSERTIONS.values(), ids=lambda row: row.name)
def test_the_signer_vouches_only_for_what_a_claim_shows(row: AssertionType) -> None:
    alone = [other.name for other in ASSERTIONS.values() if other.label == row.label] == [row.name]
    assert (row.enforced_by is EnforcedBy.SIGNER) == (alone or row.name == "generator")


@pytest.mark.parametrize(("name", "value", "canonical"), ACCEPTED)
def test_a_value_of_the_right_shape_becomes_canonical(name: str, value: object, canonical: object) -> None:
    parsed = ASSERTIONS[name].parse(value)
    assert canonical is None or parsed == canonical
    assert ASSERTIONS[name].parse(parsed) == parsed


def test_exif_tags_are_qualified_and_sorted() -> None:
    parsed = ASSERTIONS["exif"].parse({"tiff:Make": "X", "FNumber": 2.8})
    assert json.dumps(parsed) == '{"exif:FNumber": 2.8, "tiff:Make": "X"}'


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_value_of_another_shape_or_size_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"^is .*, expected "):
        ASSERTIONS[name].parse(value)


def test_a_refusal_does_not_repeat_the_value() -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        ASSERTIONS["prompt_hash"].parse("the secret prompt")
    assert "secret" not in str(refused.value)


@settings(max_examples=50, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary(), st.lists))
def test_no_value_raises_anything_but_value_error(value: object) -> None:
    for row in ASSERTIONS.values():
        for candidate in (value, {"FNumber": value}, {value: 1} if isinstance(value, (str, int)) else value):
            try:
                json.dumps(row.parse(candidate), allow_nan=False)
            except ValueError as error:
                assert "expected" in str(error)  # noqa: PT017 - most values are refused, some are not


def test_every_shape_has_a_json_schema() -> None:
    json.dumps([row.shape.schema for row in ASSERTIONS.values()])


def test_repeated_labels_have_one_base() -> None:
    labels = ["c2pa.ingredient.v3", "c2pa.ingredient.v3__1", "c2pa.ingredient.v3__12", "a__b", "x__1__2"]
    assert [label_base(label) for label in labels] == [*(["c2pa.ingredient.v3"] * 3), "a__b", "x__1"]


def test_the_standards_labels_hold_all_that_the_client_writes_unasked() -> None:
    assert {ACTIONS_LABEL, METADATA_LABEL, RECIPE_LABEL, "c2pa.hash.data", "c2pa.ingredient.v3"} <= STANDARD_LABELS


def test_what_can_be_derived_says_how() -> None:
    derived = {name: row.derivation for name, row in ASSERTIONS.items() if row.derivation is not Derivation.NONE}
    assert derived == {
        "digital_source_type": Derivation.AI_FLAGS,
        "ai_generated": Derivation.SOURCE_TYPE,
        "ai_assisted": Derivation.SOURCE_TYPE,
        "generator": Derivation.CLIENT,
        "created_at": Derivation.CLOCK,
    }


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("ComfyUI", ("ComfyUI", None)),
        ("ComfyUI/1.2", ("ComfyUI", "1.2")),
        ("acme/render/v3-rc1", ("acme/render", "v3-rc1")),
        ("stability-ai/sdxl", ("stability-ai/sdxl", None)),
    ],
)
def test_a_generator_is_split_at_its_version(value: str, parts: tuple[str, str | None]) -> None:
    assert software(value) == parts


def test_times_are_kept_in_utc() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert ASSERTIONS["created_at"].parse(now) == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**400, float("inf"), float("nan")])
def test_a_number_that_readers_would_round_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        ASSERTIONS["exif"].parse({"exif:FNumber": number})
