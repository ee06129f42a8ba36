"""The work of `byokctl audit report`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from byok_api.audit import AuditRecord
from byok_api.audit.activity import By, Row, Signature, Summary, TooManyRowsError, Totals, What, signature_of
from byok_api.audit.agreement import Period
from byok_api.errors import Reason, Refusal
from byok_client.cli.exits import Exit
from byok_client.cli.findings import counted
from byok_client.cli.output import printable
from byok_client.cli.refusals import exit_of, explain
from byok_client.cli.sheets import Sheet, SheetFormat, sheet
from byok_client.cli.trail_files import TrailVerdict, read_trails


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be reported."""

    trails: Sequence[Path]
    period: Period
    by: By
    each: bool
    """Every signature, instead of how many."""
    form: SheetFormat


def report(question: Question, out: TextIO, errors: TextIO) -> Exit:
    """Write the report; what is wrong with the trail, and what CSV has no place for, goes to `errors`.

    Signatures are written as they are read: a trail that turns out not to be intact, or not to be readable to its end,
    is told at the end, and by the exit status.
    """
    totals = Totals()
    names = Signature._fields if question.each else (*Row._fields, "signed", "repeated")
    table = sheet(question.form, out, "signatures" if question.each else "rows", [_camel(name) for name in names])
    try:
        verdict = _each(question, totals, table) if question.each else _summed(question, totals, table)
    except Refusal as refusal:
        table.end({"error": explain(refusal)})
        errors.write(f"byokctl: {refusal.reason.name}: {refusal.message}\n")
        return exit_of(refusal)
    table.end({"totals": _document(totals, verdict), "trail": verdict.document()})
    if question.form is not SheetFormat.JSON:
        said = out if question.form is SheetFormat.TEXT else errors
        said.writelines(f"{printable(line)}\n" for line in _text(totals, verdict))
    errors.writelines(f"{line.text}\n" for line in verdict.warnings())
    return Exit.OK if verdict.intact else Exit.FAILED


def _each(question: Question, totals: Totals, table: Sheet) -> TrailVerdict:
    def take(record: AuditRecord) -> None:
        if question.period.holds(record.time.timestamp()):
            totals.take(record)
            signature = signature_of(record)
            if signature is not None:
                table.add(signature)

    return read_trails(question.trails, take)


def _summed(question: Question, totals: Totals, table: Sheet) -> TrailVerdict:
    summary = Summary(question.by)

    def take(record: AuditRecord) -> None:
        if question.period.holds(record.time.timestamp()):
            totals.take(record)
            summary.take(record)

    try:
        verdict = read_trails(question.trails, take)
    except TooManyRowsError as error:
        message = f"{error}: ask for a part of the time with --from and --to, or for longer periods with --by"
        raise Refusal(Reason.InvalidRequest, message) from None
    for row, signed, repeated in summary.rows():
        table.add((*row, signed, repeated))
    return verdict


def _document(totals: Totals, verdict: TrailVerdict) -> Mapping[str, Any]:
    return {
        "signed": totals.signed.total(),
        "unguarded": totals.signed[What.BARE_DIGEST],
        "repeated": totals.repeated,
        "failed": totals.failed,
        "unknown": totals.unknown,
        "refused": totals.refused,
        "reasons": dict(totals.reasons.most_common()),
        "intentsWithoutOutcome": verdict.report.intent_count,
    }


def _text(totals: Totals, verdict: TrailVerdict) -> list[str]:
    kinds = ", ".join(f"{number} {what}" + "s" * (number != 1) for what, number in sorted(totals.signed.items()))
    lines = [counted(totals.signed.total(), "signature") + (f": {kinds}" if kinds else "")]
    if bare := totals.signed[What.BARE_DIGEST]:
        lines.append(f"unguarded: {counted(bare, 'digest')} whose claim nobody saw")
    if totals.repeated:
        lines.append(f"given out again to a retry, and not counted: {counted(totals.repeated, 'signature')}")
    lines.append(f"refused: {totals.refused}, failed: {totals.failed}, unknown: {totals.unknown}")
    lines += [f"  {reason}: {counted(number, 'record')}" for reason, number in totals.reasons.most_common()]
    if verdict.report.intent_count:
        lines.append(f"intents without outcome, in the whole trail: {verdict.report.intent_count}")
    return lines


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
