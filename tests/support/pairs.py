"""A signer and an operator of a test's own, in place of the operator that leads in a running cluster by default."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from byok_client import ClientSettings
from tests.testenv.service import Service
from tests.testenv.system import Cluster


@dataclass(frozen=True)
class Pair:
    """A running signer, and the operator that has it probe."""

    signer: Service
    operator: Service

    def client(self, settings: ClientSettings) -> ClientSettings:
        """Point a job to this signer."""
        return ClientSettings(
            address=self.signer.address,
            ca_file=settings.ca_file,
            token_file=settings.token_file,
            timeout=settings.timeout,
        )


@contextmanager
def in_charge(
    cluster: Cluster,
    name: str,
    *,
    both: Mapping[str, object],
    operator: Mapping[str, object] | None = None,
) -> Iterator[Pair]:
    """Start a signer and an operator with settings that `both` must be given; `operator` are those of its own.

    Afterwards the default operator leads again; what it is to undo, it undoes in its own time.
    """
    deployment = cluster.deployment
    signer = deployment.signer(f"signer-{name}", flags=both)
    asking = deployment.operator(f"operator-{name}", signers=signer.address, flags={**both, **(operator or {})})
    with leading(cluster, asking, signer):
        yield Pair(signer, asking)


@contextmanager
def leading(cluster: Cluster, operator: Service, *signers: Service) -> Iterator[None]:
    """Run an operator in place of the default one, and the signers that it asks."""
    with ExitStack() as ending:
        ending.callback(cluster.operator.wait_until_ready)
        for signer in signers:
            signer.start()
            ending.callback(signer.stop)
        # Each operator releases the Lease as it ends, so that the next one need not wait until that runs out.
        cluster.operator.stop()
        ending.callback(cluster.operator.start)
        operator.start()
        ending.callback(operator.stop)
        for service in (*signers, operator):
            service.wait_until_ready()
        yield
