"""`byokctl audit`: comparing the record with CloudTrail, and reporting what was signed."""

import errno
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from byok_client.cli.commands.audit import app
from byok_client.cli.commands.help import examples
from byok_client.cli.exits import Exit
from byok_client.cli.output import Format, FormatOption, answer
from byok_client.cli.sheets import SheetFormat

__all__ = ["app"]

Trails = Annotated[
    list[Path],
    typer.Argument(metavar="TRAIL", help="Audit files, in the order of their times; - for standard input."),
]


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is no date or time, such as 2026-11-01 or 2026-11-01T06:30Z") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


Since = Annotated[
    datetime | None,
    typer.Option("--from", parser=_moment, metavar="TIME", help="Leave out what is earlier. UTC unless it says so."),
]
Until = Annotated[
    datetime | None,
    typer.Option("--to", parser=_moment, metavar="TIME", help="Leave out what is not earlier than this."),
]


def _span(since: datetime | None, until: datetime | None) -> tuple[float | None, float | None]:
    if since is not None and until is not None and since >= until:
        raise typer.BadParameter("--from is not earlier than --to")
    return (None if since is None else since.timestamp(), None if until is None else until.timestamp())


@app.command(
    epilog=examples(
        "byokctl audit reconcile audit.jsonl --cloudtrail AWSLogs/111122223333/CloudTrail",
        "byokctl audit reconcile *.jsonl --cloudtrail logs --from 2026-11-01 --to 2026-12-01 -o json",
    )
)
def reconcile(  # noqa: PLR0913 - one parameter for each option
    trails: Trails,
    *,
    cloudtrail: Annotated[
        list[Path],
        typer.Option(
            "--cloudtrail",
            metavar="FILE|FOLDER",
            help="CloudTrail's log files, packed or not, or a folder with them, as S3 has them. May be repeated.",
        ),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="ARN", help="A further KMS key whose signatures must all have records. May be repeated."
        ),
    ] = None,
    owner: Annotated[
        list[str] | None,
        typer.Option(
            "--owner",
            metavar="ARN",
            help="A key owner, as CloudTrail names the caller; of a role, without the session. What it signs, such as "
            "certificate requests, needs no record. May be repeated.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    delay_minutes: Annotated[
        int,
        typer.Option(min=0, max=1440, help="How long CloudTrail may take to deliver an event after it happened."),
    ] = 15,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Compare the audit trail with CloudTrail: each signature of KMS has its record, and each record its signature.

    Lists signatures without record, records without event, what the two tell differently, attempts whose outcome is
    unknown, and intents without outcome. Succeeds if all agrees, all could be read, and the trail is intact. What is
    sorted goes to disk, in the folder that TMPDIR names, or to /var/tmp.
    """
    from byok_api.audit.agreement import Period  # noqa: PLC0415 - loaded when it runs
    from byok_client.cli import reconciling  # noqa: PLC0415 - same

    question = reconciling.Question(
        trails=trails,
        cloudtrail=cloudtrail,
        keys=key or [],
        owners=owner or [],
        period=Period(*_span(since, until)),
        delay=delay_minutes * 60.0,
    )
    answer(lambda: reconciling.reconcile(question), output_format)


class _By(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@app.command(
    epilog=examples(
        "byokctl audit report audit.jsonl --from 2026-11-01 --to 2026-12-01",
        "byokctl audit report audit.jsonl --by month -o csv",
        "byokctl audit report audit.jsonl --each -o json",
    )
)
def report(  # noqa: PLR0913 - one parameter for each option
    trails: Trails,
    *,
    since: Since = None,
    until: Until = None,
    by: Annotated[_By, typer.Option("--by", help="How long the periods are, in UTC.")] = _By.DAY,
    each: Annotated[bool, typer.Option("--each", help="List every signature instead of how many there were.")] = False,
    output_format: Annotated[
        SheetFormat,
        typer.Option("-o", "--format", help="Print text, CSV that is safe for spreadsheets, or one JSON document."),
    ] = SheetFormat.TEXT,
) -> None:
    """Tell who had what signed, when, with which key and recipe.

    Counts signatures by period, caller, recipe, key and what was signed; a signature that was given out again to a
    retry is counted apart. The trail is verified on the way: it fails, and says so, if the trail is not intact.
    """
    from byok_api.audit.activity import By  # noqa: PLC0415 - loaded when it runs
    from byok_api.audit.agreement import Period  # noqa: PLC0415 - same
    from byok_client.cli import reporting  # noqa: PLC0415 - same

    question = reporting.Question(
        trails=trails, period=Period(*_span(since, until)), by=By(by.value), each=each, form=output_format
    )
    try:
        status = reporting.report(question, sys.stdout, sys.stderr)
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        sys.stderr.write(f"byokctl: standard output does not take the report: {error.strerror}\n")
        # What is left in the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.FAILED) from None
    raise typer.Exit(status)
