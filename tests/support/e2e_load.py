"""A load of real signatures from a pod of a consumer's namespace (tests/support/load_job.py), as the host sees it.

Whatever is done to the release meanwhile, each call that failed after all of the client's own retries is here, by name.
Times are those of the pod's clock; what happened between two moments of a test is told by the order of calls instead.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.chart.rendering import CHART
from tests.support.client_pods import PYTHON, client_pod
from tests.support.release import MEDIA, RECIPE, until
from tests.testenv.kubectl import Kubectl
from tests.testenv.node.images import Image

NAME = "load"
_OUTCOMES = "/outcomes/calls.jsonl"
_STARTED_WITHIN = 60.0
_MORE_WITHIN = 60.0
_STOPPED_WITHIN = 60.0
_SHOWN = 8
_CHECKOUT = Path(__file__).parents[2]
_PROGRAMS = {"load_job.py": "tests/support/load_job.py", "claims.py": "benchmarks/claims.py"}


class Call(NamedTuple):
    """A signature that was asked for, and how that ended; seconds."""

    began: float
    took: float
    retries: tuple[str, ...]
    """Why each attempt but the last one came to nothing."""
    reason: str
    """Why the call failed; empty if the signature came and was right."""
    code: str
    message: str

    @classmethod
    def of(cls, line: str) -> Self:
        """Read a line of the job's."""
        found = json.loads(line)
        told = (str(found.get(name, "")) for name in ("reason", "code", "message"))
        return cls(found["began"], found["took"], tuple(found["retries"]), *told)

    @property
    def ended(self) -> float:
        """When it was answered, or given up."""
        return self.began + self.took

    def __str__(self) -> str:
        tried = f" after retries for {', '.join(self.retries)}" if self.retries else ""
        return f"{self.began:.3f} +{self.took:.3f} s: {self.reason or 'signed'} {self.code}{tried}: {self.message}"


@dataclass(frozen=True)
class Calls:
    """Calls in the order in which they ended."""

    all: Sequence[Call]

    @property
    def failed(self) -> list[Call]:
        """Those that ended without a signature."""
        return [call for call in self.all if call.reason]

    @property
    def signed(self) -> list[Call]:
        """Those that ended with one."""
        return [call for call in self.all if not call.reason]

    @property
    def seconds(self) -> float:
        """From the end of the first call to that of the last one."""
        return self.all[-1].ended - self.all[0].ended if self.all else 0.0

    @property
    def longest_gap(self) -> float:
        """Seconds between two signatures, at most."""
        ends = [call.ended for call in self.signed]
        return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)

    def __str__(self) -> str:
        retried = Counter(reason for call in self.all for reason in call.retries)
        took = sorted(call.took for call in self.all) or [0.0]
        return (
            f"{len(self.signed)} calls signed, {len(self.failed)} failed; retries: {dict(retried) or 'none'};"
            f" median {took[len(took) // 2]:.3f} s, slowest {took[-1]:.3f} s, longest gap {self.longest_gap:.1f} s"
        )

    def assert_none_failed(self) -> None:
        """Show the failed calls, if there are any."""
        failed = self.failed
        assert not failed, "\n".join([str(self), *map(str, failed[:_SHOWN]), f"... {len(failed)} in all"])


class Load:
    """A running load."""

    def __init__(self, kubectl: Kubectl, pod: str) -> None:
        self.pod = pod
        self._kubectl = kubectl
        self._calls: list[Call] = []
        self._read = 0

    def exec(self, *command: str) -> str:
        """Run a command in the pod."""
        return self._kubectl("exec", self.pod, "--namespace", MEDIA, "--", *command)

    @property
    def mark(self) -> int:
        """How many calls have ended by now."""
        self._refresh()
        return len(self._calls)

    def since(self, mark: int) -> Calls:
        """Give the calls that ended after a mark, until now."""
        self._refresh()
        return Calls(self._calls[mark:])

    def wait_for(self, condition: Callable[[Calls], bool], what: str, *, mark: int, within: float) -> Calls:
        """Wait until what happened since a mark fulfils a condition, and give it; AssertionError."""

        def look() -> Calls:
            calls = self.since(mark)
            assert condition(calls), f"{calls}, the last: {[*map(str, calls.all[-3:])]}"
            return calls

        return until(look, what, within)

    def wait_for_more(self, signatures: int = 100, *, within: float = _MORE_WITHIN) -> int:
        """Wait for so many signatures from now on, and give the mark after them."""
        self.wait_for(lambda new: len(new.signed) >= signatures, "more signatures", mark=self.mark, within=within)
        return len(self._calls)

    def stop(self) -> dict[str, Any]:
        """Have no further calls made, wait for those under way, and give what all came to."""
        self.exec(PYTHON, "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        told = until(self._summary, "the load has stopped", _STOPPED_WITHIN)
        self._refresh()
        found: dict[str, Any] = json.loads(told)
        return found

    def _summary(self) -> str:
        """Give the last line that was logged, once it is what all calls came to."""
        last = self._kubectl("logs", self.pod, "--namespace", MEDIA).rpartition("\n")[0].rpartition("\n")[2]
        assert last.startswith("{"), last
        return last

    def _refresh(self) -> None:
        text = self.exec("tail", "-c", f"+{self._read + 1}", _OUTCOMES)
        whole = text[: text.rfind("\n") + 1]
        # The file is ASCII: as many bytes as characters.
        self._read += len(whole)
        self._calls += map(Call.of, whole.splitlines())


@contextmanager
def running_load(kubectl: Kubectl, image: Image, *, rate: float, callers: int) -> Iterator[Load]:
    """Have MEDIA's job sign at a rate, and wait until it does."""
    name = f"{NAME}-{rate:.0f}"
    kubectl.apply(_files(name), _pod(name, image, {"RATE": str(rate), "CALLERS": str(callers)}))
    load = Load(kubectl, name)
    try:
        until(lambda: _is_signing(kubectl, load), "the load signs", _STARTED_WITHIN)
        yield load
    finally:
        kubectl("delete", f"pod/{name}", f"configmap/{name}", "--namespace", MEDIA, "--wait=false")


def _is_signing(kubectl: Kubectl, load: Load) -> bool:
    phase = kubectl.get("pod", load.pod, "--namespace", MEDIA)["status"]["phase"]
    if phase == "Failed":
        raise RuntimeError(f"the load has ended: {kubectl('logs', load.pod, '--namespace', MEDIA)}")
    assert phase == "Running", phase
    return load.mark > 0


def _files(name: str) -> dict[str, Any]:
    picture = base64.b64encode((CHART / "files" / "grey.png").read_bytes()).decode()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": MEDIA},
        "data": {key: (_CHECKOUT / path).read_text() for key, path in _PROGRAMS.items()},
        "binaryData": {"picture.png": picture},
    }


def _pod(name: str, image: Image, settings: dict[str, str]) -> dict[str, Any]:
    variables = {
        "BYOK_LOAD_RECIPE": RECIPE,
        "BYOK_LOAD_PICTURE": "/programs/picture.png",
        "BYOK_LOAD_OUTCOMES": _OUTCOMES,
        "PYTHONPATH": "/programs",
        **{f"BYOK_LOAD_{key}": value for key, value in settings.items()},
    }
    pod = client_pod(name, MEDIA, {"image": image.reference, "command": [PYTHON, "/programs/load_job.py"]})
    (container,) = pod["spec"]["containers"]
    container["env"] = [*container["env"], *({"name": key, "value": value} for key, value in variables.items())]
    container["volumeMounts"] += [
        {"name": "programs", "mountPath": "/programs", "readOnly": True},
        {"name": "outcomes", "mountPath": "/outcomes"},
    ]
    paths = {**_PROGRAMS, "load_job.py": "load_job.py", "picture.png": "picture.png"}
    items = [{"key": key, "path": path} for key, path in paths.items()]
    pod["spec"]["volumes"] += [
        {"name": "programs", "configMap": {"name": name, "items": items}},
        {"name": "outcomes", "emptyDir": {}},
    ]
    return pod
