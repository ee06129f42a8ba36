"""More asked for than the quota allows: the signer's queue beside boto3's own retries, KMS enforcing the same quota.

A busy tenant asks for all but a tenth of the quota of what is offered, a quiet one for that tenth, in a process each.
KMS makes no more than so many signatures in a second of the clock; what it throttles is wasted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product

from benchmarks import boto_job, load
from benchmarks.bench import QUIET, Bench
from benchmarks.boto_job import Offer, Retries
from benchmarks.measuring import Run
from benchmarks.plots import grouped
from benchmarks.reporting import Aim, Plot, Section, Table, at_least, at_most, milliseconds
from benchmarks.stand_in import Conduct, Counts
from benchmarks.workers import Worker, worker

QUOTA = 100.0
"""Signatures a second: few, so that a slow machine can make the calls of three times as much."""
TIMES = (1.5, 3.0)
_SIGNERS = ((1.5, False), (1.5, True), (3.0, False))
"""Times the quota, and whether KMS is stricter than it says."""
SIGNER = "signer"
LATENCY = 0.01
_QUIET_SHARE = 0.1
_RETRIES: tuple[Retries, ...] = ("standard", "adaptive")
_GOODPUT, _WASTED, _P99 = 95.0, 1.0, 150.0


@dataclass(frozen=True)
class Scale:
    """How long to measure."""

    warm_up: float
    seconds: float


QUICK = Scale(warm_up=1, seconds=2)
FULL = Scale(warm_up=2, seconds=8)


@dataclass(frozen=True)
class Row:
    """What came of one way."""

    times: float
    way: str
    busy: Run
    quiet: Run
    counts: Counts
    """KMS's, from the warm-up on."""

    @property
    def goodput(self) -> float:
        """Per cent of the quota."""
        return (self.busy.rate + self.quiet.rate) / QUOTA * 100

    @property
    def wasted(self) -> float:
        """Per cent of the calls that KMS got."""
        return self.counts.throttled / max(1, self.counts.throttled + self.counts.signed) * 100

    @property
    def calls(self) -> float:
        """Calls that KMS got for each signature."""
        return (self.counts.throttled + self.counts.signed) / max(1, self.counts.signed)

    @property
    def quiet_success(self) -> float:
        """Per cent of the quiet tenant's calls."""
        asked = self.quiet.latency.count + sum(self.quiet.failures.values())
        return self.quiet.latency.count / max(1, asked) * 100


def measure(bench: Bench, scale: Scale) -> Section:
    """Measure all ways at both loads."""
    rows = sorted(_rows(bench, scale), key=lambda row: row.times)
    shown = {f"{row.way}, {row.times:g} times": row for row in rows}
    values = {
        way: {"goodput, % of the quota": row.goodput, "quiet tenant, %": row.quiet_success}
        for way, row in shown.items()
    }
    delays = {way: row.busy.latency.p99 * 1e3 for way, row in shown.items() if row.busy.latency.count}
    return Section(
        "Overload",
        f"KMS takes 10 ms and makes at most {QUOTA:g} signatures in a second of the clock, which is how AWS says "
        "that it counts; the signer is told that quota. `KMS stricter` means at most as many within any second, "
        "whenever it begins. Offered is 1.5 and 3 times as much, a tenth of the quota of it by a quiet tenant of "
        f"another namespace. Each way is measured for {scale.seconds:g} s. `p99` is of the busy tenant's calls that "
        "got a signature, from when they were due; what was refused was refused with a delay after which to ask "
        f"again, and is not asked again by this load. boto3 asks again by itself. {QUOTA:g} and not 1,000 a second, "
        "since all calls at 3 times the quota, those of boto3's retries too, must fit this machine; `load cores` "
        "shows whether they did.",
        [
            Table(
                "",
                (
                    "way",
                    "goodput %",
                    "wasted %",
                    "KMS calls per signature",
                    "p50 ms",
                    "p99 ms",
                    "quiet tenant %",
                    "its p99 ms",
                    "signer us",
                    "KMS us",
                    "load us",
                    "load cores",
                ),
                [_line(way, row) for way, row in shown.items()],
            )
        ],
        [aim for row in rows if row.way == SIGNER for aim in _aims(row)],
        [
            Plot("overload", "Goodput and the quiet tenant's success", partial(grouped, label="%", values=values)),
            Plot(
                "overload-p99",
                "p99 of the busy tenant's signatures",
                partial(
                    grouped,
                    label="ms (logarithmic)",
                    values={way: {"p99": delay} for way, delay in delays.items()},
                    logarithmic=True,
                ),
            ),
        ],
    )


def _line(way: str, row: Row) -> Sequence[str]:
    busy, quiet = row.busy, row.quiet
    spent = [f"{busy.cost(name):,.0f}" if name in busy.cpu else "-" for name in ("signer", "kms", "load")]
    return [
        way,
        f"{row.goodput:.1f}",
        f"{row.wasted:.1f}",
        f"{row.calls:.2f}",
        milliseconds(busy.latency.p50),
        milliseconds(busy.latency.p99),
        f"{row.quiet_success:.0f}",
        milliseconds(quiet.latency.p99),
        *spent,
        f"{busy.cores('load'):.2f}",
    ]


def _aims(row: Row) -> Iterator[Aim]:
    at = f"overload at {row.times:g} times the quota"
    yield at_least(f"{at}: goodput >= 95 % of the quota", row.goodput, _GOODPUT, unit=" %")
    yield at_most(f"{at}: <= 1 % wasted KMS calls", row.wasted, _WASTED, unit=" %")
    yield at_most(f"{at}: p99 <= 150 ms", row.busy.latency.p99 * 1e3, _P99, unit=" ms")
    yield at_least(f"{at}: quiet tenant 100 %", row.quiet_success, 100.0, unit=" %")


def _rows(bench: Bench, scale: Scale) -> Iterator[Row]:
    window = {"warm_up": scale.warm_up, "seconds": scale.seconds}
    with _workers() as workers:
        for times, strict in _SIGNERS:
            # A new one each time: what KMS throttled slows it down for a while.
            with bench.signer(quota_per_second=f"{QUOTA:g}") as signer:
                targets = bench.target(signer), bench.target(signer, bench.token(QUIET))
                tasks = [
                    partial(load.calls_at_rate, target, rate=rate, **window)
                    for target, rate in zip(targets, _offered(times), strict=True)
                ]
                conduct = Conduct(LATENCY, QUOTA, strict=strict)
                yield Row(times, "signer, KMS stricter" if strict else SIGNER, *_asked(bench, workers, tasks, conduct))
    kms = bench.kms_target()
    for times, retries in product(TIMES, _RETRIES):
        # New ones each time: threads may still be at work in those of before.
        with _workers() as workers:
            tasks = [partial(boto_job.calls_at_rate, kms, Offer(rate, retries), **window) for rate in _offered(times)]
            asked = _asked(bench, workers, tasks, Conduct(LATENCY, QUOTA))
        yield Row(times, f"boto3, {retries} retries", *asked)


def _offered(times: float) -> tuple[float, float]:
    """Divide what is offered between the busy tenant and the quiet one."""
    return (times - _QUIET_SHARE) * QUOTA, _QUIET_SHARE * QUOTA


@contextmanager
def _workers() -> Iterator[Sequence[Worker]]:
    with worker() as busy, worker() as quiet:
        for one in (busy, quiet):
            one.begin(_ready)
        for one in (busy, quiet):
            one.end()
        yield busy, quiet


def _asked(
    bench: Bench, workers: Sequence[Worker], tasks: Sequence[Callable[[], Run]], conduct: Conduct
) -> tuple[Run, Run, Counts]:
    bench.kms.behave(conduct)
    for one, task in zip(workers, tasks, strict=True):
        one.begin(task)
    busy, quiet = (one.end() for one in workers)
    return busy, quiet, bench.kms.behave(Conduct())


def _ready() -> None:
    """Have a process load all that it will need, its modules being this one's."""
