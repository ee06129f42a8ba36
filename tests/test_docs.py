"""What the hand-written docs say of files, commands, metrics and reasons is there."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from byok_api.audit import AuditEvent, Kind
from byok_api.conditions import ByokKeyConditionType, ConditionReason, SigningRecipeConditionType
from byok_api.errors import Reason
from byok_client.cli.exits import Exit
from byok_operator.metrics import Metrics as OperatorMetrics
from byok_operator.settings import Settings as OperatorSettings
from byok_signer.guard import SIZE_LIMIT
from byok_signer.metrics import Metrics
from byok_signer.quota import Quotas
from byok_signer.settings import Settings

REPOSITORY = Path(__file__).parent.parent
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "examples").rglob("*.md")]
)


def page(name: str) -> str:
    """Read a page."""
    return (REPOSITORY / name).read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", path.read_text())

    assert [target for target in targets if "://" not in target and not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_python_examples_compile(path: Path) -> None:
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)):
        compile(block, f"{path.name}, example {number}", "exec")


def test_named_make_targets_are_in_the_makefile() -> None:
    named = set(re.findall(r"^(?:\| `)?make ([a-z-]+)\b", page("CONTRIBUTING.md") + page("README.md"), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE))

    assert named
    assert named <= targets


def test_named_files_are_in_the_repository() -> None:
    named = re.findall(
        r"`((?:api|service|signer|operator|client|sandbox|charts|tests|docs|benchmarks)/[\w./-]+)`",
        page("CONTRIBUTING.md"),
    )

    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def exported(exposition: bytes, prefix: str) -> set[str]:
    """List the metrics of one service by the names that PromQL knows."""
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(exposition.decode())
        if family.name.startswith(prefix) and not family.name.endswith("_created")
    }


def documented(prefix: str) -> set[str]:
    """List the metrics that the page for the platform team has rows for."""
    return set(re.findall(rf"^\| `({prefix}\w+)` \|", page("docs/platform.md"), re.MULTILINE))


def test_every_metric_of_the_signer_is_documented() -> None:
    metrics = Metrics()
    metrics.observe_quotas(Quotas(per_second=1, replicas=lambda: 1, clock=time.monotonic))

    assert documented("byok_signer_") == exported(metrics.exposition(), "byok_signer_")


def test_every_metric_of_the_operator_is_documented() -> None:
    metrics = OperatorMetrics(lambda: datetime.now(UTC))

    assert documented("byok_operator_") == exported(metrics.exposition(), "byok_operator_")


def test_metrics_in_alerts_are_exported() -> None:
    named = set(re.findall(r"\bbyok_(?:signer|operator)_[a-z_]+", page("docs/platform.md")))

    assert named <= documented("byok_signer_") | documented("byok_operator_")


def test_named_flags_are_settings() -> None:
    services = page("docs/platform.md") + page("docs/decisions/0013-settings-one-table.md")
    commands = re.findall(r"^ *byok-(?:signer|operator) (?:.*\\\n)*.*", services, re.MULTILINE)
    named = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", "".join([*commands, *re.findall(r"`--[^`]+`", services)])))
    known = {*Settings.model_fields, *OperatorSettings.model_fields, "config", "help"}

    assert {name for name in named if name.replace("-", "_") not in known} == set()


@pytest.mark.parametrize(
    "name",
    [
        "docs/concepts.md",
        "docs/key-owners.md",
        "docs/media-developers.md",
        "docs/platform.md",
        "docs/threat-model.md",
        "docs/troubleshooting.md",
    ],
)
def test_named_reasons_exist(name: str) -> None:
    words = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", page(name)))
    others = {
        "ByokKey",
        "SigningRecipe",
        "SignerClient",
        "AsyncSignerClient",
        "ErrorInfo",
        "RetryInfo",
        "AuditRecord",
        "ValidatingAdmissionPolicy",
    }
    calls = {"GetRecipe", "SignClaim", "SignClaims", "SignDigest", "GetPublicKey", "DryRun", "TagSession"}
    said = {*ByokKeyConditionType, *SigningRecipeConditionType, *ConditionReason}

    assert words - others - calls - said <= set(Reason.__members__)


def test_every_field_of_an_audit_record_is_documented() -> None:
    text = page("docs/auditors.md")
    fields = {*AuditEvent.__dataclass_fields__, "writer", "sequence", "previous", "hash"} - {"request_id", "algorithm"}

    assert [name for name in sorted(fields) if f"`{name}`" not in text] == []
    assert [kind for kind in Kind if f"`{kind}`" not in text] == []


def test_exit_statuses_and_limits_are_as_documented() -> None:
    assert [code for code in Exit if not re.search(rf"\b{int(code)}\b", page("docs/media-developers.md"))] == []
    assert f"| a claim | {SIZE_LIMIT // 1024} KiB |" in page("docs/platform.md")


def test_every_decision_is_listed() -> None:
    decisions = {path.name for path in (REPOSITORY / "docs/decisions").glob("0*.md")}

    assert set(re.findall(r"\((\d{4}-[\w-]+\.md)\)", page("docs/decisions/README.md"))) == decisions
