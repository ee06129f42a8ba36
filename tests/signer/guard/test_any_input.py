"""No input raises anything but the refusal, none is slow, and what passes can be read in one way only."""

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import ClaimRefusal
from byok_signer.guard import SIZE_LIMIT, CheckedClaim, ClaimPolicy, check_claim, check_digest
from tests.signer.guard.cases import hashed
from tests.support.claims import CapturedClaim, Parts, assembled, created_claim, edited_claim

# Real claims are made once for the session, outside of what is timed.
many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=40),
    st.sampled_from(["url", "hash", "alg", "sha256", "self#jumbf=c2pa.assertions/c2pa.hash.data", bytes(32)]),
    st.builds(cbor2.CBORTag, st.integers(0, 2**32), st.integers()),
    st.builds(cbor2.CBORSimpleValue, st.one_of(st.integers(0, 19), st.integers(32, 255))),
    st.just(cbor2.undefined),
    st.dates(),
)
keys = st.one_of(st.text(max_size=20), st.binary(max_size=8), st.integers(), st.booleans(), st.floats(allow_nan=False))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=20,
)
real = st.sampled_from([(make, algorithm) for make in (created_claim, edited_claim) for algorithm in SigningAlgorithm])


def outcome(message: bytes, policy: ClaimPolicy) -> CheckedClaim | ClaimRefusal:
    try:
        return check_claim(message, policy)
    except ClaimRefusal as refusal:
        return refusal


def refused_or_exact(message: bytes, captured: CapturedClaim) -> CheckedClaim | None:
    """Let a message pass only if another look at it finds the very same bytes, chain and algorithm."""
    answer = outcome(message, captured.policy)
    if isinstance(answer, ClaimRefusal):
        assert len(answer.message) < 400
        assert answer.message.isascii()
        assert answer.message.isprintable()
        return None
    taken = Parts.of(message)
    assert taken.assembled() == message
    assert taken.header == {1: captured.policy.algorithm.facts.cose, 33: list(captured.policy.x5chain)}
    return answer


@many
@given(st.binary(max_size=300))
@example(b"")
def test_bytes_are_refused(message: bytes) -> None:
    assert refused_or_exact(message, created_claim()) is None


@many
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_bytes_in_place_of_header_and_claim_are_refused(header: bytes, claim: bytes) -> None:
    assert refused_or_exact(assembled(header, claim), created_claim()) is None


@many
@given(st.binary(max_size=300))
def test_bytes_in_place_of_the_claim_alone_are_refused(claim: bytes) -> None:
    captured = created_claim()
    assert refused_or_exact(assembled(captured.policy.protected_header, claim), captured) is None


@many
@given(values)
def test_any_value_in_place_of_the_message_is_refused(value: object) -> None:
    assert refused_or_exact(cbor2.dumps(value), created_claim()) is None


@many
@given(values)
def test_any_value_in_place_of_the_header_is_refused(value: object) -> None:
    taken = Parts.of(created_claim().sig_structure)
    taken.header = value
    assert refused_or_exact(taken.assembled(), created_claim()) is None


@many
@given(st.dictionaries(st.one_of(st.sampled_from([1, 33, True, 1.0]), keys), values, max_size=4))
def test_any_map_in_place_of_the_header_is_refused(value: dict[Any, object]) -> None:
    taken = Parts.of(created_claim().sig_structure)
    taken.header = value
    assert refused_or_exact(taken.assembled(), created_claim()) is None


@many
@given(real, st.data())
def test_a_real_claim_with_any_field_replaced_is_refused_or_exact(
    made: tuple[Callable[[SigningAlgorithm], CapturedClaim], SigningAlgorithm],
    data: st.DataObject,
) -> None:
    captured = made[0](made[1])
    taken = Parts.of(captured.sig_structure)
    place = taken.claim
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(values)
            break
        place = place[key]
    refused_or_exact(taken.assembled(), captured)


@many
@given(real, st.data())
def test_a_real_claim_with_bytes_changed_cut_or_added_is_refused_or_exact(
    made: tuple[Callable[[SigningAlgorithm], CapturedClaim], SigningAlgorithm],
    data: st.DataObject,
) -> None:
    captured = made[0](made[1])
    message = bytearray(captured.sig_structure)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message)))
        message[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    refused_or_exact(bytes(message), captured)


def test_every_single_bit_of_a_real_claim_is_refused_or_exact() -> None:
    captured = created_claim()
    passed = 0
    for at in range(len(captured.sig_structure)):
        message = bytearray(captured.sig_structure)
        message[at] ^= 1 << (at % 8)
        passed += refused_or_exact(bytes(message), captured) is not None
    # What may differ: hashes, instanceID, title, names and the manifest's UUID.
    assert 0 < passed < 300


@many
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_digest_and_evidence_are_refused(digest: bytes, evidence: bytes) -> None:
    with pytest.raises(ClaimRefusal):
        check_digest(digest, evidence, created_claim().policy)


def labelled(*labels: str) -> bytes:
    """Encode a claim of these assertions."""
    claim = Parts.of(created_claim().sig_structure).claim
    return cbor2.dumps({**claim, "created_assertions": [hashed(label) for label in labels]})


REST = SIZE_LIMIT - 1200
HOSTILE = {
    "arrays in arrays": b"\x81" * REST,
    "maps in maps": b"\xa1\x60" * (REST // 2),
    "tags": b"\xd8\x23" * (REST // 2),
    "regular expressions": b"\x99\x40\x00" + b"\xd8\x23\x61a" * (REST // 4),
    "a bignum": b"\xc2\x59\xf0\x00" + b"\xff" * 0xF000,
    "dates": b"\x99\x20\x00" + b"\xc0\x64abcd" * (REST // 6),
    "a list said to be of 2^64": b"\x9b" + b"\xff" * 8 + bytes(REST),
    "a map said to be of 2^63": b"\xbb\x7f" + b"\xff" * 7 + bytes(REST),
    "a text said to be of 2^64": b"\x7b" + b"\xff" * 8 + bytes(REST),
    "2,000 numbers": b"\x99\x07\xd0" + bytes(2000),
    "60,000 numbers": b"\x99\xea\x60" + bytes(60000),
    "2,000 empty maps": b"\x99\x07\xd0" + b"\xa0" * 2000,
    "1,000 keys": b"\xb9\x03\xe8" + b"".join(b"\x64%04d\x00" % number for number in range(1000)),
    "1,000 equal keys": b"\xb9\x03\xe8" + b"\x61a\x00" * 1000,
    "500 arrays as keys": b"\xb9\x01\xf4" + b"".join(b"\x82\x00\x19%b\x00" % n.to_bytes(2) for n in range(256, 756)),
    "one text": b"\x79\xf0\x00" + b"a" * 0xF000,
    "a label of underscores": labelled("a." + "a_" * 20000),
    "a label of dots": labelled("a." * 20000),
    "380 good labels before a bad one": labelled(*(f"c2pa.metadata__{number}" for number in range(1, 381)), "bad"),
}


@pytest.mark.parametrize("claim", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["claim", "header", "message"])
def test_a_hostile_message_of_any_kind_is_refused(claim: bytes, place: str) -> None:
    # What refusing them costs is for benchmarks/guard.py to say.
    captured = created_claim()
    header = captured.policy.protected_header
    message = {"claim": assembled(header, claim), "header": assembled(claim, b"\xa0"), "message": claim}[place]
    assert len(message) <= SIZE_LIMIT
    with pytest.raises(ClaimRefusal):
        check_claim(message, captured.policy)
