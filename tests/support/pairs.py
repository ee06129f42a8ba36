"""A signer and an operator of a test's own, in place of the operator that leads in a running cluster by default."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    cluster.operator.stop()
    try:
        for signer in signers:
            signer.start()
        for signer in signers:
            signer.wait_until_ready()
        operator.start()
        operator.wait_until_ready()
        yield
    finally:
        # Each releases the Lease, so that nobody waits until that runs out.
        for service in (operator, *signers):
            service.stop()
        cluster.operator.start()
        cluster.operator.wait_until_ready()
