"""Checkpoints in the trail: made when they should be, recorded when they fail, and never in the way of signing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, AuditEvent, ChainReport, Kind, Outcome, bounded_lines, read_record, verify_chain
from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn
from byok_api.signatures import spki_sha256_of_der
from byok_sandbox.software_kms import KeyStore, SoftwareKms
from byok_signer import checkpoints
from byok_signer.audit import FileAuditSink, sinks
from byok_signer.checkpoints import Checkpointer, checkpoint_handle
from byok_signer.entries import ReservedKey
from byok_signer.kms.errors import OUTAGE, Action, told_of_attempts
from byok_signer.kms.port import KeyHandle, OnLost, PublicKeyAnswer, SignAnswer
from tests.support.trails import REFUSED

HOUR = 3600.0
LOST = (Attempt(None, Outcome.UNKNOWN),)


@dataclass
class FailingKms(SoftwareKms):
    """A Kms that can be made to fail."""

    failing: frozenset[str] = frozenset()
    replaced: dict[str, Any] = field(default_factory=dict)
    """Fields of the answer to Sign."""
    gate: asyncio.Event | None = None
    """Sign waits for it."""

    losses: int = 0
    """Answers to Sign that get lost, before one arrives."""
    timeouts: list[float] = field(default_factory=list)

    async def get_public_key(self, key: KeyHandle, *, timeout: float) -> PublicKeyAnswer:  # noqa: ASYNC109 - the port's
        self._fail("GetPublicKey", key)
        return await super().get_public_key(key, timeout=timeout)

    async def sign(
        self,
        key: KeyHandle,
        algorithm: SigningAlgorithm,
        *,
        message: bytes,
        timeout: float,  # noqa: ASYNC109 - the port's
        on_lost: OnLost | None = None,
    ) -> SignAnswer:
        self.timeouts.append(timeout)
        self._fail("Sign", key)
        if self.gate is not None:
            await self.gate.wait()
        answer = await super().sign(key, algorithm, message=message, timeout=timeout)
        if self.losses and on_lost is not None:
            self.losses -= 1
            try:
                await on_lost(LOST)
            except Refusal as refusal:
                raise told_of_attempts(refusal, LOST) from refusal
        return replace(answer, **self.replaced)

    def _fail(self, operation: str, key: KeyHandle) -> None:
        if "bug" in self.failing:
            raise ZeroDivisionError
        if operation in self.failing:
            refusal = Action(key.name, f"kms:{operation}", key.arn.text).refused(OUTAGE, "no answer")
            raise told_of_attempts(refusal, LOST) if operation == "Sign" else refusal


@dataclass
class Bench:
    path: Path
    kms: FailingKms
    audit: FileAuditSink
    tries: list[str] = field(default_factory=list)

    def checkpointer(self, arn: KeyArn, *, period: float = HOUR) -> Checkpointer:
        handle = checkpoint_handle(arn, "test")
        return Checkpointer(kms=self.kms, audit=self.audit, handle=handle, period=period, ended=self.tries.append)

    def key(self, spec: str = "ECC_NIST_P256") -> KeyArn:
        return self.kms.keys.create(spec).arn

    def events(self) -> list[AuditEvent]:
        events = [read_record(line).event for line in self.path.read_bytes().splitlines()]
        return [event for event in events if isinstance(event, AuditEvent)]

    def kinds(self) -> str:
        """Tell the events' kinds by their first letters; a checkpoint that failed is an X."""
        return "".join(
            "X" if event.kind is Kind.CHECKPOINT and event.signature is None else event.kind[0]
            for event in self.events()
        )

    def report(self, arn: KeyArn) -> ChainReport:
        public_key = load_der_public_key(self.kms.keys.find(arn).material.spki)
        with self.path.open("rb") as stream:
            return verify_chain(bounded_lines(stream), checkpoint_key=public_key)

    async def tried(self, times: int) -> None:
        await self.until(lambda: len(self.tries) >= times)

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, (self.tries, self.kinds())
            await asyncio.sleep(0.005)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    path = tmp_path / "audit.jsonl"
    audit = FileAuditSink(path)
    yield Bench(path, FailingKms(KeyStore()), audit)
    await audit.close()


@pytest.mark.parametrize("spec", ["ECC_NIST_P256", "ECC_NIST_P521", "RSA_2048", "ECC_NIST_EDWARDS25519"])
async def test_the_first_checkpoint_is_made_at_the_start(bench: Bench, spec: str) -> None:
    arn = bench.key(spec)
    checkpointer = bench.checkpointer(arn)
    await checkpointer.start()
    await checkpointer.close()
    report = bench.report(arn)
    assert (bench.kinds(), bench.tries) == ("ic", ["ok"])
    assert (report.intact, report.intent_count) == (True, 0)
    assert [str(chain.signed and chain.signed.id) for chain in report.chains] == [f"{report.chains[0].head.writer}/1"]


async def test_a_checkpoint_names_what_kms_was_asked(bench: Bench) -> None:
    arn = bench.key()
    checkpointer = bench.checkpointer(bench.kms.keys.point("audit", bench.kms.keys.find(arn)))
    await checkpointer.start()
    await checkpointer.close()
    intent, made = bench.events()
    assert (intent.key_arn, intent.algorithm, made.key_arn, made.intent) == (arn.text, "ES256", arn.text, 1)
    assert [attempt.outcome for attempt in made.attempts] == [Outcome.SIGNED]
    assert made.attempts[0].kms_request_id


async def test_checkpoints_go_on_while_records_are_written(bench: Bench) -> None:
    checkpointer = bench.checkpointer(bench.key(), period=0.001)
    await checkpointer.start()
    for number in range(1, 4):
        await bench.audit.append(REFUSED)
        await bench.tried(number + 1)
    await checkpointer.close()
    assert bench.kinds() == "ic" + "ric" * 3


async def test_without_records_there_is_no_further_checkpoint(bench: Bench) -> None:
    checkpointer = bench.checkpointer(bench.key(), period=0.001)
    await checkpointer.start()
    await asyncio.sleep(0.05)  # fifty periods in which nothing may happen
    await checkpointer.close()
    assert bench.kinds() == "ic"


async def test_what_is_recorded_while_kms_signs_gets_the_next_checkpoint(bench: Bench) -> None:
    arn = bench.key()
    checkpointer, bench.kms.gate = bench.checkpointer(arn), asyncio.Event()
    starting = asyncio.create_task(checkpointer.start())
    await bench.until(lambda: bench.audit.counts().records == 1)
    await bench.audit.append(REFUSED)
    bench.kms.gate.set()
    await starting
    await checkpointer.close()
    assert bench.kinds() == "ircic"
    assert bench.report(arn).intact


async def test_the_last_checkpoint_is_made_when_the_signer_ends(bench: Bench) -> None:
    arn = bench.key()
    checkpointer = bench.checkpointer(arn)
    await checkpointer.start()
    await bench.audit.append(REFUSED)
    await checkpointer.close()
    assert bench.kinds() == "icric"
    (chain,) = bench.report(arn).chains
    assert chain.signed is not None
    assert chain.signed.sequence == chain.head.sequence - 1


async def test_a_signer_that_ends_waits_for_kms_no_longer_than_a_moment(bench: Bench) -> None:
    checkpointer = bench.checkpointer(bench.key())
    await checkpointer.start()
    await bench.audit.append(REFUSED)
    await checkpointer.close()
    assert bench.kms.timeouts == [5.0, 2.0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda key: setattr(key, "state", "Disabled"), Reason.KeyDisabled),
        (lambda key: setattr(key, "state", "PendingDeletion"), Reason.KeyInvalidState),
        (lambda key: setattr(key, "granted", frozenset({"GetPublicKey"})), Reason.KeyAccessDenied),
        (lambda key: setattr(key, "granted", frozenset({"Sign"})), Reason.KeyAccessDenied),
    ],
)
async def test_a_key_that_its_owner_must_mend_is_refused_at_the_start(
    bench: Bench, spoil: Callable[[Any], None], reason: Reason
) -> None:
    arn = bench.key()
    spoil(bench.kms.keys.find(arn))
    with pytest.raises(Refusal) as refusal:
        await bench.checkpointer(arn).start()
    assert (refusal.value.reason, bench.tries) == (reason, [reason.name])
    assert arn.text in refusal.value.message


async def test_a_key_that_is_not_there_is_refused_at_the_start(bench: Bench) -> None:
    with pytest.raises(Refusal) as refusal:
        await bench.checkpointer(KeyArn("arn:aws:kms:eu-central-1:111122223333:alias/nothing")).start()
    assert refusal.value.reason is Reason.KeyNotFound


async def test_a_key_whose_signature_does_not_verify_is_refused_and_recorded(bench: Bench) -> None:
    bench.kms.replaced = {"signature": bytes(64)}
    with pytest.raises(Refusal, match="does not verify"):
        await bench.checkpointer(bench.key()).start()
    made = bench.events()[-1]
    assert (made.outcome, made.reason, made.signature) == (Outcome.FAILED, "KmsAnswerInvalid", None)
    assert [attempt.outcome for attempt in made.attempts] == [Outcome.SIGNED]


async def test_another_keys_signature_is_refused(bench: Bench) -> None:
    bench.kms.replaced = {"key_arn": bench.key()}
    with pytest.raises(Refusal, match="another key"):
        await bench.checkpointer(bench.key()).start()


@pytest.mark.parametrize("operation", ["GetPublicKey", "Sign"])
async def test_an_outage_at_the_start_is_waited_out(
    bench: Bench, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_FIRST_PAUSE", 0.001)
    arn, bench.kms.failing = bench.key(), frozenset({operation})
    checkpointer = bench.checkpointer(arn)
    await checkpointer.start()
    await bench.tried(3)
    bench.kms.failing = frozenset()
    await bench.until(lambda: bench.tries[-1] == "ok")
    await checkpointer.close()
    assert set(bench.tries[:-1]) == {"KmsUnavailable"}
    assert bench.kinds().strip("iX" if operation == "Sign" else "") in {"c", "ic"}
    assert bench.report(arn).intact


@pytest.mark.parametrize("failing", ["Sign", "bug"])
async def test_a_checkpoint_that_fails_is_recorded_as_unknown_and_tried_again(
    bench: Bench, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_FIRST_PAUSE", 0.001)
    arn = bench.key()
    checkpointer = bench.checkpointer(arn, period=0.001)
    await checkpointer.start()
    bench.kms.failing = frozenset({failing})
    await bench.audit.append(REFUSED)
    await bench.tried(2)
    bench.kms.failing = frozenset()
    await bench.until(lambda: bench.tries[-1] == "ok" and len(bench.tries) > 2)
    await checkpointer.close()
    failed = next(event for event in bench.events() if event.kind is Kind.CHECKPOINT and event.signature is None)
    assert (failed.outcome, failed.reason) == (Outcome.UNKNOWN, "KmsUnavailable" if failing == "Sign" else "Internal")
    report = bench.report(arn)
    assert (report.intact, report.intent_count, report.unknown) == (True, 0, bench.kinds().count("X"))


async def test_where_an_answer_got_lost_another_intent_is_signed(bench: Bench) -> None:
    arn, bench.kms.losses = bench.key(), 1
    checkpointer = bench.checkpointer(arn)
    await checkpointer.start()
    await checkpointer.close()
    assert (bench.kinds(), bench.tries) == ("iic", ["ok"])
    _, again, made = bench.events()
    assert (again.intent, again.attempts, made.intent, made.head and made.head[-2:]) == (1, LOST, 2, "/2")
    assert [attempt.outcome for attempt in made.attempts] == [Outcome.SIGNED]
    report = bench.report(arn)
    assert (report.intact, report.intent_count, report.unknown) == (True, 0, 1)
    assert report.chains[0].signed is not None


async def test_a_checkpoint_begins_anew_once_within_its_time(bench: Bench) -> None:
    arn, bench.kms.losses = bench.key(), 2
    checkpointer = bench.checkpointer(arn)
    await checkpointer.start()
    assert (bench.kinds(), bench.tries) == ("iiX", ["KmsUnavailable"])
    failed = bench.events()[-1]
    assert (failed.outcome, failed.intent, failed.attempts) == (Outcome.UNKNOWN, 2, LOST)
    assert bench.kms.timeouts[1] < bench.kms.timeouts[0] == 5.0
    await checkpointer.close()
    assert bench.kinds() == "iiXic"
    assert bench.report(arn).intact


async def test_what_is_refused_after_a_loss_is_unknown(bench: Bench) -> None:
    bench.kms.losses, bench.kms.replaced = 1, {"signature": bytes(64)}
    with pytest.raises(Refusal, match="does not verify"):
        await bench.checkpointer(bench.key()).start()
    failed = bench.events()[-1]
    assert (bench.kinds(), failed.outcome, failed.reason) == ("iiX", Outcome.UNKNOWN, "KmsAnswerInvalid")


async def test_a_loss_that_cannot_be_recorded_ends_the_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.kms.losses, bench.kms.gate = 1, asyncio.Event()
    starting = asyncio.create_task(bench.checkpointer(bench.key()).start())
    await bench.until(lambda: bench.audit.counts().records == 1)
    monkeypatch.setattr(sinks, "MAX_PENDING", 0)
    bench.kms.gate.set()
    with pytest.raises(Refusal, match="is behind"):
        await starting
    failed = bench.events()[-1]
    assert (bench.kinds(), len(bench.kms.timeouts)) == ("iX", 1)
    assert (failed.outcome, failed.reason, failed.attempts) == (Outcome.UNKNOWN, "AuditUnavailable", LOST)


def test_a_checkpoint_that_failed_is_tried_sooner_and_then_ever_later() -> None:
    assert [checkpoints.pause_after(failures, HOUR) for failures in (0, 1, 2, 3, 9, 10_000)] == [
        HOUR,
        15,
        30,
        60,
        HOUR,
        HOUR,
    ]
    assert checkpoints.pause_after(1, 5.0) == 5.0


async def test_an_intent_that_cannot_be_recorded_is_never_signed(bench: Bench) -> None:
    await bench.audit.close()
    with pytest.raises(Refusal, match="is closed"):
        await bench.checkpointer(bench.key()).start()
    assert bench.kinds() == ""


def test_the_handle_of_the_checkpoint_key_is_no_byokkeys() -> None:
    handle = checkpoint_handle(KeyArn("arn:aws:kms:eu-central-1:111122223333:key/1"), "prod")
    assert handle.external_id == "byok:prod:-/checkpoint"


KEY = KeyArn("arn:aws:kms:eu-central-1:111122223333:key/mrk-1")
ALIAS = KeyArn("arn:aws:kms:eu-central-1:111122223333:alias/audit")
RESERVED = ReservedKey(frozenset({KEY, ALIAS}), "ab" * 32)


@pytest.mark.parametrize(
    ("arn", "spki", "named"),
    [
        (KEY.text, None, True),
        (ALIAS.text, None, True),
        ("arn:aws:kms:us-east-1:111122223333:key/mrk-1", None, True),
        ("arn:aws:kms:eu-central-1:111122223333:key/2", "ab" * 32, True),
        ("arn:aws:kms:eu-central-1:111122223333:key/2", "cd" * 32, False),
        ("arn:aws:kms:eu-central-1:111122223333:key/2", None, False),
        ("arn:aws:kms:eu-central-1:444455556666:key/mrk-1", None, False),
        ("arn:aws:kms:us-east-1:111122223333:alias/audit", None, False),
    ],
)
def test_the_checkpoint_key_is_known_by_every_name(arn: str, spki: str | None, *, named: bool) -> None:
    assert RESERVED.is_named_by([KeyArn(arn)], spki) is named


def test_a_public_key_that_is_not_known_is_no_match() -> None:
    assert not ReservedKey(frozenset({KEY}), None).is_named_by([ALIAS], None)


async def test_what_is_reserved_is_known_once_kms_was_asked(bench: Bench) -> None:
    arn = bench.key()
    alias = bench.kms.keys.point("audit", bench.kms.keys.find(arn))
    checkpointer = bench.checkpointer(alias)
    assert checkpointer.reserved == ReservedKey(frozenset({alias}), None)
    await checkpointer.start()
    await checkpointer.close()
    spki = bench.kms.keys.find(arn).material.spki
    assert checkpointer.reserved == ReservedKey(frozenset({alias, arn}), spki_sha256_of_der(spki))
