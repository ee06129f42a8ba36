"""Faults to order: what the emulated KMS and STS are told to do wrong, and to which calls; pure.

A rule selects calls and names one fault, as JSON (`POST /_sandbox/faults`) or made here:

    {"fault": {"kind": "latency", "seconds": 0.01}}                             every call takes 10 ms more
    {"fault": {"kind": "latency", "seconds": 2}, "every": 100}                  a spike for each 100th call
    {"fault": {"kind": "error", "code": "ThrottlingException"}, "operation": "Sign", "abovePerSecond": 1000}
    {"fault": {"kind": "error", "code": "ExpiredTokenException"}, "service": "kms", "times": 1}
    {"fault": {"kind": "reset", "after": true}, "operation": "Sign", "key": "arn:aws:kms:..."}

Every rule that selects a call counts, the first one outermost. Nothing is random: the same calls meet the same faults.
The event log stays true: what was done is an event without error code, whether or not an answer came; an error is one
with it, but for those of unknown callers; what a gateway answers, or a connection loses on its way in, is none.
"""

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

RULE_LIMIT = 100

_COUNT_LIMIT = 1_000_000_000
_ARN_LIMIT = 2048


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Latency(_Document):
    """The call is dealt with later."""

    kind: Literal["latency"] = "latency"
    seconds: float = Field(gt=0, le=3600)


class ErrorAnswer(_Document):
    """Nothing is done; AWS answers an error."""

    kind: Literal["error"] = "error"
    code: str = Field(pattern=r"^[A-Za-z]{1,64}$")
    """As KMS names it; STS answers its own name for it."""
    message: str | None = Field(default=None, max_length=1000)
    status: int | None = Field(default=None, ge=400, le=599)
    """HTTP status; None for the one that goes with the code."""


class GatewayAnswer(_Document):
    """Something between the caller and AWS answers, in HTML and without a request id."""

    kind: Literal["gateway"] = "gateway"
    status: int = Field(default=502, ge=300, le=599)
    after: bool = False
    """Whether the operation is done first; so below."""


class Reset(_Document):
    """The connection is reset without an answer."""

    kind: Literal["reset"] = "reset"
    after: bool = False


class Hang(_Document):
    """No answer comes, and the connection stays open."""

    kind: Literal["hang"] = "hang"
    after: bool = False


class Truncate(_Document):
    """The operation is done; the connection is closed after half of the answer."""

    kind: Literal["truncate"] = "truncate"


class Garbage(_Document):
    """The operation is done; the answer is of status 200, with a request id, and no JSON or XML."""

    kind: Literal["garbage"] = "garbage"


class WrongKeyId(_Document):
    """The operation is done; an answer that has a KeyId names another key of the same account and Region."""

    kind: Literal["wrongKeyId"] = "wrongKeyId"


class OtherSignature(_Document):
    """Sign signs, with the right key, something else than what it was asked to sign."""

    kind: Literal["otherSignature"] = "otherSignature"


class ClockSkew(_Document):
    """AWS's clock is ahead of the callers' by so many seconds, or behind if negative."""

    kind: Literal["clockSkew"] = "clockSkew"
    seconds: float = Field(ge=-1e9, le=1e9)


Fault = Annotated[
    Latency | ErrorAnswer | GatewayAnswer | Reset | Hang | Truncate | Garbage | WrongKeyId | OtherSignature | ClockSkew,
    Field(discriminator="kind"),
]


class FaultRule(_Document):
    """A fault, and the calls that it befalls: all of known callers, unless the other fields say less."""

    fault: Fault
    service: Literal["kms", "sts"] | None = None
    operation: str | None = Field(default=None, max_length=64)
    key: str | None = Field(default=None, max_length=_ARN_LIMIT)
    """ARN of a key, also for calls that name it by id or alias; a key that does not exist is no key."""
    above_per_second: int | None = Field(default=None, ge=0, le=_COUNT_LIMIT)
    """Only what is beyond so many calls in one second, counted by the caller's account, Region and family of key.

    A second is one of the clock's: KMS throttles "all subsequent requests in that second" (AWS KMS developer guide,
    "Throttling requests").
    """
    every: int = Field(default=1, ge=1, le=_COUNT_LIMIT)
    """Only each so-manieth of these calls."""
    times: int | None = Field(default=None, ge=1, le=_COUNT_LIMIT)
    """How often; then the rule is gone. None until it is cleared."""

    @model_validator(mode="after")
    def _check_clock(self) -> Self:
        selects = self.operation is not None or self.key is not None or self.above_per_second is not None
        if isinstance(self.fault, ClockSkew) and selects:
            raise ValueError("clockSkew goes before it is known what is called: select by service, every and times")
        return self


@dataclass(frozen=True)
class Subject:
    """What a call is selected by."""

    service: str
    operation: str
    key: str | None = None
    """Key ARN."""
    meter: tuple[str, ...] = ()
    """Caller's account, Region, family of the key."""


@dataclass
class _Standing:
    rule: FaultRule
    met: int = 0
    struck: int = 0
    second: int = 0
    calls: Counter[tuple[str, ...]] = field(default_factory=Counter)

    @property
    def spent(self) -> bool:
        return self.struck == self.rule.times

    def strikes(self, subject: Subject, now: float) -> bool:
        """Count a call, and say whether it is struck."""
        rule = self.rule
        pairs = ((rule.service, subject.service), (rule.operation, subject.operation), (rule.key, subject.key))
        if not all(wanted in (None, found) for wanted, found in pairs) or not self._is_above(subject, now):
            return False
        self.met += 1
        struck = self.met % rule.every == 0
        self.struck += struck
        return struck

    def _is_above(self, subject: Subject, now: float) -> bool:
        if self.rule.above_per_second is None:
            return True
        if int(now) != self.second:
            self.second, self.calls = int(now), Counter()
        self.calls[subject.meter] += 1
        return self.calls[subject.meter] > self.rule.above_per_second


class Faults:
    """The rules that stand."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._standing: dict[str, _Standing] = {}

    def add(self, rule: FaultRule) -> str:
        """Have a rule count from the next call on; answers its id. ValueError if there are too many."""
        if len(self._standing) >= RULE_LIMIT:
            raise ValueError(f"{RULE_LIMIT} rules are the most that may stand: clear some")
        number = str(next(self._numbers))
        self._standing[number] = _Standing(rule)
        return number

    def clear(self, number: str | None = None) -> int:
        """Take a rule back, or all; answers how many stood."""
        gone = [number] if number in self._standing else [] if number is not None else list(self._standing)
        for each in gone:
            del self._standing[each]
        return len(gone)

    def rules(self) -> dict[str, FaultRule]:
        """List what stands, by id."""
        return {number: standing.rule for number, standing in self._standing.items()}

    def befalling(self, subject: Subject, now: float) -> list[Fault]:
        """Count a call, and list the faults that befall it, outermost first; `now` in seconds since the epoch."""
        return self._strike(subject, now, clock=False)

    def skew(self, service: str, now: float) -> float:
        """Count a request, and say by how many seconds the service's clock is ahead for it."""
        faults = self._strike(Subject(service, ""), now, clock=True)
        return sum(fault.seconds for fault in faults if isinstance(fault, ClockSkew))

    def _strike(self, subject: Subject, now: float, *, clock: bool) -> list[Fault]:
        struck: list[Fault] = []
        for number, standing in list(self._standing.items()):
            if isinstance(standing.rule.fault, ClockSkew) is clock and standing.strikes(subject, now):
                struck.append(standing.rule.fault)
                if standing.spent:
                    self.clear(number)
        return struck
