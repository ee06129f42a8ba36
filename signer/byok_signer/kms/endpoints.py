"""Where a key's Region is reached: AWS's own rules by way of botocore, unless the installation says otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointResolutionError
from botocore.loaders import create_loader
from yarl import URL

from byok_api.errors import Reason
from byok_api.references import KeyArn
from byok_signer.kms.config import KmsConfig, check_endpoint
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import KeyHandle
from byok_signer.kms.sigv4 import Destination

_DEFAULT_PORTS: Mapping[str, int] = MappingProxyType({"http": 80, "https": 443})
_JSON = "application/x-amz-json-1.1"
_FORM = "application/x-www-form-urlencoded; charset=utf-8"


@dataclass(frozen=True)
class Endpoint:
    """One operation of one service in one Region."""

    url: URL
    destination: Destination


class Endpoints:
    """Finds endpoints, and remembers them; reads botocore's rules from disk when made."""

    def __init__(self, config: KmsConfig) -> None:
        self._config = config
        loader = create_loader()
        partitions = loader.load_data("partitions")
        self._rules = {
            service: EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), partitions)
            for service in ("kms", "sts")
        }
        self._known: dict[tuple[str, str, str | None, str], Endpoint] = {}

    def kms(self, key: KeyHandle, arn: KeyArn, operation: str) -> Endpoint:
        """Find the endpoint of `arn`, the key itself or a replica; `KeyInvalid` if the key asks for a forbidden one."""
        # An endpoint stands in one Region, so it is not the replicas'.
        chosen = self._allowed(key) if key.endpoint and arn not in key.replicas else self._config.endpoint
        return self._find("kms", arn, chosen, operation)

    def sts(self, arn: KeyArn) -> Endpoint:
        """Find STS in the Region of `arn`, so that a Region depends on no other."""
        return self._find("sts", arn, self._config.endpoint, "")

    def _allowed(self, key: KeyHandle) -> str:
        try:
            chosen = check_endpoint(key.endpoint or "")
        except ValueError as error:
            raise KmsError(Reason.KeyInvalid, f"key {key.name}: {error}") from error
        if chosen not in self._config.key_endpoints:
            raise KmsError(
                Reason.KeyInvalid,
                f"key {key.name}: endpoint {chosen} is not one that this installation allows to keys; "
                "remove spec.aws.endpoint, or ask the platform team to allow it",
            )
        return chosen

    def _find(self, service: str, arn: KeyArn, chosen: str | None, operation: str) -> Endpoint:
        place = (service, arn.region, chosen, operation)
        endpoint = self._known.get(place)
        if endpoint is None:
            url = chosen or self._by_rule(service, arn)
            endpoint = self._known[place] = _endpoint(service, arn.region, url, operation)
        return endpoint

    def _by_rule(self, service: str, arn: KeyArn) -> str:
        wanted = {"Region": arn.region, "UseFIPS": self._config.fips, "UseDualStack": self._config.dualstack}
        if service == "sts":
            wanted["UseGlobalEndpoint"] = False
        try:
            url: str = self._rules[service].resolve_endpoint(**wanted).url
        except EndpointResolutionError as error:
            raise KmsError(Reason.KeyInvalid, f"{arn}: AWS has no endpoint of {service} there: {error}") from error
        return url


def _endpoint(service: str, region: str, url: str, operation: str) -> Endpoint:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if parts.port is not None and parts.port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{parts.port}"
    content_type, target = (_JSON, f"TrentService.{operation}") if service == "kms" else (_FORM, None)
    return Endpoint(URL(f"{parts.scheme}://{host}/"), Destination(service, region, host, content_type, target))
