"""The signer's settings: one table, read from flags, the environment and a file, in this order of precedence.

A setting has one name in three spellings: `--token-issuer`, `BYOK_SIGNER_TOKEN_ISSUER`, and `token-issuer:` in the
YAML file. `read_settings` is a function of its arguments and of the files that they name; nothing else reads the
environment.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from byok_api.manifests import ManifestError, load_documents
from byok_signer.settings_types import (
    Audit,
    CheckpointKey,
    File,
    Folder,
    Host,
    HttpAddress,
    Installation,
    ListenAddress,
    LogLevel,
    Name,
    Namespace,
    RoleArn,
    Setting,
    TcpAddress,
    Terms,
    UnixSocket,
    Url,
    Urls,
    refuse,
)

PREFIX = "BYOK_SIGNER_"
_CONFIG = "config"
_CONFIG_LIMIT = 64 * 1024
_MEBIBYTE = 1024 * 1024
# The client's variables share the prefix, and a job that runs beside the signer may have them set.
_CLIENT_VARIABLES = frozenset({"BYOK_SIGNER_ADDRESS", "BYOK_SIGNER_CA_FILE", "BYOK_SIGNER_TOKEN_FILE"})
# A Service named byok-signer makes the kubelet set these in every pod of its namespace (Kubernetes, "Accessing the
# Service", environment variables): they must neither be settings nor be refused as unknown ones.
_SERVICE_LINK = re.compile(
    r"BYOK_SIGNER_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class SettingsError(Exception):
    """Settings that cannot be used: one line for each, naming the setting and what is expected."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Settings(BaseModel):
    """Everything that an installation can choose about its signer, checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    manifests: Annotated[
        Folder, Setting("FOLDER", "Manifests of ByokKeys, SigningRecipes and Namespaces; watched for changes.")
    ]
    presets: Annotated[
        Folder | None, Setting("FOLDER", "Manifests of the preset recipes, read into the presets namespace.")
    ] = None
    presets_namespace: Annotated[
        Namespace, Setting("NAMESPACE", "Where parents of recipes are looked for first; its names are reserved.")
    ] = "byok-system"
    managed_key: Annotated[
        Name | None,
        Setting("NAMESPACE/NAME", "ByokKey behind recipes with kmsMode managed; without it they cannot sign."),
    ] = None
    installation: Annotated[
        Installation,
        Setting(
            "NAME", "This installation's name in external ids, byok:NAME:<namespace>/<key>; unique to the cluster."
        ),
    ]
    required_terms: Annotated[
        Terms | None,
        Setting("TERMS", "Terms that each ByokKey must acknowledge, as its acknowledgement.terms; unset: none."),
    ] = None

    listen: Annotated[
        ListenAddress,
        Setting("ADDRESS", "Where gRPC is served: HOST:PORT with TLS, or unix:/PATH in plaintext."),
    ] = TcpAddress("0.0.0.0", 8443)  # noqa: S104 - a pod serves on all its addresses, behind TLS
    tls_cert_file: Annotated[
        File | None, Setting("FILE", "Certificate chain for --listen in PEM, leaf first; read again when it changes.")
    ] = None
    tls_key_file: Annotated[File | None, Setting("FILE", "Private key of --tls-cert-file in PEM.")] = None
    http_listen: Annotated[
        HttpAddress,
        Setting("HOST:PORT", "Where /metrics, /livez and /readyz are served, in plaintext."),
    ] = TcpAddress("0.0.0.0", 9090)  # noqa: S104 - Prometheus and the kubelet call from outside the pod
    max_message_bytes: Annotated[
        Annotated[int, Field(ge=_MEBIBYTE // 8, le=16 * _MEBIBYTE)],
        Setting("BYTES", "Largest gRPC message; the default takes a stream's 64 claims of 64 KiB."),
    ] = 5 * _MEBIBYTE
    max_concurrent_calls: Annotated[
        Annotated[int, Field(ge=1, le=100_000)],
        Setting("COUNT", "Calls served at once; more are answered RESOURCE_EXHAUSTED."),
    ] = 1024
    max_connections: Annotated[
        Annotated[int, Field(ge=1, le=100_000)],
        Setting("COUNT", "Connections kept at once; more are closed."),
    ] = 1024
    max_calls_per_caller: Annotated[
        Annotated[int, Field(ge=1, le=100_000)],
        Setting("COUNT", "Calls of one ServiceAccount served at once; more are answered CallerLimited."),
    ] = 256
    max_streams_per_caller: Annotated[
        Annotated[int, Field(ge=1, le=100_000)],
        Setting("COUNT", "Streams of one ServiceAccount open at once; more are answered CallerLimited."),
    ] = 16
    max_bytes_per_caller: Annotated[
        Annotated[int, Field(ge=_MEBIBYTE)],
        Setting("BYTES", "Bytes of one ServiceAccount's messages worked on at once; its streams wait beyond that."),
    ] = 64 * _MEBIBYTE
    idle_seconds: Annotated[
        Annotated[float, Field(ge=1, le=86_400)],
        Setting("SECONDS", "How long a connection or stream may stay open with nothing under way."),
    ] = 300
    drain_seconds: Annotated[
        Annotated[float, Field(ge=0, le=3600)],
        Setting("SECONDS", "How long calls may go on after SIGTERM; less than the pod's termination grace period."),
    ] = 6

    token_issuer: Annotated[
        Annotated[str, Field(min_length=1, max_length=1024)],
        Setting("ISSUER", "Issuer of the callers' ServiceAccount tokens, compared exactly."),
    ]
    token_audience: Annotated[
        Annotated[str, Field(min_length=1, max_length=256)], Setting("AUDIENCE", "Audience that a token must name.")
    ] = "byok-signer"  # noqa: S105 - an audience is a public name
    token_jwks_file: Annotated[File | None, Setting("FILE", "The issuer's public keys as a JWK set.")] = None
    token_jwks_url: Annotated[Url | None, Setting("URL", "Where the issuer's JWK set is fetched from instead.")] = None
    token_jwks_ca_file: Annotated[
        File | None, Setting("FILE", "CA certificates in PEM to trust for --token-jwks-url; unset: the system's.")
    ] = None

    quota_per_second: Annotated[
        Annotated[float, Field(gt=0, le=1_000_000)],
        Setting("COUNT", "Signatures a second that AWS grants each account, Region and key family to all replicas."),
    ] = 1000
    replicas: Annotated[
        Annotated[int, Field(ge=1, le=10_000)],
        Setting("COUNT", "Signers that share the quota, unless --replicas-service counts them."),
    ] = 1
    replicas_service: Annotated[
        Host | None, Setting("HOST", "Name of a headless Service whose addresses are the signers that share the quota.")
    ] = None

    audit: Annotated[Audit, Setting("FILE|stdout", "Where audit records are written.")]
    checkpoint_key: Annotated[
        CheckpointKey | None,
        Setting("ARN", "KMS key that signs the audit chain's head now and then; one that no ByokKey names."),
    ] = None
    checkpoint_minutes: Annotated[
        Annotated[float, Field(gt=0, le=1440)],
        Setting("MINUTES", "Time between two checkpoints while records are written."),
    ] = 60

    aws_endpoint: Annotated[
        Url | None, Setting("URL", "Endpoint for every KMS and STS call in place of AWS's own.")
    ] = None
    aws_key_endpoints: Annotated[
        Urls,
        Setting("URL,...", "Endpoints that a ByokKey may name in spec.aws.endpoint."),
    ] = ()
    aws_ca_file: Annotated[
        File | None, Setting("FILE", "CA certificates in PEM to trust for KMS and STS; unset: the system's.")
    ] = None
    aws_use_fips: Annotated[bool, Setting("true|false", "Use AWS's FIPS endpoints.")] = False
    aws_use_dualstack: Annotated[bool, Setting("true|false", "Use AWS's dual-stack endpoints (IPv4 and IPv6).")] = False
    aws_role: Annotated[
        RoleArn | None,
        Setting(
            "ARN", "Role assumed, with the key's external id, for each key that names none: every key then has one."
        ),
    ] = None

    log_level: Annotated[LogLevel, Setting("|".join(LogLevel), "How much is logged, as JSON on standard error.")] = (
        LogLevel.INFO
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        pair = (self.tls_cert_file, self.tls_key_file)
        if isinstance(self.listen, TcpAddress) and None in pair:
            refuse("--tls-cert-file and --tls-key-file with a TCP --listen; plaintext is for unix:/PATH only")
        if isinstance(self.listen, UnixSocket) and pair != (None, None):
            refuse("no --tls-cert-file and --tls-key-file with --listen unix:/PATH")
        if (self.token_jwks_file is None) == (self.token_jwks_url is None):
            refuse("exactly one of --token-jwks-file and --token-jwks-url")
        if self.token_jwks_ca_file is not None and self.token_jwks_url is None:
            refuse("--token-jwks-ca-file only together with --token-jwks-url")
        return self


def read_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read flags, then the environment, then the file that `--config` names; SettingsError lists all that is wrong.

    `--help` prints and raises SystemExit(0), as argparse does.
    """
    flags = _read_flags(arguments)
    variables = _read_environment(environ)
    config = flags.pop(_CONFIG, None) or variables.pop(_CONFIG, None)
    variables.pop(_CONFIG, None)
    given = (_read_file(config) if config else {}) | variables | flags
    # An empty path would be the working directory.
    empty = [f"{source.origin}: expected a value, found ''" for source in given.values() if source.value == ""]
    if empty:
        raise SettingsError(*empty)
    try:
        return Settings.model_validate({name: source.value for name, source in given.items()})
    except ValidationError as error:
        raise SettingsError(*_explain(error, given)) from None


def settings_or_exit(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings; what is wrong goes to standard error, one line each, and ends the process with status 2."""
    try:
        return read_settings(arguments, environ)
    except SettingsError as error:
        exit_for(error)


def exit_for(error: SettingsError) -> NoReturn:
    """Print what is wrong with the settings and end the process with status 2."""
    for line in error.lines:
        print(f"byok-signer: {line}", file=sys.stderr)  # noqa: T201 - the user's answer, before logging exists
    raise SystemExit(2)


@dataclass(frozen=True)
class _Given:
    value: object
    origin: str


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _setting(field: FieldInfo) -> Setting:
    return next(item for item in field.metadata if isinstance(item, Setting))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; byok-signer --help lists all settings")


def _parser() -> _Parser:
    parser = _Parser(
        prog="byok-signer",
        usage="byok-signer [--config FILE] [--SETTING VALUE]...",
        description="Signs C2PA claims with keys held in AWS KMS, over gRPC.",
        epilog="A flag wins over its environment variable, which wins over the file. In the file a setting has its "
        "flag's name without the dashes. Wrong settings are named, one line each, and end the process with status 2.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    config = f"YAML file of settings. [{_variable(_CONFIG)}]"
    parser.add_argument(_flag(_CONFIG), dest=_CONFIG, metavar="FILE", help=config)
    for name, field in Settings.model_fields.items():
        setting = _setting(field)
        text = f"{setting.meaning} [{_variable(name)}; {_default(field)}]".replace("%", "%%")
        parser.add_argument(_flag(name), dest=name, metavar=setting.form, help=text)
    return parser


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, ()):
        return "unset"
    if isinstance(field.default, bool):
        return f"default {str(field.default).lower()}"
    return f"default {field.default}"


def _read_flags(arguments: Sequence[str]) -> dict[str, _Given]:
    values, unknown = _parser().parse_known_args(arguments)
    if unknown:
        raise SettingsError(_unknown(unknown[0], [_flag(name) for name in Settings.model_fields]))
    return {name: _Given(value, _flag(name)) for name, value in vars(values).items()}


def _read_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    names = {_variable(name): name for name in (_CONFIG, *Settings.model_fields)}
    ours = [name for name in environ if name.startswith(PREFIX) and name not in _CLIENT_VARIABLES]
    unknown = sorted(name for name in ours if name not in names and _SERVICE_LINK.fullmatch(name) is None)
    if unknown:
        raise SettingsError(*(_unknown(name, list(names)) for name in unknown))
    # Templates leave a variable empty when they mean unset.
    return {names[name]: _Given(environ[name], name) for name in ours if name in names and environ[name]}


def _read_file(given: _Given) -> dict[str, _Given]:
    source = f"{given.origin} {given.value}"
    try:
        with Path(str(given.value)).open("rb") as file:
            content = file.read(_CONFIG_LIMIT + 1)
    except OSError as error:
        raise SettingsError(f"{source}: cannot be read: {error.strerror}") from None
    if len(content) > _CONFIG_LIMIT:
        raise SettingsError(f"{source}: larger than {_CONFIG_LIMIT} bytes")
    document = _load_mapping(content, source)
    names = {_flag(name).removeprefix("--"): name for name in Settings.model_fields}
    unknown = [key for key in document if key not in names]
    if unknown:
        raise SettingsError(*(f"{source}: {_unknown(key, list(names))}" for key in unknown))
    return {
        names[key]: _Given(value, f"{key} in {given.value}") for key, value in document.items() if value is not None
    }


def _load_mapping(content: bytes, source: str) -> dict[str, Any]:
    try:
        documents = load_documents(content, source)
    except ManifestError as error:
        raise SettingsError(error.message) from None
    if len(documents) > 1:
        raise SettingsError(f"{source}: expected one YAML document, found {len(documents)}")
    return documents[0] if documents else {}


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.partition("=")[0], known, n=1)
    hint = f"did you mean {close[0]}?" if close else "byok-signer --help lists all settings"
    return f"{name[:80]}: no such setting; {hint}"


def _explain(error: ValidationError, given: Mapping[str, _Given]) -> list[str]:
    """Turn pydantic's findings into one line for each setting."""
    lines: dict[str, str] = {}
    for finding in error.errors(include_url=False, include_context=False):
        name = str(finding["loc"][0]) if finding["loc"] else ""
        if not name:
            line = finding["msg"]
        elif name not in given:
            line = f"{_flag(name)} ({_variable(name)}): required: {_setting(Settings.model_fields[name]).meaning}"
        else:
            line = f"{given[name].origin}: {finding['msg']}, found {str(given[name].value)[:120]!r}"
        lines.setdefault(name, line)
    return list(lines.values())
