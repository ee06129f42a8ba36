"""The operator's settings: one table; flags, environment and file are read by `byok_service.settings`."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from byok_service.installation import InstallationSettings
from byok_service.setting_types import (
    IN_CLUSTER,
    Cluster,
    File,
    Folder,
    Host,
    HttpAddress,
    LaterFile,
    LogLevel,
    Namespace,
    Setting,
    TcpAddress,
    refuse,
)
from byok_service.settings import Program


class SignerTls(StrEnum):
    """Who makes the signer's CA and serving certificate."""

    SELF_MANAGED = "self-managed"
    EXTERNAL = "external"


def _parts(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _certifiable(name: str) -> str:
    if name.endswith("."):
        refuse("host names without a dot at their end")
    return name.lower()


class Settings(InstallationSettings):
    """Everything that an installation can choose about its operator, checked."""

    kubernetes: Annotated[
        Cluster,
        Setting("in-cluster|KUBECONFIG", "How the API server is reached: as the pod's ServiceAccount, or by a file."),
    ] = IN_CLUSTER
    namespace: Annotated[
        Namespace, Setting("NAMESPACE", "The release namespace: of the Lease, the presets and the managed key.")
    ]

    signers: Annotated[
        Annotated[tuple[HttpAddress, ...], BeforeValidator(_parts), Field(min_length=1, max_length=64)],
        Setting("HOST:PORT,...", "The signers; a name stands for all its addresses, as that of a headless Service."),
    ]
    signer_ca_file: Annotated[
        LaterFile,
        Setting("FILE", "CA certificates in PEM to trust for the signers; waited for, read again when it changes."),
    ]
    signer_token_file: Annotated[
        File, Setting("FILE", "ServiceAccount token for the signers, audience byok-signer; read again when it changes.")
    ]
    signer_server_name: Annotated[
        Host | None, Setting("HOST", "Name in the signers' certificates; unset: that of --signers.")
    ] = None

    signer_tls: Annotated[
        SignerTls,
        Setting("|".join(SignerTls), "Who keeps the signers' CA and certificate, in two Secrets of --namespace."),
    ] = SignerTls.EXTERNAL
    signer_tls_names: Annotated[
        Annotated[
            tuple[Annotated[Host, AfterValidator(_certifiable)], ...], BeforeValidator(_parts), Field(max_length=64)
        ],
        Setting("HOST,...", "Names that a self-managed certificate is for."),
    ] = ()
    signer_tls_grace_seconds: Annotated[
        Annotated[float, Field(ge=0, le=86_400)],
        Setting("SECONDS", "How long a new self-managed CA has been published when a certificate of it is first used."),
    ] = 600
    consumers: Annotated[
        File | None,
        Setting(
            "FILE",
            "YAML file: by namespace, the ServiceAccounts whose jobs sign; each namespace is given address and CA.",
        ),
    ] = None

    presets: Annotated[
        Folder | None, Setting("FOLDER", "Manifests of the preset recipes, applied into the release namespace.")
    ] = None
    managed_key_file: Annotated[
        File | None, Setting("FILE", "Manifest of the managed key, applied into the release namespace.")
    ] = None

    workers: Annotated[
        Annotated[int, Field(ge=1, le=256)], Setting("COUNT", "Objects that are reconciled at once.")
    ] = 16
    probes: Annotated[
        Annotated[int, Field(ge=1, le=256)], Setting("COUNT", "Keys that signers are asked to probe at once.")
    ] = 16
    http_listen: Annotated[
        HttpAddress, Setting("HOST:PORT", "Where /metrics, /livez and /readyz are served, in plaintext.")
    ] = TcpAddress("0.0.0.0", 9090)  # noqa: S104 - Prometheus and the kubelet call from outside the pod
    log_level: Annotated[LogLevel, Setting("|".join(LogLevel), "How much is logged, as JSON on standard error.")] = (
        LogLevel.INFO
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.required_terms_sha256 is not None and self.required_terms is None:
            refuse("--required-terms-sha256 only together with --required-terms")
        if self.managed_key_file is not None and self.managed_key is None:
            refuse("--managed-key-file only together with --managed-key")
        if (self.signer_tls is SignerTls.SELF_MANAGED) != bool(self.signer_tls_names):
            refuse(f"--signer-tls-names together with --signer-tls {SignerTls.SELF_MANAGED}, and only then")
        if self.consumers is not None and len(self.signers) > 1:
            refuse("--consumers only with one address in --signers: it is the one that consumers are told")
        return self


PROGRAM = Program(
    "byok-operator",
    "Reconciles ByokKeys and SigningRecipes: proves that keys can be used, and says so in their status.",
    Settings,
)
