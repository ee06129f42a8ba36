"""A build reaches the package index as this machine does; what it is told stays in two files of the owner's."""

import stat
from pathlib import Path

import pytest

from hack.image.pip_settings import ca_of, main, parse, pip_conf

INDEX = "https://reader:pa%24s@index.example/simple"
LISTED = f"""\
:env:.cert='/etc/ca.pem'
global.index-url='{INDEX}'
global.find-links='/opt/wheels'
install.no-binary=':all:'
global.extra-index-url='\\nhttps://one.example\\nhttps://two.example'
global.timeout='20'
:env:.timeout='180'
"""
CONF = f"""\
[global]
index-url = {INDEX}
extra-index-url = https://one.example
    https://two.example
timeout = 180
cert = /run/secrets/ca
"""


def test_index_credentials_and_ca_are_carried_over_and_paths_are_not() -> None:
    assert pip_conf(parse(LISTED), with_ca=True) == CONF


def test_machine_without_settings_gives_an_empty_section() -> None:
    assert pip_conf(parse(""), with_ca=False) == "[global]\n"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_ca_may_come_from_the_environment(tmp_path: Path, name: str) -> None:
    (tmp_path / "ca").touch()

    assert ca_of({}, {name: str(tmp_path / "ca")}) == tmp_path / "ca"


def test_pips_own_ca_setting_wins(tmp_path: Path) -> None:
    for name in ("own", "other"):
        (tmp_path / name).touch()

    assert ca_of({"cert": str(tmp_path / "own")}, {"SSL_CERT_FILE": str(tmp_path / "other")}) == tmp_path / "own"


def test_ca_file_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    assert ca_of({"cert": str(tmp_path / "none")}, {}) is None


def test_both_files_are_their_owners_alone_and_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", INDEX)

    assert main([str(tmp_path)]) == 0
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {"pip": 0o600, "ca": 0o600}
    assert f"index-url = {INDEX}\n" in (tmp_path / "pip").read_text()
    assert capfd.readouterr() == ("", "")


def test_wrong_arguments_are_answered_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: pip_settings.py FOLDER\n"
