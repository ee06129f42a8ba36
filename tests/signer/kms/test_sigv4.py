"""The signer's own SigV4 yields the very headers that botocore's does."""

import datetime as dt

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byok_signer.kms.sigv4 import Credentials, Destination, RequestSigner

_SECRETS = st.text("abcXYZ019+/=", min_size=1, max_size=40)
CREDENTIALS = st.builds(Credentials, st.text("AKIS0123", min_size=1), _SECRETS, st.none() | _SECRETS)
DESTINATIONS = st.builds(
    Destination,
    st.sampled_from(["kms", "sts"]),
    st.sampled_from(["eu-central-1", "us-gov-west-1"]),
    st.sampled_from(["kms.eu-central-1.amazonaws.com", "127.0.0.1:4566", "[::1]:81"]),
    st.sampled_from(["application/x-amz-json-1.1", "application/x-www-form-urlencoded; charset=utf-8"]),
    st.none() | st.sampled_from(["TrentService.Sign", "TrentService.GetPublicKey"]),
)
SECONDS = st.floats(min_value=0, max_value=4_000_000_000)


def by_botocore(destination: Destination, credentials: Credentials, body: bytes, now: float) -> dict[str, str]:
    headers = {"Content-Type": destination.content_type, "Host": destination.host}
    if destination.target:
        headers["X-Amz-Target"] = destination.target
    request = AWSRequest("POST", f"https://{destination.host}/", headers, data=body)
    moment = dt.datetime.fromtimestamp(int(now), dt.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: moment)
        identity = BotocoreCredentials(credentials.access_key, credentials.secret_key, credentials.token)
        botocore.auth.SigV4Auth(identity, destination.service, destination.region).add_auth(request)
    return dict(request.headers.items())


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(DESTINATIONS, CREDENTIALS, st.binary(max_size=6000), SECONDS)
def test_headers_equal_those_of_botocore(
    destination: Destination, credentials: Credentials, body: bytes, now: float
) -> None:
    own = RequestSigner().sign(destination, credentials, body, now=now).decode()
    assert own.endswith("\r\n")
    headers = dict(line.split(": ", 1) for line in own.split("\r\n")[:-1])
    assert headers == by_botocore(destination, credentials, body, now)


@given(
    st.lists(
        st.tuples(DESTINATIONS, CREDENTIALS, st.sampled_from([b"", b"{}"]), st.sampled_from([0, 0.9, 1, 86400])),
        max_size=8,
    )
)
def test_what_is_remembered_changes_nothing(calls: list[tuple[Destination, Credentials, bytes, float]]) -> None:
    signer = RequestSigner()
    for destination, credentials, body, now in calls:
        fresh = RequestSigner().sign(destination, credentials, body, now=now)
        assert signer.sign(destination, credentials, body, now=now) == fresh
        assert signer.sign(destination, credentials, body, now=now) == fresh


def test_identities_do_not_print_their_secrets() -> None:
    credentials, signer = Credentials("AKIA1", "hush", "quiet"), RequestSigner()
    signer.sign(Destination("kms", "eu-central-1", "localhost", "text/plain", None), credentials, b"", now=0)
    assert repr(credentials) == "Credentials(access_key='AKIA1')"
    assert "quiet" not in repr(vars(signer))
