"""Each image gets the packages, programs and requirements of its part, and no others."""

from pathlib import Path

import pytest

from hack.image.part_wheel import ROOTS, build, main
from tests.support.part_wheels import PartWheel, pins, providers

PACKAGES = {
    "operator": {"byok_api", "byok_service", "byok_operator"},
    "signer": {"byok_api", "byok_service", "byok_signer"},
    "cli": {"byok_api", "byok_service", "byok_client"},
    "sandbox": {"byok_api", "byok_service", "byok_signer", "byok_client", "byok_sandbox"},
}
PROGRAMS = {
    "operator": {"byok-operator"},
    "signer": {"byok-signer"},
    "cli": {"byokctl", "kubectl-byok"},
    "sandbox": {"byok-signer", "byokctl", "kubectl-byok", "sandbox"},
}
FOREIGN = {
    "operator": {"boto3", "botocore", "cbor2", "c2pa-python", "moto", "pyjwt", "rich", "typer"},
    "signer": {"boto3", "c2pa-python", "kopf", "moto", "rich", "typer"},
    "cli": {"boto3", "botocore", "cbor2", "kopf", "moto", "prometheus-client", "pyjwt"},
    "sandbox": {"kopf", "pytest"},
}
"""Distributions that belong to another part, or to the tests."""


@pytest.fixture(scope="module", params=ROOTS)
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PartWheel:
    return PartWheel(request.param, build(request.param, tmp_path_factory.mktemp("wheels")))


def test_wheel_holds_the_parts_packages_alone(wheel: PartWheel) -> None:
    assert wheel.packages == PACKAGES[wheel.part]


def test_wheel_starts_the_parts_programs_alone(wheel: PartWheel) -> None:
    assert set(wheel.entry_points) == PROGRAMS[wheel.part]


def test_programs_are_modules_of_the_wheel(wheel: PartWheel) -> None:
    modules = {target.partition(":")[0].replace(".", "/") + ".py" for target in wheel.entry_points.values()}

    assert modules <= set(wheel.files)


def test_what_modules_import_of_this_project_is_in_the_wheel(wheel: PartWheel) -> None:
    missing = [
        (file, module)
        for file, module in wheel.imports()
        if module.startswith("byok_") and module.partition(".")[0] not in wheel.packages
    ]

    assert missing == []


def test_what_modules_import_of_others_is_pinned_for_the_part(wheel: PartWheel) -> None:
    pinned = set(pins(wheel.part))
    missing = [
        (file, module)
        for file, module in wheel.imports()
        if not module.startswith("byok_") and providers(module) and not providers(module) & pinned
    ]

    assert missing == []


def test_pins_meet_what_the_wheel_requires(wheel: PartWheel) -> None:
    pinned = pins(wheel.part)
    unmet = [
        str(wanted)
        for wanted in wheel.requirements
        if wanted.name not in pinned or pinned[wanted.name] not in wanted.specifier
    ]

    assert wheel.requirements
    assert unmet == []


def test_pins_hold_nothing_of_another_part(wheel: PartWheel) -> None:
    assert set(pins(wheel.part)) & FOREIGN[wheel.part] == set()


def test_wheel_asks_for_no_extra_and_offers_none(wheel: PartWheel) -> None:
    assert [str(wanted) for wanted in wheel.requirements if wanted.name == "byok-operator"] == []
    assert wheel.metadata.get_all("Provides-Extra") is None


def test_sandbox_brings_what_it_starts_from(tmp_path: Path) -> None:
    files = PartWheel("sandbox", build("sandbox", tmp_path)).files

    assert "byok_sandbox/presets/image-basic-v1.yaml" in files
    assert "byok_sandbox/examples/media/landscape.jpg" in files


def test_wheel_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = (build("operator", tmp_path / name) for name in ("first", "second"))

    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("arguments", [[], ["signer"], ["client", "wheels"], ["signer", "wheels", "more"]])
def test_wrong_arguments_are_answered_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: part_wheel.py operator|signer|cli|sandbox FOLDER" in capsys.readouterr().err
