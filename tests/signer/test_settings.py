"""What the signer accepts as settings, and how it names what it does not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from byok_api.references import ObjectName
from byok_service.setting_types import Stdout, TcpAddress, UnixSocket
from byok_service.settings import SettingsError
from byok_signer.settings import PROGRAM, Settings
from tests.support.permissions import closed_folder


@pytest.fixture
def good(tmp_path: Path) -> dict[str, str]:
    """Settings that fit together, by flag name."""
    for name in ("tls.crt", "tls.key", "jwks.json", "ca.crt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "manifests").mkdir()
    return {
        "manifests": str(tmp_path / "manifests"),
        "installation": "test",
        "listen": "127.0.0.1:8443",
        "tls-cert-file": str(tmp_path / "tls.crt"),
        "tls-key-file": str(tmp_path / "tls.key"),
        "token-issuer": "https://issuer.example",
        "token-jwks-file": str(tmp_path / "jwks.json"),
        "audit": "stdout",
    }


def _flags(values: dict[str, str]) -> list[str]:
    return [argument for name, value in values.items() for argument in (f"--{name}", value)]


def _complaints(values: dict[str, str], environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        PROGRAM.read(_flags(values), environ or {})
    return raised.value.lines


def test_flags_alone_make_settings_with_typed_values_and_defaults(good: dict[str, str]) -> None:
    settings = PROGRAM.read(_flags(good | {"managed-key": "media/studio"}), {})
    assert settings.listen == TcpAddress("127.0.0.1", 8443)
    assert settings.audit == Stdout()
    assert settings.managed_key == ObjectName("media", "studio")
    assert settings.http_listen == TcpAddress("0.0.0.0", 9090)  # noqa: S104 - the documented default
    assert settings.token_audience == "byok-signer"


def test_the_environment_alone_makes_the_same_settings(good: dict[str, str]) -> None:
    environ = {"BYOK_SIGNER_" + name.upper().replace("-", "_"): value for name, value in good.items()}
    assert PROGRAM.read([], environ) == PROGRAM.read(_flags(good), {})


def test_a_file_alone_makes_the_same_settings(good: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("".join(f"{name}: {value!r}\n" for name, value in good.items()))
    assert PROGRAM.read(["--config", str(file)], {}) == PROGRAM.read(_flags(good), {})
    assert PROGRAM.read([], {"BYOK_SIGNER_CONFIG": str(file)}) == PROGRAM.read(_flags(good), {})


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(good: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("drain-seconds: 1\nmax-concurrent-calls: 1\nlog-level: error\n")
    environ = {"BYOK_SIGNER_DRAIN_SECONDS": "2", "BYOK_SIGNER_MAX_CONCURRENT_CALLS": "2"}
    settings = PROGRAM.read(_flags(good | {"config": str(file), "drain-seconds": "3"}), environ)
    assert (settings.drain_seconds, settings.max_concurrent_calls, settings.log_level) == (3, 2, "error")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[::1]:0", TcpAddress("::1", 0)),
        ("localhost:65535", TcpAddress("localhost", 65535)),
    ],
)
def test_listen_addresses_that_are_taken(good: dict[str, str], text: str, expected: TcpAddress) -> None:
    assert PROGRAM.read(_flags(good | {"listen": text}), {}).listen == expected
    assert str(expected) == text


def test_a_unix_socket_needs_no_certificate(good: dict[str, str], tmp_path: Path) -> None:
    del good["tls-cert-file"], good["tls-key-file"]
    settings = PROGRAM.read(_flags(good | {"listen": f"unix:{tmp_path}/signer.sock"}), {})
    assert settings.listen == UnixSocket(tmp_path / "signer.sock")


def test_lists_are_comma_separated_in_flags_and_lists_in_the_file(good: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("aws-key-endpoints: [https://a.example, http://127.0.0.1:4566]\n")
    wanted = ("https://a.example", "http://127.0.0.1:4566")
    flags = good | {"aws-key-endpoints": "https://a.example, http://127.0.0.1:4566"}
    assert PROGRAM.read(_flags(flags), {}).aws_key_endpoints == wanted
    assert PROGRAM.read(_flags(good | {"config": str(file)}), {}).aws_key_endpoints == wanted


BAD_VALUES = [
    ("manifests", "/nowhere", "a folder that exists"),
    ("manifests", "", "a value"),
    ("presets", "/etc/hostname", "a folder that exists"),
    ("presets-namespace", "Not_A_Label", "a DNS label"),
    ("managed-key", "no-slash", "NAMESPACE/NAME"),
    ("installation", "with:colon", "1 to 63 letters"),
    ("installation", "with,comma", "1 to 63 letters"),
    ("installation", "x" * 64, "1 to 63 letters"),
    ("required-terms", "our terms", "1 to 63 letters"),
    ("listen", "8443", "HOST:PORT"),
    ("listen", "host:99999", "a port from 0 to 65535"),
    ("listen", "::1:8443", "an IPv6 address in brackets"),
    ("listen", "unix:relative.sock", "unix:/PATH"),
    ("listen", "unix:/nowhere/signer.sock", "in a folder that exists"),
    ("tls-cert-file", "/nowhere/tls.crt", "in a folder that exists and can be searched"),
    ("tls-key-file", "/", "in a folder that exists and can be searched"),
    ("connection-age-seconds", "0.5", "greater than or equal to 1"),
    ("pod-name", "no/name", "a host name"),
    ("http-listen", "unix:/tmp/x", "HOST:PORT"),
    ("max-message-bytes", "10", "greater than or equal to 131072"),
    ("max-concurrent-calls", "many", "a valid integer"),
    ("drain-seconds", "-1", "greater than or equal to 0"),
    ("drain-seconds", "nan", "less than or equal to 3600"),
    ("token-issuer", "", "a value"),
    ("token-jwks-file", "/nowhere", "a file that exists"),
    ("audit", "relative.jsonl", "the absolute path"),
    ("audit", "/nowhere/audit.jsonl", "in a folder that exists"),
    ("aws-endpoint", "http://kms.example", "http only for a loopback address"),
    ("aws-endpoint", "https://user:x@kms.example", "without user"),
    ("aws-endpoint", "https://[", "an https URL"),
    ("aws-key-endpoints", "https://a.example,ftp://b.example", "an https URL"),
    ("aws-use-fips", "perhaps", "a valid boolean"),
    ("aws-role", "arn:aws:iam::1:user/x", "the ARN of an IAM role"),
    ("https-proxy", "socks5://proxy.example:1080", "http[s]://[USER:PASSWORD@]HOST[:PORT]"),
    ("log-level", "loud", "'debug', 'info', 'warning' or 'error'"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD_VALUES)
def test_a_wrong_value_names_its_flag_and_what_is_expected(
    good: dict[str, str], name: str, value: str, expected: str
) -> None:
    (line,) = _complaints(good | {name: value})
    assert line.startswith(f"--{name}:")
    assert expected in line


def test_what_lies_in_a_folder_that_may_not_be_searched_is_named(good: dict[str, str]) -> None:
    PROGRAM.read(_flags(good), {})
    names = ("tls-cert-file", "token-jwks-file", "manifests", "audit", "aws-ca-file", "kubernetes", "presets")
    with closed_folder() as folder:
        lines = _complaints(good | dict.fromkeys(names, f"{folder}/below/file") | {"tls-key-file": f"{folder}/file"})
    assert sorted(line.split(":")[0] for line in lines) == sorted(f"--{name}" for name in (*names, "tls-key-file"))


@pytest.mark.parametrize("name", ["installation", "audit"])
def test_a_missing_setting_names_its_flag_and_variable(good: dict[str, str], name: str) -> None:
    del good[name]
    (line,) = _complaints(good)
    assert line.startswith(f"--{name} (BYOK_SIGNER_{name.upper().replace('-', '_')}): required")


def test_a_wrong_value_names_the_variable_or_the_file_that_it_came_from(good: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("drain-seconds: soon\n")
    lines = _complaints(good | {"config": str(file)}, {"BYOK_SIGNER_LOG_LEVEL": "loud"})
    assert [line.split(":")[0] for line in lines] == [f"drain-seconds in {file}", "BYOK_SIGNER_LOG_LEVEL"]


MISFITS = [
    ({"tls-key-file": None}, "--tls-cert-file and --tls-key-file with a TCP --listen"),
    ({"tls-cert-file": None, "tls-key-file": None}, "plaintext is for unix:/PATH only"),
    ({"listen": "unix:/tmp/signer.sock"}, "no --tls-cert-file"),
    ({"token-jwks-file": None}, "exactly one of"),
    ({"token-jwks-url": "https://issuer.example/jwks"}, "exactly one of"),
    ({"token-jwks-ca-file": "/etc/hostname"}, "only together with --token-jwks-url"),
    ({"token-issuer": None}, "--token-issuer and exactly one of"),
    ({"manifests": None}, "exactly one of --kubernetes and --manifests"),
    ({"kubernetes": "in-cluster"}, "exactly one of --kubernetes and --manifests"),
    ({"manifests": None, "kubernetes": "in-cluster"}, "no --token-issuer"),
    ({"manifests": None, "kubernetes": "in-cluster", "presets": "/etc"}, "--presets only with --manifests"),
    ({"manifests": None, "kubernetes": "/nowhere"}, "'in-cluster' or a kubeconfig file"),
]


@pytest.mark.parametrize(("change", "expected"), MISFITS)
def test_settings_that_do_not_fit_together_are_refused(
    good: dict[str, str], change: dict[str, str | None], expected: str
) -> None:
    values = {name: value for name, value in (good | change).items() if value is not None}
    (line,) = _complaints(values)
    assert expected in line


def test_a_proxy_is_taken_from_the_variables_of_other_programs_last(good: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    environ = {"https_proxy": "", "HTTPS_PROXY": "http://upper:1", "NO_PROXY": ".svc"}
    sources = [
        (environ, good, "http://upper:1"),
        (environ | {"https_proxy": "http://lower:2"}, good, "http://lower:2"),
        (environ, good | {"config": str(file)}, "http://file:3"),
        (environ | {"BYOK_SIGNER_HTTPS_PROXY": "http://ours:4"}, good | {"config": str(file)}, "http://ours:4"),
    ]
    file.write_text("https-proxy: http://file:3\n")
    for variables, flags, wanted in sources:
        settings = PROGRAM.read(_flags(flags), variables)
        assert (str(settings.https_proxy), settings.no_proxy) == (wanted, ".svc")
    assert PROGRAM.read(_flags(good), {}).https_proxy is None


def test_a_proxys_password_is_never_repeated(good: dict[str, str]) -> None:
    (line,) = _complaints(good, {"HTTPS_PROXY": "http://u:hush@proxy.example:none"})
    assert line.startswith("HTTPS_PROXY: expected http[s]://")
    assert "hush" not in line
    assert "hush" not in repr(PROGRAM.read(_flags(good), {"HTTPS_PROXY": "http://u:hush@proxy.example"}))


MISPLACED = {
    "--https-proxi=http://u:hush@proxy:3128": "--https-proxi: no such setting; did you mean --https-proxy?",
    "--https-proxi:http://u:hush@proxy:3128": "--https-proxi: no such setting; did you mean --https-proxy?",
    "-https-proxy=http://u:hush@proxy:3128": "ignored explicit argument; byok-signer --help lists all settings",
    "--help=http://u:hush@proxy:3128": "ignored explicit argument; byok-signer --help lists all settings",
    "http://u:hush@proxy:3128": "a value without a setting: expected --SETTING VALUE; byok-signer --help lists",
    "hush": "a value without a setting: expected --SETTING VALUE; byok-signer --help lists",
    "-": "a value without a setting: expected --SETTING VALUE; byok-signer --help lists",
    "--aws-endpoint=https://u:hush@kms": "--aws-endpoint: expected an https URL with a host, without user, query or",
    "--listen=http://u:hu@s/h@kms:1": "found 'http://...@kms:1'",
    "--no-proxy=http://u:hush@kms": "names, addresses, networks such as 10.0.0.0/8, or *, with commas; not",
}


@pytest.mark.parametrize("argument", MISPLACED)
def test_a_password_in_the_wrong_place_is_never_repeated(argument: str, good: dict[str, str]) -> None:
    values = {name: value for name, value in good.items() if f"--{name}=" not in argument}
    with pytest.raises(SettingsError) as raised:
        PROGRAM.read([*_flags(values), "--https-proxy=http://proxy", argument], {})
    assert MISPLACED[argument] in raised.value.lines[0]
    assert "hu" not in raised.value.lines[0]


def test_a_password_in_a_key_of_a_file_is_never_repeated(good: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("https-proxi=http://u:hush@proxy: 1\n")
    (line,) = _complaints(good | {"config": str(tmp_path / "settings.yaml")})
    assert line.endswith("https-proxi: no such setting; did you mean https-proxy?")


def test_what_no_proxy_says_is_refused_only_where_there_is_a_proxy(good: dict[str, str]) -> None:
    assert PROGRAM.read(_flags(good), {"NO_PROXY": "10.*"}).no_proxy == "10.*"
    (line,) = _complaints(good | {"https-proxy": "http://proxy.example"}, {"NO_PROXY": "10.*"})
    assert "expected of --no-proxy (no_proxy, NO_PROXY) names, addresses, networks" in line
    assert "not '10.*'" in line


def test_an_unknown_flag_names_itself_and_the_nearest(good: dict[str, str]) -> None:
    assert _complaints(good | {"tls-certfile": "x"}) == (
        "--tls-certfile: no such setting; did you mean --tls-cert-file?",
    )


def test_an_unknown_variable_names_itself_and_the_nearest(good: dict[str, str]) -> None:
    (line,) = _complaints(good, {"BYOK_SIGNER_LOGLEVEL": "info"})
    assert line == "BYOK_SIGNER_LOGLEVEL: no such setting; did you mean BYOK_SIGNER_LOG_LEVEL?"


def test_variables_of_the_client_and_of_a_service_of_this_name_are_no_settings(good: dict[str, str]) -> None:
    service = {
        "BYOK_SIGNER_SERVICE_HOST": "10.0.0.1",
        "BYOK_SIGNER_SERVICE_PORT_GRPC": "8443",
        "BYOK_SIGNER_PORT": "tcp://10.0.0.1:8443",
        "BYOK_SIGNER_PORT_8443_TCP_ADDR": "10.0.0.1",
        "BYOK_SIGNER_METRICS_SERVICE_PORT": "9090",
    }
    client = {"BYOK_SIGNER_ADDRESS": "x", "BYOK_SIGNER_CA_FILE": "x", "BYOK_SIGNER_TOKEN_FILE": "x"}
    assert PROGRAM.read(_flags(good), service | client) == PROGRAM.read(_flags(good), {})


def test_an_empty_variable_is_unset(good: dict[str, str]) -> None:
    assert PROGRAM.read(_flags(good), {"BYOK_SIGNER_PRESETS": ""}).presets is None


BAD_FILES = [
    (b"a: [", "not YAML"),
    (b"\xff\xfe\x00", "not UTF-8"),
    (b"- listen\n", "no mapping"),
    (b"listenn: x\n", "listenn: no such setting; did you mean listen?"),
    (b"listen: {host: a, port: 1}\n", "expected HOST:PORT"),
    (b"manifests: 5\n", "manifests in"),
    (b"log-level: info\nlog-level: debug\n", "has the key 'log-level' twice"),
    (b"a: 1\n---\nb: 1\n", "expected one YAML document, found 2"),
    (b"#" * 70_000, "larger than 65536 bytes"),
]


@pytest.mark.parametrize(("content", "expected"), BAD_FILES)
def test_a_bad_file_is_refused_by_name(good: dict[str, str], tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    values = {name: value for name, value in good.items() if name not in {"manifests", "listen"}} | {
        name: good[name] for name in ("manifests", "listen") if name.encode() not in content
    }
    (line,) = _complaints(values | {"config": str(file)})
    assert str(file) in line
    assert expected in line


def test_a_file_that_cannot_be_read_is_refused_by_name(good: dict[str, str]) -> None:
    (line,) = _complaints(good | {"config": "/nowhere.yaml"})
    assert line == "--config /nowhere.yaml: cannot be read: No such file or directory"


def test_settings_are_frozen(good: dict[str, str]) -> None:
    settings = PROGRAM.read(_flags(good), {})
    with pytest.raises(ValidationError):
        settings.drain_seconds = 1  # type: ignore[misc]  # the rule under test


def test_wrong_settings_are_printed_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        PROGRAM.read_or_exit(["--listen"], {})
    assert raised.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("byok-signer: argument --listen: expected one argument")
    assert printed.err.count("\n") == 1


def test_help_names_every_setting_its_variable_and_its_default() -> None:
    command = [sys.executable, "-c", "import byok_signer.settings as s; s.PROGRAM.read(['--help'], {})"]
    done = subprocess.run(command, env=os.environ | {"COLUMNS": "300"}, capture_output=True, text=True, check=True)
    for name, field in Settings.model_fields.items():
        line = next(line for line in done.stdout.splitlines() if re.search(rf"\[BYOK_SIGNER_{name.upper()}[;,]", line))
        assert f"--{name.replace('_', '-')} " in line or f"--{name.replace('_', '-')} " in done.stdout
        assert ("required]" in line) == field.is_required()
