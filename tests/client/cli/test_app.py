"""What all commands have in common: help, usage errors, exit codes, plug-ins, a quick start."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

from byok_api.errors import Reason, Refusal
from byok_client.cli.app import build
from byok_client.cli.commands import plugins
from byok_client.cli.exits import MEANINGS, Exit, worst
from byok_sandbox.ca import TlsAuthority
from tests.support.command_line import Cli
from tests.support.fake_signer import serving

LEAVES = [
    ("sign",),
    ("verify",),
    ("recipe", "import"),
    ("recipe", "render"),
    ("recipe", "lint"),
    ("key", "probe"),
    ("key", "lint"),
    ("key", "policy"),
    ("key", "csr"),
    ("key", "certificate", "set"),
    ("get",),
    ("doctor",),
    ("audit", "verify"),
    ("audit", "reconcile"),
    ("audit", "report"),
    ("sandbox",),
]


def test_help_names_every_command_and_exit_code(cli: Cli) -> None:
    ended = cli("--help")
    assert ended.status == 0
    for command, *_ in LEAVES:
        assert f"\n  {command} " in ended.out
    for code, meaning in MEANINGS.items():
        assert f"{code:d}  {meaning}" in ended.out
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize("command", LEAVES)
def test_every_command_shows_examples_and_takes_the_format(cli: Cli, command: tuple[str, ...]) -> None:
    ended = cli(*command, "-h")
    assert ended.status == 0
    assert re.search(rf"Examples:\n    byokctl {' '.join(command)}[ \n]", ended.out)
    assert re.search(r"-o, --format <text\|(csv\|)?json>", ended.out)


def test_every_command_is_listed_above() -> None:
    def leaves(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, child in getattr(command, "commands", {}).items():
            yield from leaves(child, (*path, name))
        if not hasattr(command, "commands"):
            yield path

    assert set(leaves(typer.main.get_command(build()), ())) == set(LEAVES)


WRONG = [
    (("frobnicate",), "No such command 'frobnicate'"),
    (("sign", "--bogus"), "--bogus"),
    (("sign",), "Missing argument"),
    (("sign", "x.jpg", "--in-place"), "Missing option '--recipe'"),
    (("sign", "x.jpg", "-r", "photo", "--in-place", "--jobs", "0"), "--jobs"),
    (("verify", "x.jpg", "-o", "xml"), "--format"),
    (("recipe",), ""),
]


@pytest.mark.parametrize(("arguments", "expected"), WRONG)
def test_wrong_usage_names_itself_and_exits_2(cli: Cli, arguments: tuple[str, ...], expected: str) -> None:
    ended = cli(*arguments)
    assert ended.status == 2
    assert expected in ended.err + ended.out


@pytest.mark.parametrize("option", [("-o", "json"), ("-ojson",), ("--format", "json"), ("--format=json",)])
def test_wrong_usage_is_json_too(cli: Cli, option: tuple[str, ...]) -> None:
    ended = cli("sign", "--bogus", *option)
    assert (ended.status, ended.document["error"]["reason"], ended.err) == (2, "Usage", "")
    assert ended.document["error"]["remedy"] == "byokctl sign --help shows what is expected."


def _entry_points(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry for entry in entries if entry.group == group])


def _entry(value: str) -> EntryPoint:
    return EntryPoint(name="sandbox", value=value, group=plugins.GROUP)


def test_a_command_of_an_extra_that_is_not_installed_says_how_to_install_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _entry_points(monkeypatch, _entry("nothing_here.cli:sandbox"))
    ended = cli("sandbox", "--port", "1")
    assert ended.status == 2
    assert "sandbox needs the module nothing_here, which is not installed" in ended.err
    assert "pip install 'byok-operator[sandbox]'" in ended.err


def test_a_plug_in_is_listed_without_being_loaded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _entry_points(monkeypatch, _entry("nothing_here.cli:sandbox"))
    assert "\n  sandbox  Run an emulated KMS" in cli("--help").out


playing, refusing = typer.Typer(), typer.Typer()


@playing.command()
def play(*, port: int = 1, status: int = 0) -> None:
    """Play."""
    typer.echo(f"port {port}")
    raise typer.Exit(status)


def test_a_plug_in_gets_its_arguments_its_help_and_its_status(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plug_in_of_the_test", sys.modules[__name__])
    _entry_points(monkeypatch, _entry("plug_in_of_the_test:playing"))
    ended = cli("sandbox", "--port", "7", "--status", "3")
    assert (ended.status, ended.out) == (3, "port 7\n")
    assert "Play." in cli("sandbox", "--help").out
    assert cli("sandbox", "--port", "x").status == 2


@refusing.command()
def refuse() -> None:
    """Refuse."""
    raise Refusal(Reason.SignerUnreachable, "the port is taken")


def test_a_refusal_of_a_plug_in_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plug_in_of_the_test", sys.modules[__name__])
    _entry_points(monkeypatch, _entry("plug_in_of_the_test:refusing"))
    ended = cli("sandbox")
    assert (ended.status, ended.err.startswith("byokctl: SignerUnreachable: the port is taken\n")) == (3, True)


def test_help_loads_neither_c2pa_nor_grpc_nor_the_sandbox() -> None:
    script = (
        "import sys; from byok_client.cli.app import run; run(['--help']);"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'c2pa', 'grpc', 'byok_sandbox', 'cryptography'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_completes_commands(shell: str) -> None:
    variables = {"_BYOKCTL_COMPLETE": f"complete_{shell}", "COMP_WORDS": "byokctl re", "COMP_CWORD": "1"}
    variables |= {"_TYPER_COMPLETE_ARGS": "byokctl re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    command = [sys.executable, "-m", "byok_client.cli"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert "recipe" in done.stdout


def test_a_signer_of_another_ca_is_told_without_grpcs_own_log(tmp_path: Path, token_file: Path) -> None:
    (tmp_path / "ca.pem").write_text(TlsAuthority.create(now=datetime.now(UTC)).trust_anchor_pem)
    with serving(tmp_path, tls=TlsAuthority.create(now=datetime.now(UTC))) as signer:
        variables = {"BYOK_SIGNER_ADDRESS": signer.address, "BYOK_SIGNER_CA_FILE": str(tmp_path / "ca.pem")}
        variables |= {"BYOK_SIGNER_TOKEN_FILE": str(token_file)}
        command = [sys.executable, "-m", "byok_client.cli", "key", "probe", "brand-keys/brand"]
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    first, *rest = done.stderr.splitlines()
    assert (done.returncode, first.startswith("byokctl: ConfigurationInvalid: the TLS certificate of")) == (2, True)
    assert rest == ["  Set what the message names."]


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    trail = tmp_path / "trail"
    trail.write_bytes(b"no record\n" * 5000)
    command = f"{sys.executable} -m byok_client.cli audit verify {trail} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)  # noqa: S607 - a pipe
    assert (done.stdout, done.stderr) == ("not intact: 5001 findings\n", "")


def test_output_that_standard_output_cannot_encode_is_escaped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "byok_client.cli", "verify", str(tmp_path / "gr\u00fcn.jpg"), "-o", "json"]
    environ = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["files"][0]["source"].endswith("gr\u00fcn.jpg")
    text = subprocess.run(command[:-2], env=environ, capture_output=True, text=True, check=False)
    assert (text.returncode, text.stderr) == (1, "")


@pytest.mark.parametrize(
    ("exits", "expected"),
    [([], Exit.OK), ([Exit.UNAVAILABLE], Exit.UNAVAILABLE), ([Exit.UNAVAILABLE, Exit.FAILED], Exit.FAILED)],
)
def test_a_lasting_failure_outweighs_a_passing_one(exits: list[Exit], expected: Exit) -> None:
    assert worst(exits) is expected
