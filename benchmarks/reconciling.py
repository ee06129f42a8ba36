"""`make bench-operator`: thousands of keys and recipes on a real control plane, with a KMS that costs next to nothing.

Writes docs/benchmarks-operator.md. `--count` makes it shorter; the page is then left as it is.
"""

import argparse
import asyncio
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.console import Console

from benchmarks.latencies import Latencies, measure_latencies
from benchmarks.machine import calibrate
from benchmarks.measuring import cpu_seconds, peak_mebibytes
from benchmarks.objects import Fleet, fleet, in_pairs
from benchmarks.questions import Questions, count_questions
from benchmarks.reporting import Section, Table, at_most, none, page_of_one, show
from benchmarks.stand_in import Files, StandIn, stand_in
from byok_api.algorithms import SigningAlgorithm
from byok_service.kubernetes import BYOK_KEYS, SIGNING_RECIPES, JsonObject, KubernetesApi
from tests.support.pki import identity
from tests.testenv.service import Service
from tests.testenv.system import Cluster, running_cluster

COUNT = 5_000
_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-operator.md"
_AT_ONCE = 16
"""Writes at once: as many as the operator has workers."""
_PATIENCE = 900.0
_LOOK = 1.0
_QUIET = 10.0
"""Seconds without work after which a restarted operator is taken to have none."""
_RESOURCES = {"ByokKey": BYOK_KEYS, "SigningRecipe": SIGNING_RECIPES}
_KOPF_ALONE = "benchmarks.kopf_alone"


@dataclass(frozen=True)
class Costs:
    """What keys and recipes cost the operator and the API server."""

    cold: float
    """Seconds from the start of the operator's process to the last object being Ready."""
    bare: float
    """Seconds for as many status writes of the same size, by a client that does nothing else."""
    writes: int
    """Statuses written from cold."""
    writes_on_restart: int
    peak: float
    """MiB."""
    kopf: float
    """MiB that kopf holds with handlers that do nothing."""
    cpu: float
    """Seconds of the operator's CPU from cold."""


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="Keys, and as many recipes.")
    parser.add_argument("--signatures", type=int, default=100_000, help="Signatures for the count of reviews.")
    arguments = parser.parse_args()
    console = Console()
    with TemporaryDirectory(prefix="byok-bench-") as folder:
        section = _measured(Path(folder) / "cluster", arguments.count, arguments.signatures, console)
    show(section, console)
    if arguments.count == COUNT:
        calibration = calibrate()
        head = (
            f"By `make bench-operator`, on a machine that verifies a P-256 signature in {calibration.verify:.0f} us "
            "(that of the project's aims: 46). API server, etcd, KMS's stand-in, signer and operator share two cores."
        )
        _PAGE.write_text(page_of_one([head], section))
    return 0


def _measured(folder: Path, count: int, signatures: int, console: Console) -> Section:
    def say(text: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')} {text}")

    say(f"making {count} keys with certificates")
    made = fleet(count)
    with running_cluster(folder, say) as cluster, _kms(cluster, made) as kms:
        cluster.operator.stop()
        cluster.signer.stop()
        signer = cluster.deployment.signer("signer-bench", flags=_signer_flags(cluster, kms))
        signer.start()
        operator = cluster.deployment.operator("operator-bench", signers=signer.address)
        say(f"applying {2 * count} objects")
        asyncio.run(_applied(cluster, made))
        signer.wait_until_ready()
        try:
            costs = _costs(cluster, operator, count, say)
            say("following single objects")
            latencies = asyncio.run(measure_latencies(cluster, signer))
            say(f"making {signatures} signatures")
            questions = asyncio.run(count_questions(cluster, signer, signatures))
        finally:
            operator.stop()
            signer.stop()
    return _section(count, costs, latencies, questions)


@contextmanager
def _kms(cluster: Cluster, made: Fleet) -> Iterator[StandIn]:
    signer_folder = cluster.folder / "signer"
    signing_key = identity(SigningAlgorithm.ES256).private_key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    files = Files(signer_folder / "tls.crt", signer_folder / "tls.key", signing_key, made.private_keys)
    with stand_in(files) as kms:
        yield kms


def _signer_flags(cluster: Cluster, kms: StandIn) -> dict[str, object]:
    return {
        "aws-endpoint": kms.url,
        "aws-ca-file": cluster.deployment.ca_file,
        "quota-per-second": 1_000_000,
        "max-calls-per-caller": 4096,
        "max-concurrent-calls": 4096,
    }


async def _applied(cluster: Cluster, made: Fleet) -> None:
    for namespace in made.namespaces:
        cluster.plane.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    api = await KubernetesApi.connect(str(cluster.plane.kubeconfig))
    try:
        documents = in_pairs(made)

        async def create() -> None:
            for document in documents:
                resource = _RESOURCES[document["kind"]]
                await api.create(resource, document, namespace=document["metadata"]["namespace"])

        await asyncio.gather(*(create() for _ in range(_AT_ONCE)))
    finally:
        await api.close()


def _costs(cluster: Cluster, operator: Service, count: int, say: Any) -> Costs:  # noqa: ANN401 - a function of text
    kopf = _kopf_alone(cluster, 2 * count)
    say("starting the operator")
    written, began = _status_writes(cluster), time.monotonic()
    operator.start()
    operator.daemon.wait_until(lambda: _ready(operator) == 2 * count, _PATIENCE, interval=_LOOK)
    cold, cpu = time.monotonic() - began, cpu_seconds(operator.daemon.pid)
    writes = _status_writes(cluster) - written
    say(f"all Ready after {cold:.1f} s; starting it again")
    operator.stop()
    written = _status_writes(cluster)
    operator.start()
    operator.daemon.wait_until(lambda: _is_at_rest(operator, 2 * count), _PATIENCE, interval=_LOOK)
    time.sleep(_QUIET)
    writes_on_restart = _status_writes(cluster) - written
    peak = peak_mebibytes(operator.daemon.pid)
    operator.stop()
    say("writing as many statuses with nothing else to do")
    bare = asyncio.run(_bare_writes(cluster))
    operator.start()
    operator.daemon.wait_until(lambda: _is_at_rest(operator, 2 * count), _PATIENCE, interval=_LOOK)
    return Costs(cold, bare, writes, writes_on_restart, peak, kopf, cpu)


def _kopf_alone(cluster: Cluster, objects: int) -> float:
    """Have kopf watch all that there is, with handlers that do nothing, and read what it holds."""
    kubeconfig = cluster.plane.kubeconfig_for(cluster.deployment.installation.operator_account)
    log = cluster.folder / "logs" / "kopf.log"
    command = [sys.executable, "-m", _KOPF_ALONE, str(kubeconfig), str(objects)]
    daemon = cluster.deployment.processes.start("kopf", command, log, {})
    try:
        daemon.wait_until(lambda: b"all seen" in log.read_bytes(), _PATIENCE, interval=_LOOK)
        return peak_mebibytes(daemon.pid)
    finally:
        daemon.stop()
        cluster.deployment.processes.forget(daemon)


async def _bare_writes(cluster: Cluster) -> float:
    api = await KubernetesApi.connect(
        str(cluster.plane.kubeconfig_for(cluster.deployment.installation.operator_account))
    )
    try:
        statuses = [_changed(item) for kind in _RESOURCES.values() for item in (await api.list(kind)).items]
        statuses = [each for each in statuses if each["metadata"]["namespace"].startswith("team-")]
        left = iter(statuses)

        async def write() -> None:
            for status in left:
                await api.apply(_RESOURCES[status["kind"]], status, field_manager="byok-operator", subresource="status")

        began = time.monotonic()
        await asyncio.gather(*(write() for _ in range(_AT_ONCE)))
        return time.monotonic() - began
    finally:
        await api.close()


def _changed(item: JsonObject) -> JsonObject:
    """Make another status of the same size."""
    conditions = [{**each, "message": each["message"][::-1]} for each in item["status"]["conditions"]]
    metadata = {name: item["metadata"][name] for name in ("namespace", "name", "resourceVersion")}
    status = {**item["status"], "conditions": conditions}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata, "status": status}


def _status_writes(cluster: Cluster) -> int:
    """Count the writes that the API server has seen of either kind's status."""
    metrics = cluster.plane.api.request("GET", "/metrics").decode()
    found = re.findall(
        r'^apiserver_request_total\{[^}]*group="byok\.dev"[^}]*subresource="status"[^}]*\} (\S+)$',
        metrics,
        re.MULTILINE,
    )
    return int(sum(map(float, found)))


def _metrics(service: Service) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def _value(metrics: str, pattern: str) -> float:
    return sum(map(float, re.findall(rf"^{pattern} (\S+)$", metrics, re.MULTILINE)))


def _ready(operator: Service) -> int:
    if not operator.is_ready():
        return 0
    pattern = r'byok_operator_objects\{condition="Ready",kind="\w+",status="True"\}'
    return int(_value(_metrics(operator), pattern))


def _is_at_rest(operator: Service, objects: int) -> bool:
    if not operator.is_ready():
        return False
    metrics = _metrics(operator)
    seen = _value(metrics, r"byok_operator_reconcile_seconds_count\{[^}]*\}")
    return seen >= objects and _value(metrics, "byok_operator_queue_depth") == 0


def _section(count: int, costs: Costs, latencies: Latencies, questions: Questions) -> Section:
    objects = 2 * count
    rows = [
        ["from the start of the process to the last object being Ready", f"{costs.cold:.1f} s"],
        ["as many bare status writes, 16 at once", f"{costs.bare:.1f} s"],
        ["the operator's CPU from cold", f"{costs.cpu:.1f} s"],
        ["status writes from cold", f"{costs.writes:,}"],
        ["status writes after a restart", f"{costs.writes_on_restart:,}"],
        ["peak memory of the operator", f"{costs.peak:.0f} MiB"],
        ["of that, kopf alone with the same objects", f"{costs.kopf:.0f} MiB"],
    ]
    tables = [
        Table(f"{count:,} keys and {count:,} recipes", ("", "measured"), rows),
        Table("Single objects, among all those", ("", "p50 ms", "p99 ms", "of"), latencies.rows()),
        Table("What the signer asks the API server about callers", ("", "counted"), questions.rows()),
    ]
    aims = [
        at_most("cold start, as a multiple of bare status writes", costs.cold / costs.bare, 2.0, unit="x"),
        at_most("status writes for an object", costs.writes / objects, 1.0, unit=""),
        none("status writes after a restart", costs.writes_on_restart),
        at_most("peak memory", costs.peak, 450, unit=" MiB"),
        *latencies.aims(),
    ]
    return Section("A cluster full of keys", _TEXT, tables, aims)


_TEXT = (
    "Each key has a public key and a certificate of its own; there is a recipe for each. The stand-in for KMS answers "
    "at once, so that what is measured is operator, signer and API server. Bare writes are statuses of the same size, "
    "applied server-side by a client that does nothing else, in the same run."
)

if __name__ == "__main__":
    raise SystemExit(main())
