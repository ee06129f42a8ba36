"""Signatures through the signer, one call each or in streams, beside boto3 in the job, over the same KMS.

Signer, KMS and load are processes of their own and share this machine's cores. Each run tells what each of them used.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks import boto_job, load
from benchmarks.bench import Bench, Target
from benchmarks.measuring import Run, memory_mebibytes, peak_mebibytes
from benchmarks.stand_in import Conduct
from benchmarks.workers import worker

LATENCIES = (0.0, 0.01)
"""Seconds that KMS takes."""
AT_ONCE = (1, 16, 64, 256)
STREAMS = (1, 4)
RATES = (2500, 1500, 1000, 800, 700, 600, 500, 400, 300, 250, 200, 150, 100, 50, 25)
"""Calls a second; those above what callers in turn got are not tried, and the first that is kept up with counts."""
_TRIES = 3
THREADS = (1, 16, 64)
_KEPT_UP = 0.98
_SLACK = 8
"""Calls by which a backlog may seem to grow because of the moments at which it is looked at."""


@dataclass(frozen=True)
class Scale:
    """How long to measure."""

    warm_up: float
    seconds: float
    signatures: int
    """After which the signer's memory is looked at."""
    rounds: int
    """Of 10 s, at most, to make them in; what was not reached is said."""


QUICK = Scale(warm_up=0.5, seconds=1, signatures=2_000, rounds=1)
FULL = Scale(warm_up=1, seconds=4, signatures=100_000, rounds=9)
_ROUND_SECONDS = 10.0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    latency: float
    way: str
    run: Run
    kept_up: bool = True
    """Calls at a rate: whether the signer answered as many as were made, without a growing backlog."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of the signer in MiB."""

    idle: float
    signatures: int
    then: float
    peak: float


@dataclass(frozen=True)
class Result:
    """All of it."""

    rows: tuple[Row, ...]
    memory: Memory
    kms_capacity: Run
    """KMS alone, asked by nobody but a client that does nothing else."""


def measure(bench: Bench, scale: Scale) -> Result:
    """Measure everything, the memory in a signer of its own."""
    with bench.signer() as signer:
        target = bench.target(signer)
        rows = [row for latency in LATENCIES for row in _rows(bench, target, scale, latency)]
    return Result(tuple(rows), _memory(bench, scale), kms_capacity(bench, scale))


def kms_capacity(bench: Bench, scale: Scale) -> Run:
    """See how much KMS can do, so that it is known not to be what limits the others."""
    bench.kms.behave(Conduct())
    return bench.load.do(
        partial(load.kms_in_turn, bench.kms_target(), at_once=64, warm_up=scale.warm_up, seconds=scale.seconds)
    )


def _rows(bench: Bench, target: Target, scale: Scale, latency: float) -> Iterator[Row]:
    bench.kms.behave(Conduct(latency))
    window = {"warm_up": scale.warm_up, "seconds": scale.seconds}
    fastest = 0.0
    for at_once in AT_ONCE:
        run = bench.load.do(partial(load.calls_in_turn, target, at_once=at_once, **window))
        fastest = max(fastest, run.rate)
        yield Row(latency, f"signer, {at_once} at once", run)
    rates = [rate for rate in RATES if rate <= fastest][:_TRIES] or list(RATES[-1:])
    for rate in rates:
        run = bench.load.do(partial(load.calls_at_rate, target, rate=rate, **window))
        kept_up = run.done >= _KEPT_UP * rate * run.seconds and _is_flat(run)
        if kept_up or rate == rates[-1]:
            yield Row(latency, f"signer, {rate:,} calls a second", run, kept_up)
            # And what calls take where half as many are made.
            half = next((lower for lower in RATES if lower <= rate / 2), RATES[-1])
            run = bench.load.do(partial(load.calls_at_rate, target, rate=half, **window))
            yield Row(latency, f"signer, {half:,} calls a second", run, _is_flat(run))
            break
    for count in STREAMS:
        run = bench.load.do(partial(load.streams, target, at_once=count, **window))
        yield Row(latency, f"signer, {_counted(count, 'stream')} of 64 claims", run)
    with ExitStack() as stack:
        job = stack.enter_context(worker())
        for threads in THREADS:
            run = job.do(partial(boto_job.calls_in_turn, bench.kms_target(), at_once=threads, **window))
            yield Row(latency, f"boto3, {_counted(threads, 'thread')}", run)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _is_flat(run: Run) -> bool:
    first, last = run.backlog
    return abs(last - first) <= max(_SLACK, (1 - _KEPT_UP) * run.done)


def _memory(bench: Bench, scale: Scale) -> Memory:
    bench.kms.behave(Conduct())
    with bench.signer() as signer:
        pid, target, done = signer.process.pid, bench.target(signer), 0
        idle = memory_mebibytes(pid)
        # In streams, which are the fastest way to so many.
        for _ in range(scale.rounds):
            done += bench.load.do(partial(load.streams, target, at_once=2, warm_up=0, seconds=_ROUND_SECONDS)).done
            if done >= scale.signatures:
                break
        return Memory(idle, done, memory_mebibytes(pid), peak_mebibytes(pid))
