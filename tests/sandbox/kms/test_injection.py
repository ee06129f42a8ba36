"""Which calls a rule befalls: the same calls meet the same faults."""

from typing import Any

import pytest
from pydantic import ValidationError

from byok_sandbox.kms.control import document_of
from byok_sandbox.kms.injection import (
    RULE_LIMIT,
    ClockSkew,
    ErrorAnswer,
    Fault,
    FaultRule,
    Faults,
    GatewayAnswer,
    Latency,
    Reset,
    Subject,
)

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
METER = ("111122223333", "eu-central-1", "ECC")
SIGN = Subject("kms", "Sign", ARN, METER)
LOOK = Subject("kms", "GetPublicKey", ARN, METER)
ASSUME = Subject("sts", "AssumeRole", None, ("111122223333", "eu-central-1", ""))
RESET = Reset()
THROTTLED = ErrorAnswer(code="ThrottlingException")


def faults_of(*rules: FaultRule) -> Faults:
    faults = Faults()
    for rule in rules:
        faults.add(rule)
    return faults


def struck(faults: Faults, count: int, subject: Subject = SIGN, now: float = 0.0) -> list[int]:
    """Which of so many calls, counted from 1, are struck."""
    return [number for number in range(1, count + 1) if faults.befalling(subject, now)]


@pytest.mark.parametrize(
    ("selects", "befallen"),
    [
        ({}, [SIGN, LOOK, ASSUME]),
        ({"service": "kms"}, [SIGN, LOOK]),
        ({"service": "sts"}, [ASSUME]),
        ({"operation": "Sign"}, [SIGN]),
        ({"key": ARN}, [SIGN, LOOK]),
        ({"key": ARN, "operation": "GetPublicKey"}, [LOOK]),
        ({"key": f"{ARN}0"}, []),
    ],
)
def test_a_rule_befalls_the_calls_that_it_selects(selects: dict[str, Any], befallen: list[Subject]) -> None:
    faults = faults_of(FaultRule(fault=RESET, **selects))
    assert [subject for subject in (SIGN, LOOK, ASSUME) if faults.befalling(subject, 0.0)] == befallen


def test_every_nth_call_of_those_selected_is_struck() -> None:
    faults = faults_of(FaultRule(fault=RESET, operation="Sign", every=3))
    assert struck(faults, 7) == [3, 6]
    assert struck(faults, 7, LOOK) == []
    assert struck(faults, 3) == [2]


def test_a_rule_whose_times_are_used_up_is_gone() -> None:
    faults = faults_of(FaultRule(fault=RESET, every=2, times=2))
    assert struck(faults, 9) == [2, 4]
    assert faults.rules() == {}


def test_a_second_has_room_for_so_many_calls_of_one_account_region_and_family() -> None:
    faults = faults_of(FaultRule(fault=THROTTLED, operation="Sign", above_per_second=3))
    assert struck(faults, 5, now=10.2) == [4, 5]
    assert struck(faults, 1, now=10.99) == [1]
    others = (("444455556666", *METER[1:]), (METER[0], "eu-west-1", METER[2]), (*METER[:2], "RSA"))
    for meter in others:
        assert struck(faults, 4, Subject("kms", "Sign", ARN, meter), now=10.99) == [4]
    assert struck(faults, 3, now=11.0) == []


def test_every_rule_counts_and_the_first_is_outermost() -> None:
    slow = Latency(seconds=1)
    faults = faults_of(FaultRule(fault=slow), FaultRule(fault=THROTTLED, times=1), FaultRule(fault=RESET, every=2))
    assert faults.befalling(SIGN, 0.0) == [slow, THROTTLED]
    assert faults.befalling(SIGN, 0.0) == [slow, RESET]


def test_a_rule_stands_until_it_is_cleared() -> None:
    faults = Faults()
    first, second = faults.add(FaultRule(fault=RESET)), faults.add(FaultRule(fault=THROTTLED))
    assert (faults.clear(first), faults.clear(first), list(faults.rules())) == (1, 0, [second])
    assert (faults.clear(), struck(faults, 1)) == (1, [])


def test_clocks_of_a_service_add_up_and_no_call_is_befallen_by_them() -> None:
    rules = (FaultRule(fault=ClockSkew(seconds=400), service="kms"), FaultRule(fault=ClockSkew(seconds=-1), times=1))
    faults = faults_of(*rules)
    assert faults.befalling(SIGN, 0.0) == []
    assert [faults.skew("kms", 0.0), faults.skew("kms", 0.0), faults.skew("sts", 0.0)] == [399, 400, 0]


def test_there_are_not_more_rules_than_the_limit() -> None:
    faults = faults_of(*[FaultRule(fault=RESET)] * RULE_LIMIT)
    with pytest.raises(ValueError, match="clear some"):
        faults.add(FaultRule(fault=RESET))


@pytest.mark.parametrize(
    ("document", "finding"),
    [
        ({}, "fault"),
        ({"fault": {"kind": "flood"}}, "flood"),
        ({"fault": {"kind": "latency"}}, "seconds"),
        ({"fault": {"kind": "latency", "seconds": -1}}, "seconds"),
        ({"fault": {"kind": "error", "code": "Not a code"}}, "code"),
        ({"fault": {"kind": "error", "code": "X", "status": 200}}, "status"),
        ({"fault": {"kind": "reset", "seconds": 1}}, "seconds"),
        ({"fault": {"kind": "reset"}, "every": 0}, "every"),
        ({"fault": {"kind": "reset"}, "keys": ARN}, "keys"),
        ({"fault": {"kind": "reset"}, "service": "s3"}, "service"),
        ({"fault": {"kind": "clockSkew", "seconds": 1}, "key": ARN}, "select by service"),
    ],
)
def test_what_is_no_rule_is_refused_by_name(document: dict[str, Any], finding: str) -> None:
    with pytest.raises(ValidationError, match=finding):
        FaultRule.model_validate(document)


@pytest.mark.parametrize("fault", [Latency(seconds=0.5), THROTTLED, GatewayAnswer(after=True), ClockSkew(seconds=-9)])
def test_a_rule_written_as_json_is_the_same_rule(fault: Fault) -> None:
    rule = FaultRule(fault=fault, service="kms", every=2, times=3)
    assert FaultRule.model_validate(document_of(rule)) == rule
