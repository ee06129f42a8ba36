"""Certificates and consumers kept together: a rotation, as a job sees it."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509

from byok_operator.certificate_keeper import CA_SECRET, TLS_SECRET, CertificateKeeper
from byok_operator.certificates import KEY, Demands, is_issued_by
from byok_operator.consumer_keeper import ConsumerKeeper
from byok_operator.consumers import Consumer
from byok_operator.metrics import Metrics
from byok_operator.trust import Trust
from byok_sandbox.ca import TlsAuthority
from byok_service.kubernetes import KubernetesApi
from tests.support.fake_api_server import FakeApiServer
from tests.support.our_logs import ours
from tests.support.pki import identity
from tests.support.signer_certificates import BEGIN, HOME, NAMES, SECRETS, install, stored

CONFIG_MAPS = "/configmaps"
GRACE = timedelta(minutes=10)


class Keeping:
    def __init__(self, api: KubernetesApi, server: FakeApiServer, ca_file: Path) -> None:
        self.server = server
        self.ca_file = ca_file
        self.now = BEGIN
        metrics = Metrics(self.clock)
        self.certificates = CertificateKeeper(api, HOME, Demands(NAMES, GRACE), now=self.clock, metrics=metrics)
        self.consumers, self.nobody = (
            ConsumerKeeper(api, listed, address="s:1", namespaces=lambda: ("media",), metrics=metrics)
            for listed in ([Consumer("media", ("job",))], [])
        )
        self.trust = self.of(self.certificates, self.consumers)

    def of(self, certificates: CertificateKeeper | None, consumers: ConsumerKeeper) -> Trust:
        return Trust(certificates, consumers, ca_file=self.ca_file, seconds=self.seconds)

    def clock(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    async def look(self, after: timedelta = timedelta(seconds=15)) -> None:
        self.now += after
        await self.trust.refresh()

    def told(self) -> bytes:
        return str(self.server.objects[CONFIG_MAPS]["media", "byok-signer"]["data"]["ca.crt"]).encode()

    def served(self) -> x509.Certificate:
        certificate = stored(self.server, TLS_SECRET).certificate
        assert certificate is not None
        return certificate


@pytest.fixture
async def keeping(tmp_path: Path) -> AsyncIterator[Keeping]:
    async with FakeApiServer() as server:
        install(server)
        server.put("rbac.authorization.k8s.io/clusterroles", {"metadata": {"name": "byok-operator"}})
        api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
        yield Keeping(api, server, tmp_path / "ca.pem")
        await api.close()


async def test_the_first_look_leaves_a_job_all_it_needs(keeping: Keeping) -> None:
    await keeping.look()
    (anchor,) = x509.load_pem_x509_certificates(keeping.told())
    assert is_issued_by(keeping.served(), anchor)


async def test_a_job_hears_of_a_new_ca_a_grace_before_it_issues(keeping: Keeping) -> None:
    for _ in range(2):
        await keeping.look()
    served = keeping.served()
    secret = keeping.server.objects[SECRETS][HOME, CA_SECRET]
    data = {name: value for name, value in secret["data"].items() if name != KEY}
    keeping.server.put(SECRETS, {**secret, "data": data})
    await keeping.look()
    newest, oldest = x509.load_pem_x509_certificates(keeping.told())
    assert is_issued_by(served, oldest)
    await keeping.look()
    await keeping.look(GRACE - timedelta(seconds=1))
    assert keeping.served() == served
    await keeping.look(timedelta(seconds=1))
    assert is_issued_by(keeping.served(), newest)


async def test_a_consumer_that_cannot_be_told_holds_a_rotation_up(keeping: Keeping) -> None:
    for _ in range(2):
        await keeping.look()
    served = keeping.served()
    secret = keeping.server.objects[SECRETS][HOME, CA_SECRET]
    keeping.server.put(SECRETS, {**secret, "data": {**secret["data"], KEY: ""}})
    for _ in range(3):
        # The consumers' keeper does not get round to looking.
        await keeping.certificates.refresh(keeping.consumers.known)
        keeping.now += timedelta(days=1)
    assert keeping.served() == served


async def test_consumers_are_told_of_anothers_ca_by_its_file_once_that_is_there(
    keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    trust = keeping.of(None, keeping.consumers)
    for _ in range(3):
        await trust.refresh()
    (record,) = ours(caplog)
    assert f"--signer-ca-file {keeping.ca_file}: cannot be read" in str(vars(record)["found"])
    keeping.ca_file.write_text(identity().chain_pem)
    await trust.refresh()
    assert keeping.told().decode() == identity().chain_pem
    assert keeping.server.objects[SECRETS][HOME, CA_SECRET].get("data") is None


async def test_consumers_follow_anothers_ca_and_keep_the_last_good_one(keeping: Keeping) -> None:
    trust = keeping.of(None, keeping.consumers)
    first, second = (TlsAuthority.create(now=BEGIN).trust_anchor_pem for _ in range(2))
    for content, told in (
        (first, first),
        (first + second, first + second),
        (second, second),
        ("", second),
        (first[:-40], second),
        (first, first),
    ):
        keeping.ca_file.write_text(content)
        await trust.refresh()
        assert keeping.told().decode() == told
    keeping.ca_file.unlink()
    await trust.refresh()
    assert keeping.told().decode() == first


async def test_consumers_are_told_nothing_but_certificates(keeping: Keeping) -> None:
    authority = TlsAuthority.create(now=BEGIN)
    pair, anchor = authority.issue(now=BEGIN), authority.trust_anchor_pem
    keeping.ca_file.write_bytes("Zertifikat von Müller\n".encode("latin-1") + f"{anchor}{pair.key_pem}".encode())
    await keeping.of(None, keeping.consumers).refresh()
    assert keeping.told().decode() == anchor


async def test_what_goes_wrong_is_logged_once(keeping: Keeping, caplog: pytest.LogCaptureFixture) -> None:
    keeping.server.remove(SECRETS, HOME, CA_SECRET)
    for _ in range(3):
        await keeping.look()
    assert [record.message for record in ours(caplog)] == ["certificates or consumers not kept"]


async def test_a_bug_in_one_keeper_is_told_and_stops_neither_the_other_nor_the_operator(
    keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    await keeping.look()
    del keeping.server.objects[CONFIG_MAPS]["media", "byok-signer"]
    secret = keeping.server.objects[SECRETS][HOME, CA_SECRET]
    # Nothing that an API server says.
    keeping.server.answers.append(web.json_response({**secret, "metadata": None, "data": None}))
    await keeping.look()
    assert "look_at_certificates failed: TypeError" in str(vars(ours(caplog)[0])["found"])
    assert keeping.told() == keeping.certificates.bundle
    await keeping.look()
    assert len(ours(caplog)) == 1


async def test_without_consumers_no_ca_is_looked_for(keeping: Keeping, caplog: pytest.LogCaptureFixture) -> None:
    await keeping.of(None, keeping.nobody).refresh()
    assert keeping.server.writes() == []
    assert ours(caplog) == []


async def test_certificates_are_rotated_where_there_are_no_consumers(keeping: Keeping) -> None:
    trust = keeping.of(keeping.certificates, keeping.nobody)
    await trust.refresh()
    served = keeping.served()
    secret = keeping.server.objects[SECRETS][HOME, CA_SECRET]
    keeping.server.put(SECRETS, {**secret, "data": {**secret["data"], KEY: ""}})
    for after in (timedelta(0), timedelta(0), GRACE):
        keeping.now += after
        await trust.refresh()
    assert keeping.served() != served
