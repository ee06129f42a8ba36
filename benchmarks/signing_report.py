"""What the signing benchmark tells, and the aims that it is judged by."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from benchmarks.bench import Bench
from benchmarks.machine import Calibration
from benchmarks.measuring import Run
from benchmarks.plots import bars, grouped
from benchmarks.reporting import COST_COLUMNS, Aim, Plot, Section, Table, at_least, at_most, costs, milliseconds
from benchmarks.signing import Memory, Result, Row, Scale
from benchmarks.signing import measure as measured

_RATE_AIM, _RATE_AIM_WITHOUT_LATENCY, _STREAM_AIM = 1000.0, 2500.0, 8000.0
_CORES, _P99, _MEMORY = 0.6, 20.0, 150.0
_SIGNATURES = 100_000


def measure(bench: Bench, calibration: Calibration, *, scale: Scale) -> Section:
    """Measure, and write it up."""
    result = measured(bench, scale)
    tables = [_table(result, latency) for latency in sorted({row.latency for row in result.rows})]
    return Section(
        "Signatures through the signer, and with boto3 in the job",
        "One signer process, one KMS stand-in, one load, over TLS, on the same cores. `us` is CPU per signature of "
        "each process; `load` is the caller: for the rows of boto3 the job itself, for those of the signer a "
        "client that sends claims encoded beforehand. `calls a second` are made whatever becomes of them, and "
        "count if the signer answers 98 % of them within the run and its backlog stays; their durations "
        "are from when each was due. boto3 neither checks claims, nor verifies, nor records.",
        [*tables, _capacity(result), _memory_table(result.memory)],
        list(_aims(result, calibration)),
        [
            Plot(
                "signing-rate",
                "Signatures a second",
                partial(grouped, label="signatures a second (logarithmic)", values=_rates(result), logarithmic=True),
            ),
            Plot(
                "signing-cpu",
                "CPU of the signer for each signature",
                partial(bars, label="CPU us of the signer per signature, KMS at 10 ms", values=_signer_costs(result)),
            ),
        ],
    )


def _table(result: Result, latency: float) -> Table:
    rows = [
        [
            row.way if row.kept_up else f"{row.way} (not kept up with)",
            f"{row.run.rate:,.0f}",
            milliseconds(row.run.latency.p50),
            milliseconds(row.run.latency.p99),
            *costs(row.run),
            _failures(row.run),
        ]
        for row in result.rows
        if row.latency == latency
    ]
    columns = ("way", "signatures/s", "p50 ms", "p99 ms", *COST_COLUMNS, "failed")
    return Table(f"KMS takes {latency * 1e3:g} ms", columns, rows)


def _failures(run: Run) -> str:
    return f"{sum(run.failures.values()):,}"


def _capacity(result: Result) -> Table:
    run = result.kms_capacity
    fastest = max(row.run.rate for row in result.rows)
    row = [
        "bare requests, 64 at once",
        f"{run.rate:,.0f}",
        f"{run.cost('kms'):,.0f}",
        f"{run.cores('kms'):.2f}",
        f"{fastest:,.0f}",
    ]
    columns = ("what", "signatures/s", "KMS us", "KMS cores", "the most that any row above had")
    return Table("KMS's stand-in alone", columns, [row])


def _memory_table(memory: Memory) -> Table:
    rows = [
        ["after its start", f"{memory.idle:.0f}"],
        [f"after {memory.signatures:,} signatures", f"{memory.then:.0f}"],
        ["the most it ever had", f"{memory.peak:.0f}"],
    ]
    return Table("Resident memory of the signer", ("when", "MiB"), rows)


def _aims(result: Result, calibration: Calibration) -> Iterator[Aim]:
    scale = calibration.scale
    at_rate = _find(result, 0.01, " calls a second")
    kept, cores = (at_rate.run.rate if at_rate.kept_up else 0.0), at_rate.run.cores("signer")
    slow = [row for row in result.rows if row.latency and row.way.startswith("signer") and "at once" in row.way]
    yield at_least(
        ">= 1,000 signatures/s at 10 ms in one signer process", max(kept, *_unary(result, 0.01)), _RATE_AIM, scale=scale
    )
    cost = min(row.run.cost("signer") for row in [*slow, at_rate])
    yield at_most(
        "... at <= 0.6 core (CPU that 1,000 signatures take)",
        cost * _RATE_AIM / 1e6,
        _CORES,
        unit=" cores",
        scale=scale,
    )
    yield at_most(
        f"... p99 < 20 ms (at {at_rate.run.rate:,.0f} calls a second, {cores:.2f} cores of the signer)",
        at_rate.run.latency.p99 * 1e3,
        _P99,
        unit=" ms",
    )
    yield at_least(">= 2,500/s at 0 ms", max(_unary(result, 0.0)), _RATE_AIM_WITHOUT_LATENCY, scale=scale)
    streams = [row.run.rate for row in result.rows if "stream" in row.way]
    yield at_least("streams of 64 claims >= 8,000/s", max(streams), _STREAM_AIM, scale=scale)
    for latency in (0.0, 0.01):
        ours = _find(result, latency, "signer, 1 at once").run.latency.p50 * 1e3
        theirs = _find(result, latency, "boto3, 1 thread").run.latency.p50 * 1e3
        yield at_most(
            f"warm p50 <= boto3 in the job ({theirs:.1f} ms), KMS at {latency * 1e3:g} ms", ours, theirs, unit=" ms"
        )
    yield _memory_aim(result.memory)


def _memory_aim(memory: Memory) -> Aim:
    aim = at_most(
        f"<= 150 MB after 100,000 signatures ({memory.signatures:,} were made)",
        memory.then * 1024 * 1024 / 1e6,
        _MEMORY,
        unit=" MB",
    )
    if memory.signatures >= _SIGNATURES:
        return aim
    return replace(
        aim, met=False, missed_by=aim.missed_by or f"{_SIGNATURES - memory.signatures:,} signatures not made"
    )


def _unary(result: Result, latency: float) -> list[float]:
    return [
        row.run.rate
        for row in result.rows
        if row.latency == latency and row.way.startswith("signer") and "stream" not in row.way
    ]


def _find(result: Result, latency: float, words: str) -> Row:
    return next(row for row in result.rows if row.latency == latency and words in row.way)


def _rates(result: Result) -> Mapping[str, Mapping[str, float]]:
    ways = list(dict.fromkeys(row.way for row in result.rows if "calls a second" not in row.way))
    return {
        way: {f"KMS at {row.latency * 1e3:g} ms": max(row.run.rate, 1.0) for row in result.rows if row.way == way}
        for way in ways
    }


def _signer_costs(result: Result) -> Mapping[str, float]:
    return {row.way: row.run.cost("signer") for row in result.rows if row.latency and "signer" in row.run.cpu}
