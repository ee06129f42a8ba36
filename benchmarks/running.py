"""The benchmarks, one after the other: `python -m benchmarks [--quick] [--only PART]...`.

All of them together write docs/benchmarks.md and its plots; some of them are only printed. A part that fails is named,
and the others go on. SIGTERM and Ctrl-C end every process that was started.
"""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from benchmarks import cold, files, overload, pieces, signing, signing_report, steps
from benchmarks.bench import Bench, bench
from benchmarks.machine import FACTS_VERIFY, Calibration, calibrate, described
from benchmarks.reporting import PAGE, Plot, Section, Table, page, show

_WIDTH = 160
_TERMINATED = 128 + signal.SIGTERM
_INTERRUPTED = 128 + signal.SIGINT

Part = Callable[[Calibration], Section]


def parts(*, quick: bool) -> Mapping[str, Part]:
    """Name the parts, in the order of the page."""
    return {
        "signing": _on_bench(partial(signing_report.measure, scale=signing.QUICK if quick else signing.FULL)),
        "cold": _on_bench(lambda bench, _: cold.measure(bench, cold.QUICK if quick else cold.FULL)),
        "overload": _on_bench(lambda bench, _: overload.measure(bench, overload.QUICK if quick else overload.FULL)),
        "steps": _on_bench(partial(steps.measure, scale=steps.QUICK if quick else steps.FULL)),
        "guard": lambda calibration: pieces.guard(calibration, quick=quick),
        "audit": lambda _: pieces.audit(quick=quick),
        "kms_client": lambda _: pieces.kms_client(quick=quick),
        "files": _on_bench(lambda bench, _: files.measure(bench, files.QUICK if quick else files.FULL)),
    }


def _on_bench(measure: Callable[[Bench, Calibration], Section]) -> Part:
    # One for each part: what a failed one leaves behind must not reach the next.
    def measured(calibration: Calibration) -> Section:
        with bench() as made:
            return measure(made, calibration)

    return measured


def main() -> int:
    """Run what the command line asks for."""
    arguments = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    return _run(arguments, Console() if sys.stdout.isatty() else Console(width=_WIDTH))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see whether all works")
    parser.add_argument("--only", action="append", choices=list(parts(quick=True)), help="print this part; repeatable")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page; its plots go into a folder beside it")
    return parser


def _end(number: int, _: FrameType | None) -> NoReturn:
    # Once is enough: another one must not keep the first from ending what was started.
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)
    raise SystemExit(_TERMINATED if number == signal.SIGTERM else _INTERRUPTED)


def _run(arguments: argparse.Namespace, console: Console) -> int:
    began, calibration = time.monotonic(), calibrate()
    machine = described(calibration)
    show(Section("machine", "", [machine]), console)
    wanted = {
        name: part
        for name, part in parts(quick=arguments.quick).items()
        if not arguments.only or name in arguments.only
    }
    sections, failed = _measured(wanted, console)
    minutes = (time.monotonic() - began) / 60
    if not arguments.only:
        # Other tenants of a host can make a machine slower or faster while it measures.
        rows = [*machine.rows, ["P-256 verification after the run", f"{calibrate().verify:,.1f} us"]]
        machine = replace(machine, rows=rows)
        head = _head(arguments, machine, calibration, minutes=minutes, failed=failed)
        _write(arguments.output, page(head, sections), sections)
        console.print(f"{arguments.output} is written, {minutes:.1f} minutes")
    for name in failed:
        console.print(f"failed: {name}", style="red")
    return 1 if failed else 0


def _measured(wanted: Mapping[str, Part], console: Console) -> tuple[dict[str, Section], list[str]]:
    sections: dict[str, Section] = {}
    failed: list[str] = []
    for name, part in wanted.items():
        began = time.monotonic()
        try:
            sections[name] = part(calibrate())
        except Exception:  # noqa: BLE001 - told at the end; most parts are better than none
            traceback.print_exc()
            failed.append(name)
            continue
        show(sections[name], console)
        console.print(f"{name}: {time.monotonic() - began:.0f} s")
        sys.stdout.flush()
    return sections, failed


def _head(
    arguments: argparse.Namespace, machine: Table, calibration: Calibration, *, minutes: float, failed: Sequence[str]
) -> list[str]:
    command = "python -m benchmarks --quick" if arguments.quick else "make bench"
    rows = [f"| {' | '.join(row)} |" for row in machine.rows]
    lines = [
        (
            f"Measured on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `{command}`, in {minutes:.0f} minutes. This page "
            "is written by that command; only the explanations, in `benchmarks/notes.md`, are written by hand."
        ),
        "",
    ]
    if arguments.quick:
        lines += ["**A quick run: each window is a second or two, so its figures say little.**", ""]
    if failed:
        lines += [f"**Failed, and missing here: {', '.join(failed)}.**", ""]
    lines += ["| what | value |", "| --- | ---: |", *rows, ""]
    lines += [
        (
            f"The aims were set from figures of a machine that verifies a P-256 signature in {FACTS_VERIFY:g} us of "
            f"CPU; this one takes {calibration.verify:.0f} us, {calibration.scale:.1f} times as long, and is measured "
            "again before each part. `estimate, scaled` divides CPU by that and multiplies rates by it. It is an "
            "estimate and nothing else: `result` is about what was measured."
        )
    ]
    return lines


def _write(path: Path, text: str, sections: Mapping[str, Section]) -> None:
    plots: list[Plot] = [plot for section in sections.values() for plot in section.plots]
    for plot in plots:
        plot.draw(path.with_suffix("") / f"{plot.name}.svg")
    path.write_text(text)
