"""Every check has cases that it, and no earlier one, refuses."""

import pytest

from byok_api.errors import ClaimRefusal
from byok_signer.guard import CHECK_NAMES, check_claim
from tests.signer.guard.cases import Case
from tests.signer.guard.claim_cases import CLAIM_CASES
from tests.signer.guard.digest_cases import DIGEST_CASES
from tests.signer.guard.encoding_cases import ENCODING_CASES
from tests.signer.guard.envelope_cases import ENVELOPE_CASES
from tests.signer.guard.recipe_cases import RECIPE_CASES
from tests.support.claims import created_claim

CASES = (*ENVELOPE_CASES, *ENCODING_CASES, *CLAIM_CASES, *RECIPE_CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_named_check_refuses(case: Case) -> None:
    captured = created_claim()
    with pytest.raises(ClaimRefusal) as refused:
        check_claim(case.make(captured), case.demand(captured.policy))
    assert (refused.value.check, refused.value.reason) == (case.check, case.reason)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_refusal_is_short_and_printable_whatever_the_input(case: Case) -> None:
    captured = created_claim()
    with pytest.raises(ClaimRefusal) as refused:
        check_claim(case.make(captured), case.demand(captured.policy))
    assert len(refused.value.message) < 400
    assert refused.value.message.isascii()
    assert refused.value.message.isprintable()


def test_every_check_has_a_case() -> None:
    assert {case.check for case in CASES} | {case.check for case in DIGEST_CASES} == set(CHECK_NAMES)


def test_no_two_checks_have_one_name() -> None:
    assert len(set(CHECK_NAMES)) == len(CHECK_NAMES)
