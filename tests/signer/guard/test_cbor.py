import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_signer.guard.cbor import CLAIM, DEPTH_LIMIT, EncodingFault, decode

# -2^64 is the least integer without a tag.
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**64), 2**64 - 1), st.floats(allow_nan=False), st.text(), st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=DEPTH_LIMIT - 1,
)


def nested(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


@given(values)
def test_what_is_encoded_in_the_one_way_decodes_to_itself(value: object) -> None:
    assert decode(cbor2.dumps(value), CLAIM) == value


@given(st.binary(max_size=60))
def test_bytes_that_decode_are_those_that_encoding_yields(data: bytes) -> None:
    try:
        value = decode(data, CLAIM)
    except EncodingFault:
        return
    assert cbor2.dumps(value) == data


def test_map_keys_keep_their_order_since_c2pa_does_not_sort_them() -> None:
    value = decode(cbor2.dumps({"signature": 1, "alg": 2}), CLAIM)
    assert isinstance(value, dict)
    assert list(value) == ["signature", "alg"]


def test_the_deepest_nesting_that_is_allowed_passes() -> None:
    decode(nested(DEPTH_LIMIT), CLAIM)
    with pytest.raises(EncodingFault, match="depth"):
        decode(nested(DEPTH_LIMIT + 1), CLAIM)


def test_as_many_items_as_are_allowed_pass() -> None:
    decode(cbor2.dumps([0] * (CLAIM.item_limit - 1)), CLAIM)
    with pytest.raises(EncodingFault, match="item-count"):
        decode(cbor2.dumps([0] * CLAIM.item_limit), CLAIM)


def test_a_fault_names_the_layer_and_the_place() -> None:
    with pytest.raises(EncodingFault) as fault:
        decode(b"\x82\x00\xc0", CLAIM)
    assert fault.value.found == "byte 0xc0 at offset 2 of the claim"
