"""A claim that is taken for familiar is one that every check would pass, with the same answer."""

from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import ClaimRefusal
from byok_signer.guard import CheckedClaim, ClaimPolicy, check_claim
from byok_signer.guard.envelope import claim_in
from byok_signer.guard.familiar import SHAPES_KEPT
from tests.signer.guard.cases import (
    Fields,
    claim,
    claim_bytes,
    generator,
    hashed,
    more_created,
    more_gathered,
    reference,
    with_fields,
    without,
)
from tests.support.claims import (
    MEDIA,
    MEDIA_FOLDER,
    CapturedClaim,
    created_claim,
    created_manifest,
    edited_claim,
    sign,
)
from tests.support.pki import identity

_UUID = "01234567-89AB-4def-8123-456789abcdef"


def payload_of(message: bytes) -> bytes:
    payload: bytes = cbor2.loads(message)[3]
    return payload


def taught(message: bytes) -> ClaimPolicy:
    """The policy of a guard that has passed this claim, and no other."""
    policy = created_claim().policy
    check_claim(message, policy)
    return policy


def is_familiar(message: bytes, policy: ClaimPolicy) -> bool:
    found = policy.familiar.find(payload_of(message))
    if found is not None:
        assert found == check_claim(message, replace(policy))
    return found is not None


def another(title: str, media: str = "landscape.png") -> CapturedClaim:
    """Claim another asset."""
    source = (MEDIA_FOLDER / media).read_bytes()
    return sign(identity(SigningAlgorithm.ES256), MEDIA[media], source, {**created_manifest(), "title": title})


@pytest.mark.parametrize("title", ["x", "sample", "a title of more than twenty-three bytes", "ü" * 200, "€" * 500])
def test_the_claim_that_c2pa_makes_of_another_asset_is_familiar(title: str) -> None:
    assert is_familiar(another(title).sig_structure, taught(created_claim().sig_structure))


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_so_is_an_edit_once_an_edit_has_passed(algorithm: SigningAlgorithm) -> None:
    policy = edited_claim(algorithm).policy
    check_claim(edited_claim(algorithm).sig_structure, policy)
    assert is_familiar(edited_claim(algorithm, "landscape.png").sig_structure, policy)
    assert not is_familiar(created_claim(algorithm).sig_structure, policy)


@pytest.mark.parametrize(
    "make",
    [
        reference("c2pa.hash.data", hash=bytes(range(32))),
        with_fields(instanceID="any 44 printable characters of ASCII: ~~~~~~"),
        with_fields(signature=f"self#jumbf=/c2pa/urn:c2pa:{_UUID}/c2pa.signature"),
        with_fields(**{"dc:title": "\x00 \u202e any text at all \U0001f4f7"}),
    ],
)
def test_what_no_check_looks_at_may_differ(make: Callable[[CapturedClaim], bytes]) -> None:
    assert is_familiar(make(created_claim()), taught(created_claim().sig_structure))


@pytest.mark.parametrize(
    "make",
    [
        with_fields(alg="sha384"),
        with_fields(alg_soft="x"),
        without("dc:title"),
        generator(name="byok-testz"),
        more_gathered("c2pa.metadata"),
        reference("c2pa.hash.data", hash=bytes(33)),
        reference("c2pa.hash.data", url="self#jumbf=c2pa.assertions/c2pa.hash.bmff.v3"),
        with_fields(instanceID="x"),
        with_fields(instanceID="\n" * 44),
        with_fields(instanceID="ü" * 22),
        with_fields(signature=f"self#jumbf=/c2pa/urn:c2pa:{_UUID[:-1]}g/c2pa.signature"),
        with_fields(**{"dc:title": ""}),
        with_fields(**{"dc:title": "t" * 1025}),
        with_fields(**{"dc:title": b"sample"}),
        claim_bytes(lambda data: data + b"\0"),
        claim_bytes(lambda data: data[:-1]),
        claim_bytes(lambda data: data.replace(b"\x66sample", b"\x78\x06sample")),
        claim_bytes(lambda data: data.replace(b"\x66sample", b"")),
        claim_bytes(lambda _: b""),
    ],
)
def test_all_else_is_looked_at(make: Callable[[CapturedClaim], bytes]) -> None:
    assert not is_familiar(make(created_claim()), taught(created_claim().sig_structure))


@given(st.binary(max_size=40))
def test_a_title_of_any_bytes_changes_no_answer(item: bytes) -> None:
    message = claim_bytes(lambda data: data.replace(b"\x66sample", item))(created_claim())
    assert answer(message, taught(created_claim().sig_structure)) == answer(message, created_claim().policy)


def answer(message: bytes, policy: ClaimPolicy) -> CheckedClaim | str:
    try:
        return check_claim(message, policy)
    except ClaimRefusal as refusal:
        return refusal.message


def test_a_claim_that_ends_with_a_hash_is_not_mistaken_for_a_shorter_one() -> None:
    created_last = claim(lambda fields: fields.update(created_assertions=fields.pop("created_assertions")))
    message = created_last(created_claim())
    cut = claim_bytes(lambda data: data[:-1])(replace(created_claim(), sig_structure=message))
    assert is_familiar(message, taught(message))
    assert not is_familiar(cut, taught(message))


@pytest.mark.parametrize("change", [lambda data: data + b"\0", lambda data: data[:-1], lambda _: b""])
def test_a_claim_without_title_is_not_mistaken_for_another_of_other_length(change: Callable[[bytes], bytes]) -> None:
    message = without("dc:title")(created_claim())
    assert is_familiar(message, taught(message))
    assert not is_familiar(created_claim().sig_structure, taught(message))
    assert not is_familiar(claim_bytes(change)(replace(created_claim(), sig_structure=message)), taught(message))


def test_an_icon_is_compared_in_every_claim() -> None:
    def with_icon(fields: Fields) -> None:
        fields["created_assertions"].append(hashed("c2pa.icon"))
        fields["claim_generator_info"]["icon"] = hashed("c2pa.icon")

    message = claim(with_icon)(created_claim())
    policy = taught(message)
    exchanged = reference("c2pa.icon", hash=bytes([1]) * 32)(replace(created_claim(), sig_structure=message))
    with pytest.raises(ClaimRefusal, match="check icon"):
        check_claim(exchanged, policy)


def test_a_reference_that_names_the_manifest_is_compared_in_every_claim() -> None:
    def absolute(fields: Fields) -> None:
        manifest = fields["signature"].removesuffix("c2pa.signature")
        fields["created_assertions"][0]["url"] = f"{manifest}c2pa.assertions/c2pa.actions.v2"

    message = claim(absolute)(created_claim())
    other = with_fields(signature=f"self#jumbf=/c2pa/urn:c2pa:{_UUID}/c2pa.signature")
    with pytest.raises(ClaimRefusal, match="check assertion-uris"):
        check_claim(other(replace(created_claim(), sig_structure=message)), taught(message))


def test_what_is_familiar_under_one_policy_is_not_under_another() -> None:
    policy = taught(created_claim().sig_structure)
    stricter = replace(policy, required_labels=policy.required_labels | {"cawg.metadata"})
    with pytest.raises(ClaimRefusal, match=r"found no cawg\.metadata"):
        check_claim(created_claim().sig_structure, stricter)


def test_the_shapes_kept_are_few_and_the_latest() -> None:
    policy = created_claim().policy
    messages = [more_created(f"c2pa.metadata__{number}")(created_claim()) for number in range(1, SHAPES_KEPT + 2)]
    for message in messages:
        check_claim(message, policy)
    assert [is_familiar(message, policy) for message in messages] == [False, *[True] * SHAPES_KEPT]


def test_long_claims_are_not_kept_for_they_would_fill_the_memory() -> None:
    message = more_created(*(f"c2pa.metadata__{number}" for number in range(1, 100)))(created_claim())
    assert not is_familiar(message, taught(message))


def test_a_claim_that_was_refused_is_never_familiar() -> None:
    policy, message = created_claim().policy, more_created("com.example.note")(created_claim())
    for _ in range(2):
        with pytest.raises(ClaimRefusal, match="check allowed-labels"):
            check_claim(message, policy)
    assert policy.familiar.find(payload_of(message)) is None


def test_only_the_envelope_that_c2pa_writes_is_taken_without_a_look() -> None:
    captured = created_claim()
    message, policy = captured.sig_structure, captured.policy
    assert claim_in(message, policy) == payload_of(message)
    for at in range(len(message) - len(payload_of(message))):
        changed = bytearray(message)
        changed[at] ^= 1
        assert claim_in(bytes(changed), policy) is None
    assert claim_in(message + b"\0", policy) is None
    assert claim_in(message[:-1], policy) is None
