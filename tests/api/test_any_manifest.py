"""Whatever bytes or values come in, the answer is an object or a ManifestError."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from byok_api.fields import API_VERSION
from byok_api.manifests import ManifestError, load_documents
from byok_api.objects import parse_object
from byok_api.portable import import_recipe

yaml_like = st.lists(
    st.sampled_from(
        ["a", "b: ", "- ", "\n", "  ", "{", "}", "[", "]", ",", "'", '"', "|", ">", "&a ", "*a", "!!int ", "---", "~"]
    )
).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
fields = st.sampled_from(["version", "c2pa", "extends", "keyRef", "aws", "certificate", "assertions", "name", "state"])
specs = json_values | st.dictionaries(
    fields, json_values | st.dictionaries(fields, json_values, max_size=3), max_size=4
)


@given(st.binary(max_size=64) | yaml_like.map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        json.dumps(load_documents(data, "test.yaml"))
    except ManifestError as refused:
        assert str(refused).startswith("test.yaml")  # noqa: PT017 - either answer is right


@given(st.sampled_from(["ByokKey", "SigningRecipe"]), json_values, specs)
@settings(max_examples=200, deadline=None)
def test_any_object_is_read_or_refused(kind: str, metadata: Any, spec: Any) -> None:  # noqa: ANN401 - any JSON
    try:
        parse_object({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}, "test.yaml")
    except ManifestError as refused:
        assert all(finding.rule and finding.remedy for finding in refused.findings)  # noqa: PT017 - either answer is right


@given(st.dictionaries(st.sampled_from(["id", "version", "c2pa", "signer_pinning", "x"]), json_values, max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_portable_recipe_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        import_recipe(json.dumps(document).encode(), "test.yaml")
    except ManifestError as refused:
        assert refused.findings  # noqa: PT017 - either answer is right
