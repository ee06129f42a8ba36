import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import ClaimRefusal, Reason
from byok_signer.guard import check_claim, check_digest
from tests.signer.guard.digest_cases import DIGEST_CASES, DigestCase
from tests.support.claims import created_claim

WITH_DIGEST = [algorithm for algorithm in SigningAlgorithm if algorithm.facts.digest_size]


@pytest.mark.parametrize("algorithm", WITH_DIGEST)
def test_the_digest_of_its_evidence_passes_and_yields_what_the_claim_does(algorithm: SigningAlgorithm) -> None:
    captured = created_claim(algorithm)
    message, policy = captured.sig_structure, captured.policy
    assert check_digest(algorithm.digest(message), message, policy) == check_claim(message, policy)


@pytest.mark.parametrize("case", DIGEST_CASES, ids=str)
def test_the_digest_of_anything_else_is_refused(case: DigestCase) -> None:
    captured = created_claim(case.algorithm)
    with pytest.raises(ClaimRefusal) as refused:
        check_digest(case.digest, captured.sig_structure, captured.policy)
    assert (refused.value.check, refused.value.reason) == (case.check, Reason.ClaimRefused)


def test_the_evidence_must_pass_as_a_claim_does() -> None:
    evidence = b"\x00 anything"
    with pytest.raises(ClaimRefusal, match="check no-trailing-bytes"):
        check_digest(SigningAlgorithm.ES256.digest(evidence), evidence, created_claim().policy)
