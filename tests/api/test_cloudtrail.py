"""CloudTrail's log files: every event is found, whatever the pieces; what cannot be read is told with its place."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byok_api.audit import cloudtrail
from byok_api.audit.cloudtrail import Damage, NotCloudTrailError, key_family, read_events, sign_event
from tests.support.cloudtrail import CALLER, KEY, OWNER, SIGNER, sign


def _pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def _read(content: str | bytes, size: int = 1 << 18) -> list[dict[str, Any] | Damage]:
    content = content.encode() if isinstance(content, str) else content
    return [found if isinstance(found, Damage) else found[1] for found in read_events(_pieces(content, size))]


_TEXTS = st.text(st.characters(codec="ascii"), max_size=8) | st.sampled_from(['"', "\\", "{", "]", '\\"', "}],"])
_EVENTS = st.lists(
    st.dictionaries(_TEXTS, _TEXTS | st.integers() | st.lists(_TEXTS, max_size=3), max_size=4), max_size=6
)


@given(events=_EVENTS, size=st.integers(1, 64), indent=st.sampled_from([None, 2]))
def test_a_log_file_gives_its_events_whatever_the_pieces(
    events: list[dict[str, Any]], size: int, indent: int | None
) -> None:
    assert _read(json.dumps({"Records": events}, indent=indent), size) == events


@given(events=_EVENTS, size=st.integers(1, 64))
def test_one_event_to_a_line_is_read_too(events: list[dict[str, Any]], size: int) -> None:
    named = [{"eventName": "Sign", **event} for event in events]
    assert _read("".join(json.dumps(event) + "\n" for event in named), size) == named


@pytest.mark.parametrize(
    "content",
    [
        '{"Records":[{"a":1}]}{"Records":[{"b":2}]}\n',
        ' { "Records" : [ {"a":1} , {"b":2} ] } ',
        '[{"a":1},{"b":2}]',
        '\ufeff{"Records":[{"a":1},{"b":2}]}',
        '{"owner":"me","Records":[{"a":1},{"b":2}]}',
    ],
)
def test_other_ways_to_keep_events_are_read(content: str) -> None:
    assert _read(content, 7) == [{"a": 1}, {"b": 2}]


def test_an_events_offset_is_given() -> None:
    content = '{"Records":[{"a":"é"},{"b":2}]}'.encode()
    assert [content[found[0] :][:4] for found in read_events([content]) if not isinstance(found, Damage)] == [
        b'{"a"',
        b'{"b"',
    ]


_LARGE = '{"x":"' + '{\\"' * 1000 + '"}'
DAMAGED = [
    ("cut off within an event", '{"Records":[{"a":1},{"b":', [{"a": 1}], 20, "the file ends within"),
    ("cut off after an event", '{"Records":[{"a":1}', [{"a": 1}], 19, "the file ends within"),
    ("broken", '{"Records":[{"a":1},{b:2},{"c":3}]}' + " " * 40, [{"a": 1}], 21, "no valid JSON"),
    ("a broken line", '{"a" 1}\n' + '{"eventName":"x"}\n' * 3, [{"eventName": "x"}] * 3, 5, "no valid JSON"),
    ("too large", f'{{"Records":[{_LARGE},{{"c":3}}]}}', [{"c": 3}], 12, "larger than 1000 bytes"),
    ("too deep", '{"Records":[{"a":' + "[" * 9999 + "]" * 9999 + '},{"c":3}]}', [{"c": 3}], 12, "nested too deep"),
    ("too long a number", '{"Records":[{"a":' + "1" * 5000 + '},{"c":3}]}', [{"c": 3}], 12, "too long"),
    ("no object", '{"Records":[17,{"c":3}]}', [{"c": 3}], 12, "no JSON object"),
    ("no JSON", "PK\x03\x04" + "x" * 99, [], 0, "neither an event nor"),
]


@pytest.mark.parametrize("case", DAMAGED, ids=[case[0] for case in DAMAGED])
@pytest.mark.parametrize("size", [3, 100, 1000])
def test_what_cannot_be_read_is_told_with_its_place_and_the_rest_goes_on(
    case: tuple[str, str, list[Any], int, str], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content, events, offset, message = case
    monkeypatch.setattr(cloudtrail, "EVENT_LIMIT", 1000 if name == "too large" else 1 << 20)
    found = _read(content, size)
    damages = [item for item in found if isinstance(item, Damage)]
    assert [item for item in found if not isinstance(item, Damage)] == events
    assert [damage.offset for damage in damages] == [offset]
    assert message in damages[0].message


@pytest.mark.parametrize("content", ['{"awsAccountId":"1","digestStartTime":"x"}', '{"a":1}', '{"Records":{"a":1}}'])
def test_json_that_is_no_log_file_is_told_apart(content: str) -> None:
    with pytest.raises(NotCloudTrailError):
        _read(content)


def test_a_signature_is_read_from_its_event() -> None:
    assert sign_event(sign("req", 1_800_000_000)) == (
        "req", "event-req", OWNER, 1_800_000_000.0, KEY, "", SIGNER, "AROAIOSFODNN7EXAMPLE"
    )  # fmt: skip


ACTORS = [
    ({"type": "AWSAccount", "principalId": "AROA1:s", "accountId": CALLER}, f"AWSAccount AROA1:s {CALLER}", "AROA1"),
    ({"type": "AWSService", "invokedBy": "s3.amazonaws.com"}, "AWSService s3.amazonaws.com", ""),
    ({"type": "Unknown", "arn": "arn:x"}, "arn:x", "arn:x"),
    (None, "", ""),
]


@pytest.mark.parametrize(("identity", "principal", "actor"), ACTORS)
def test_who_called_is_told_for_people_and_for_comparison(
    identity: dict[str, str] | None, principal: str, actor: str
) -> None:
    event = sign_event(sign("req", 1, userIdentity=identity))
    assert event is not None
    assert (event.principal, event.actor) == (principal, actor)


@pytest.mark.parametrize(
    "changes",
    [
        {"eventName": "Verify"},
        {"eventSource": "signer.amazonaws.com"},
        # A trail that logs VPC endpoints has a second event of each call, with the same request id.
        {"eventCategory": "NetworkActivity"},
    ],
)
def test_other_events_are_no_signatures(changes: dict[str, Any]) -> None:
    assert sign_event(sign("req", 1, **changes)) is None


KEYS = [
    ({}, KEY),
    ({"resources": None}, KEY),
    ({"resources": [], "requestParameters": {"keyId": KEY.rpartition("/")[2]}}, KEY),
    ({"resources": [], "requestParameters": {"keyId": "alias/studio"}}, ""),
    ({"resources": None, "requestParameters": None}, ""),
    ({"resources": [{"ARN": KEY.replace("arn:aws:", "arn:aws-cn:")}]}, KEY.replace("arn:aws:", "arn:aws-cn:")),
]


@pytest.mark.parametrize(("changes", "arn"), KEYS)
def test_the_key_is_the_resource_or_what_the_request_names(changes: dict[str, Any], arn: str) -> None:
    event = sign_event(sign("req", 1, **changes))
    assert event is not None
    assert event.key_arn == arn


@pytest.mark.parametrize(
    "changes",
    [
        {"eventTime": "yesterday"},
        {"eventTime": "2026-02-30T00:00:00Z"},
        {"eventTime": 17},
        {"requestID": 17},
        {"eventID": None},
        {"errorCode": "x" * 3000},
    ],
)
def test_a_malformed_signature_is_an_error_and_not_left_out(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        sign_event(sign("req", 1, **changes))


def test_what_is_not_ascii_is_escaped() -> None:
    event = sign_event(sign("req-\ud800é", 1))
    assert event is not None
    assert event.request_id == "req-\\ud800\\xe9"


def test_the_replicas_of_a_multi_region_key_are_one_key() -> None:
    here, there = (f"arn:aws:kms:{region}:{OWNER}:key/mrk-1234abcd" for region in ("us-west-2", "eu-west-1"))
    assert key_family(here) == key_family(there)
    assert key_family(KEY) != key_family(KEY.replace("us-west-2", "eu-west-1"))
