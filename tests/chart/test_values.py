"""Values: each documented, in the schema, in effect; a typing error fails with its path."""

import copy
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chart import generate, values_source
from tests.chart.definitions import definitions
from tests.chart.rendering import CASES, CHART, RenderError, Rendering, helm, render_text, rendered, values_of

VALUES = values_source.read((CHART / "values.yaml").read_text())
LEAVES = {leaf.path: leaf for value in VALUES for leaf in value.leaves()}


def set_leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the leaves that a values file sets."""
    for name, value in values.items():
        where = (*path, name)
        if where in LEAVES:
            yield where
        else:
            yield from set_leaves(value, where)


def without(values: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(values))
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return changed


SET_BY_CI = [(case, path) for case in CASES for path in set_leaves(values_of(case))]
TEMPLATES = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())


def test_schema_and_readme_are_what_values_yaml_yields() -> None:
    assert generate.main(["--check"]) == 0


def test_a_stale_schema_and_readme_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("values.yaml", "README.md", "values.schema.json"):
        shutil.copy(CHART / name, tmp_path)
    (tmp_path / "values.yaml").write_text((CHART / "values.yaml").read_text() + "\n# More.\nmore: true\n")
    assert generate.main(["--check", "--chart", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("is not what values.yaml yields") == 2
    assert generate.main(["--chart", str(tmp_path)]) == 0
    assert "| `more` | `true` | More. |" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "named"),
    [("a: 1\n", "a: expected a comment"), ("# A.\na: []\n", "a: its default"), ("# A.\na:\n  b: x\n", "a.b: expected")],
)
def test_a_value_that_says_too_little_is_named(text: str, named: str) -> None:
    with pytest.raises(values_source.SourceError, match=re.escape(named)):
        values_source.read(text)


def test_every_value_is_set_by_some_file_of_ci() -> None:
    assert set(LEAVES) - {path for _, path in SET_BY_CI} == set()


@pytest.mark.parametrize(
    ("case", "path"), SET_BY_CI, ids=lambda part: part if isinstance(part, str) else ".".join(part)
)
def test_every_value_has_an_effect(case: str, path: tuple[str, ...]) -> None:
    try:
        changed = render_text(without(values_of(case), path))
    except RenderError:
        # Others of the file demand it.
        return
    assert changed != render_case(case)


_TEXTS: dict[str, str] = {}


def render_case(case: str) -> str:
    if case not in _TEXTS:
        _TEXTS[case] = render_text(values_of(case))
    return _TEXTS[case]


def test_every_value_that_a_template_names_is_declared() -> None:
    named = set(re.findall(r"\.Values\.([A-Za-z0-9.]+[A-Za-z0-9])", TEMPLATES))
    known = {".".join(path[:length]) for path in LEAVES for length in range(1, len(path) + 1)}
    assert {name for name in named if not name.startswith("consumerNamespaces.")} - known == set()


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any part of a schema
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for name, part in schema.items():
            yield from objects(part, f"{path}/{name}")


def test_no_object_of_the_schema_is_open_but_helms_own_and_metadata_of_assets() -> None:
    opened = [path for path, part in objects(generate.schema(VALUES)) if "additionalProperties" not in part]
    exif = "/definitions/presets/additionalProperties/properties/c2pa/properties/defaults/properties/exif"
    assert opened == ["/properties/global", "/properties/tests/properties/metadata", exif]


def groups(values: tuple[values_source.Value, ...]) -> Iterator[values_source.Value]:
    for value in values:
        if value.members:
            yield value
            yield from groups(value.members)


@pytest.mark.parametrize("group", ["", *(group.name for group in groups(VALUES))])
def test_a_typing_error_anywhere_fails_with_its_path(group: str) -> None:
    name = f"{group}.tpyo" if group else "tpyo"
    with pytest.raises(RenderError) as refused:
        helm("template", str(CHART), "--set", f"{name}=1")
    assert f"at '{'/' + group.replace('.', '/') if group else ''}': additional properties 'tpyo' not allowed" in str(
        refused.value
    )


def nested(leaves: Mapping[tuple[str, ...], object]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path, value in leaves.items():
        inner = values
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return values


def refusals(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the schema says, with the path of each: helm names all at once."""
    with pytest.raises(RenderError) as refused:
        render_text(values)
    return re.findall(r"^ *- at '([^']*)': (.*)$", str(refused.value), re.MULTILINE)


def test_each_value_whose_name_is_misspelt_is_named_with_its_path() -> None:
    said = refusals(nested({(*path[:-1], f"{path[-1]}Tpyo"): leaf.default for path, leaf in LEAVES.items()}))
    named = {
        ".".join(filter(None, (*group.split("/"), name)))
        for group, text in said
        if text.startswith("additional properties")
        for name in re.findall(r"'(\w+)'", text)
    }
    assert named == {f"{leaf.name}Tpyo" for leaf in LEAVES.values()}


def test_each_value_of_a_wrong_type_is_named_with_its_path() -> None:
    wrong = {path: "text" if isinstance(leaf.default, dict | list) else ["list"] for path, leaf in LEAVES.items()}
    said = {path: text for path, text in refusals(nested(wrong)) if re.match("got (string|array), want ", text)}
    assert said.keys() == {f"/{'/'.join(path)}" for path in LEAVES}


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"consumerNamespaces": [{"namespace": "media", "serviceAcounts": ["job"]}]}, "/consumerNamespaces/0"),
        (
            {"consumerNamespaces": [{"namespace": "Media", "serviceAccounts": ["job"]}]},
            "/consumerNamespaces/0/namespace",
        ),
        (
            {"consumerNamespaces": [{"namespace": "media", "serviceAccounts": []}]},
            "/consumerNamespaces/0/serviceAccounts",
        ),
        ({"signer": {"settings": {"max-conections": 1}}}, "/signer/settings"),
        ({"signer": {"settings": {"audit": "stdout"}}}, "/signer/settings"),
        ({"signer": {"settings": {"max-connections": 0}}}, "/signer/settings/max-connections"),
        ({"operator": {"settings": {"kubernetes": "x"}}}, "/operator/settings"),
        ({"signer": {"extraVolumes": [{"name": "a", "hostPath": {"path": "/"}}]}}, "/signer/extraVolumes/0"),
        ({"signer": {"extraEnv": [{"name": "A", "valeu": "b"}]}}, "/signer/extraEnv/0"),
        ({"signer": {"image": {"digest": "sha256:abc"}}}, "/signer/image/digest"),
        ({"managedKey": {"name": "a", "spec": {"aws": {"keyARN": "x"}}}}, "/managedKey/spec/aws"),
        ({"presets": {"extra": {"a": {"version": 1, "mediatype": "image"}}}}, "/presets/extra/a"),
        ({"keyOwnership": {"namespaces": {"a": ["arn:aws:s3:::x"]}}}, "/keyOwnership/namespaces/a/0"),
        ({"audit": {"mode": "file"}}, "/audit/mode"),
        ({"tls": {"mode": "selfmanaged"}}, "/tls/mode"),
        ({"aws": {"endpoint": "http://kms.example"}}, "/aws/endpoint"),
        ({"tests": {"recipe": "photo-v1"}}, "/tests/recipe"),
        ({"signer": {"drainSeconds": 11}}, "/signer/drainSeconds"),
        ({"signer": {"preStopSeconds": 0}}, "/signer/preStopSeconds"),
        ({"signer": {"image": None}}, "/signer"),
    ],
    ids=lambda part: part if isinstance(part, str) else None,
)
def test_a_wrong_value_fails_with_its_path(values: dict[str, Any], path: str) -> None:
    with pytest.raises(RenderError, match=f"at '{path}': "):
        render_text(values)


_ROLE = "arn:aws:iam::111122223333:role/byok-keys"
_KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_OPERATOR = "system:serviceaccount:byok-system:byok-operator"


def accepted_by(user: str) -> dict[str, str]:
    return {"acceptedBy": user, "acceptedAt": "2026-01-01T00:00:00Z", "terms": "signing-terms-3"}


def narrowed(proxy: str, *cidrs: str) -> dict[str, Any]:
    """Values that close the network but for KMS, and reach it through this proxy as well."""
    closed = {"networkPolicy": {"kms": {"cidrs": ["10.2.0.0/16"]}}, "apiServer": {"cidrs": ["10.0.0.0/28"]}}
    return {**closed, "proxy": {"https": proxy, "cidrs": list(cidrs)}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tls": {"mode": "existingSecret"}}, "tls.existingSecret: name the Secret"),
        ({"tls": {"mode": "certManager"}}, "tls.certManager.issuerRef.name: name the issuer"),
        ({"managedKey": {"spec": {"state": "Active"}}}, "managedKey.name: needed, as managedKey.spec is set"),
        (
            {"managedKey": {"name": "a", "namespace": "b", "spec": {"state": "Active"}}},
            "only in its own namespace, byok-system",
        ),
        ({"presets": {"extra": {"image-basic-v1": {"version": 1}}}}, "ships a preset of that name"),
        ({"consumerNamespaces": [{"namespace": "a", "serviceAccounts": ["b"]}] * 2}, "a is listed twice"),
        ({"acknowledgement": {"termsSHA256": "0" * 64}}, "acknowledgement.terms: name the terms"),
        ({"tls": {"existingSecret": "ours"}}, "tls.existingSecret: ours would not be used, as tls.mode is selfManaged"),
        (
            {"tls": {"mode": "existingSecret", "existingSecret": "byok-signer-tls"}},
            "byok-signer-tls could be one that the chart or the operator makes",
        ),
        ({"tls": {"certManager": {"issuerRef": {"name": "ca"}}}}, "tls.certManager.issuerRef.name: ca would not be"),
        ({"keyOwnership": {"namespaces": {"a": ["arn:aws:kms:*:*:*"]}}}, "keyOwnership.namespaces: nobody would be"),
        ({"managedKey": {"namespace": "a"}}, "managedKey.namespace: a has no effect without managedKey.name"),
        (
            {"signer": {"replicas": 20, "autoscaling": {"enabled": True}}},
            "signer.autoscaling.maxReplicas: 10 is less than signer.replicas, 20",
        ),
        (
            {"signer": {"resources": {"requests": {"cpu": None}}, "autoscaling": {"enabled": True}}},
            "needs signer.resources.requests.cpu",
        ),
        ({"sandbox": {"enabled": True}, "aws": {"endpoint": "https://kms.example"}}, "aws.endpoint: https://kms"),
        ({"sandbox": {"enabled": True}, "aws": {"caConfigMap": {"name": "ca"}}}, "aws.caConfigMap.name: ca would"),
        ({"crds": {"install": False, "keep": False}}, "crds.keep: false does nothing with crds.install: false, but"),
        (
            {"networkPolicy": {"kms": {"cidrs": ["10.2.0.0/16"]}}},
            "networkPolicy.kms.cidrs: would close nothing, as the",
        ),
        (
            {"networkPolicy": {"kms": {"cidrs": ["10.2.0.0/16"]}}, "apiServer": {"ports": [6443, 443]}},
            "set apiServer.cidrs as well, or apiServer.ports without 443",
        ),
        (
            narrowed("https://proxy.example"),
            "as the rule for the proxy lets any address through on port 443; set proxy.cidrs as well",
        ),
        (narrowed("http://proxy.example:443/"), "as the rule for the proxy lets any address through on port 443"),
        (
            {"networkPolicy": {"dns": {"namespaces": [], "cidrs": []}}},
            "networkPolicy.dns: without namespaces and cidrs",
        ),
        ({"proxy": {"noProxy": [".example"]}}, "proxy.noProxy: has no effect without proxy.https"),
        ({"proxy": {"cidrs": ["10.1.0.0/24"]}}, "proxy.cidrs: has no effect without proxy.https"),
        (
            {"managedKey": {"name": "a", "spec": {"acknowledgement": accepted_by("olga")}}},
            "write system:serviceaccount:byok-system:byok-operator instead of olga, or leave acknowledgement out",
        ),
        (
            {"managedKey": {"name": "a", "spec": {"state": "Active"}}, "keyOwnership": {"enabled": True}},
            "keyOwnership.namespaces: list byok-system, the namespace of the managed key a,",
        ),
        (
            {"managedKey": {"name": "a", "namespace": "b"}, "keyOwnership": {"enabled": True}},
            "keyOwnership.namespaces: list b, the namespace of the managed key a,",
        ),
        (
            {"managedKey": {"name": "a", "spec": {"state": "Active"}}, "aws": {"requireExternalId": True}},
            "managedKey.spec.aws.assumeRole: name a role here or in aws.role, as aws.requireExternalId is true",
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else None,
)
def test_values_that_do_not_fit_together_are_refused_by_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RenderError, match=re.escape(said)):
        render_text(values)


@pytest.mark.parametrize(
    "values",
    [
        {"crds": {"install": False}},
        {"networkPolicy": {"kms": {"cidrs": ["10.2.0.0/16"]}}, "apiServer": {"ports": [6443]}},
        {"networkPolicy": {"kms": {"cidrs": ["10.2.0.0/16"]}}, "apiServer": {"cidrs": ["10.0.0.0/28"]}},
        {
            "networkPolicy": {
                "enabled": False,
                "dns": {"namespaces": [], "cidrs": []},
                "kms": {"cidrs": ["10.2.0.0/16"]},
            }
        },
        narrowed("https://proxy.example", "10.1.0.0/24"),
        narrowed("https://proxy.example:3128"),
        narrowed("http://proxy.example"),
        {"proxy": {"https": "https://proxy.example"}, "apiServer": {"cidrs": ["10.0.0.0/28"]}},
        {"networkPolicy": {"dns": {"namespaces": []}}},
        {"networkPolicy": {"dns": {"cidrs": []}}},
        {"managedKey": {"name": "a", "spec": {"acknowledgement": accepted_by(_OPERATOR)}}},
        {"managedKey": {"name": "a"}, "keyOwnership": {"enabled": True, "namespaces": {"byok-system": []}}},
        {"managedKey": {"name": "a", "spec": {"state": "Active"}}, "aws": {"requireExternalId": True, "role": _ROLE}},
        {
            "managedKey": {"name": "a", "spec": {"aws": {"keyArn": _KEY, "assumeRole": {"arn": _ROLE}}}},
            "aws": {"requireExternalId": True},
        },
    ],
)
def test_values_that_do_fit_together_are_taken(values: dict[str, Any]) -> None:
    assert render_text(values)


def consumers_of(namespace: str) -> dict[str, Any]:
    """Values whose list takes 94,986 characters and this name in CEL: 15 for each account, and 6."""
    return {"consumerNamespaces": [{"namespace": namespace, "serviceAccounts": [f"job-{n:07}" for n in range(6332)]}]}


def test_a_list_of_consumers_longer_than_the_admission_policy_holds_is_refused() -> None:
    assert render_text(consumers_of("m" * 14))
    with pytest.raises(RenderError, match=r"consumerNamespaces: their names come to 95001 characters .* list fewer"):
        render_text(consumers_of("m" * 15))


def test_as_many_consumers_as_the_pages_promise_are_taken() -> None:
    # docs/sizing.md, Limits.
    names = [f"account-{number:04}" for number in range(4)]
    many = [{"namespace": f"consumer-{number:03}", "serviceAccounts": names} for number in range(1000)]
    assert {len(each) for each in (names[0], many[0]["namespace"])} == {12}
    found = Rendering.of(render_text({"consumerNamespaces": many}, "--show-only", "templates/manifests.yaml"))
    listed = found.one("ValidatingAdmissionPolicy", "consumer-configmaps.byok.dev")["spec"]["variables"][0][
        "expression"
    ]
    assert 80_000 < len(listed) <= 95_000


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"commonLabels": {"helm.sh/chart": "x"}}, "helm.sh/chart"),
        ({"signer": {"podLabels": {"app.kubernetes.io/name": "x"}}}, "app.kubernetes.io/name"),
        ({"operator": {"podAnnotations": {"checksum/config": "x"}}}, "checksum/config"),
    ],
)
def test_what_the_chart_labels_and_annotates_itself_is_refused(values: dict[str, Any], name: str) -> None:
    with pytest.raises(RenderError, match=f"invalid propertyName '{name}'"):
        render_text(values)


def test_the_labels_that_may_not_be_added_are_those_that_every_object_has() -> None:
    own = set.intersection(*(set(each["metadata"]["labels"]) for each in rendered("defaults").documents))
    assert set(definitions()["addedLabels"]["propertyNames"]["not"]["enum"]) == own
