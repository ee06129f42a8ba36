"""The two Secrets of the signer's certificates, over the years and whatever happens to them."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509

from byok_operator.certificate_keeper import CA_SECRET, PUBLISHED_ANNOTATION, TLS_SECRET, CertificateKeeper
from byok_operator.certificates import KEY, Demands, Pair, is_issued_by, pem_of
from byok_operator.metrics import Metrics
from byok_service.kubernetes import KubernetesApi
from tests.support.fake_api_server import FakeApiServer
from tests.support.signer_certificates import (
    BEGIN,
    HOME,
    NAMES,
    SECRETS,
    days,
    empty_secret,
    handshake,
    install,
    stored,
)

GRACE = timedelta(minutes=10)
LOOK = timedelta(seconds=15)


class Keeping:
    """A keeper with a clock of its own, and consumers that have what they were last told."""

    def __init__(self, api: KubernetesApi, server: FakeApiServer) -> None:
        self.api = api
        self.server = server
        self.now = BEGIN
        self.told: bytes | None = None
        self.metrics = Metrics(lambda: self.now)
        self.restart()

    def restart(self) -> None:
        """Let another process lead, which knows nothing."""
        demands = Demands(NAMES, GRACE)
        self.keeper = CertificateKeeper(self.api, HOME, demands, now=lambda: self.now, metrics=self.metrics)

    async def look(self, after: timedelta = LOOK) -> None:
        self.now += after
        await self.keeper.refresh(self.told)
        self.told = self.keeper.bundle

    @property
    def serving(self) -> Pair:
        found = stored(self.server, TLS_SECRET)
        assert found.certificate is not None
        assert found.key is not None
        return Pair(found.certificate, found.key)

    @property
    def authority(self) -> Pair:
        found = stored(self.server, CA_SECRET)
        assert found.certificate is not None
        assert found.key is not None
        return Pair(found.certificate, found.key)

    def take_away(self, secret: str, *names: str) -> None:
        body = self.server.objects[SECRETS][HOME, secret]
        left = {name: value for name, value in body.get("data", {}).items() if names and name not in names}
        self.server.put(SECRETS, {**body, "data": left})

    def writes(self) -> list[str]:
        return [f"{method} {path.rpartition('/')[2]}" for method, path in self.server.writes()]

    def expiry(self, certificate: str) -> float | None:
        name = "byok_operator_signer_certificate_expiry_seconds"
        return self.metrics.registry.get_sample_value(name, {"certificate": certificate})


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        install(server)
        yield server


@pytest.fixture
async def keeping(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[Keeping]:
    api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
    yield Keeping(api, server)
    await api.close()


async def test_empty_secrets_are_filled_at_once_and_a_client_that_trusts_the_bundle_connects(
    keeping: Keeping, tmp_path: Path
) -> None:
    await keeping.look()
    assert keeping.keeper.problems == ()
    assert keeping.keeper.bundle == pem_of(stored(keeping.server, TLS_SECRET).bundle)
    for name in NAMES:
        handshake(keeping.serving, keeping.keeper.bundle, name, tmp_path)


async def test_the_cas_key_is_in_one_secret_and_the_serving_key_in_the_other(keeping: Keeping) -> None:
    await keeping.look()
    serving = keeping.server.objects[SECRETS][HOME, TLS_SECRET]["data"]
    authority = keeping.server.objects[SECRETS][HOME, CA_SECRET]["data"]
    assert set(serving) == set(authority) == {"tls.crt", "tls.key", "ca.crt"}
    assert serving["tls.key"] != authority["tls.key"]


async def test_what_is_as_it_should_be_is_not_written_by_the_next_leader_either(keeping: Keeping) -> None:
    for _ in range(2):
        await keeping.look()
    writes = keeping.writes()
    assert writes == [f"PUT {CA_SECRET}", f"PUT {TLS_SECRET}", f"PUT {TLS_SECRET}"]
    for _ in range(3):
        keeping.restart()
        await keeping.look(days(1))
    assert keeping.writes() == writes


async def test_what_others_wrote_into_the_secrets_stays(keeping: Keeping) -> None:
    body = empty_secret(TLS_SECRET) | {"data": {"note": "bWluZQ=="}}
    body["metadata"]["annotations"] = {"theirs": "too"}
    keeping.server.put(SECRETS, body)
    for _ in range(2):
        await keeping.look()
    after = keeping.server.objects[SECRETS][HOME, TLS_SECRET]
    assert after["data"]["note"] == "bWluZQ=="
    assert set(after["metadata"]["annotations"]) == {"theirs", PUBLISHED_ANNOTATION}


async def test_over_the_years_whoever_heard_of_the_bundle_a_grace_ago_trusts_what_is_served(keeping: Keeping) -> None:
    seen: list[tuple[datetime, bytes]] = []
    authorities: set[x509.Certificate] = set()
    certificates: set[x509.Certificate] = set()
    await keeping.look()
    while keeping.now < BEGIN + days(9 * 365):
        for after in (days(14), LOOK, LOOK, GRACE, LOOK):
            keeping.restart()
            await keeping.look(after)
            assert keeping.keeper.bundle is not None
            seen.append((keeping.now, keeping.keeper.bundle))
            serving = keeping.serving.certificate
            late = [bundle for moment, bundle in seen if moment <= keeping.now - GRACE]
            anchors = x509.load_pem_x509_certificates(late[-1]) if late else [keeping.authority.certificate]
            assert any(is_issued_by(serving, anchor) for anchor in anchors)
            assert serving.not_valid_before_utc <= keeping.now < serving.not_valid_after_utc
            authorities.add(keeping.authority.certificate)
            certificates.add(serving)
    # Every four years, and every two months.
    assert len(authorities) == 3
    assert 45 < len(certificates) < 60
    assert stored(keeping.server, CA_SECRET).bundle == ()


async def test_a_ca_whose_key_is_taken_away_is_rotated_gently(keeping: Keeping) -> None:
    for _ in range(2):
        await keeping.look()
    before, served = keeping.authority.certificate, keeping.serving
    keeping.take_away(CA_SECRET, KEY)
    await keeping.look()
    assert keeping.authority.certificate != before
    assert stored(keeping.server, TLS_SECRET).bundle == (keeping.authority.certificate, before)
    await keeping.look()
    await keeping.look(GRACE - LOOK)
    assert keeping.serving.certificate == served.certificate
    await keeping.look(LOOK)
    assert is_issued_by(keeping.serving.certificate, keeping.authority.certificate)
    assert before in stored(keeping.server, TLS_SECRET).bundle
    await keeping.look(days(91))
    assert stored(keeping.server, TLS_SECRET).bundle == (keeping.authority.certificate,)


async def test_after_months_away_a_certificate_is_issued_that_clients_trust_and_a_new_ca_follows(
    keeping: Keeping, tmp_path: Path
) -> None:
    keeping.now = BEGIN - days(1826 * 0.8 + 10)
    for _ in range(2):
        await keeping.look()
    before = keeping.keeper.bundle
    assert before is not None
    keeping.now = BEGIN
    await keeping.look()
    handshake(keeping.serving, before, NAMES[0], tmp_path)
    await keeping.look()
    assert len(stored(keeping.server, TLS_SECRET).bundle) == 2
    handshake(keeping.serving, before, NAMES[0], tmp_path)


async def test_a_clock_that_runs_behind_is_told_and_nothing_is_made_anew(keeping: Keeping) -> None:
    await keeping.look()
    writes = keeping.writes()
    keeping.restart()
    keeping.told = None
    await keeping.look(-timedelta(hours=23))
    assert [
        f"Secret {HOME}/{name} is not valid before" in problem
        for name, problem in zip((CA_SECRET, TLS_SECRET), keeping.keeper.problems, strict=True)
    ] == [True, True]
    assert "set the clock right" in keeping.keeper.problems[0]
    assert keeping.writes() == writes


async def test_a_ca_secret_that_is_restored_from_before_a_rotation_fails_no_call(keeping: Keeping) -> None:
    for _ in range(2):
        await keeping.look()
    backup = keeping.server.objects[SECRETS][HOME, CA_SECRET]
    keeping.take_away(CA_SECRET, KEY)
    for after in (LOOK, LOOK, GRACE):
        await keeping.look(after)
    served, told = keeping.serving.certificate, keeping.told
    keeping.server.put(SECRETS, backup)
    for after in (LOOK, GRACE - LOOK):
        await keeping.look(after)
        assert keeping.serving.certificate == served
        assert set(stored(keeping.server, TLS_SECRET).bundle) == set(x509.load_pem_x509_certificates(told or b""))


async def test_a_ca_that_is_emptied_is_trusted_no_more_at_once(keeping: Keeping) -> None:
    await keeping.look()
    before = keeping.authority.certificate
    keeping.take_away(CA_SECRET)
    await keeping.look()
    assert stored(keeping.server, TLS_SECRET).bundle == (keeping.authority.certificate,)
    assert not is_issued_by(keeping.serving.certificate, before)


async def test_a_new_ca_does_not_issue_while_a_consumer_has_not_heard_of_it(keeping: Keeping) -> None:
    for _ in range(2):
        await keeping.look()
    keeping.take_away(CA_SECRET, KEY)
    await keeping.look()
    served = keeping.serving.certificate
    for _ in range(5):
        keeping.told = None
        await keeping.look(days(1))
    assert keeping.serving.certificate == served
    await keeping.look()
    await keeping.look(GRACE)
    assert keeping.serving.certificate != served


async def test_a_serving_certificate_that_is_taken_away_is_made_again_under_the_same_ca(keeping: Keeping) -> None:
    await keeping.look()
    before = keeping.authority.certificate
    keeping.take_away(TLS_SECRET)
    await keeping.look()
    assert keeping.authority.certificate == before
    assert is_issued_by(keeping.serving.certificate, before)


@pytest.mark.parametrize("missing", [CA_SECRET, TLS_SECRET])
async def test_a_secret_that_is_missing_is_named_with_what_makes_it_and_nothing_is_written(
    keeping: Keeping, missing: str
) -> None:
    keeping.server.remove(SECRETS, HOME, missing)
    await keeping.look()
    (problem,) = keeping.keeper.problems
    assert f"Secret {HOME}/{missing} is missing" in problem
    assert f"create secret generic {missing}" in problem
    assert (keeping.writes(), keeping.keeper.bundle) == ([], None)
    keeping.server.put(SECRETS, empty_secret(missing))
    await keeping.look()
    assert keeping.keeper.problems == ()


async def test_one_who_no_longer_leads_undoes_nothing(keeping: Keeping) -> None:
    other = Keeping(keeping.api, keeping.server)
    await other.look()
    authority = other.authority.certificate
    # What it read was written in the meantime.
    keeping.server.answers += [web.json_response(empty_versioned(name)) for name in (CA_SECRET, TLS_SECRET)]
    await keeping.look()
    assert "somebody else wrote it at the same time" in keeping.keeper.problems[0]
    assert keeping.authority.certificate == authority
    await keeping.look()
    assert keeping.keeper.problems == ()
    assert keeping.authority.certificate == authority


def empty_versioned(name: str) -> dict[str, object]:
    body = empty_secret(name)
    return {**body, "metadata": {**body["metadata"], "resourceVersion": "1"}}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            web.json_response({"reason": "Forbidden", "message": "no right"}, status=403),
            "Role byok-operator-certificates",
        ),
        (web.json_response({"reason": "Unknown", "message": "away"}, status=503), "it is tried again"),
    ],
)
async def test_a_no_of_the_api_server_is_told_and_the_last_bundle_stays(
    keeping: Keeping, answer: web.Response, words: str
) -> None:
    await keeping.look()
    bundle = keeping.keeper.bundle
    keeping.server.answers.append(answer)
    await keeping.look()
    assert words in keeping.keeper.problems[0]
    assert keeping.keeper.bundle == bundle
    await keeping.look()
    assert keeping.keeper.problems == ()


async def test_expiries_are_measured(keeping: Keeping) -> None:
    assert keeping.expiry("ca") is None
    await keeping.look()
    assert keeping.expiry("ca") == days(1826).total_seconds()
    assert keeping.expiry("serving") == days(90).total_seconds()
    keeping.now += days(91)
    assert keeping.expiry("serving") == -days(1).total_seconds()


async def test_no_private_key_is_logged_or_told(keeping: Keeping, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await keeping.look()
    await keeping.look(days(70))
    keeping.server.answers.append(web.json_response({"reason": "Invalid", "message": "immutable"}, status=422))
    await keeping.look()
    logged = json.dumps([[record.getMessage(), str(vars(record))] for record in caplog.records])
    logged += str(keeping.keeper.problems) + repr(vars(keeping.keeper))
    for name in (CA_SECRET, TLS_SECRET):
        text = keeping.server.objects[SECRETS][HOME, name]["data"][KEY]
        middle = base64.b64decode(text).decode().splitlines()[1]
        assert middle[:20] not in logged
        assert text[40:70] not in logged
    assert "made a certificate for the signer" in caplog.messages
