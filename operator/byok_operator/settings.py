"""The operator's settings: one table; flags, environment and file are read by `byok_service.settings`."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from byok_service.installation import InstallationSettings
from byok_service.setting_types import (
    IN_CLUSTER,
    Cluster,
    File,
    Folder,
    Host,
    HttpAddress,
    LogLevel,
    Namespace,
    Setting,
    TcpAddress,
    refuse,
)
from byok_service.settings import Program


def _addresses(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


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
        Annotated[tuple[HttpAddress, ...], BeforeValidator(_addresses), Field(min_length=1, max_length=64)],
        Setting("HOST:PORT,...", "The signers; a name stands for all its addresses, as that of a headless Service."),
    ]
    signer_ca_file: Annotated[
        File, Setting("FILE", "CA certificates in PEM to trust for the signers; read again when it changes.")
    ]
    signer_token_file: Annotated[
        File, Setting("FILE", "ServiceAccount token for the signers, audience byok-signer; read again when it changes.")
    ]
    signer_server_name: Annotated[
        Host | None, Setting("HOST", "Name in the signers' certificates; unset: that of --signers.")
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
        return self


PROGRAM = Program(
    "byok-operator",
    "Reconciles ByokKeys and SigningRecipes: proves that keys can be used, and says so in their status.",
    Settings,
)
