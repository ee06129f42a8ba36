"""The chart's manifests, filled in for a test."""

from pathlib import Path

import pytest

from byok_api.references import ObjectName
from tests.testenv.installed import Installation, shipped_presets
from tests.testenv.modules import TestenvError

_MANIFESTS = Path(__file__).parents[2] / "charts" / "byok-operator" / "manifests"
RBAC, ADMISSION = _MANIFESTS / "rbac", _MANIFESTS / "admission"


def names(installation: Installation, kind: str) -> set[str]:
    documents = installation.documents(RBAC)
    return {document["metadata"]["name"] for document in documents if document["kind"] == kind}


def test_both_services_have_their_account_in_the_release_namespace() -> None:
    installation = Installation(namespace="elsewhere", operator="op", signer="si")
    accounts = [each["metadata"] for each in installation.documents(RBAC) if each["kind"] == "ServiceAccount"]
    assert sorted(account["name"] for account in accounts) == ["op", "si"]
    assert {account["namespace"] for account in accounts} == {"elsewhere"}


def test_without_presets_nobody_may_write_any() -> None:
    assert "byok-operator-presets" not in names(Installation(), "Role")
    assert "byok-operator-presets" in names(Installation(preset_names=shipped_presets()), "Role")


def test_only_a_managed_key_of_the_release_namespace_may_be_written() -> None:
    role = "byok-operator-managed-key"
    assert role not in names(Installation(), "Role")
    assert role not in names(Installation(managed_key=ObjectName("keys", "managed")), "Role")
    assert role in names(Installation(managed_key=ObjectName("byok-system", "managed")), "Role")


def test_only_where_tls_is_self_managed_are_secrets_to_be_read() -> None:
    role = "byok-operator-certificates"
    assert role in names(Installation(), "Role")
    assert role not in names(Installation(self_managed=False), "Role")


def test_consumers_are_a_map_in_the_language_of_policies() -> None:
    installation = Installation(consumers=(("media", ("job", "other")), ("news", ("job",))))
    policies = [each for each in installation.documents(ADMISSION) if each["kind"] == "ValidatingAdmissionPolicy"]
    variables = {
        each["name"]: each["expression"] for policy in policies for each in policy["spec"].get("variables", ())
    }
    assert variables["consumers"] == "{'media': ['job', 'other'], 'news': ['job']}"


def test_an_unknown_placeholder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "role.yaml").write_text("kind: $(KIND)\n")
    with pytest.raises(TestenvError, match=r"role\.yaml: \$\(KIND\) is no placeholder"):
        Installation().documents(tmp_path)
