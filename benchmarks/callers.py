"""Jobs that call a signer in a cluster: their accounts, rights, tokens and channels."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from byok_api.references import ObjectName
from tests.testenv.deployment import AUDIENCE
from tests.testenv.service import Service
from tests.testenv.system import Cluster

_RBAC = "rbac.authorization.k8s.io"


def add_callers(cluster: Cluster, namespace: str, count: int, *, recipes_in: str) -> list[str]:
    """Make accounts in a namespace that may sign under the recipes of another, and a token for each."""
    accounts = [ObjectName(namespace, f"job-{number}") for number in range(count)]
    subjects = [{"kind": "ServiceAccount", "namespace": each.namespace, "name": each.name} for each in accounts]
    binding: dict[str, Any] = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"callers-of-{namespace}", "namespace": recipes_in},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "byok-signer-user"},
        "subjects": subjects,
    }
    made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
    made += [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": each.name, "namespace": each.namespace}}
        for each in accounts
    ]
    cluster.plane.kubectl.apply(*made, binding)
    return [cluster.plane.token(account, audience=AUDIENCE) for account in accounts]


@asynccontextmanager
async def channel_to(cluster: Cluster, signer: Service) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel of its own."""
    credentials = grpc.ssl_channel_credentials(cluster.deployment.ca_file.read_bytes())
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(signer.address, credentials, options) as channel:
        yield channel
