"""What runs cost: CPU and memory of processes as Linux counts them, and how calls' durations are spread (proc(5))."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEBIBYTE = 1024 * 1024

Pids = Mapping[str, int]
"""The processes of a run, by what they do in it."""


@dataclass(frozen=True)
class Reading:
    """A moment, and the seconds of CPU that each process had used by then, all its threads together."""

    at: float
    cpu: Mapping[str, float]

    @classmethod
    def of(cls, pids: Pids) -> "Reading":
        """Read it now."""
        return cls(time.perf_counter(), {name: cpu_seconds(pid) for name, pid in pids.items()})


def cpu_seconds(pid: int) -> float:
    """Read the CPU that a process has used, in user and kernel mode; a hundredth of a second is the grain."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mebibytes(pid: int) -> float:
    """Read the memory that a process has resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / _MEBIBYTE


def peak_mebibytes(pid: int) -> float:
    """Read the most that a process ever had resident."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(status["VmHWM"].split()[0]) / 1024


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` of the ordered values do not exceed; not a number if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


@dataclass(frozen=True)
class Spread:
    """Durations in seconds."""

    count: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Sum up durations."""
        ordered = sorted(seconds)
        return cls(len(ordered), percentile(ordered, 0.5), percentile(ordered, 0.99), percentile(ordered, 1))


@dataclass(frozen=True)
class Run:
    """What one load did, between two readings."""

    seconds: float
    done: int
    """Signatures."""
    latency: Spread
    cpu: Mapping[str, float]
    """Seconds of CPU of each process."""
    failures: Mapping[str, int] = field(default_factory=dict)
    backlog: tuple[int, int] = (0, 0)
    """Calls at a rate: how many were under way at the first reading, and at the last."""

    @classmethod
    def between(cls, before: Reading, after: Reading, latencies: Sequence[float], failures: Mapping[str, int]) -> "Run":
        """Sum up what was done between two readings."""
        cpu = {name: after.cpu[name] - before.cpu[name] for name in before.cpu}
        return cls(after.at - before.at, len(latencies), Spread.of(latencies), cpu, dict(failures))

    @property
    def rate(self) -> float:
        """Signatures a second."""
        return self.done / self.seconds

    def cores(self, process: str) -> float:
        """Tell how many cores a process kept busy."""
        return self.cpu.get(process, 0.0) / self.seconds

    def cost(self, process: str) -> float:
        """Tell the microseconds of CPU that a process used for each signature."""
        return self.cpu.get(process, 0.0) / self.done * 1e6 if self.done else float("nan")
