"""The list of consumers, and what each is given."""

from pathlib import Path

import pytest
import yaml

from byok_api.manifests import ManifestError
from byok_operator.consumers import (
    Consumer,
    config_map,
    emptied,
    is_ours,
    owner_reference,
    parse_consumers,
    role_binding,
)

OWNER = owner_reference("uid-1")


def parse(text: str) -> tuple[Consumer, ...]:
    return parse_consumers(text.encode(), "consumers.yaml")


def test_namespaces_and_their_accounts_are_read_each_account_once() -> None:
    assert parse("news: [job]\nmedia:\n  - job\n  - other.job\n  - job\n") == (
        Consumer("media", ("job", "other.job")),
        Consumer("news", ("job",)),
    )


@pytest.mark.parametrize("text", ["", "{}", "# nobody yet\n"])
def test_an_empty_list_names_nobody(text: str) -> None:
    assert parse(text) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("media: job", "media: is no list"),
        ("media: []", "an empty one"),
        ("media: [Job]", "'Job', no ServiceAccount's name"),
        ("media: [5]", "5, no ServiceAccount's name"),
        (f"media: [{'a' * 254}]", "no ServiceAccount's name"),
        ("Media: [job]", "is no namespace's name"),
        ("kube system: [job]", "is no namespace's name"),
        ("- namespace: media", "consumers.yaml"),
        ("media: [job]\nmedia: [other]", "media"),
        ("media: [job]\n---\nnews: [job]", "several documents"),
        ("media: [" + "job, " * 101 + "]", "at most 100"),
        ("\n".join(f"n{index}: [job]" for index in range(1001)), "at most 1000"),
        ("media: [job", "consumers.yaml"),
    ],
)
def test_what_is_no_such_list_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(ManifestError) as refused:
        parse(text)
    assert words in refused.value.message


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ManifestError) as refused:
        parse("media: [job]\nnews: job\nsport:\n  - job\n  - A B\n")
    assert "consumers.yaml:2: news: is no list" in refused.value.message
    assert "sport.1: is 'A B'" in refused.value.message


def test_the_objects_are_as_reviewed() -> None:
    given = [
        config_map("media", OWNER, address="byok-signer.byok-system.svc:8443", bundle=b"CERTIFICATES\n"),
        role_binding(Consumer("media", ("job", "other")), OWNER),
    ]
    assert given == list(yaml.safe_load_all((Path(__file__).parent / "golden" / "consumer.yaml").read_text()))


@pytest.mark.parametrize(
    ("labels", "managers", "ours"),
    [
        ({"app.kubernetes.io/managed-by": "byok-operator"}, [("byok-operator", "Apply")], True),
        ({"app.kubernetes.io/managed-by": "byok-operator"}, [("byok-operator", "Update")], False),
        ({"app.kubernetes.io/managed-by": "byok-operator"}, [("helm", "Apply")], False),
        ({"app.kubernetes.io/managed-by": "byok-operator"}, [], False),
        ({"app.kubernetes.io/managed-by": "Helm"}, [("byok-operator", "Apply")], False),
        (None, [("byok-operator", "Apply")], False),
    ],
)
def test_a_config_map_is_ours_if_it_has_our_label_and_was_applied_by_us(
    labels: dict[str, str] | None, managers: list[tuple[str, str]], *, ours: bool
) -> None:
    fields = [{"manager": manager, "operation": operation} for manager, operation in managers]
    assert is_ours({"metadata": {"labels": labels, "managedFields": fields}}) is ours
    assert not is_ours({})


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"subjects": []}, True),
        ({"metadata": {"labels": {"app.kubernetes.io/managed-by": "byok-operator"}, "managedFields": [{}]}}, True),
        ({"metadata": {"name": "byok-signer"}}, False),
        ({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}}, False),
        ({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "byok-signer-user"}}, False),
    ],
)
def test_a_role_binding_is_ours_by_what_cannot_be_changed_without_the_right_to_bind(
    change: dict[str, object], *, ours: bool
) -> None:
    assert is_ours(role_binding(Consumer("media", ("job",)), OWNER) | change) is ours


def test_an_emptied_role_binding_is_that_very_one_and_names_no_field_of_anybody_else() -> None:
    bound = role_binding(Consumer("media", ("job",)), OWNER)
    stored = {**bound["metadata"], "uid": "u", "resourceVersion": "5", "finalizers": ["x"], "managedFields": [{}]}
    left = emptied({**bound, "metadata": stored})
    assert left["subjects"] == []
    assert left["roleRef"] == bound["roleRef"]
    assert set(left["metadata"]) == {"name", "namespace", "labels", "uid", "resourceVersion"}
