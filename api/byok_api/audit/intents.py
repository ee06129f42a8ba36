"""Which intents of a trail have their outcome, followed in bounded memory while the trail is read."""

from dataclasses import dataclass
from datetime import datetime

from byok_api.audit.events import AuditEvent
from byok_api.audit.records import AuditId, AuditRecord, Head

FOLLOWED_LIMIT = 20_000
"""Intents that are waited for at a time, over all chains: far more than signers can have under way. Beyond that, those
waited for the longest count as never settled; the same number of settled ones is remembered."""


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """A signature that was to be asked of KMS, and of which the trail does not say what became."""

    line: int
    head: Head
    """The intent's own record."""
    time: datetime
    caller: str | None
    """None for a checkpoint."""
    recipe: str | None
    key: str | None
    key_arn: str | None
    manifest: str | None

    @property
    def id(self) -> AuditId:
        """That record's name."""
        return self.head.id


class Intents:
    """The intents of a trail, from its first line on."""

    def __init__(self, listed: int) -> None:
        """List no more than `listed` of those never settled; the rest are counted."""
        self._listed = listed
        self._open: dict[AuditId, OpenIntent] = {}
        self._settled: dict[AuditId, int] = {}
        self._given_up: list[OpenIntent] = []
        self._given_up_count = 0

    def begin(self, record: AuditRecord, event: AuditEvent, line: int) -> None:
        """Wait for an intent's outcome from here on."""
        self._open[record.head.id] = OpenIntent(
            line=line,
            head=record.head,
            time=record.time,
            caller=event.caller,
            recipe=event.recipe,
            key=event.key,
            key_arn=event.key_arn,
            manifest=event.manifest,
        )
        if len(self._open) > FOLLOWED_LIMIT:
            self._give_up(self._open.pop(next(iter(self._open))))

    def settle(self, intent: AuditId, line: int) -> OpenIntent | None:
        """Return the intent that is settled on this line; None if there is none that waits."""
        found = self._open.pop(intent, None)
        if found is not None:
            self._settled[intent] = line
            if len(self._settled) > FOLLOWED_LIMIT:
                del self._settled[next(iter(self._settled))]
        return found

    def settled(self, intent: AuditId) -> int | None:
        """Return the line on which an intent was settled, if that is remembered."""
        return self._settled.get(intent)

    def unsettled(self) -> tuple[tuple[OpenIntent, ...], int]:
        """List the first of those without outcome, and count all of them."""
        waiting = tuple(self._open.values())
        return (*self._given_up, *waiting)[: self._listed], self._given_up_count + len(waiting)

    def _give_up(self, intent: OpenIntent) -> None:
        self._given_up_count += 1
        if len(self._given_up) < self._listed:
            self._given_up.append(intent)
