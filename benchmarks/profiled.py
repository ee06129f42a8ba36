"""A signer whose Python frames are sampled while it runs: `python -m benchmarks.profiled OUTPUT [signer's flags]`.

Nothing of the signer is changed, and it knows nothing of it. A sample is taken whenever the process has used another
tick of CPU (setitimer(2), ITIMER_PROF; the kernel's tick, mostly 4 ms), and says where the main thread, which runs the
event loop, was then. At the end the stacks are written, one a line with its count, innermost last: `file:line
function;file:line function 12`.
"""

import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from byok_signer.__main__ import main as signer

_INTERVAL = 0.001
_DEPTH = 60

_stacks: Counter[tuple[str, ...]] = Counter()


def _sample(_: int, frame: FrameType | None) -> None:
    stack: list[str] = []
    while frame is not None and len(stack) < _DEPTH:
        code = frame.f_code
        stack.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    _stacks[tuple(reversed(stack))] += 1


def main() -> None:
    """Run the signer with the flags that follow the output's name."""
    output = Path(sys.argv.pop(1))
    signal.signal(signal.SIGPROF, _sample)
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)
    try:
        signer()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        output.write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in _stacks.items()))


if __name__ == "__main__":
    main()
