import shutil
from pathlib import Path

import pytest

from byok_api import generate
from byok_api.assertions import ASSERTIONS
from byok_api.errors import Reason
from byok_api.signer.v1 import signer_pb2

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files() -> dict[Path, bytes]:
    return generate.generated(ROOT)


@pytest.fixture
def repository(tmp_path: Path, files: dict[Path, bytes]) -> Path:
    """A repository with what is generated and what that is generated from."""
    for folder in ("charts/byok-operator/presets", "api/byok_api/signer/v1"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


def test_the_repository_is_up_to_date(files: dict[Path, bytes]) -> None:
    assert generate.stale(ROOT, files) == []


def test_everything_that_is_generated_is_checked(files: dict[Path, bytes]) -> None:
    folders = {"crds", "charts/byok-operator/templates/crds", "docs/reference", "api/byok_api/signer/v1"}
    assert {str(path.parent) for path in files} == folders
    assert len(files) == 2 + 2 + 7 + 4


def test_braces_of_a_crd_are_text_to_the_chart() -> None:
    crd = "kind: CustomResourceDefinition\nmetadata:\n  name: a\nspec:\n  description: such as {{name}}\n"
    assert '  description: such as {{ "{{" }}name}}\n' in generate.chart_crd(crd)


@pytest.mark.parametrize("kind", ["byokkeys", "signingrecipes"])
def test_the_charts_crd_is_the_crd_but_for_its_metadata(files: dict[Path, bytes], kind: str) -> None:
    plain = files[Path("crds") / f"byok.dev_{kind}.yaml"].decode()
    chart = files[Path("charts/byok-operator/templates/crds") / f"byok.dev_{kind}.yaml"].decode()
    assert plain.partition("\nspec:")[2] + "{{- end }}\n" == chart.partition("\nspec:")[2]


@pytest.mark.parametrize(
    "path", ["crds/byok.dev_byokkeys.yaml", "docs/reference/errors.md", "api/byok_api/signer/v1/signer_pb2.pyi"]
)
def test_check_names_a_file_that_differs_and_the_command_and_writes_nothing(
    repository: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / path).write_text("edited\n")
    assert generate.main(["--check", "--root", str(repository)]) == 1
    assert capsys.readouterr().err == f"{path} is not what the generator yields; run: python -m byok_api.generate\n"
    assert (repository / path).read_text() == "edited\n"


def test_check_names_a_missing_file_and_one_that_is_no_longer_generated(
    repository: Path, files: dict[Path, bytes]
) -> None:
    (repository / "docs/reference/grpc.md").unlink()
    (repository / "crds/byok.dev_old.yaml").write_bytes((repository / "crds/byok.dev_byokkeys.yaml").read_bytes())
    (repository / "docs/reference/cli.md").write_text("# Written by hand\n")
    assert generate.stale(repository, files) == [Path("crds/byok.dev_old.yaml"), Path("docs/reference/grpc.md")]


def test_without_check_stale_files_are_written_and_old_ones_removed(repository: Path) -> None:
    (repository / "docs/reference/grpc.md").unlink()
    (repository / "crds/byok.dev_old.yaml").write_bytes((repository / "crds/byok.dev_byokkeys.yaml").read_bytes())
    assert generate.main(["--root", str(repository)]) == 0
    assert not (repository / "crds/byok.dev_old.yaml").exists()
    assert generate.main(["--root", str(repository), "--check"]) == 0


def test_a_bad_proto_or_preset_is_named_without_a_traceback(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (repository / "api" / generate.PROTO).write_text('syntax = "proto3"; message {')
    assert generate.main(["--root", str(repository)]) == 1
    assert "protoc refuses" in capfd.readouterr().err
    (repository / "charts/byok-operator/presets/image-basic-v1.yaml").write_text("a: }")
    assert generate.main(["--root", str(repository)]) == 1
    assert "image-basic-v1.yaml:1: is not YAML" in capfd.readouterr().err


def page(files: dict[Path, bytes], name: str) -> str:
    return files[Path("docs/reference") / name].decode()


def test_each_page_says_all_that_its_source_holds(files: dict[Path, bytes]) -> None:
    assert all(f"`{reason.name}`" in page(files, "errors.md") for reason in Reason)
    assert all(f"`{name}`" in page(files, "assertions.md") for name in ASSERTIONS)
    for message in signer_pb2.DESCRIPTOR.message_types_by_name.values():
        assert f"## {message.name}\n" in page(files, "grpc.md")
        assert all(f"| `{field.name}` | {field.number} |" in page(files, "grpc.md") for field in message.fields)


def test_every_field_and_method_of_the_api_is_documented(files: dict[Path, bytes]) -> None:
    rows = [line for line in page(files, "grpc.md").splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.parametrize("name", ["byokkey.md", "signingrecipe.md"])
def test_every_field_of_a_kind_is_described(files: dict[Path, bytes], name: str) -> None:
    rows = [line for line in page(files, name).splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert not [row for row in rows if row.endswith("|  |")]
