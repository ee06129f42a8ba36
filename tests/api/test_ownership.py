"""keyOwnership: what a file may say, and which ARNs its patterns admit."""

import pytest

from byok_api.manifests import ManifestError
from byok_api.ownership import NAMESPACES_LIMIT, PATTERNS_LIMIT, KeyOwnership
from byok_api.references import KeyArn

ACCOUNT = "arn:aws:kms:eu-central-1:111122223333"
KEY = f"{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ALIAS = f"{ACCOUNT}:alias/media/brand"

PATTERNS: dict[str, tuple[str, str, bool]] = {
    "the ARN itself": (KEY, KEY, True),
    "another key": (KEY, KEY[:-1] + "c", False),
    "every key of an account and Region": (f"{ACCOUNT}:key/*", KEY, True),
    "keys are no aliases": (f"{ACCOUNT}:key/*", ALIAS, False),
    "every key and alias": (f"{ACCOUNT}:*", ALIAS, True),
    "aliases by their beginning": (f"{ACCOUNT}:alias/media/*", ALIAS, True),
    "a longer beginning": (f"{ACCOUNT}:alias/media-*", ALIAS, False),
    "a beginning is no whole": (f"{ACCOUNT}:alias/media", ALIAS, False),
    "an end is no whole": (f"{ACCOUNT}:alias/media/bran", ALIAS, False),
    "any Region": ("arn:aws:kms:*:111122223333:key/*", KEY, True),
    "any Region of an area": ("arn:aws:kms:eu-*:111122223333:key/*", KEY, True),
    "another account": ("arn:aws:kms:*:444455556666:key/*", KEY, False),
    "another partition": ("arn:aws-cn:kms:*:111122223333:key/*", KEY, False),
    "any partition": ("arn:*:kms:*:111122223333:key/*", KEY, True),
    "pieces in order": (f"{ACCOUNT}:key/1234*-12ab-*-ab", f"{ACCOUNT}:key/1234-12ab-x-ab", True),
    "pieces out of order": (f"{ACCOUNT}:key/1234*-x-*-12ab-*", f"{ACCOUNT}:key/1234-12ab-x-ab", False),
    "pieces that overlap": (f"{ACCOUNT}:key/12*23", f"{ACCOUNT}:key/123", False),
    "a piece that runs into the end": (f"{ACCOUNT}:key/1*23*3", f"{ACCOUNT}:key/1-23", False),
    "stars in a row": (f"{ACCOUNT}:key/****", KEY, True),
    "a dot is a dot": ("arn:aws:kms:eu-central-1:111122223333:alias/a-b", f"{ACCOUNT}:alias/aXb", False),
}


@pytest.mark.parametrize(("pattern", "arn", "expected"), PATTERNS.values(), ids=PATTERNS)
def test_a_star_stands_for_any_part_of_one_part_of_an_arn(pattern: str, arn: str, *, expected: bool) -> None:
    ownership = KeyOwnership.parse(f"media:\n- '{pattern}'\n".encode(), "ownership.yaml")
    assert ownership.admits("media", (KeyArn(arn),)) is expected


def test_a_namespace_that_is_not_listed_may_name_nothing() -> None:
    ownership = KeyOwnership.parse(f"media: ['{KEY}']\nempty: []\n".encode(), "ownership.yaml")
    admitted = [ownership.admits(namespace, (KeyArn(KEY),)) for namespace in ("media", "empty", "other")]
    assert admitted == [True, False, False]


def test_an_empty_file_lets_nobody_name_a_key() -> None:
    assert not KeyOwnership.parse(b"", "ownership.yaml").admits("media", (KeyArn(KEY),))


def test_all_arns_of_a_key_must_be_admitted_be_it_by_several_patterns() -> None:
    ownership = KeyOwnership({"media": (KEY, ALIAS)})
    assert ownership.admits("media", (KeyArn(KEY), KeyArn(ALIAS)))
    assert not ownership.admits("media", (KeyArn(KEY), KeyArn(ALIAS + "2")))


REFUSED: dict[str, tuple[str, str]] = {
    "no YAML": ("{", "ownership.yaml"),
    "a list": (f"- {KEY}", "holds a document that is no mapping"),
    "several documents": ("a: []\n---\nb: []\n", "holds several documents"),
    "a namespace twice": ("a: []\na: []\n", "twice"),
    "no namespace's name": ("Media: []", "is no namespace's name"),
    "no list": (f"media: '{KEY}'", "is no list"),
    "no text": ("media: [1]", "media.0: is 1, no pattern"),
    "no ARN": ("media: [key/1]", "no pattern for ARNs of KMS"),
    "another service": ("media: ['arn:aws:s3:::bucket']", "no pattern for ARNs of KMS"),
    "an ARN cut short": ("media: ['arn:aws:kms:*']", "write arn:PARTITION:kms:REGION:ACCOUNT:"),
    "a line end": (f'media: ["{KEY}\\n"]', "no pattern for ARNs of KMS"),
    "too many patterns": (f"media: [{', '.join([KEY] * (PATTERNS_LIMIT + 1))}]", "lists 257 patterns"),
    "too many namespaces": (
        "\n".join(f"n{number}: []" for number in range(NAMESPACES_LIMIT + 1)),
        "lists 10001 namespaces",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_table_of_namespaces_and_patterns_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as refused:
        KeyOwnership.parse(text.encode(), "ownership.yaml")
    assert message in refused.value.message
    assert len(refused.value.message) < 2000


def test_a_refusal_names_line_and_place() -> None:
    with pytest.raises(ManifestError) as refused:
        KeyOwnership.parse(f"media:\n- '{KEY}'\nnews:\n- nonsense\n".encode(), "ownership.yaml")
    assert refused.value.message.startswith("ownership.yaml:4: news.0: is 'nonsense', no pattern")


def test_a_pattern_of_many_stars_is_matched_in_no_time() -> None:
    ownership = KeyOwnership.parse(f"media: ['{ACCOUNT}:key/{'*a' * 30}b']".encode(), "ownership.yaml")
    assert not ownership.admits("media", (KeyArn(f"{ACCOUNT}:key/{'a' * 60}"),))
