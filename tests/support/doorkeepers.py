"""Who says, in a Bench, who callers are and what they may do: with a cluster, or without one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from byok_sandbox.issuer import Issuer
from byok_service.kubernetes import KubernetesApi
from byok_signer.access import Access, OwnNamespaceAccess, ReviewedAccess
from byok_signer.authentication import Authenticator, JwtAuthenticator
from byok_signer.jwks import ClusterKeys, FileKeys, cluster_issuer
from byok_signer.review_desk import Observe, ReviewDesk
from byok_signer.reviews import ReviewedAuthenticator
from tests.support.reviewing_cluster import ReviewingCluster

AUDIENCE = "byok-signer"


@dataclass
class Doorkeepers:
    """The ports, and the issuer of the tokens that they take."""

    issuer: Issuer
    authenticator: Authenticator
    access: Access


def own_doorkeepers(folder: Path, *, now: Callable[[], datetime]) -> Doorkeepers:
    """Those of a signer without a cluster."""
    issuer = Issuer()
    issuer.write_jwks(folder / "jwks.json")
    keys = FileKeys(folder / "jwks.json")
    local = JwtAuthenticator(issuer=issuer.name, audience=AUDIENCE, keys=keys, clock=now)
    return Doorkeepers(issuer, local, OwnNamespaceAccess())


@asynccontextmanager
async def cluster_doorkeepers(
    cluster: ReviewingCluster,
    folder: Path,
    *,
    now: Callable[[], datetime],
    clock: Callable[[], float],
    observe: Observe,
) -> AsyncIterator[Doorkeepers]:
    """Those of a signer in a cluster."""
    async with AsyncExitStack() as stack:
        api = await KubernetesApi.connect(cluster.kubeconfig(folder))
        stack.push_async_callback(api.close)
        desk = ReviewDesk(api, clock=clock, observe=observe)
        stack.push_async_callback(desk.close)
        keys = ClusterKeys(api, clock=clock)
        stack.push_async_callback(keys.close)
        local = JwtAuthenticator(issuer=await cluster_issuer(api), audience=AUDIENCE, keys=keys, clock=now)
        authenticator = ReviewedAuthenticator(local, desk, audience=AUDIENCE)
        yield Doorkeepers(cluster.issuer, authenticator, ReviewedAccess(desk))
