"""Where calls go: AWS's own rules by Region, or what the installation says."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from byok_api.errors import Reason
from byok_api.references import KeyArn, ObjectName
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.endpoints import Endpoints
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import KeyHandle
from byok_signer.kms.transport import Transport

CONFIG = KmsConfig(installation="prod")
PRIVATE = "https://kms.internal.example:8443"


def key_in(region: str, partition: str = "aws", **more: Any) -> KeyHandle:  # noqa: ANN401 - fields of KeyHandle
    arn = KeyArn(f"arn:{partition}:kms:{region}:111122223333:key/k-1")
    return KeyHandle(name=ObjectName("team", "photo"), arn=arn, external_id="byok:prod:team/photo", **more)


def hosts(config: KmsConfig, key: KeyHandle) -> tuple[str, str]:
    endpoints = Endpoints(config)
    return str(endpoints.kms(key, key.arn, "Sign").url), str(endpoints.sts(key.arn).url)


@pytest.mark.parametrize(
    ("region", "partition", "flags", "kms", "sts"),
    [
        ("eu-central-1", "aws", {}, "kms.eu-central-1.amazonaws.com", "sts.eu-central-1.amazonaws.com"),
        ("us-east-1", "aws", {}, "kms.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com"),
        ("cn-north-1", "aws-cn", {}, "kms.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn"),
        ("us-east-1", "aws", {"fips": True}, "kms-fips.us-east-1.amazonaws.com", "sts-fips.us-east-1.amazonaws.com"),
        ("eu-west-1", "aws", {"dualstack": True}, "kms.eu-west-1.api.aws", "sts.eu-west-1.api.aws"),
    ],
)
def test_the_region_and_partition_are_the_arns(
    region: str, partition: str, flags: dict[str, Any], kms: str, sts: str
) -> None:
    config = dataclasses.replace(CONFIG, **flags)
    assert hosts(config, key_in(region, partition)) == (f"https://{kms}/", f"https://{sts}/")


def test_the_installations_endpoint_serves_both_services() -> None:
    config = dataclasses.replace(CONFIG, endpoint="http://127.0.0.1:4566/")
    assert hosts(config, key_in("eu-west-1")) == ("http://127.0.0.1:4566/", "http://127.0.0.1:4566/")


def test_a_key_may_name_an_endpoint_that_the_installation_allows_for_kms_only() -> None:
    config = dataclasses.replace(CONFIG, key_endpoints=frozenset({PRIVATE}))
    key = key_in("eu-west-1", endpoint=f"{PRIVATE}/")
    assert hosts(config, key) == (f"{PRIVATE}/", "https://sts.eu-west-1.amazonaws.com/")
    replica = KeyArn("arn:aws:kms:us-east-1:111122223333:key/k-1")
    key = dataclasses.replace(key, replicas=(replica,))
    assert str(Endpoints(config).kms(key, replica, "Sign").url) == "https://kms.us-east-1.amazonaws.com/"


@pytest.mark.parametrize("url", [PRIVATE, "http://kms.internal.example", "ftp://x", "https://u:p@x", "not a URL"])
def test_another_endpoint_is_refused_by_name(url: str) -> None:
    key = key_in("eu-west-1", endpoint=url)
    with pytest.raises(KmsError, match="key team/photo: endpoint") as caught:
        Endpoints(CONFIG).kms(key, key.arn, "Sign")
    assert caught.value.reason is Reason.KeyInvalid


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"endpoint": "http://kms.example.com"}, "must be https"),
        ({"endpoint": "https://kms.example.com/path"}, "scheme, host and port only"),
        ({"endpoint": "https://kms.example.com:99999"}, "Port out of range"),
        ({"endpoint": "kms.example.com"}, "must be a URL"),
        ({"key_endpoints": frozenset({"https://a?b"})}, "scheme, host and port only"),
        ({"installation": "a:b"}, "installation"),
        ({"installation": ""}, "installation"),
        ({"retries": -1}, "retries"),
        ({"attempt_timeout": 0}, "attempt_timeout"),
    ],
)
def test_a_wrong_configuration_is_refused(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        dataclasses.replace(CONFIG, **fields)


def test_the_host_header_has_the_port_unless_it_is_the_schemes_own() -> None:
    for url, host in (("http://[::1]:81", "[::1]:81"), ("https://KMS.example:443", "kms.example")):
        endpoints = Endpoints(dataclasses.replace(CONFIG, endpoint=url))
        assert endpoints.sts(key_in("eu-west-1").arn).destination.host == host


def test_a_ca_file_that_is_missing_fails_at_once() -> None:
    with pytest.raises(FileNotFoundError):
        Transport(Path("/nonexistent/ca.pem"))
