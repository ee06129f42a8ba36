"""The signer's settings, in one table (byok_service.settings reads it)."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from byok_service.installation import InstallationSettings
from byok_service.proxies import Proxies, Proxy
from byok_service.setting_types import (
    Audit,
    CheckpointKey,
    Cluster,
    File,
    Folder,
    Host,
    HttpAddress,
    LaterFile,
    ListenAddress,
    LogLevel,
    Setting,
    TcpAddress,
    UnixSocket,
    Url,
    Urls,
    refuse,
)
from byok_service.settings import Program

_MEBIBYTE = 1024 * 1024


def _proxy(value: object) -> Proxy:
    if isinstance(value, Proxy):
        return value
    try:
        return Proxy.parse(value if isinstance(value, str) else "")
    except ValueError as error:
        refuse(str(error))


class Settings(InstallationSettings):
    """Everything that an installation can choose about its signer, checked."""

    kubernetes: Annotated[
        Cluster | None,
        Setting("in-cluster|KUBECONFIG", "Cluster whose ByokKeys and SigningRecipes are served to its own callers."),
    ] = None
    manifests: Annotated[
        Folder | None,
        Setting("FOLDER", "Without a cluster: manifests of ByokKeys, SigningRecipes and Namespaces, watched."),
    ] = None
    presets: Annotated[
        Folder | None,
        Setting("FOLDER", "Without a cluster: manifests of the preset recipes, read into the presets namespace."),
    ] = None
    listen: Annotated[
        ListenAddress,
        Setting("ADDRESS", "Where gRPC is served: HOST:PORT with TLS, or unix:/PATH in plaintext."),
    ] = TcpAddress("0.0.0.0", 8443)  # noqa: S104 - a pod serves on all its addresses, behind TLS
    tls_cert_file: Annotated[
        LaterFile | None,
        Setting(
            "FILE", "Certificate chain for --listen in PEM, leaf first; waited for, and read again when it changes."
        ),
    ] = None
    tls_key_file: Annotated[LaterFile | None, Setting("FILE", "Private key of --tls-cert-file in PEM.")] = None
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
    connection_age_seconds: Annotated[
        Annotated[float, Field(ge=1, le=86_400)],
        Setting(
            "SECONDS",
            "How old a connection gets, give or take a tenth, until its client connects anew, to any replica.",
        ),
    ] = 300
    drain_seconds: Annotated[
        Annotated[float, Field(ge=0, le=3600)],
        Setting("SECONDS", "How long calls may go on after SIGTERM; less than the pod's termination grace period."),
    ] = 6

    token_issuer: Annotated[
        Annotated[str, Field(min_length=1, max_length=1024)] | None,
        Setting("ISSUER", "Issuer of the callers' ServiceAccount tokens, compared exactly; the cluster names its own."),
    ] = None
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
    pod_name: Annotated[
        Host | None, Setting("NAME", "What this replica is called in audit trail and status; unset: its host's name.")
    ] = None
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
        File | None,
        Setting("FILE", "CA certificates in PEM to trust for KMS, STS and an https proxy; unset: the system's."),
    ] = None
    aws_use_fips: Annotated[bool, Setting("true|false", "Use AWS's FIPS endpoints.")] = False
    aws_use_dualstack: Annotated[bool, Setting("true|false", "Use AWS's dual-stack endpoints (IPv4 and IPv6).")] = False

    https_proxy: Annotated[
        Annotated[Proxy, BeforeValidator(_proxy)] | None,
        Setting(
            "URL",
            "HTTP proxy for KMS, STS and --token-jwks-url: http[s]://[USER:PASSWORD@]HOST[:PORT].",
            also=("https_proxy", "HTTPS_PROXY"),
            is_secret=True,
        ),
    ] = None
    no_proxy: Annotated[
        Annotated[str, Field(max_length=16 * 1024)],
        Setting(
            "HOST,...",
            "Who is asked without it: names with all below them, addresses, networks such as 10.0.0.0/8, or *.",
            also=("no_proxy", "NO_PROXY"),
        ),
    ] = ""

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
        if (self.kubernetes is None) == (self.manifests is None):
            refuse("exactly one of --kubernetes and --manifests")
        if self.kubernetes is not None and self.presets is not None:
            refuse("--presets only with --manifests; in a cluster the operator applies presets")
        sources = [source for source in (self.token_jwks_file, self.token_jwks_url) if source is not None]
        if self.manifests is not None and (self.token_issuer is None or len(sources) != 1):
            refuse("--token-issuer and exactly one of --token-jwks-file and --token-jwks-url with --manifests")
        if self.kubernetes is not None and (self.token_issuer is not None or sources):
            refuse("no --token-issuer, --token-jwks-file and --token-jwks-url with --kubernetes, which has its own")
        if self.token_jwks_ca_file is not None and self.token_jwks_url is None:
            refuse("--token-jwks-ca-file only together with --token-jwks-url")
        try:
            self.proxies()
        except ValueError as error:
            refuse(f"of --no-proxy (no_proxy, NO_PROXY) {error}")
        return self

    def proxies(self) -> Proxies:
        """Say which hosts are reached through a proxy."""
        return Proxies.parse(self.https_proxy, self.no_proxy)


PROGRAM = Program(
    name="byok-signer",
    description="Signs C2PA claims with keys held in AWS KMS, over gRPC.",
    model=Settings,
    # The client's, which a job that runs beside the signer may have set.
    foreign=frozenset({"BYOK_SIGNER_ADDRESS", "BYOK_SIGNER_CA_FILE", "BYOK_SIGNER_TOKEN_FILE"}),
)
