"""Each gate of `make lint` fails when its rule is broken, names the place, and leaves other rules to other gates.

The commands are read from the Makefile. They run on copies: of one small module where that is all a gate needs, of the
source roots where imports or generated files are compared.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SOURCE_ROOTS = ("api", "service", "operator", "signer", "client", "sandbox")
MODULE = Path("signer/byok_signer/module.py")
CLEAN = '"""A module."""\n\nLIMIT = 1\n'

FORBIDDEN = {
    "parts": {
        "byok_api.selectors": "byok_signer.entries",
        "byok_client.codes": "byok_signer.rpc_status",
        "byok_signer.rpc_status": "byok_client.codes",
        "byok_signer.jwks": "byok_sandbox.issuer",
    },
    "client-without-service": {"byok_client.media": "byok_service.logs"},
    "service-layers": {"byok_service.setting_types": "byok_service.settings"},
    "operator-layers": {"byok_operator.observations": "byok_operator.metrics"},
    "plans": {"byok_operator.key_plan": "time"},
    "signer-layers": {"byok_signer.guard.claim": "byok_signer.metrics", "byok_signer.entries": "byok_signer.decisions"},
    "kms-port": {"byok_signer.pipeline": "byok_signer.kms.aws"},
    "command-line": {"byok_client.signing": "byok_client.cli.exits"},
    "pure": {"byok_api.portable": "socket", "byok_signer.guard.recipe": "asyncio"},
    "decisions": {"byok_signer.decisions": "time"},
    "aws": {"byok_signer.kms.aws": "botocore.session"},
    "emulation": {"byok_signer.probe": "boto3", "byok_client.media": "moto"},
    "kubernetes": {"byok_signer.folder": "kubernetes.client"},
    "kopf": {"byok_operator.store": "kopf"},
    "grpc": {"byok_signer.services": "grpc.aio"},
    "cbor": {"byok_signer.answers": "cbor2"},
    "media": {"byok_sandbox.demo": "c2pa"},
    "terminal": {"byok_client.aio": "rich.console"},
}
"""For each contract of .importlinter, imports that break it: importer, imported."""


@dataclass(frozen=True)
class Outcome:
    """How a gate ended, and all that it printed."""

    passed: bool
    output: str


@dataclass(frozen=True)
class Breach:
    """What a file must hold for one of the gates on single modules to fail, and what that gate then says."""

    gate: str
    content: str
    says: str
    path: Path = MODULE


BREACHES = {
    "format": Breach("ruff format", '"""A module."""\n\nLIMIT   =  1\n', str(MODULE)),
    "unused import": Breach("ruff check", '"""A module."""\n\nimport os\n', "F401"),
    "no docstring": Breach("ruff check", "LIMIT = 1\n", "D100"),
    "type": Breach("mypy", '"""A module."""\n\nLIMIT: int = "1"\n', f"{MODULE}:3: error: Incompatible types"),
    "type in a test": Breach(
        "mypy",
        "def test_nothing():\n    pass\n",
        "tests/test_module.py:1: error: Function is missing a return type",
        Path("tests/test_module.py"),
    ),
}


def gates() -> dict[str, list[str]]:
    """Read the commands of `make lint`, by a short name, with this interpreter's tools in place of .venv's."""
    scripts = sysconfig.get_path("scripts")
    # --old-file: do not ask whether .venv is up to date.
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.installed", f"BIN={scripts}", "lint"]
    printed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    found = {}
    for words in map(shlex.split, printed.splitlines()):
        named = [Path(words[0]).name, *words[1:]]
        name = " ".join(word for word in named if not word.startswith("-"))
        found[name] = [sys.executable if named[0] == "python" else words[0], *words[1:]]
    return found


GATES = gates()


def run_gate(gate: str, root: Path, *arguments: str) -> Outcome:
    """Run a gate in a copy of the repository, whose source roots come before the installed ones."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(str(root / part) for part in SOURCE_ROOTS), COLUMNS="200")
    done = subprocess.run(
        [*GATES[gate], *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    return Outcome(done.returncode == 0, done.stdout + done.stderr)


def copy_of(root: Path, *parts: str) -> Path:
    """Copy files and folders of the repository."""
    for part in parts:
        if (REPOSITORY / part).is_dir():
            shutil.copytree(REPOSITORY / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(REPOSITORY / part, root / part)
    return root


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Give a project of one clean module under this repository's configuration."""
    root = copy_of(tmp_path, "pyproject.toml")
    (root / MODULE).parent.mkdir(parents=True)
    for path in (MODULE, MODULE.with_name("__init__.py")):
        (root / path).write_text(CLEAN)
    return root


def test_every_gate_of_the_makefile_is_broken_here() -> None:
    assert set(GATES) == {breach.gate for breach in BREACHES.values()} | {
        "lint-imports",
        "python byok_api.generate",
        "python tests.chart.generate",
    }


@pytest.mark.parametrize("gate", ["ruff format", "ruff check"])
def test_clean_module_passes(small: Path, gate: str) -> None:
    outcome = run_gate(gate, small)

    assert outcome.passed, outcome.output


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES)
def test_broken_rule_fails_its_gate_and_no_other(small: Path, breach: Breach) -> None:
    (small / breach.path).parent.mkdir(parents=True, exist_ok=True)
    (small / breach.path).write_text(breach.content)

    # mypy takes seconds for this file alone; an unannotated test is against a rule of ruff's too.
    others = {"ruff format"} if breach.path.parts[0] == "tests" else {"ruff format", "ruff check"}
    outcome = run_gate(breach.gate, small, *([str(breach.path)] if breach.gate == "mypy" else []))

    assert not outcome.passed
    assert breach.says in outcome.output
    assert str(breach.path) in outcome.output
    assert [other for other in others - {breach.gate} if not run_gate(other, small).passed] == []


@pytest.mark.parametrize("root", [*SOURCE_ROOTS, "tests", "tests/operator"])
def test_a_source_root_is_no_package(root: str) -> None:
    # operator/__init__.py would shadow the standard library's operator for whatever is started here.
    assert not (REPOSITORY / root / "__init__.py").exists()


def contracts() -> Iterator[str]:
    """List the contracts of .importlinter by identifier."""
    for line in (REPOSITORY / ".importlinter").read_text().splitlines():
        if line.startswith("[importlinter:contract:"):
            yield line.removeprefix("[importlinter:contract:").removesuffix("]")


def test_every_contract_on_imports_is_broken_here() -> None:
    assert set(contracts()) == set(FORBIDDEN)


def test_forbidden_imports_break_their_contracts(tmp_path: Path) -> None:
    root = copy_of(tmp_path, ".importlinter", *SOURCE_ROOTS)
    imports = [pair for broken in FORBIDDEN.values() for pair in broken.items()]
    for importer, imported in imports:
        with module_file(root, importer).open("a") as file:
            file.write(f"\nimport {imported}\n")

    outcome = run_gate("lint-imports", root)

    assert not outcome.passed
    assert f"0 kept, {len(FORBIDDEN)} broken" in outcome.output
    for importer, imported in imports:
        # Of other people's packages only the top is looked at.
        target = imported if imported.startswith("byok_") else imported.partition(".")[0]
        assert f"{importer} -> {target}" in outcome.output


def module_file(root: Path, module: str) -> Path:
    """Find a module's file in a copy."""
    path = Path(*module.split("."))
    return next(
        root / part / path.with_suffix(".py") for part in SOURCE_ROOTS if (root / part / path.parts[0]).is_dir()
    )


def test_new_module_of_the_signer_must_name_its_layer(tmp_path: Path) -> None:
    root = copy_of(tmp_path, ".importlinter", *SOURCE_ROOTS)
    (root / MODULE).write_text(CLEAN)

    outcome = run_gate("lint-imports", root)

    assert not outcome.passed
    assert "byok_signer.module" in outcome.output


def test_stale_generated_files_are_named(tmp_path: Path) -> None:
    root = copy_of(tmp_path, "api", "crds", "docs/reference", "charts/byok-operator")
    edited = [
        "crds/byok.dev_byokkeys.yaml",
        "charts/byok-operator/templates/crds/byok.dev_signingrecipes.yaml",
        "docs/reference/errors.md",
        "api/byok_api/signer/v1/signer_pb2_grpc.py",
    ]
    for path in edited:
        with (root / path).open("a") as file:
            file.write("# edited by hand\n")
    (root / "docs/reference/assertions.md").unlink()

    outcome = run_gate("python byok_api.generate", root)

    assert not outcome.passed
    named = {line.partition(" is not what ")[0] for line in outcome.output.splitlines()}
    assert named == {*edited, "docs/reference/assertions.md"}


def test_a_stale_schema_of_the_chart_is_named(tmp_path: Path) -> None:
    root = copy_of(tmp_path, "charts/byok-operator", "tests/chart")
    with (root / "charts/byok-operator/values.yaml").open("a") as file:
        file.write("\n# Added by hand.\nadded: 1\n")

    outcome = run_gate("python tests.chart.generate", root)

    assert not outcome.passed
    assert "values.schema.json" in outcome.output


def misplaced_packages(root: Path) -> list[str]:
    """List what makes a package of a source root, or of tests: both would shadow modules of the standard library."""
    found = [*root.glob("*/__init__.py"), *(root / "tests").rglob("__init__.py")]
    return sorted(str(path.relative_to(root)) for path in set(found))


def test_source_roots_and_tests_are_no_packages() -> None:
    assert misplaced_packages(REPOSITORY) == []


def test_misplaced_packages_are_named(tmp_path: Path) -> None:
    for folder in ("operator", "tests/operator", "api/byok_api"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").touch()

    assert misplaced_packages(tmp_path) == ["operator/__init__.py", "tests/operator/__init__.py"]


def test_hooks_run_every_gate() -> None:
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text()

    assert [gate for gate in GATES if gate.split()[-1] not in hooks] == []
