"""The Dockerfile and .dockerignore keep the rules that every image is held to."""

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hack.image.part_wheel import ROOTS

REPOSITORY = Path(__file__).parent.parent.parent
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
ENTRYPOINTS = {"operator": ["byok_operator"], "signer": ["byok_signer"], "cli": ["byok_client.cli"], "sandbox": []}
LABELS = {"title", "description", "licenses", "version", "revision", "created", "base.name"}


@dataclass
class Stage:
    """A stage of the Dockerfile: what it stands on, and its instructions."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all_of(self, name: str) -> list[str]:
        return [arguments for instruction, arguments in self.instructions if instruction == name]

    def one(self, name: str) -> str:
        (arguments,) = self.all_of(name)
        return arguments


def stages() -> dict[str, Stage]:
    """Read the stages in order; comments and continued lines are resolved as a builder does."""
    found: dict[str, Stage] = {}
    current = Stage("")
    text = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, arguments = line.split(maxsplit=1)
        if instruction == "FROM":
            base, _, name = arguments.split()
            found[name] = current = Stage(base)
        else:
            current.instructions.append((instruction, arguments))
    return found


STAGES = stages()


def test_targets_are_the_four_images() -> None:
    assert [name for name, stage in STAGES.items() if stage.base == "runtime"] == list(ROOTS)


def test_whatever_comes_from_elsewhere_is_the_base_image() -> None:
    assert {stage.base for stage in STAGES.values()} - set(STAGES) == {"${BASE_IMAGE}"}
    assert re.search(r"^ARG BASE_IMAGE=python:3\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)


def test_images_run_as_a_numeric_user() -> None:
    assert STAGES["runtime"].one("USER") == "65532:65532"
    assert [name for name in ROOTS if STAGES[name].all_of("USER")] == []


@pytest.mark.parametrize("target", ROOTS)
def test_entry_point_is_a_program_without_a_shell(target: str) -> None:
    command = json.loads(STAGES[target].one("ENTRYPOINT"))

    assert command == ["/opt/byok/bin/python", "/opt/byok/start.py", *ENTRYPOINTS[target]]


@pytest.mark.parametrize("target", ROOTS)
def test_image_gets_requirements_and_part_as_layers_and_runs_nothing(target: str) -> None:
    stage = STAGES[target]

    assert stage.all_of("COPY") == [
        f"--from={target}-requirements /opt/byok /opt/byok",
        f"--from={target}-files /build/files /",
    ]
    assert stage.all_of("RUN") == STAGES["runtime"].all_of("RUN") == []


@pytest.mark.parametrize("target", ROOTS)
def test_labels_say_what_it_is_and_what_it_was_made_from(target: str) -> None:
    stage = STAGES[target]
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', stage.one("LABEL")))

    assert set(labels) == LABELS
    assert labels["title"] == f"byok-operator/{target}"
    assert f"VERSION={VERSION}" in stage.all_of("ARG")


@pytest.mark.parametrize("target", ROOTS)
def test_only_the_parts_source_roots_and_requirements_are_copied(target: str) -> None:
    roots = {root for all_ in ROOTS.values() for root in all_}
    copied = {line.split()[0] for line in STAGES[f"{target}-files"].all_of("COPY")}

    assert copied & roots == set(ROOTS[target])
    assert STAGES[f"{target}-files"].base == f"{target}-requirements"
    assert STAGES[f"{target}-requirements"].one("COPY") == f"requirements/{target}.txt requirements/"


@pytest.mark.parametrize("target", ROOTS)
def test_requirements_are_installed_again_only_when_they_change(target: str) -> None:
    assert STAGES[f"{target}-requirements"].base == "tools"
    assert not set(STAGES["tools"].all_of("COPY")) & set(STAGES[f"{target}-files"].all_of("COPY"))


def test_packages_come_by_hash_as_wheels_alone() -> None:
    script = (REPOSITORY / "hack/image/install").read_text()
    installs = re.findall(r"^.*\bpip install.*$", DOCKERFILE + script, re.MULTILINE)

    assert len(installs) == 3
    unpinned = [line for line in installs if "--require-hashes" not in line or "--only-binary :all:" not in line]
    assert [line for line in unpinned if "--no-index" not in line] == []


def test_index_and_ca_are_secrets_of_the_steps_that_need_them() -> None:
    runs = [run for stage in STAGES.values() for run in stage.all_of("RUN")]

    assert all(("pip install" in run or "install requirements" in run) == ("type=secret" in run) for run in runs)
    assert [arg for stage in STAGES.values() for arg in stage.all_of("ARG") if "INDEX" in arg or "TOKEN" in arg] == []


def admitted(path: str) -> bool:
    """Decide as .dockerignore does: the last rule that matches a path or a folder above it (moby patternmatcher)."""
    decision = True
    for rule in (REPOSITORY / ".dockerignore").read_text().splitlines():
        if rule and not rule.startswith("#"):
            pattern = re.escape(rule.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*\*", ".*")
            pattern = pattern.replace(r"\*", "[^/]*").replace(r"\[cod\]", "[cod]")
            if re.fullmatch(f"{pattern}(/.*)?", path):
                decision = rule.startswith("!")
    return decision


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".demo/signer/tls.key",
        "dist/byok.whl",
        "tests/conftest.py",
        "requirements/notes.md",
        "signer/byok_signer/__pycache__/__main__.cpython-311.pyc",
        "hack/build-images",
        "examples/node/node_modules/x.js",
        "charts/byok-operator/values.yaml",
        ".env",
        "operator.key",
    ],
)
def test_build_sees_nothing_that_no_image_needs(path: str) -> None:
    assert not admitted(path)


def test_build_sees_all_that_is_copied() -> None:
    copied = {name for stage in STAGES.values() for line in stage.all_of("COPY") for name in line.split()[:-1]}
    single = {name for name in copied if (REPOSITORY / name).is_file()}
    sources = {root for roots in ROOTS.values() for root in roots} | {"hack/image", "charts/byok-operator/presets"}
    files = {str(path.relative_to(REPOSITORY)) for root in sources for path in (REPOSITORY / root).rglob("*.[py]*")}

    assert sources | single | {"examples"} == {name for name in copied if not name.startswith(("--from", "/"))}
    assert [path for path in single | files if not admitted(path) and "__pycache__" not in path] == []


@pytest.mark.parametrize("path", ["media/landscape.jpg", "1-namespaces.yaml", "2-byokkey.yaml", "3-photo.yaml"])
def test_sandbox_gets_the_examples_that_it_fills_in(path: str) -> None:
    assert admitted(f"examples/{path}")
