"""What becomes of a key over hours: plans and timetables together, on simulated time, with every write counted."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import cycle

import pytest

from byok_operator.key_plan import plan_key
from byok_operator.observations import KeyObservation, Outcome, Probe, ProbeFailure, ReplicaHealth
from byok_operator.schedule import Timetable, attempted, begin, look_again_at, occasion_of, probe_due_at
from byok_operator.transitions import Event
from tests.support.observed import DENIED, NOW, THROTTLED, health, observed, planned, probe, says
from tests.support.pki import identity

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
Answer = Callable[[datetime], Probe | ProbeFailure]


def well(at: datetime) -> Probe:
    return probe(at)


def denied(at: datetime) -> Probe:
    return probe(at, sign=DENIED)


def away(at: datetime) -> ProbeFailure:
    return ProbeFailure(at, "SignerUnreachable", f"no answer at {at}")


@dataclass
class Story:
    """An operator with one key, and an API server that keeps what is written."""

    seen: KeyObservation = field(default_factory=observed)
    now: datetime = NOW
    answer: Answer = well
    timetable: Timetable | None = None
    writes: list[tuple[datetime, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    probes: list[datetime] = field(default_factory=list)
    _chances = cycle((0.1, 0.9, 0.5, 0.0, 1.0))

    def run(self, span: timedelta) -> None:
        """Let time pass: probe when due, look when the plan says so, write what differs."""
        end = self.now + span
        while True:
            self._look()
            due = probe_due_at(self._table(), self.seen, self.now)
            moments = [moment for moment in (due, look_again_at(self.seen, self.now)) if moment is not None]
            following = min((max(moment, self.now + SECOND) for moment in moments), default=end)
            if following >= end:
                self.now = end
                return
            self.now = following

    def restart(self) -> None:
        """Forget all but what the API server has."""
        self.seen = replace(self.seen, probe=None, probe_failure=None, health=(), recipes_written=None)
        self.timetable = None

    def hear(self, *reports: ReplicaHealth) -> None:
        """Have replicas say something, at once."""
        self.seen = replace(self.seen, health=reports)
        self.run(SECOND)

    def ready(self) -> str:
        return says(self.seen.status.conditions if self.seen.status else None)["Ready"]

    def _table(self) -> Timetable:
        self.timetable = self.timetable or begin(self.seen, self.now, next(self._chances))
        return self.timetable

    def _look(self) -> None:
        due = probe_due_at(self._table(), self.seen, self.now)
        self._write()
        if due is not None and due <= self.now:
            asked_for, result = occasion_of(self.seen, self.now), self.answer(self.now)
            self.probes.append(self.now)
            if isinstance(result, Probe):
                self.seen = replace(self.seen, probe=result, probe_failure=None)
            else:
                self.seen = replace(self.seen, probe_failure=result)
            self.timetable = attempted(
                self._table(), self.seen, asked_for=asked_for, now=self.now, chance=next(self._chances)
            )
            self._write()

    def _write(self) -> None:
        plan = plan_key(self.seen, self.now)
        kept = planned(self.seen, self.now)
        if plan.is_provisional or kept.status == self.seen.status:
            return
        self.seen = kept
        self.events += plan.events
        self.writes.append((self.now, self.ready()))


def running() -> Story:
    story = Story()
    story.run(HOUR)
    story.writes.clear()
    story.events.clear()
    story.probes.clear()
    return story


def test_a_new_key_is_written_once() -> None:
    story = Story()
    story.run(MINUTE)
    assert [ready for _, ready in story.writes] == ["True/Verified"]
    assert len(story.events) == 1


def test_a_healthy_key_is_written_once_an_hour_at_most() -> None:
    story = running()
    story.run(24 * HOUR)
    assert 20 <= len(story.writes) <= 24
    assert 120 <= len(story.probes) <= 180
    assert story.events == []


def test_a_key_that_signs_all_the_time_is_written_no_more_often() -> None:
    story = running()
    for minute in range(120):
        story.hear(health(Outcome.PASSED, NOW, last_verified=story.now))
        story.run(MINUTE - SECOND)
        assert story.ready() == "True/Verified", minute
    assert len(story.writes) <= 2
    assert story.events == []


@pytest.mark.parametrize("answer", [well, denied, away], ids=["well", "denied", "away"])
def test_a_restart_writes_nothing(answer: Answer) -> None:
    story = running()
    story.answer = answer
    story.run(HOUR)
    story.writes.clear()
    story.restart()
    story.run(SECOND)
    assert story.writes == []
    story.run(30 * MINUTE)
    assert story.events == story.events[:2]
    assert len(story.writes) <= 1


def test_a_denial_is_written_once_and_looked_at_ever_more_seldom() -> None:
    story = running()
    story.answer = denied
    story.run(24 * HOUR)
    assert [ready for _, ready in story.writes] == ["False/KeyAccessDenied"]
    assert len(story.probes) <= 24 * 4 * 1.25 + 8
    assert len(story.events) == 1


def test_a_grant_that_is_taken_and_given_back_while_somebody_signs() -> None:
    story = running()
    story.answer, taken = denied, story.now
    story.hear(health(Outcome.FAILED, taken, message=DENIED.message))
    assert story.writes[0] == (taken, "False/KeyAccessDenied")
    story.run(20 * MINUTE)
    story.answer, given = well, story.now
    story.hear(health(Outcome.PASSED, given, last_verified=given))
    assert story.writes[-1] == (given, "True/Verified")
    # The replica's word, and the probe's with the missing statement.
    assert len(story.writes) <= 3
    assert [event.type.value for event in story.events] == ["Warning", "Normal"]


def test_a_signer_that_is_away_for_hours_is_written_twice() -> None:
    story = running()
    story.answer = away
    story.run(3 * HOUR)
    assert [ready for _, ready in story.writes] == ["True/LastVerified"]
    story.answer = well
    story.run(HOUR)
    assert [ready for _, ready in story.writes] == ["True/LastVerified", "True/Verified"]


def test_a_signer_that_is_away_for_days_leaves_the_key_stale() -> None:
    story = running()
    story.answer = away
    story.run(72 * HOUR)
    assert [ready for _, ready in story.writes] == ["True/LastVerified", "Unknown/Stale"]
    (_, stale) = (moment for moment, _ in story.writes)
    assert 22 * HOUR <= stale - (NOW + HOUR) <= 24 * HOUR


def test_a_throttled_moment_changes_no_more_than_two_leaves() -> None:
    story = running()
    story.answer = lambda at: probe(at, sign=THROTTLED)
    story.run(13 * MINUTE)
    story.answer = well
    story.run(HOUR)
    assert [ready for _, ready in story.writes][:2] == ["True/LastVerified", "True/Verified"]


def test_replicas_that_disagree_for_hours_are_no_storm() -> None:
    story = running()
    for _ in range(60):
        story.hear(
            health(Outcome.PASSED, NOW, last_verified=story.now),
            health(Outcome.FAILED, story.now, replica="signer-1", message=DENIED.message),
        )
        story.run(MINUTE)
    assert len(story.probes) <= 60 + 8
    assert len(story.writes) <= 2 * 60 + 2


def test_a_certificate_expires_on_the_second() -> None:
    story = running()
    end = identity().chain.not_after
    story.now = end - 30 * MINUTE
    story.run(HOUR)
    first = next(moment for moment, ready in story.writes if ready == "False/CertificateExpired")
    assert first == end + SECOND
