"""Verification of a trail: every altered, missing, repeated, reordered or replaced line is found, and where it is.

A trail is what a file or a log collector holds: the chains of several writers, one after the other (each chain start
names the chain that it continues) or mixed. What no reader of the trail alone can see is that its last lines are gone,
or that all from some record on was made anew: compare the heads in the report with audit ids known from elsewhere. Up
to a chain's last checkpoint nothing can have been made anew without the checkpoint key.

An intent without outcome, or an attempt whose end nobody knows, is what a crash or an outage leaves, and no tampering.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from byok_api.audit.checkpoints import CheckpointError, check_checkpoint
from byok_api.audit.events import AuditEvent, Kind, Outcome
from byok_api.audit.intents import Intents, OpenIntent
from byok_api.audit.records import (
    LINE_LIMIT,
    SEALED_LIMIT,
    AuditId,
    AuditRecord,
    ChainStart,
    Head,
    RecordError,
    TornLine,
    looks_torn,
    read_record,
)

CHAINS_LIMIT = 4096
"""Chains that are remembered while reading, and listed in the report."""
FINDINGS_LIMIT = 1000
"""Findings that are listed in the report; further ones are only counted."""
INTENTS_LIMIT = 1000
"""Intents without outcome that are listed in the report; further ones are only counted."""
KEYS_LIMIT = 64
"""Checkpoint keys that are told apart in the report."""


class FindingKind(StrEnum):
    """What is wrong with a trail; the first four are faults of a single line (`LineFault`)."""

    LINE_TOO_LONG = "LineTooLong"
    NOT_A_RECORD = "NotARecord"
    ALTERED = "Altered"
    UNKNOWN_SCHEMA = "UnknownSchema"
    MISSING = "Missing"
    """Records are missing directly before the line."""
    OUT_OF_ORDER = "OutOfOrder"
    """The line is repeated, or stood elsewhere."""
    LINK_BROKEN = "LinkBroken"
    """The line does not link to the record before it: one of the two was replaced."""
    CHAIN_START_MISSING = "ChainStartMissing"
    """The chain does not begin with a chain start, or the trail is empty."""
    PREDECESSOR_MISSING = "PredecessorMissing"
    """The chain that this one continues is not in the trail."""
    TORN_LINE_MISSING = "TornLineMissing"
    """A chain start seals torn lines that are not, or no longer, directly above it."""
    INTENT_MISSING = "IntentMissing"
    """The record settles an intent that is not above it in its chain."""
    INTENT_SETTLED_TWICE = "IntentSettledTwice"
    """The record settles an intent that a record above has settled."""
    CHECKPOINT_INVALID = "CheckpointInvalid"
    """The checkpoint does not prove that the records above were there when it was made."""
    CHECKPOINT_MISSING = "CheckpointMissing"
    """The trail holds no checkpoint that the given key has signed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a trail."""

    kind: FindingKind
    line: int
    """Counted from 1."""
    message: str


@dataclass(frozen=True, slots=True)
class ChainSummary:
    """One writer's chain in the trail."""

    first_line: int
    last_line: int
    pod: str | None
    """Where its writer ran; None if the chain's start does not say, or is missing."""
    predecessor: AuditId | None
    head: Head
    """The last record in sequence."""
    signed: Head | None
    """The last record that a valid checkpoint in this chain signs."""


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What verification found."""

    lines: int
    records: int
    kinds: Mapping[str, int]
    """Records by `Kind`."""
    chains: tuple[ChainSummary, ...]
    """The last `CHAINS_LIMIT` chains, in order of their beginning."""
    findings: tuple[Finding, ...]
    """The first `FINDINGS_LIMIT`, by line."""
    finding_count: int
    sealed: int
    """Lines cut off by a crash and accounted for by the chain start below them."""
    torn: int | None
    """Number of an incomplete last line: a crash, or a record that is being written. No tampering."""
    intents: tuple[OpenIntent, ...]
    """The first `INTENTS_LIMIT` intents without outcome, by line: KMS may have signed; nothing was released."""
    intent_count: int
    unknown: int
    """Attempts whose end nobody knows: KMS may have signed."""
    checkpoint_keys: Mapping[str, int]
    """Valid checkpoints by the SHA-256 of their key's SubjectPublicKeyInfo."""

    @property
    def intact(self) -> bool:
        """Whether nothing was altered, removed, repeated, reordered or replaced."""
        return self.finding_count == 0


def bounded_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Read a stream's lines with their newlines; of an overlong one only the first `LINE_LIMIT` + 1 bytes are given."""
    while line := stream.readline(LINE_LIMIT + 1):
        yield line
        while len(line) > LINE_LIMIT and not line.endswith(b"\n"):
            line = stream.readline(LINE_LIMIT + 1) or b"\n"


def verify_chain(lines: Iterable[bytes], *, checkpoint_key: PublicKeyTypes | None = None) -> ChainReport:
    """Verify a trail, given as lines with their newlines (`bounded_lines`), in one pass and bounded memory.

    With `checkpoint_key` it must hold checkpoints, and every one must be signed with that key; without, each with the
    key that it names, which proves nothing unless somebody compares `checkpoint_keys` with what is known of the key.
    """
    verifier = _Verifier(checkpoint_key)
    for line in lines:
        verifier.feed(line)
    return verifier.finish()


@dataclass(slots=True)
class _Chain:
    first_line: int
    last_line: int
    pod: str | None
    predecessor: AuditId | None
    head: Head
    stray: Head | None = None
    """Where a displaced run of records has got to: the run is one finding, not one for each of its lines."""
    successor: int | None = None
    """Line of the chain start that continues this chain, after which it has ended."""
    complete_from: int = 0
    """The first record after which none is missing here."""
    signed: Head | None = None

    @property
    def summary(self) -> ChainSummary:
        return ChainSummary(self.first_line, self.last_line, self.pod, self.predecessor, self.head, self.signed)


@dataclass(frozen=True, slots=True)
class _BadLine:
    line: int
    error: RecordError
    fragment: TornLine | None
    """Set if the line may have been cut off by a crash."""
    terminated: bool


class _Verifier:
    def __init__(self, checkpoint_key: PublicKeyTypes | None = None) -> None:
        self._line = 0
        self._kinds: Counter[str] = Counter()
        self._chains: dict[str, _Chain] = {}
        self._findings: list[Finding] = []
        self._finding_count = 0
        self._held: list[_BadLine] = []
        self._damaged = 0
        self._sealed = 0
        self._intents = Intents(INTENTS_LIMIT)
        self._unknown = 0
        self._checkpoint_key = checkpoint_key
        self._checkpoint_keys: Counter[str] = Counter()

    def feed(self, line: bytes) -> None:
        self._line += 1
        content = line.removesuffix(b"\n")
        try:
            record = read_record(content)
        except RecordError as error:
            fragment = TornLine.of(content) if looks_torn(content) else None
            self._held.append(_BadLine(self._line, error, fragment, terminated=content != line))
            if len(self._held) > SEALED_LIMIT:
                self._report_bad(self._held.pop(0))
            return
        self._settle(record)
        self._place(record)
        self._kinds[record.kind] += 1
        self._damaged = 0

    def finish(self) -> ChainReport:
        torn = None
        if self._held and self._held[-1].fragment and not self._held[-1].terminated:
            torn = self._held.pop().line
        for bad in self._held:
            self._report_bad(bad)
        if not self._kinds:
            self._report(
                FindingKind.CHAIN_START_MISSING, "the trail holds no record; a signer begins with a chain start"
            )
        if self._checkpoint_key is not None and not self._checkpoint_keys:
            message = "the trail holds no checkpoint of the given key: nothing shows that it was not made anew"
            self._report(FindingKind.CHECKPOINT_MISSING, message)
        intents, intent_count = self._intents.unsettled()
        return ChainReport(
            lines=self._line,
            records=self._kinds.total(),
            kinds=dict(self._kinds),
            chains=tuple(chain.summary for chain in self._chains.values()),
            findings=tuple(sorted(self._findings, key=lambda finding: finding.line)),
            finding_count=self._finding_count,
            sealed=self._sealed,
            torn=torn,
            intents=intents,
            intent_count=intent_count,
            unknown=self._unknown,
            checkpoint_keys=dict(self._checkpoint_keys),
        )

    def _report(self, kind: FindingKind, message: str, line: int | None = None) -> None:
        self._finding_count += 1
        if len(self._findings) < FINDINGS_LIMIT:
            self._findings.append(Finding(kind, line or max(1, self._line), message))

    def _report_bad(self, bad: _BadLine) -> None:
        self._damaged += 1
        self._report(FindingKind(bad.error.fault), str(bad.error), bad.line)

    def _settle(self, record: AuditRecord) -> None:
        """Decide on the bad lines directly above a record: sealed by it, or findings."""
        torn = record.event.torn if isinstance(record.event, ChainStart) else ()
        above, sealed = self._held[: len(self._held) - len(torn)], self._held[len(self._held) - len(torn) :]
        if len(self._held) < len(torn) or tuple(bad.fragment for bad in sealed) != torn:
            above, sealed = self._held, []
            self._report(FindingKind.TORN_LINE_MISSING, "the torn lines that this chain start seals are not above it")
        self._held = []
        self._sealed += len(sealed)
        for bad in above:
            self._report_bad(bad)

    def _place(self, record: AuditRecord) -> None:
        chain = self._chains.get(record.writer)
        if chain is not None:
            self._extend(chain, record)
            return
        start = record.event if isinstance(record.event, ChainStart) else ChainStart()
        predecessor = start.predecessor
        if predecessor is not None:
            self._succeed(predecessor, record)
        elif record.sequence > self._damaged:
            message = f"the beginning of the chain of {record.writer} is missing: this is its first record here"
            self._report(FindingKind.CHAIN_START_MISSING, message)
        if len(self._chains) >= CHAINS_LIMIT:
            del self._chains[next(iter(self._chains))]
        chain = _Chain(self._line, self._line, start.pod, predecessor, record.head, complete_from=record.sequence)
        self._chains[record.writer] = chain
        self._account(chain, record)

    def _succeed(self, predecessor: AuditId, record: AuditRecord) -> None:
        before = self._chains.get(predecessor.writer)
        if before is None:
            self._report(FindingKind.PREDECESSOR_MISSING, f"the chain up to {predecessor}, continued here, is missing")
            return
        if predecessor.sequence < before.head.sequence:
            message = f"{before.head.id} on line {before.last_line} comes after {predecessor}, where this chain goes on"
            self._report(FindingKind.OUT_OF_ORDER, message)
        elif before.successor is not None:
            self._report(FindingKind.OUT_OF_ORDER, f"line {before.successor} already continues {predecessor}")
        else:
            self._link(before, predecessor.sequence, record)
        before.successor = self._line

    def _extend(self, chain: _Chain, record: AuditRecord) -> None:
        if record.sequence > chain.head.sequence:
            if chain.successor is not None:
                message = f"{record.head.id} goes on with a chain that ended before line {chain.successor}"
                self._report(FindingKind.OUT_OF_ORDER, message)
            self._link(chain, record.sequence - 1, record)
            if record.sequence > chain.head.sequence + 1:
                chain.complete_from = record.sequence
            chain.head, chain.last_line = record.head, self._line
            self._account(chain, record)
            return
        stray = chain.stray
        if stray is None or (record.sequence, record.previous) != (stray.sequence + 1, stray.hash):
            message = f"{record.head.id} comes after {chain.head.id}, which is on line {chain.last_line}"
            self._report(FindingKind.OUT_OF_ORDER, message)
        chain.stray = record.head

    def _link(self, chain: _Chain, sequence: int, record: AuditRecord) -> None:
        """Check that a record follows a chain whose last record should be `sequence`."""
        gap = sequence - chain.head.sequence
        if gap == 0 and record.previous != chain.head.hash:
            message = f"{record.head.id} does not link to line {chain.last_line}: one of the two was replaced"
            self._report(FindingKind.LINK_BROKEN, message)
        elif gap > self._damaged:
            missing = f"{AuditId(chain.head.writer, chain.head.sequence + 1)} to {AuditId(chain.head.writer, sequence)}"
            self._report(FindingKind.MISSING, f"records {missing} are missing before this line")

    def _account(self, chain: _Chain, record: AuditRecord) -> None:
        """Follow what the records of a chain say of each other; what is missing was reported already."""
        event = record.event
        if isinstance(event, ChainStart):
            return
        self._unknown += sum(attempt.outcome is Outcome.UNKNOWN for attempt in event.attempts)
        intent = None
        if event.intent is not None:
            intent = self._settled_intent(chain, AuditId(record.writer, event.intent))
        if event.kind is Kind.INTENT:
            self._intents.begin(record, event, self._line)
        if event.signature is not None:
            self._check_checkpoint(chain, event, intent)

    def _settled_intent(self, chain: _Chain, intent: AuditId) -> OpenIntent | None:
        found = self._intents.settle(intent, self._line)
        if found is None:
            before = self._intents.settled(intent)
            if before is not None:
                self._report(FindingKind.INTENT_SETTLED_TWICE, f"line {before} has settled the intent {intent} already")
            elif intent.sequence >= chain.complete_from:
                self._report(FindingKind.INTENT_MISSING, f"there is no intent {intent}, which this record settles")
        return found

    def _check_checkpoint(self, chain: _Chain, event: AuditEvent, intent: OpenIntent | None) -> None:
        head = intent.head if intent is not None else None
        try:
            key = check_checkpoint(event, head=head, key=self._checkpoint_key)
        except CheckpointError as error:
            self._report(FindingKind.CHECKPOINT_INVALID, f"the checkpoint is not valid: {error}")
            return
        if key in self._checkpoint_keys or len(self._checkpoint_keys) < KEYS_LIMIT:
            self._checkpoint_keys[key] += 1
        if head is not None:
            chain.signed = head
