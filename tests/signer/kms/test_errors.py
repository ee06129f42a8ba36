"""The table of facts: each code of AWS, the reason it becomes, and whether waiting helps."""

import pytest

from byok_api.audit import Outcome
from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_signer.kms.errors import VERDICTS, Action, verdict_for

TABLE = {
    "ThrottlingException": (Reason.KmsThrottled, True, "failed"),
    "KeyUnavailableException": (Reason.KmsUnavailable, True, "failed"),
    "DependencyTimeoutException": (Reason.KmsUnavailable, True, "unknown"),
    "KMSInternalException": (Reason.KmsUnavailable, True, "unknown"),
    "DisabledException": (Reason.KeyDisabled, False, "failed"),
    "KMSInvalidStateException": (Reason.KeyInvalidState, False, "failed"),
    "NotFoundException": (Reason.KeyNotFound, False, "failed"),
    "InvalidKeyUsageException": (Reason.KeyUsageInvalid, False, "failed"),
    "InvalidGrantTokenException": (Reason.GrantTokenInvalid, False, "failed"),
    "AccessDeniedException": (Reason.KeyAccessDenied, False, "failed"),
    "AccessDenied": (Reason.KeyAccessDenied, False, "failed"),
    "ExpiredTokenException": (Reason.SignerCredentialsInvalid, False, "failed"),
    "UnrecognizedClientException": (Reason.SignerCredentialsInvalid, False, "failed"),
    "InvalidSignatureException": (Reason.SignerCredentialsInvalid, False, "failed"),
    "RequestExpired": (Reason.SignerClockSkewed, False, "failed"),
    "NeverHeardOfException": (Reason.KmsUnavailable, True, "unknown"),
    None: (Reason.KmsUnavailable, True, "unknown"),
}


@pytest.mark.parametrize(("code", "row"), TABLE.items(), ids=str)
def test_a_code_means(code: str | None, row: tuple[Reason, bool, str]) -> None:
    verdict = verdict_for(code)
    assert (verdict.reason, verdict.retry_after is not None, verdict.outcome) == row


@pytest.mark.parametrize(
    "message", ["Signature expired: 20260101T000000Z is now earlier than ...", "Signature not yet current: ..."]
)
def test_a_clock_that_is_off_is_told_from_a_wrong_key(message: str) -> None:
    assert verdict_for("InvalidSignatureException", message).reason is Reason.SignerClockSkewed


@pytest.mark.parametrize("code", VERDICTS)
def test_every_refusal_names_key_action_cause_and_remedy(code: str) -> None:
    verdict = verdict_for(code)
    refusal = Action(ObjectName("team", "photo"), "kms:Sign", "arn:key").refused(verdict, code)
    assert refusal.message.startswith(f"key team/photo: kms:Sign on arn:key: {code}. ")
    assert verdict.reason.facts.cause in refusal.message
    assert verdict.reason.facts.remedy in refusal.message
    assert refusal.retry_after == verdict.retry_after


def test_only_what_is_no_answer_may_have_left_a_signature() -> None:
    unknown = {code for code, verdict in VERDICTS.items() if verdict.outcome is Outcome.UNKNOWN}
    assert unknown == {"DependencyTimeoutException", "KMSInternalException"}
