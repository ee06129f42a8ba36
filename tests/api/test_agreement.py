"""How far CloudTrail's files reach, and how findings without end are listed."""

from typing import Any

import pytest

from byok_api.audit.agreement import LISTED_LIMIT, REGIONS_LIMIT, Coverage, Finding, Findings, Period, Reach
from byok_api.audit.reconciliation import Attempted
from tests.support.cloudtrail import KEY, sign

T = 1_800_000_000


def covering(*seconds: int, since: float | None = None) -> Coverage:
    coverage = Coverage(since=since, delay=900)
    for second in seconds:
        coverage.see(sign("r", T + second, eventName="ListKeys"))
    return coverage


def recorded(seconds: float, key_arn: str = KEY) -> Attempted:
    return Attempted("r", "signer-a/1", 0, "signed", T + seconds, key_arn)


REACHES = [
    (-0.5, None, Reach.BEFORE),
    (-0.5, T - 10.0, Reach.COVERED),
    (-11, T - 10.0, Reach.BEFORE),
    (0, None, Reach.COVERED),
    (0, T + 10.0, Reach.COVERED),
    (100, None, Reach.COVERED),
    (100.5, None, Reach.NOT_YET),
    (5000, None, Reach.NOT_YET),
]


@pytest.mark.parametrize(("seconds", "since", "reach"), REACHES)
def test_a_record_is_covered_from_the_first_event_to_what_is_delivered(
    seconds: float, since: float | None, reach: Reach
) -> None:
    assert covering(500, 0, 1000, since=since).reach(recorded(seconds)) is reach


@pytest.mark.parametrize("key_arn", [KEY.replace("us-west-2", "eu-west-1"), "", "nonsense"])
def test_a_key_of_a_region_without_events_is_not_covered(key_arn: str) -> None:
    assert covering(0, 1000).reach(recorded(0, key_arn)) is Reach.NO_REGION


@pytest.mark.parametrize(
    "changes", [{"awsRegion": 7}, {"awsRegion": "x" * 33}, {"eventTime": "noon"}, {"eventTime": None}]
)
def test_malformed_events_cover_nothing(changes: dict[str, Any]) -> None:
    coverage = covering()
    coverage.see(sign("r", T, **changes))
    assert coverage.spans == {}


def test_regions_without_end_are_not_held() -> None:
    coverage = covering()
    for number in range(REGIONS_LIMIT + 5):
        coverage.see(sign("r", T, awsRegion=f"region-{number}"))
    assert len(coverage.spans) == REGIONS_LIMIT


def test_the_earliest_findings_are_listed_and_all_are_counted() -> None:
    findings = Findings()
    for number in range(3 * LISTED_LIMIT, 0, -1):
        findings.add(Finding(float(number), "NoEvent"))
    assert findings.count == 3 * LISTED_LIMIT
    assert [finding.time for finding in findings.listed] == [float(number) for number in range(1, LISTED_LIMIT + 1)]


def test_a_period_ends_before_its_end() -> None:
    period = Period(10.0, 20.0)
    assert [period.holds(time) for time in (9.9, 10.0, 19.9, 20.0)] == [False, True, True, False]
    assert [period.is_near(time) for time in (-3590.1, -3590.0, 3619.9, 3620.0)] == [False, True, True, False]
