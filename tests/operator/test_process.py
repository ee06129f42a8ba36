"""`byok-operator` as a process, on a fake API server: how it begins, and with which status it ends."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from byok_operator.certificate_keeper import TLS_SECRET
from tests.support.eventually import until
from tests.support.fake_api_server import FakeApiServer
from tests.support.pki import identity
from tests.support.reconciling import manifest, recipe_spec
from tests.support.signer_certificates import install, stored

_LIMIT = 30.0
_LEASES, _LEASE = "coordination.k8s.io/leases", ("byok-system", "byok-operator")


class OperatorProcess:
    def __init__(self, folder: Path, server: FakeApiServer) -> None:
        self.folder = folder
        self.server = server
        (folder / "ca.pem").write_text(identity().chain_pem)
        (folder / "token").write_text("token")

    async def start(self, **changes: str) -> None:
        flags = {
            "kubernetes": self.server.kubeconfig(self.folder),
            "namespace": "byok-system",
            "installation": "test",
            "signers": "127.0.0.1:1",
            "signer-ca-file": str(self.folder / "ca.pem"),
            "signer-token-file": str(self.folder / "token"),
            "http-listen": "127.0.0.1:0",
        } | {name.replace("_", "-"): value for name, value in changes.items()}
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        with (self.folder / "log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "byok_operator", *arguments, stderr=log
            )

    def lines(self) -> list[dict[str, object]]:
        text = (self.folder / "log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def logged(self, message: str) -> bool:
        return any(line["message"] == message for line in self.lines())

    @property
    def holder(self) -> str:
        lease = self.server.objects[_LEASES].get(_LEASE)
        return str(lease["spec"].get("holderIdentity") or "") if lease else ""

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), _LIMIT)

    async def get(self, path: str) -> tuple[int, str]:
        (port,) = [line["http_port"] for line in self.lines() if line["message"] == "serving"]
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[OperatorProcess]:
    async with FakeApiServer() as server:
        operator = OperatorProcess(tmp_path, server)
        yield operator
        if operator.process.returncode is None:
            operator.process.kill()
            await operator.process.wait()


async def test_it_leads_serves_its_doors_and_gives_the_lead_up_on_sigterm(operator: OperatorProcess) -> None:
    await operator.start()
    await until(lambda: operator.logged("leading"), _LIMIT)
    assert operator.holder != ""
    assert await operator.get("/livez") == (200, "ok\n")
    assert await operator.get("/readyz") == (200, "ok\n")
    assert "byok_operator_leader 1.0" in (await operator.get("/metrics"))[1]
    operator.process.send_signal(signal.SIGTERM)
    assert await operator.ended() == 0
    assert operator.holder == ""


async def test_one_whose_lead_is_taken_ends_with_status_1_and_says_so(operator: OperatorProcess) -> None:
    await operator.start()
    await until(lambda: operator.logged("leading"), _LIMIT)
    lease = operator.server.objects[_LEASES][_LEASE]
    operator.server.put(_LEASES, lease | {"spec": lease["spec"] | {"holderIdentity": "another"}})
    assert await operator.ended() == 1
    assert operator.logged("ended, to be started again")
    assert operator.holder == "another"


async def test_a_follower_is_ready_and_writes_nothing(operator: OperatorProcess) -> None:
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 15}
    operator.server.put(
        _LEASES,
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "byok-operator", "namespace": "byok-system"},
            "spec": spec,
        },
    )
    operator.server.put("byok.dev/signingrecipes", manifest("SigningRecipe", "media/photo", recipe_spec()))
    await operator.start()
    await until(lambda: operator.logged("knows the cluster"), _LIMIT)
    assert await operator.get("/readyz") == (200, "ok\n")
    metrics = (await operator.get("/metrics"))[1]
    assert "byok_operator_leader 0.0" in metrics
    assert "byok_operator_queue_depth 0.0" in metrics
    assert operator.server.writes() == []


async def test_one_that_cannot_list_is_not_ready_and_says_why(operator: OperatorProcess) -> None:
    operator.server.tokens.clear()
    await operator.start()
    await until(lambda: operator.logged("not all kinds could be listed"), _LIMIT)
    status, text = await operator.get("/readyz")
    assert status == 503
    assert "ByokKey could not be listed: 401" in text
    assert (await operator.get("/livez"))[0] == 200


async def test_it_makes_the_certificates_that_it_waits_for_itself_and_serves_consumers(
    operator: OperatorProcess,
) -> None:
    server = operator.server
    install(server)
    server.put("rbac.authorization.k8s.io/clusterroles", {"metadata": {"name": "byok-operator"}})
    server.put("/namespaces", {"metadata": {"name": "media"}})
    (operator.folder / "consumers.yaml").write_text("media: [job]\nnews: [job]\n")
    await operator.start(
        signer_ca_file=str(operator.folder / "yet-to-come.pem"),
        signer_tls="self-managed",
        signer_tls_names="byok-signer.byok-system.svc",
        consumers=str(operator.folder / "consumers.yaml"),
    )
    await until(lambda: ("media", "byok-signer") in server.objects["/configmaps"], _LIMIT)
    assert stored(server, TLS_SECRET).certificate is not None
    server.put("/namespaces", {"metadata": {"name": "news"}})
    await until(lambda: ("news", "byok-signer") in server.objects["/configmaps"], _LIMIT)
    assert (await operator.get("/readyz"))[0] == 200
    metrics = (await operator.get("/metrics"))[1]
    assert 'byok_operator_signer_certificate_expiry_seconds{certificate="serving"}' in metrics
    assert 'byok_operator_consumer_namespaces{state="served"} 2.0' in metrics
    assert operator.process.returncode is None
    assert "PRIVATE KEY" not in (operator.folder / "log").read_text()


@pytest.mark.parametrize(
    ("setting", "content", "expected"),
    [
        ("kubernetes", "nonsense: true", "--kubernetes"),
        ("key_ownership", "media: nothing", "--key-ownership"),
        ("consumers", "media: nothing", "--consumers: "),
    ],
)
async def test_a_file_that_cannot_be_used_ends_it_with_status_2_and_is_named(
    operator: OperatorProcess, setting: str, content: str, expected: str
) -> None:
    (operator.folder / "bad").write_text(content)
    await operator.start(**{setting: str(operator.folder / "bad")})
    assert await operator.ended() == 2
    (line,) = (operator.folder / "log").read_text().splitlines()
    assert line.startswith(f"byok-operator: {expected}")
