"""As whom `byokctl` calls the signer: as the job that it runs in, or as a ServiceAccount that it asks a token for."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_client.client import SignerClient
from byok_client.settings import ClientSettings

_AUDIENCE = "byok-signer"
# Whether the account or the key is the wrong one, the signer must not tell; that it is a job's, only its caller can.
_OF_OWNERS = frozenset({Reason.CertifyNotAllowed, Reason.ProbeNotAllowed})
_SECONDS = 600
"""The shortest life that the API server gives a token (TokenRequest v1)."""


@contextmanager
def client_as(service_account: str | None, namespace: str) -> Iterator[SignerClient]:
    """Make a client by the environment; with the token of an account of `namespace`, if one is named."""
    settings = ClientSettings.from_environment()
    if service_account is None:
        with SignerClient(settings) as client, _named_account(namespace):
            yield client
        return
    with tempfile.TemporaryDirectory(prefix="byokctl-") as folder:
        path = Path(folder) / "token"
        path.touch(mode=0o600)
        path.write_text(_token_of(ObjectName(namespace, service_account)))
        with SignerClient(replace(settings, token_file=path)) as client:
            yield client


@contextmanager
def _named_account(namespace: str) -> Iterator[None]:
    """Add to a refusal of what only owners may do that the call was made with the token at hand: often a job's."""
    try:
        yield
    except Refusal as refusal:
        if refusal.reason not in _OF_OWNERS:
            raise
        text = (
            f"{refusal.message}. The call was made with the token of BYOK_SIGNER_TOKEN_FILE; if that is a job's, call "
            f"as an account that may: --service-account NAME, of namespace {namespace} (byok-key-owner, as a rule)"
        )
        raise Refusal(refusal.reason, text, metadata=refusal.metadata) from None


def _token_of(account: ObjectName) -> str:
    """Ask the cluster for a token (Kubernetes API, TokenRequest); the user needs create on serviceaccounts/token."""
    from byok_client.cli.cluster import in_cluster  # noqa: PLC0415 - of the extra cli; jobs have a token of their own

    token = in_cluster(lambda cluster: cluster.token(account, audience=_AUDIENCE, seconds=_SECONDS))
    if not token:
        raise Refusal(Reason.ClusterRefused, f"the API server gave no token for ServiceAccount {account}")
    return token
