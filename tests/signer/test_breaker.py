"""When KMS is asked for a key that its owner has made unusable."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest

from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn, ObjectName
from byok_signer.breaker import LIMIT, OWNER_CAUSED, Breaker
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import KeyHandle

ARN = KeyArn("arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
HANDLE = KeyHandle(name=ObjectName("media", "brand"), arn=ARN, external_id="byok:one:media/brand")
METADATA = {"key": "media/brand", "action": "kms:Sign"}

# facts.md, "KMS errors and quota": the rows that are the key owner's doing.
OWNERS = {
    Reason.KeyAccessDenied,
    Reason.KeyDisabled,
    Reason.KeyInvalidState,
    Reason.KeyNotFound,
    Reason.KeyUsageInvalid,
    Reason.GrantTokenInvalid,
}
OTHERS = [
    Reason.KmsThrottled,
    Reason.KmsUnavailable,
    Reason.KmsDeadlineExceeded,
    Reason.KmsAnswerInvalid,
    Reason.SignerCredentialsInvalid,
    Reason.SignerClockSkewed,
    Reason.MessageTooLong,
]


def denied(reason: Reason = Reason.KeyAccessDenied) -> KmsError:
    return KmsError(reason, "key media/brand: kms:Sign: AccessDeniedException.", metadata=METADATA)


class Desk:
    """A breaker at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.breaker = Breaker(lambda: self.now)

    def at(self, seconds: float) -> "Desk":
        self.now = 1000 + seconds
        return self

    def lets_through(self, handle: KeyHandle = HANDLE) -> bool:
        """Take a trial if there is one; both questions must get the same answer."""
        checked, entered = (self._asks(question, handle) for question in (self.breaker.check, self.breaker.enter))
        assert checked == entered
        return entered

    def refusal(self) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.breaker.enter(HANDLE)
        return caught.value

    def _asks(self, question: Callable[[KeyHandle], None], handle: KeyHandle) -> bool:
        try:
            question(handle)
        except Refusal:
            return False
        return True


@pytest.fixture
def desk() -> Desk:
    """One whose key failed at second 0."""
    desk = Desk()
    desk.breaker.failed(HANDLE, denied())
    return desk


def test_what_opens_it_is_what_the_owner_causes() -> None:
    assert OWNER_CAUSED == OWNERS


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason in OWNERS])
def test_after_the_owner_s_doing_kms_is_not_asked(reason: Reason) -> None:
    desk = Desk()
    desk.breaker.failed(HANDLE, denied(reason))
    assert not desk.lets_through()
    assert desk.refusal().reason is reason


@pytest.mark.parametrize("reason", OTHERS)
def test_what_is_not_the_owner_s_doing_stops_nobody(reason: Reason) -> None:
    desk = Desk()
    desk.breaker.failed(HANDLE, denied(reason))
    assert all(desk.lets_through() for _ in range(3))
    assert len(desk.breaker) == 0


def test_a_key_that_never_failed_is_let_through() -> None:
    assert all(Desk().lets_through() for _ in range(3))


@pytest.mark.parametrize(("seconds", "is_let_through"), [(0, False), (9.999, False), (10, True), (3600, True)])
def test_ten_seconds_after_the_failure_a_call_is_let_through(desk: Desk, seconds: float, is_let_through: bool) -> None:  # noqa: FBT001 - a case's expectation
    assert desk.at(seconds).lets_through() is is_let_through


def test_it_is_one_call(desk: Desk) -> None:
    assert [desk.at(10).lets_through() for _ in range(3)] == [True, False, False]


def test_asking_whether_one_is_let_through_takes_no_trial(desk: Desk) -> None:
    desk.at(10)
    for _ in range(3):
        desk.breaker.check(HANDLE)
    assert desk.lets_through()


def test_a_trial_that_fails_keeps_it_open_for_ten_seconds_from_then(desk: Desk) -> None:
    assert desk.at(12).lets_through()
    desk.at(13).breaker.failed(HANDLE, denied(Reason.KeyDisabled))
    assert not desk.at(22.9).lets_through()
    assert desk.refusal().reason is Reason.KeyDisabled
    assert desk.at(23).lets_through()


def test_a_trial_that_succeeds_closes_it(desk: Desk) -> None:
    assert desk.at(10).lets_through()
    desk.breaker.succeeded(HANDLE)
    assert all(desk.lets_through() for _ in range(3))
    assert len(desk.breaker) == 0


def test_a_trial_that_is_never_heard_of_again_holds_others_up_for_ten_seconds(desk: Desk) -> None:
    assert desk.at(15).lets_through()
    assert not desk.at(24.9).lets_through()
    assert desk.at(25).lets_through()


@pytest.mark.parametrize("reason", OTHERS)
def test_a_trial_that_says_nothing_about_the_key_gives_way_to_the_next(desk: Desk, reason: Reason) -> None:
    assert desk.at(10).lets_through()
    desk.at(11).breaker.failed(HANDLE, denied(reason))
    assert [desk.lets_through(), desk.lets_through()] == [True, False]


def test_an_outage_met_by_a_call_that_is_no_trial_makes_none(desk: Desk) -> None:
    desk.at(3).breaker.failed(HANDLE, denied(Reason.KmsUnavailable))
    assert not desk.at(9).lets_through()


def test_a_call_that_began_before_the_failure_and_succeeds_closes_it(desk: Desk) -> None:
    desk.at(2).breaker.succeeded(HANDLE)
    assert desk.lets_through()


def test_a_call_that_began_before_and_fails_later_counts_from_then(desk: Desk) -> None:
    desk.at(4).breaker.failed(HANDLE, denied())
    assert not desk.at(13.9).lets_through()
    assert desk.at(14).lets_through()


def test_the_refusal_is_kms_s_own_and_says_when_kms_was_and_is_asked(desk: Desk) -> None:
    refusal = desk.at(3.2).refusal()
    assert refusal.message == (
        "key media/brand: kms:Sign: AccessDeniedException. KMS was asked 3 s ago and is asked again in 7 s."
    )
    assert (refusal.reason, refusal.metadata, refusal.retry_after) == (Reason.KeyAccessDenied, METADATA, None)
    assert not isinstance(refusal, KmsError)  # KMS was not asked, so there is no attempt.


def test_never_is_it_said_that_kms_is_asked_in_no_time(desk: Desk) -> None:
    assert desk.at(9.99).refusal().message.endswith("KMS was asked 10 s ago and is asked again in 1 s.")


@pytest.mark.parametrize(
    "edited",
    [
        replace(HANDLE, role_arn="arn:aws:iam::111122223333:role/signer"),
        replace(HANDLE, arn=KeyArn(str(ARN).replace("1234abcd", "abcd1234"))),
        replace(HANDLE, resolved_arn=KeyArn(str(ARN).replace("1234abcd", "abcd1234"))),
        replace(HANDLE, name=ObjectName("media", "other")),
    ],
)
def test_a_key_that_its_owner_has_edited_and_any_other_start_afresh(desk: Desk, edited: KeyHandle) -> None:
    assert desk.lets_through(edited)
    desk.breaker.succeeded(edited)
    assert not desk.lets_through()


def test_as_many_keys_are_remembered_as_may_be_and_those_that_failed_last(desk: Desk) -> None:
    for number in range(LIMIT):
        desk.breaker.failed(replace(HANDLE, name=ObjectName("media", f"key{number}")), denied())
    assert len(desk.breaker) == LIMIT
    assert desk.lets_through()
    assert not desk.lets_through(replace(HANDLE, name=ObjectName("media", "key0")))


def test_a_key_that_fails_again_is_remembered_as_the_last(desk: Desk) -> None:
    for number in range(LIMIT - 1):
        desk.breaker.failed(replace(HANDLE, name=ObjectName("media", f"key{number}")), denied())
    desk.breaker.failed(HANDLE, denied())
    desk.breaker.failed(replace(HANDLE, name=ObjectName("media", "last")), denied())
    assert not desk.lets_through()


def test_the_failed_call_is_not_kept_alive(desk: Desk) -> None:
    kept: list[weakref.ref[Desk]] = []

    def call() -> None:
        claim = Desk()  # stands for what the frames of a failed call hold
        kept.append(weakref.ref(claim))
        raise denied()

    try:
        call()
    except KmsError as error:
        desk.breaker.failed(HANDLE, error)
    gc.collect()
    assert kept[0]() is None
    assert not desk.lets_through()
