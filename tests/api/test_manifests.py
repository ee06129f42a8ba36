import pytest

from byok_api.errors import Reason
from byok_api.manifests import DEPTH_LIMIT, DOCUMENT_LIMIT, SIZE_LIMIT, ManifestError, load_documents

BILLION_LAUGHS = b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


def load_one(text: str) -> dict[str, object]:
    (document,) = load_documents(text.encode(), "test.yaml")
    return document


@pytest.mark.parametrize(
    ("data", "rule", "line"),
    [
        (BILLION_LAUGHS, "NoAliases", 2),
        (b"a: 1\nb:\n  a: 1\n  a: 2\n", "NoDuplicateKeys", 4),
        (b'{"a": 1, "a": 2}', "NoDuplicateKeys", 1),
        (b"a: 1\n'a': 2\n", "NoDuplicateKeys", 2),
        (b"a: 1\n1: 2\n", "TextKeys", 2),
        (b"true: 2\n", "TextKeys", 1),
        (b"? [a]\n: 2\n", "TextKeys", 1),
        (b"? {a: b}\n: 2\n", "TextKeys", 1),
        (b"<<: {a: 1}\n", "NoMergeKeys", 1),
        (b"a: !!python/object/apply:os.system [id]\n", "NoTags", 1),
        (b"a: !!binary aGk=\n", "NoTags", 1),
        (b"a: !secret x\n", "NoTags", 1),
        (b"a:\n  - .inf\n", "PlainNumbers", 2),
        (b"a: .nan\n", "PlainNumbers", 1),
        (b"a: 0777\n", "PlainNumbers", 1),
        (b"a: 1:30\n", "PlainNumbers", 1),
        (b"a: 0x10\n", "PlainNumbers", 1),
        (b"a: 1_000\n", "PlainNumbers", 1),
        (b"a: 1_0.5\n", "PlainNumbers", 1),
        (b"a: 99999999999999999999\n", "PlainNumbers", 1),
        (b"a: !!int word\n", "PlainNumbers", 1),
        (b"a: " + b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT, "DepthLimit", 1),
        (b"- a\n", "Mapping", 1),
        (b"only words\n", "Mapping", 1),
        (b"a: 1\nb: [\n", "Yaml", 3),
        (b"a: b: c\n", "Yaml", 1),
        (b"%YAML 9.9\n---\na: 1\n", "Yaml", 1),
        (b"a: 'never closed\n", "Yaml", 2),
        (b"a: \x07\n", "Yaml", None),
        (b"a: 1\nb: \xff\xfe\n", "Utf8", 2),
        (b"a: " + b"x" * SIZE_LIMIT, "SizeLimit", None),
        (b"---\na: 1\n" * (DOCUMENT_LIMIT + 1), "DocumentLimit", 2 * DOCUMENT_LIMIT + 1),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_what_is_not_plain_yaml_is_refused_by_rule_and_line(data: bytes, rule: str, line: int | None) -> None:
    with pytest.raises(ManifestError) as refused:
        load_documents(data, "folder/test.yaml")
    (finding,) = refused.value.findings
    assert (refused.value.reason, finding.rule) == (Reason.InvalidRequest, rule)
    if line is not None:
        assert finding.line == line
        assert str(refused.value).startswith(f"folder/test.yaml:{line}: ")


def test_a_nesting_bomb_is_refused_before_it_is_read_to_its_end() -> None:
    with pytest.raises(ManifestError, match="nested deeper"):
        load_documents(b"[" * (SIZE_LIMIT - 1), "test.yaml")


def test_a_file_of_countless_small_parts_is_refused() -> None:
    with pytest.raises(ManifestError, match="holds over 100000 parts"):
        load_documents(b"a: [" + b"1," * 200_000 + b"]", "test.yaml")


def test_messages_quote_little_of_a_hostile_value() -> None:
    with pytest.raises(ManifestError) as refused:
        load_documents(b"a: !" + b"x" * 10_000 + b" 1\n", "test.yaml")
    assert len(str(refused.value)) < 200


def test_values_are_those_of_json() -> None:
    text = "a: true\nb: 1\nc: -1.5\nd: null\ne: 'no'\nf: [x, {g: ''}]\nh: !!str 5\ni: ~\nj:\n"
    assert load_one(text) == {
        "a": True,
        "b": 1,
        "c": -1.5,
        "d": None,
        "e": "no",
        "f": ["x", {"g": ""}],
        "h": "5",
        "i": None,
        "j": None,
    }


def test_what_looks_like_a_date_stays_text() -> None:
    assert load_one("a: 2026-01-31\nb: 2026-01-31T12:00:00Z\n") == {"a": "2026-01-31", "b": "2026-01-31T12:00:00Z"}


def test_empty_documents_are_left_out_and_a_byte_order_mark_is_none() -> None:
    data = b"\xef\xbb\xbf---\n# nothing\n---\na: 1\n---\n"
    assert load_documents(data, "test.yaml") == [{"a": 1}]
    assert load_documents(b"", "test.yaml") == []


def test_as_many_documents_and_levels_as_the_limits_allow_are_read() -> None:
    deep = b"a: " + b"[" * (DEPTH_LIMIT - 1) + b"]" * (DEPTH_LIMIT - 1) + b"\n"
    assert len(load_documents(b"---\na: 1\n" * (DOCUMENT_LIMIT - 1) + b"---\n" + deep, "test.yaml")) == DOCUMENT_LIMIT


def test_a_document_knows_the_line_of_each_part() -> None:
    (document,) = load_documents(b"a:\n  b:\n    - c\n    - d: 1\n", "test.yaml")
    assert document.line_of(("a", "b", 1, "d")) == 4
    assert document.line_of(("a", "b", 0)) == 3
    assert document.line_of(("a", "x")) == 1
