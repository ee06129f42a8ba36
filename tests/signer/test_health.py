"""What is remembered of what KMS says, and what a watcher is told of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn, ObjectName
from byok_signer import health as module
from byok_signer.entries import Catalogue, KeyEntry, Pin
from byok_signer.health import HealthBoard, KeyHealth, Watch
from byok_signer.probe import CheckOutcome
from tests.support.manifests import KEY_ARN, key_document
from tests.support.pki import certified, new_key
from tests.support.signer import catalogue_of, certified_key

PASSED, FAILED, UNKNOWN = CheckOutcome.PASSED, CheckOutcome.FAILED, CheckOutcome.UNKNOWN
ES256 = SigningAlgorithm.ES256
BRAND = ObjectName("media", "brand")
DENIED = Refusal(Reason.KeyAccessDenied, "denied")
OUT = Refusal(Reason.KmsUnavailable, "out")


class Desk:
    """A board of one key, at a time that the test sets, and a watcher of it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.catalogue = Catalogue()
        self.board = HealthBoard(lambda: self.catalogue, now=self.now, clock=lambda: self.seconds)
        self.apply()
        self.pin = self.pin_of(BRAND)
        self.known: dict[ObjectName, KeyHealth] = {}
        self.followed: Watch | None = None

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def apply(self, *, generation: int = 1, arn: str = KEY_ARN, **spec: object) -> None:
        document = key_document(aws={"keyArn": arn}, **spec)
        document["metadata"]["generation"] = generation
        self.catalogue = catalogue_of(document)

    def pin_of(self, name: ObjectName) -> Pin:
        entry = self.catalogue.keys[name]
        assert isinstance(entry, KeyEntry)
        spki = entry.chain.spki_sha256 if entry.chain else ""
        return Pin(handle=entry.handle, spki_sha256=spki, recheck_after=1, stale_after=1)

    def at(self, seconds: float) -> "Desk":
        self.seconds = seconds
        return self

    @property
    def health(self) -> KeyHealth:
        return self.board.look_up(BRAND)

    def follow(self) -> None:
        """Apply what the watch has to tell."""
        assert self.followed is not None
        self.known |= {health.name: health for health in self.followed.take(1)}

    def told(self, watch: Watch) -> list[CheckOutcome | None]:
        return [health.outcome for health in watch.take(100)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_nothing_is_known_of_a_key_that_was_not_asked_for(desk: Desk) -> None:
    assert desk.health.outcome is None
    with desk.board.watching(None) as watch:
        assert desk.told(watch) == []


def test_a_signature_that_verified_passes(desk: Desk) -> None:
    desk.at(5).board.verified(desk.pin)
    assert desk.health == KeyHealth(BRAND, 1, PASSED, None, "", desk.now(), desk.now())


def test_it_is_verified_anew_at_most_once_a_minute_and_since_stays(desk: Desk) -> None:
    with desk.board.watching(None) as watch:
        told = []
        for second in (0, 1, 59, 60, 61, 119, 120):
            desk.at(second).board.verified(desk.pin)
            told += [(second, health.last_verified) for health in watch.take(9)]
    at = [datetime(2026, 1, 1, 0, minute, tzinfo=UTC) for minute in (0, 1, 2)]
    assert told == [(0, at[0]), (60, at[1]), (120, at[2])]
    assert desk.health.since == at[0]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.KeyAccessDenied, FAILED),
        (Reason.KeyDisabled, FAILED),
        (Reason.KeyInvalidState, FAILED),
        (Reason.KeyNotFound, FAILED),
        (Reason.KeyUsageInvalid, FAILED),
        (Reason.CertificateMismatch, FAILED),
        (Reason.KmsAnswerInvalid, FAILED),
        (Reason.KmsUnavailable, UNKNOWN),
        (Reason.KmsThrottled, UNKNOWN),
        (Reason.KmsDeadlineExceeded, UNKNOWN),
        (Reason.SignerCredentialsInvalid, UNKNOWN),
        (Reason.SignerClockSkewed, UNKNOWN),
        (Reason.MessageTooLong, None),
        (Reason.QuotaExceeded, None),
        (Reason.Internal, None),
    ],
)
def test_what_a_reason_says_of_the_key(desk: Desk, reason: Reason, outcome: CheckOutcome | None) -> None:
    desk.board.failed(desk.pin, Refusal(reason, "words"))
    assert desk.health.outcome is outcome


def test_the_same_failure_at_the_same_time_is_no_news_and_a_while_later_it_is(desk: Desk) -> None:
    with desk.board.watching(None) as watch:
        for desk.seconds in (0, 1, 4.9):
            desk.board.failed(desk.pin, DENIED)
        assert desk.told(watch) == [FAILED]
        desk.at(4.9).board.failed(desk.pin, DENIED)
        assert desk.told(watch) == []
        desk.at(5).board.failed(desk.pin, DENIED)
        assert desk.told(watch) == [FAILED]
        assert desk.health.since == desk.now()
        desk.at(6).board.failed(desk.pin, Refusal(Reason.KeyDisabled, "off"))
        assert desk.told(watch) == [FAILED]
    assert desk.health.since == desk.now()


def test_a_failure_keeps_when_a_signature_was_last_verified(desk: Desk) -> None:
    desk.board.verified(desk.pin)
    verified = desk.now()
    desk.at(100).board.failed(desk.pin, DENIED)
    assert (desk.health.last_verified, desk.health.since) == (verified, desk.now())


def test_a_trial_that_succeeds_is_told_at_once(desk: Desk) -> None:
    desk.board.verified(desk.pin)
    desk.at(1).board.failed(desk.pin, DENIED)
    desk.at(11).board.verified(desk.pin)
    assert (desk.health.outcome, desk.health.since) == (PASSED, desk.now())


def test_an_outage_that_goes_on_began_when_it_did(desk: Desk) -> None:
    for desk.seconds in (0, 100):
        desk.board.failed(desk.pin, OUT)
    assert desk.health.since == desk.at(0).now()


@pytest.mark.parametrize(("seconds", "outcome"), [(9.9, PASSED), (10, UNKNOWN)])
def test_an_outage_is_told_once_nothing_was_verified_for_ten_seconds(
    desk: Desk, seconds: float, outcome: CheckOutcome
) -> None:
    for desk.seconds in (0, 100):
        desk.board.verified(desk.pin)
    desk.at(100 + seconds).board.failed(desk.pin, OUT)
    assert desk.health.outcome is outcome


def test_an_outage_does_not_unsay_a_denial(desk: Desk) -> None:
    desk.board.failed(desk.pin, DENIED)
    desk.at(100).board.failed(desk.pin, OUT)
    assert desk.health.outcome is FAILED


STEPS: dict[str, Callable[[Desk], None]] = {
    "verified": lambda desk: desk.board.verified(desk.pin),
    "denied": lambda desk: desk.board.failed(desk.pin, DENIED),
    "out": lambda desk: desk.board.failed(desk.pin, OUT),
    "edited": lambda desk: desk.apply(generation=2, description="new words"),
    "gone": lambda desk: setattr(desk, "catalogue", Catalogue()),
    "back": lambda desk: desk.apply(),
    "sweep": lambda desk: desk.board.sweep(),
    "later": lambda desk: setattr(desk, "seconds", desk.seconds + 11),
    "take": lambda desk: desk.follow(),
}


@given(steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=30))
def test_who_applies_what_is_told_knows_what_the_board_knows(steps: list[str]) -> None:
    desk = Desk()
    with desk.board.watching(None) as desk.followed:
        for step in steps:
            STEPS[step](desk)
        desk.follow()
        known = desk.health
    if known.outcome is None:
        assert desk.known.get(BRAND, known).outcome is None
    else:
        assert desk.known[BRAND] == known


CHANGES: dict[str, Callable[[Desk], None]] = {
    "gone": lambda desk: setattr(desk, "catalogue", Catalogue()),
    "another KMS key": lambda desk: desk.apply(generation=2, arn=KEY_ARN[:-1] + "f"),
    "another certificate": lambda desk: desk.apply(
        generation=2,
        certificate=certified_key(certified(new_key(ES256), ES256), KeyArn(KEY_ARN))["spec"]["certificate"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_said_of_another_key_or_certificate_is_forgotten(desk: Desk, change: str) -> None:
    with desk.board.watching(None) as watch:
        desk.board.verified(desk.pin)
        desk.told(watch)
        CHANGES[change](desk)
        desk.at(1).board.sweep()
        assert desk.told(watch) == [None]
        desk.board.failed(desk.pin, DENIED)
        assert desk.told(watch) == []


def test_edits_that_kms_has_no_part_in_change_the_generation_only(desk: Desk) -> None:
    desk.board.verified(desk.pin)
    before = desk.health
    desk.apply(generation=7, description="new words")
    desk.board.sweep()
    assert desk.health == replace(before, generation=7)


def test_keys_that_are_gone_are_looked_for_once_a_second_at_most(desk: Desk) -> None:
    desk.board.sweep()
    desk.board.verified(desk.pin)
    desk.catalogue = Catalogue()
    desk.at(0.9).board.sweep()
    assert desk.health.outcome is PASSED
    desk.at(1).board.sweep()
    assert desk.health.outcome is None


def test_a_watcher_that_is_late_gets_the_latest_of_each_key_once(desk: Desk) -> None:
    with desk.board.watching(None) as watch:
        desk.board.verified(desk.pin)
        desk.board.failed(desk.pin, DENIED)
        assert desk.told(watch) == [FAILED]
        assert desk.told(watch) == []


def test_a_watcher_of_one_namespace_hears_of_no_other(desk: Desk) -> None:
    desk.board.verified(desk.pin)
    with desk.board.watching("vault") as foreign, desk.board.watching("media") as own:
        desk.board.failed(desk.pin, DENIED)
        assert (desk.told(foreign), desk.told(own)) == ([], [FAILED])


def test_a_watcher_that_comes_later_hears_nothing_of_a_key_that_is_gone(desk: Desk) -> None:
    desk.board.verified(desk.pin)
    desk.catalogue = Catalogue()
    with desk.board.watching(None) as watch:
        assert desk.told(watch) == []


def test_a_watcher_that_has_left_costs_nothing(desk: Desk) -> None:
    with desk.board.watching(None) as watch:
        pass
    desk.board.verified(desk.pin)
    assert desk.told(watch) == []


def test_no_more_keys_are_remembered_than_the_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 1)
    documents = [key_document(f"media/{name}", certificate=None) for name in ("one", "two")]
    desk.catalogue = catalogue_of(*documents)
    one, two = (desk.pin_of(ObjectName("media", name)) for name in ("one", "two"))
    with desk.board.watching(None) as watch:
        desk.board.verified(one)
        desk.board.verified(two)
        told = [(health.name.name, health.outcome) for health in watch.take(9)]
    assert told == [("one", None), ("two", PASSED)]


async def test_waiting_ends_with_news_and_with_the_time(desk: Desk) -> None:
    with desk.board.watching(None) as watch:
        assert not await watch.stirred(0.01)
        desk.board.verified(desk.pin)
        assert await watch.stirred(60)


async def test_a_key_that_is_gone_is_found_while_waiting(desk: Desk) -> None:
    desk.board.verified(desk.pin)
    with desk.board.watching(None) as watch:
        desk.told(watch)
        desk.at(1).catalogue = Catalogue()
        assert await watch.stirred(60)
        assert desk.told(watch) == [None]
