"""hack/build-images uses the builder that is there, and hands over the index's credentials in files alone.

The builders are stand-ins that record their calls: that the real ones make images is shown by building them.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.stand_ins import StandIns

REPOSITORY = Path(__file__).parent.parent.parent
SCRIPTS = ("hack/build-images", "hack/image/install")
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
PASSWORD = "the-password-of-the-index"
INDEX = f"https://reader:{PASSWORD}@index.example/simple"
DOCKER = """
case "$1" in
  build) for word; do case "$word" in id=pip,src=*) cp "${word#id=pip,src=}" "$record/pip";; esac; done;;
  save) echo archive > "$3";;
esac
"""
NO_DOCKER = "exit 1"
APT = 'echo "bookworm main https://archive.example/debian"; echo "trixie main https://other.example/debian"'
BUILDAH = """
shift 4
case "$1" in
  inspect) [ -e "$record/base" ] ;;
  from) echo container-1 ;;
  mount) mkdir -p "$record/root/usr/share/doc" && echo "$record/root" ;;
  commit) touch "$record/base" ;;
  push) word=${*: -1}; word=${word#docker-archive:}; echo archive > "${word%%:*}" ;;
esac
"""


@dataclass(frozen=True)
class Machine:
    """A machine with stand-ins for its builders."""

    programs: StandIns
    folder: Path

    def build(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": f"{self.programs.folder}/bin:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHON": sys.executable,
            "PIP_INDEX_URL": INDEX,
            "HTTPS_PROXY": f"http://user:{PASSWORD}@proxy.example",
        }
        command = [str(REPOSITORY / "hack/build-images"), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    @property
    def output(self) -> Path:
        return self.folder / ".cache/byok-operator/images"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "programs").mkdir()
    programs = StandIns(tmp_path / "programs")
    programs.add("docker", DOCKER)
    programs.add("buildah", BUILDAH)
    programs.add("debootstrap")
    programs.add("apt-get", APT)
    programs.add("sed", f'case "$*" in *os-release*) echo bookworm;; *) exec {shutil.which("sed")} "$@";; esac')
    programs.add("id", "echo 0")
    return Machine(programs, tmp_path)


def test_images_are_built_with_docker_where_its_daemon_runs(machine: Machine) -> None:
    done = machine.build()

    archives = [
        (f"byok-operator/{name}:{VERSION}", machine.output / f"{name}.tar")
        for name in ("operator", "signer", "cli", "sandbox")
    ]
    assert done.stdout.splitlines() == [f"{reference} {archive}" for reference, archive in archives]
    assert all(archive.read_text() == "archive\n" for _, archive in archives)
    assert machine.programs.calls("buildah") == []


def test_only_the_named_targets_are_built(machine: Machine) -> None:
    machine.build("signer")

    (build,) = [call for call in machine.programs.calls("docker") if call[0] == "build"]
    assert build[build.index("--target") + 1] == "signer"


def test_output_and_tag_can_be_chosen(machine: Machine, tmp_path: Path) -> None:
    done = machine.build("--output", str(tmp_path / "out"), "--tag", "1.2.3", "cli")

    assert done.stdout == f"byok-operator/cli:1.2.3 {tmp_path}/out/cli.tar\n"
    assert ["save", "--output", f"{tmp_path}/out/.cli.tar", "byok-operator/cli:1.2.3"] in machine.programs.calls(
        "docker"
    )


def test_without_a_daemon_buildah_builds_on_a_base_made_once(machine: Machine) -> None:
    machine.programs.add("docker", NO_DOCKER)

    first, second = machine.build("signer"), machine.build("signer")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    (made,) = machine.programs.calls("debootstrap")
    assert "--force-check-gpg" in made
    assert made[-3:] == ["bookworm", str(machine.programs.folder / "root"), "https://archive.example/debian"]
    build = next(call[4:] for call in machine.programs.calls("buildah") if call[4] == "build")
    assert build[build.index("--isolation") + 1] == "chroot"
    assert any(word.startswith("BASE_IMAGE=localhost/byok-operator-base:bookworm-") for word in build)


@pytest.mark.parametrize(("failures", "calls", "status"), [(2, 3, 0), (3, 3, 1)])
def test_base_is_tried_three_times_each_in_a_container_of_its_own(
    machine: Machine, failures: int, calls: int, status: int
) -> None:
    machine.programs.add("docker", NO_DOCKER)
    machine.programs.add("debootstrap", f'[ "$(grep --count --text ^debootstrap "$record/calls")" -gt {failures} ]')

    done = machine.build("cli")

    assert done.returncode == status, done.stderr
    assert len(machine.programs.calls("debootstrap")) == calls
    asked = [call[4:] for call in machine.programs.calls("buildah")]
    assert (asked.count(["from", "scratch"]), asked.count(["rm", "container-1"])) == (calls, failures)
    assert ("debootstrap failed" in done.stderr) is bool(status)


@pytest.mark.parametrize(("layers", "emptied"), [(399, 0), (400, 1)])
def test_store_of_layers_does_not_grow_without_end(machine: Machine, layers: int, emptied: int) -> None:
    machine.programs.add("docker", NO_DOCKER)
    machine.programs.add("buildah", BUILDAH.replace("esac", f"  images) seq {layers} ;;\nesac"))

    assert machine.build("cli").returncode == 0
    assert [call[4:] for call in machine.programs.calls("buildah")].count(["rmi", "--all", "--force"]) == emptied


def test_version_label_is_the_projects_whatever_the_tag(machine: Machine) -> None:
    machine.build("--tag", "e2e", "cli")

    (build,) = [call for call in machine.programs.calls("docker") if call[0] == "build"]
    assert f"VERSION={VERSION}" in build


@pytest.mark.parametrize("docker", [DOCKER, NO_DOCKER], ids=["docker", "buildah"])
def test_index_and_its_password_are_in_no_argument(machine: Machine, docker: str) -> None:
    machine.programs.add("docker", docker)

    done = machine.build("cli")

    calls = [*machine.programs.calls("docker"), *machine.programs.calls("buildah")]
    assert any("HTTPS_PROXY" in call for call in calls)
    assert PASSWORD not in str(calls) + done.stdout + done.stderr


def test_index_comes_as_a_secret_that_is_gone_afterwards(machine: Machine) -> None:
    machine.build("cli")

    (build,) = [call for call in machine.programs.calls("docker") if call[0] == "build"]
    (source,) = [word.removeprefix("id=pip,src=") for word in build if word.startswith("id=pip,")]
    assert f"index-url = {INDEX}\n" in (machine.programs.folder / "pip").read_text()
    assert not Path(source).parent.exists()


def test_failed_build_leaves_the_archive_before(machine: Machine) -> None:
    machine.build("cli")
    machine.programs.add("docker", '[ "$1" != build ] || exit 3')

    done = machine.build("cli")

    assert done.returncode == 3
    assert done.stdout == ""
    assert (machine.output / "cli.tar").read_text() == "archive\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["client"], "client: no such option or target"),
        (["--push"], "--push: no such option or target"),
        (["--tag"], "--tag: expected a value"),
        (["--builder", "kaniko"], "--builder kaniko: expected docker or buildah"),
    ],
)
def test_wrong_arguments_are_named(machine: Machine, arguments: list[str], says: str) -> None:
    done = machine.build(*arguments)

    assert done.returncode == 2
    assert f"build-images: {says}\nusage: hack/build-images" in done.stderr
    assert machine.programs.calls("docker") in ([], [["info"]])


def test_without_a_daemon_and_without_root_it_says_so(machine: Machine) -> None:
    machine.programs.add("docker", NO_DOCKER)
    machine.programs.add("id", "echo 1000")

    done = machine.build("cli")

    assert done.returncode == 1
    assert "without Docker's daemon this needs root" in done.stderr


def test_machine_that_is_neither_debian_nor_ubuntu_is_told(machine: Machine) -> None:
    machine.programs.add("docker", NO_DOCKER)
    machine.programs.add("apt-get")

    done = machine.build("cli")

    assert done.returncode == 1
    assert "names no archive of Debian or Ubuntu bookworm" in done.stderr


def test_help_says_what_comes_out(machine: Machine) -> None:
    done = machine.build("--help")

    assert done.returncode == 0
    assert "usage: hack/build-images [--builder docker|buildah]" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_clean(script: str) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")

    done = subprocess.run([shellcheck, REPOSITORY / script], capture_output=True, text=True, check=False)

    assert done.stdout == ""
