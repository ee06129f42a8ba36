"""The operator's way to real signers, in this process: probes and health over TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.references import ObjectName
from byok_api.signatures import spki_of
from byok_operator.observations import Outcome, Probe, ProbeFailure, ReplicaHealth
from byok_operator.probing import ProbeRequest
from byok_operator.signer_channels import Resolve, SignerDoor
from byok_operator.signers import Signers
from byok_sandbox.software_kms import GRANTED
from byok_service.names import resolve_tcp
from byok_service.setting_types import TcpAddress
from tests.support.fleet import Fleet, fleet_of
from tests.support.pki import identity
from tests.support.refusals import refusal_of
from tests.support.signer import Bench, certified_key, running_bench, until
from tests.testenv.ports import free_ports
from tests.testenv.tap import Tap

ES256 = SigningAlgorithm.ES256
BRAND = ObjectName("media", "brand")
PASSED, FAILED, UNKNOWN = Outcome.PASSED, Outcome.FAILED, Outcome.UNKNOWN


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as running:
        yield running


@dataclass
class Operator:
    """Signers at work, and which keys they said to have changed."""

    signers: Signers
    changed: list[ObjectName] = field(default_factory=list)

    async def ask(
        self, name: ObjectName = BRAND, *, generation: int = 0, least_privilege: bool = False
    ) -> Probe | ProbeFailure:
        return await self.signers.ask(ProbeRequest(name, "uid", generation, least_privilege, reverify=None))

    async def probe(self, *, generation: int = 0, least_privilege: bool = False) -> Probe:
        found = await self.ask(generation=generation, least_privilege=least_privilege)
        assert isinstance(found, Probe), found
        return found

    async def failure(self, name: ObjectName = BRAND) -> ProbeFailure:
        found = await self.ask(name)
        assert isinstance(found, ProbeFailure)
        return found

    @property
    def health(self) -> dict[str, Outcome]:
        return {health.replica: health.outcome for health in self.signers.health_of(BRAND)}

    async def connected(self, count: int) -> None:
        await until(lambda: self.signers.connected == count)

    async def hears(self, **outcomes: Outcome) -> None:
        await until(lambda: self.health == outcomes)

    @property
    def only(self) -> ReplicaHealth:
        (health,) = self.signers.health_of(BRAND)
        return health


@asynccontextmanager
async def operator_at(
    door: SignerDoor, *, resolve: Resolve = resolve_tcp, ping_seconds: float = 20.0
) -> AsyncIterator[Operator]:
    changed: list[ObjectName] = []

    def note(names: Iterable[ObjectName]) -> None:
        changed.extend(names)

    signers = Signers(door, changed=note, resolve=resolve, ping_seconds=ping_seconds)
    running = asyncio.create_task(signers.run())
    try:
        yield Operator(signers, changed)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@asynccontextmanager
async def fleet_at(bench: Bench, port: int) -> AsyncIterator[Fleet]:
    """Run a replica `one` that finds its port free when it comes back."""
    async with fleet_of(bench) as fleet:
        await fleet.start("one", port=port)
        yield fleet


async def test_a_probe_is_what_a_signer_found(bench: Bench) -> None:
    async with fleet_of(bench, "one") as fleet, operator_at(fleet.door()) as operator:
        before = datetime.now(UTC)
        probe = await operator.probe()
    assert (probe.replica, probe.generation, probe.at >= before, probe.verified) == ("one", 0, True, True)
    findings = (probe.public_key, probe.sign, probe.certificate, probe.standing)
    assert [finding.outcome for finding in findings] == [PASSED] * 4
    assert (probe.least_privilege, probe.facts.multi_region, probe.facts.key_state) == (None, None, "")
    assert probe.facts.public_key == spki_of(identity(ES256).public_key)
    assert (probe.facts.key_spec, probe.facts.algorithm) == ("ECC_NIST_P256", "ES256")


async def test_what_failed_comes_with_reason_and_statement(bench: Bench) -> None:
    bench.kms.keys.find(bench.entry.key.handle.arn).granted = frozenset({"GetPublicKey", "CreateGrant"})
    async with fleet_of(bench, "one") as fleet, operator_at(fleet.door()) as operator:
        probe = await operator.probe(least_privilege=True)
    assert (probe.sign.outcome, probe.sign.reason) == (FAILED, "KeyAccessDenied")
    assert "kms:Sign" in probe.sign.missing_statement
    assert probe.least_privilege is not None
    assert probe.least_privilege.reason == "PermissionsTooBroad"


async def test_replicas_are_asked_in_turn(bench: Bench) -> None:
    async with fleet_of(bench, "one", "two", "three") as fleet, operator_at(fleet.door()) as operator:
        await operator.connected(3)
        asked = [(await operator.probe()).replica for _ in range(6)]
    assert sorted(asked[:3]) == sorted(asked[3:]) == ["one", "three", "two"]


async def test_a_generation_that_has_not_come_is_asked_for_again_when_the_signer_says(bench: Bench) -> None:
    document = certified_key(identity(ES256), bench.entry.key.handle.arn)
    async with fleet_of(bench, "one") as fleet, operator_at(fleet.door()) as operator:
        waiting = asyncio.ensure_future(operator.probe(generation=2))
        await until(lambda: 'refusals_total{reason="GenerationNotSeen"} 1.0' in bench.metrics.exposition().decode())
        document["metadata"]["generation"] = 2
        bench.apply(document)
        assert (await waiting).generation == 2


async def test_a_refusal_that_waiting_does_not_mend_is_the_answer(bench: Bench) -> None:
    async with fleet_of(bench, "one") as fleet, operator_at(fleet.door()) as operator:
        failure = await operator.failure(ObjectName("vault", "brand"))
    assert (failure.reason, "there is no such key" in failure.message) == ("ProbeNotAllowed", True)


async def test_another_replica_is_asked_when_one_does_not_answer(bench: Bench) -> None:
    async with fleet_of(bench, "one", "two") as fleet:
        door = fleet.door()
        await fleet.stop("one")
        async with operator_at(door) as operator:
            assert {(await operator.probe()).replica for _ in range(4)} == {"two"}


async def test_without_any_signer_the_failure_says_where_none_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byok_operator.signers._PROBE_SECONDS", 5.0)
    async with fleet_of(bench, "one") as fleet:
        door = fleet.door()
        await fleet.stop("one")
        async with operator_at(door) as operator:
            failure = await operator.failure()
    assert (failure.reason, f"no signer answers at {door.addresses[0]}" in failure.message) == (
        "SignerUnreachable",
        True,
    )


async def test_a_name_that_cannot_be_looked_up_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_operator.signers._NONE_SECONDS", 0.5)

    async def fail(host: str) -> list[str]:
        raise OSError(f"{host} is not known")

    async with fleet_of(bench, "one") as fleet, operator_at(fleet.door(host="signers"), resolve=fail) as operator:
        assert "signers is not known" in (await operator.failure()).message


async def test_a_probe_waits_for_the_first_signer_to_be_found(bench: Bench) -> None:
    addresses: list[str] = []

    async def resolve(_: str) -> list[str]:
        return addresses

    async with fleet_of(bench, "one") as fleet:
        door = fleet.door(fleet.members["one"].port, host="signers")
        async with operator_at(door, resolve=resolve) as operator:
            waiting = asyncio.ensure_future(operator.probe())
            await asyncio.sleep(0)
            addresses.append("127.0.0.1")
            assert (await waiting).replica == "one"


async def test_a_name_that_cannot_be_looked_up_hides_no_other_and_loses_none(bench: Bench) -> None:
    known = {"first": ["127.0.0.1"]}

    async def resolve(host: str) -> list[str]:
        if host not in known:
            raise OSError("no such name")
        return known[host]

    async with fleet_of(bench, "one", "two") as fleet:
        ports = [member.port for member in fleet.members.values()]
        addresses = tuple(TcpAddress(host, port) for host, port in zip(("first", "second"), ports, strict=True))
        async with operator_at(replace(fleet.door(), addresses=addresses), resolve=resolve) as operator:
            await operator.connected(1)
            known["second"] = known.pop("first")
            await operator.connected(2)


async def test_a_certificate_of_another_authority_or_host_is_not_trusted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byok_operator.signers._PROBE_SECONDS", 5.0)
    async with fleet_of(bench, "one") as fleet:
        stranger = bench.folder / "stranger.pem"
        stranger.write_text(Fleet(bench).authority.trust_anchor_pem)
        for wrong in ({"ca_file": stranger}, {"server_name": "signer.elsewhere"}):
            async with operator_at(replace(fleet.door(), **wrong)) as operator:
                failure = await operator.failure()
            assert (failure.reason, "is not trusted, or is another host's" in failure.message) == (
                "SignerUnreachable",
                True,
            )


async def test_a_grant_that_goes_and_comes_back_is_seen_soon_after_the_call_that_met_it(bench: Bench) -> None:
    stored = bench.kms.keys.find(bench.entry.key.handle.arn)
    async with fleet_of(bench, "one") as fleet, operator_at(fleet.door()) as operator:
        await fleet.sign("one")
        await operator.hears(one=PASSED)
        stored.granted = frozenset({"GetPublicKey"})
        await refusal_of(fleet.sign("one"))
        async with asyncio.timeout(10):
            await operator.hears(one=FAILED)
        assert (operator.only.reason, operator.only.last_verified is not None) == ("KeyAccessDenied", True)
        stored.granted = GRANTED
        bench.clock.offset = timedelta(seconds=10)
        await fleet.sign("one")
        async with asyncio.timeout(10):
            await operator.hears(one=PASSED)
    assert set(operator.changed) == {BRAND}


async def test_replicas_that_disagree_are_both_told(bench: Bench) -> None:
    stored = bench.kms.keys.find(bench.entry.key.handle.arn)
    async with fleet_of(bench, "one", "two") as fleet, operator_at(fleet.door()) as operator:
        await fleet.sign("one")
        stored.granted = frozenset()
        await refusal_of(fleet.sign("two"))
        await operator.hears(one=PASSED, two=FAILED)


async def test_what_a_replica_said_before_it_was_lost_is_dropped_and_that_is_said(bench: Bench) -> None:
    async with fleet_of(bench, "one", "two") as fleet, operator_at(fleet.door()) as operator:
        await fleet.sign("one")
        await operator.hears(one=PASSED)
        operator.changed.clear()
        await fleet.stop("one")
        await operator.hears()
        assert operator.changed == [BRAND]


async def test_a_replica_that_comes_back_is_watched_again_from_the_beginning(bench: Bench) -> None:
    (port,) = free_ports(1)
    async with fleet_at(bench, port) as fleet, operator_at(fleet.door()) as operator:
        await fleet.sign("one")
        await operator.hears(one=PASSED)
        await fleet.stop("one")
        await operator.hears()
        await fleet.start("one", port=port)
        await operator.connected(1)
        await fleet.sign("one")
        await operator.hears(one=PASSED)


async def test_a_replica_that_comes_has_keys_looked_at_that_nobody_could_be_asked_about(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byok_operator.signers._PROBE_SECONDS", 0.5)
    (port,) = free_ports(1)
    async with fleet_at(bench, port) as fleet, operator_at(fleet.door()) as operator:
        await operator.connected(1)
        await fleet.stop("one")
        failure = await operator.failure()
        assert (operator.changed, operator.signers.came_at is not None) == ([], True)
        await fleet.start("one", port=port)
        await until(lambda: operator.changed == [BRAND])
        assert operator.signers.came_at is not None
        assert operator.signers.came_at > failure.at


async def test_a_watch_outlives_its_token_and_forgets_nothing_over_that(bench: Bench) -> None:
    async with fleet_of(bench, "one") as fleet:
        fleet.write_token(lifetime=timedelta(seconds=15))
        async with operator_at(fleet.door()) as operator:
            await fleet.sign("one")
            await operator.hears(one=PASSED)
            operator.changed.clear()
            fleet.write_token()
            refusals, expired = "byok_signer_refusals_total", {"reason": "TokenExpired"}
            await until(lambda: (bench.metrics.registry.get_sample_value(refusals, expired) or 0) >= 1)
            await operator.connected(1)
            assert (operator.health, operator.changed) == ({"one": PASSED}, [])


async def test_a_connection_that_is_cut_is_made_anew(bench: Bench) -> None:
    async with fleet_of(bench, "one") as fleet:
        with Tap(fleet.members["one"].port) as tap:
            async with operator_at(fleet.door(tap.port)) as operator:
                await fleet.sign("one")
                await operator.hears(one=PASSED)
                before = tap.accepted
                tap.cut()
                await until(lambda: tap.accepted > before)
                await operator.hears(one=PASSED)


async def test_a_connection_that_went_silent_is_given_up(bench: Bench) -> None:
    async with fleet_of(bench, "one") as fleet:
        with Tap(fleet.members["one"].port) as tap:
            async with operator_at(fleet.door(tap.port), ping_seconds=2) as operator:
                await operator.connected(1)
                tap.silence()
                await operator.connected(0)
                # New connections are as before.
                await operator.connected(1)
                tap.resume()


async def test_a_name_is_looked_up_again_when_a_signer_is_lost(bench: Bench) -> None:
    async with fleet_of(bench, "one") as fleet:
        port = fleet.members["one"].port
        try:
            await fleet.start("two", host="127.0.0.2", port=port)
        except Exception as error:  # noqa: BLE001 - another address of the machine's own may not be there
            pytest.skip(f"127.0.0.2 cannot be bound: {error}")
        now = ["127.0.0.1"]

        async def resolve(host: str) -> list[str]:
            assert host == "signers"
            return now

        async with operator_at(fleet.door(port, host="signers"), resolve=resolve) as operator:
            assert (await operator.probe()).replica == "one"
            now[:] = ["127.0.0.2"]
            await fleet.stop("one")
            await until(lambda: operator.signers.known == 1 and operator.signers.connected == 1)
            assert (await operator.probe()).replica == "two"


async def test_a_ca_file_that_is_replaced_is_taken(bench: Bench) -> None:
    async with fleet_of(bench, "one") as fleet:
        right = fleet.ca_file.read_text()
        fleet.ca_file.write_text(Fleet(bench).authority.trust_anchor_pem)
        async with operator_at(fleet.door()) as operator:
            await until(lambda: operator.signers.known == 1)
            fleet.ca_file.write_text(right)
            await operator.connected(1)
            assert (await operator.probe()).replica == "one"


async def test_a_ca_file_that_is_not_there_yet_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byok_operator.signers._NONE_SECONDS", 0.5)
    async with fleet_of(bench, "one") as fleet:
        right = fleet.ca_file.read_text()
        fleet.ca_file.unlink()
        async with operator_at(fleet.door()) as operator:
            assert f"{fleet.ca_file}: cannot be read" in (await operator.failure()).message
            fleet.ca_file.write_text(right)
            await operator.connected(1)
            assert (await operator.probe()).replica == "one"


@pytest.mark.parametrize("content", ["", "two words\n\x00", "x" * 20_000])
async def test_a_token_file_that_holds_none_is_named(bench: Bench, content: str) -> None:
    async with fleet_of(bench, "one") as fleet, operator_at(fleet.door()) as operator:
        fleet.token_file.write_text(content)
        failure = await operator.failure()
    assert (failure.reason, str(fleet.token_file) in failure.message) == ("TokenMissing", True)


async def test_replicas_of_one_name_are_told_apart_by_their_addresses(bench: Bench) -> None:
    async with fleet_of(bench, "one") as fleet:
        first = fleet.members["one"]
        second = await fleet.start("one")
        fleet.members["first"] = first
        async with operator_at(fleet.door(first.port, second.port)) as operator:
            await operator.connected(2)
            await fleet.sign("first")
            await fleet.sign("one")
            ports = (first.port, second.port)
            await operator.hears(**{f"one (127.0.0.1:{port})": PASSED for port in ports})
