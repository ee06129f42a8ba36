"""What the pages on installing say of values, commands, policies and reasons is so."""

import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from byok_api.algorithms import SigningAlgorithm
from byok_api.conditions import ByokKeyConditionType, ConditionReason, SigningRecipeConditionType
from byok_api.errors import Reason
from byok_api.keypolicy import Grantee, key_policy_statements
from byok_client.cli.app import build

REPOSITORY = Path(__file__).parent.parent
CHART = REPOSITORY / "charts/byok-operator"
TERRAFORM = REPOSITORY / "examples/terraform"
PAGES = ("install", "upgrade", "sizing", "network", "aws", "gitops", "disaster-recovery")
VALUES: Mapping[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
ROLE = "arn:aws:iam::111122223333:role/byok-signer"


def page(name: str) -> str:
    return (REPOSITORY / "docs" / f"{name}.md").read_text()


def blocks(name: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page(name), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def commands(name: str, program: str) -> Iterator[list[str]]:
    """Split every command line of one program, in blocks and in running text."""
    shell = "".join(re.sub(r"<<EOF\n.*?^EOF$", "", text, flags=re.DOTALL | re.MULTILINE) for text in blocks(name, "sh"))
    lines = [*shell.replace("\\\n", " ").splitlines(), *re.findall(rf"`({program} [^`]+)`", page(name))]
    for line in lines:
        if line.strip().startswith(f"{program} "):
            yield shlex.split(re.split(r" (?:>|\|) ", line)[0], comments=True)[1:]


def is_value(path: str) -> bool:
    """Say whether the chart knows a value; below a mapping that takes any names, all are known."""
    node: Any = VALUES
    for name in re.sub(r"\[\d+\]", "", path).split("."):
        if node in ({}, []):
            return True
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True


def merged(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Do with defaults as helm does."""
    both = {name: merged(values[name], defaults[name]) for name in values if isinstance(defaults.get(name), dict)}
    return {**defaults, **values, **both}


def values_in(name: str) -> Iterator[Any]:
    """Find the values of files named values.yaml, and those that Argo CD is given."""
    for text in blocks(name, "yaml"):
        for document in yaml.safe_load_all(text):
            if text.startswith("# values.yaml"):
                yield document
            elif "valuesObject" in text:
                yield document["spec"]["source"]["helm"]["valuesObject"]


@pytest.mark.parametrize("name", PAGES)
def test_values_that_are_named_are_the_charts(name: str) -> None:
    tops = "|".join(VALUES)
    named = re.findall(rf"`((?:{tops})(?:\.[A-Za-z]+)+)(?::[^`]*)?`", page(name))
    for words in commands(name, "helm"):
        given = [word for option, word in itertools.pairwise(words) if option.startswith("--set")]
        named += [part.split("=")[0] for text in given for part in re.split(r",(?=[a-z])", text)]
    assert [value for value in named if not is_value(value)] == []


@pytest.mark.parametrize("name", PAGES)
def test_values_files_that_are_shown_are_valid(name: str) -> None:
    schema = Draft202012Validator(json.loads((CHART / "values.schema.json").read_text()))
    for values in values_in(name):
        assert [error.message for error in schema.iter_errors(merged(values, VALUES))] == []


def test_a_network_that_is_shown_closed_towards_kms_is_closed_towards_the_api_server() -> None:
    shown = [merged(values, VALUES) for name in PAGES for values in values_in(name)]
    closed = [values for values in shown if values["networkPolicy"]["kms"]["cidrs"]]
    assert closed
    # Else the rule for the API server lets the signer reach any address on 443.
    assert [values["apiServer"] for values in closed if not values["apiServer"]["cidrs"]] == []


@pytest.mark.parametrize("name", PAGES)
def test_byokctl_has_the_commands_and_options_that_are_shown(name: str) -> None:
    for words in commands(name, "byokctl"):
        command: Any = typer.main.get_command(build())
        rest = list(words)
        while hasattr(command, "commands") and rest:
            command = command.commands[rest.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        given = {word.split("=")[0] for word in rest if word.startswith("-")}
        assert given <= known, words
        # A command that is only named has none.
        needed = [parameter for parameter in command.params if parameter.required and rest]
        assert [each.name for each in needed if each.param_type_name == "option" and not given & {*each.opts}] == [], (
            words
        )


@pytest.mark.parametrize("name", PAGES)
def test_reasons_and_alerts_that_are_named_exist(name: str) -> None:
    words = set(re.findall(r"`((?:[A-Z][a-z]+){2,})`", page(name)))
    alerts = "".join(path.read_text() for path in (CHART / "files/alerts").glob("*.yaml"))
    ours = {word for word in words if word in Reason.__members__ or f"alert: {word}\n" in alerts}
    said = {*ByokKeyConditionType, *SigningRecipeConditionType, *ConditionReason}
    # Of ours, of Kubernetes, of AWS.
    others = {
        "ByokKey",
        "ContainerCreating",
        "FailedMount",
        "NetworkPolicy",
        "SignClaims",
        "SigningRecipe",
        "StatefulSet",
    }
    aws = {"CreateGrant", "DisableKey", "DryRun", "GetPublicKey", "PutKeyPolicy", "ScheduleKeyDeletion", "WriteOnly"}
    settings = {
        "AccessDenied",
        "ReadOnly",
        "ReadWriteType",
        "ExcludeManagementEventSources",
        "IsMultiRegionTrail",
        "LogFileValidationEnabled",
    }
    assert words - ours - said - others - aws - settings == set()


@pytest.mark.parametrize("name", PAGES)
def test_admission_policies_that_are_named_exist(name: str) -> None:
    manifests = "".join(path.read_text() for path in (CHART / "manifests/admission").glob("*.yaml"))
    named = re.findall(r"`([a-z-]+\.byok\.dev)`", page(name))
    assert [policy for policy in named if f"name: {policy}\n" not in manifests] == []


def policies() -> dict[str, list[Any]]:
    """Read the policies that docs/aws.md has the shell write, by file; the last of a name wins."""
    written = re.findall(r"cat > ([\w-]+\.json) <<EOF\n(.*?)\nEOF", page("aws"), re.DOTALL)
    for_shell = {"$SIGNER_ROLE": ROLE, "$ACCOUNT": "111122223333"}
    for variable, value in for_shell.items():
        written = [(file, text.replace(variable, value)) for file, text in written]
    assert len(written) == len(re.findall("<<EOF", page("aws")))
    return {file: json.loads(text)["Statement"] for file, text in written}


def test_the_key_policy_that_is_shown_grants_what_byokctl_prints() -> None:
    administration, *granted = policies()["key-policy.json"]
    assert [{key: value for key, value in each.items() if key != "Sid"} for each in granted] == key_policy_statements(
        Grantee(ROLE), SigningAlgorithm.ES256
    )
    assert not {"kms:Sign", "kms:CreateGrant", "kms:*"} & set(administration["Action"])


@pytest.mark.parametrize("file", ["key-policy.json", "trust.json", "use.json"])
def test_policies_that_are_shown_name_whom_and_what_they_allow(file: str) -> None:
    for each in policies()[file]:
        assert each["Effect"] == "Allow"
        assert "*" not in str(each.get("Principal", "")) + str(each["Action"])
        assert each.get("Resource") != "*" or file == "key-policy.json"


def test_terraform_lets_administrators_do_what_the_command_line_does() -> None:
    terraform = re.search(r'sid = "Administration"\n +actions = \[(.*?)\]', key_module(), re.DOTALL)
    assert terraform is not None
    assert re.findall('"(.*?)"', terraform[1]) == policies()["key-policy.json"][0]["Action"]


def test_terraform_signs_with_each_key_specs_default_algorithm() -> None:
    rows = dict(re.findall(r'^ +((?:ECC|RSA)_\w+) += "([A-Z0-9_]+)"$', key_module(), re.MULTILINE))
    defaults = {spec: each.facts.kms for each in reversed(SigningAlgorithm) for spec in each.facts.key_specs}
    assert rows == defaults


def key_module() -> str:
    return (TERRAFORM / "signing-key/main.tf").read_text()


@pytest.mark.parametrize("algorithm", [each for each in SigningAlgorithm if not each.startswith("PS")], ids=str)
def test_the_table_of_key_specs_has_each_algorithm(algorithm: SigningAlgorithm) -> None:
    (spec,) = algorithm.facts.key_specs
    message = "RAW" if algorithm.facts.hash_name is None else "DIGEST"
    assert f"| `{spec}` | `{algorithm}` | `{algorithm.facts.kms}` | `{message}` |" in page("aws")


def anchors(text: str) -> set[str]:
    """Name the headings as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [*PAGES, "platform", "key-owners", "auditors"])
def test_links_lead_to_headings_that_are_there(name: str) -> None:
    links = re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", page(name))
    folder = REPOSITORY / "docs"
    missing = [
        (file, anchor) for file, anchor in links if anchor not in anchors((folder / (file or f"{name}.md")).read_text())
    ]
    assert missing == []


def test_the_platform_teams_page_leads_to_each_of_these() -> None:
    text = page("platform")
    assert [name for name in PAGES if f"({name}.md)" not in text] == []
