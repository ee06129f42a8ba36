"""The operator's settings: defaults, forms, and what is refused by name."""

from pathlib import Path

import pytest

from byok_operator.settings import PROGRAM, Settings, SignerTls
from byok_service.setting_types import TcpAddress
from byok_service.settings import SettingsError
from tests.support.permissions import closed_folder


@pytest.fixture
def required(tmp_path: Path) -> dict[str, str]:
    for name in ("ca.pem", "token"):
        (tmp_path / name).write_text("x")
    return {
        "--namespace": "byok-system",
        "--installation": "prod",
        "--signers": "signer.byok-system.svc:8443",
        "--signer-ca-file": str(tmp_path / "ca.pem"),
        "--signer-token-file": str(tmp_path / "token"),
    }


def _read(flags: dict[str, str], **environ: str) -> Settings:
    return PROGRAM.read([part for item in flags.items() for part in item], environ)


def test_in_a_cluster_five_settings_are_enough(required: dict[str, str]) -> None:
    settings = _read(required)
    assert settings.kubernetes == "in-cluster"
    assert settings.presets_namespace == "byok-system"
    assert settings.signers == (TcpAddress("signer.byok-system.svc", 8443),)


def test_what_lies_in_a_folder_that_may_not_be_searched_is_named(required: dict[str, str]) -> None:
    _read(required)
    flags = ("--signer-ca-file", "--signer-token-file", "--presets", "--consumers", "--managed-key-file")
    with closed_folder() as folder, pytest.raises(SettingsError) as caught:
        _read(required | dict.fromkeys(flags, f"{folder}/file"))
    assert sorted(line.split(":")[0] for line in caught.value.lines) == sorted(flags)


def test_signers_can_be_listed(required: dict[str, str]) -> None:
    assert _read(required | {"--signers": "127.0.0.1:1, [::1]:2"}).signers == (
        TcpAddress("127.0.0.1", 1),
        TcpAddress("::1", 2),
    )


def test_the_environment_spells_settings_with_its_own_prefix(required: dict[str, str]) -> None:
    assert _read(required, BYOK_OPERATOR_WORKERS="3", BYOK_OPERATOR_SERVICE_HOST="10.0.0.1").workers == 3


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--kubernetes", "/nowhere", "'in-cluster' or a kubeconfig file that exists"),
        ("--signers", "signer", "HOST:PORT"),
        ("--signers", "", "expected a value"),
        ("--signer-ca-file", "/nowhere/ca.crt", "in a folder that exists"),
        ("--signer-ca-file", "/", "a file, which need not exist yet"),
        ("--signer-tls", "cert-manager", "'self-managed' or 'external'"),
        ("--signer-tls", "self-managed", "--signer-tls-names together with --signer-tls self-managed"),
        ("--signer-tls-names", "signer.svc", "--signer-tls-names together with --signer-tls self-managed"),
        ("--signer-tls-names", "signer.svc.", "without a dot"),
        ("--signer-tls-names", "no name", "a host name"),
        ("--signer-tls-grace-seconds", "-1", "greater than or equal to 0"),
        ("--consumers", "/nowhere", "a file that exists"),
        ("--namespace", "Not_A_Label", "a DNS label"),
        ("--required-terms-sha256", "ab", "SHA-256"),
        ("--required-terms-sha256", "a" * 64, "only together with --required-terms"),
        ("--workers", "0", "greater than or equal to 1"),
        ("--probes", "1000", "less than or equal to 256"),
        ("--require-external-id", "perhaps", "boolean"),
        ("--worker", "3", "did you mean --workers?"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(required: dict[str, str], flag: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError, match="--") as refused:
        _read(required | {flag: value})
    (line,) = refused.value.lines
    assert flag in line
    assert expected in line


def test_a_file_for_the_managed_key_needs_its_name(required: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--managed-key-file only together with --managed-key"):
        _read(required | {"--managed-key-file": str(tmp_path / "token")})


def test_the_ca_file_of_signers_may_be_yet_to_come(required: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").unlink()
    assert _read(required).signer_ca_file == tmp_path / "ca.pem"


def test_a_self_managed_certificate_is_for_the_names_that_are_listed(required: dict[str, str]) -> None:
    given = {"--signer-tls": "self-managed", "--signer-tls-names": "byok-signer, Byok-Signer.byok-system.svc"}
    settings = _read(required | given)
    assert settings.signer_tls is SignerTls.SELF_MANAGED
    assert settings.signer_tls_names == ("byok-signer", "byok-signer.byok-system.svc")


def test_consumers_are_told_one_address(required: dict[str, str], tmp_path: Path) -> None:
    flags = {"--consumers": str(tmp_path / "token"), "--signers": "a:1,b:1"}
    with pytest.raises(SettingsError, match="--consumers only with one address in --signers"):
        _read(required | flags)


def test_what_is_required_is_said_all_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        _read({})
    assert [line.partition(" ")[0] for line in refused.value.lines] == [
        "--installation",
        "--namespace",
        "--signers",
        "--signer-ca-file",
        "--signer-token-file",
    ]
